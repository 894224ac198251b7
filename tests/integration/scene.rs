//! What the tests of the promises do over and over: people who buy, signals that are held, lost and
//! repeated, further replicas, and a look into the tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use entitled::app::{App, Roles};
use entitled::cli::client::Client;
use entitled::clock::VirtualClock;
use entitled::config::Config;
use entitled::proto::consistency::Requirement;
use entitled::proto::purchase_proof::Proof;
use entitled::proto::{
    AccessReason, AppStoreProof, BindPurchaseResponse, Consistency, EntitlementSnapshot,
    GetEntitlementsRequest, InactiveReason, PurchaseProof, RevisionToken, SubscriptionStatus,
    app_store_proof,
};
use entitled::sandbox::{
    AppStoreBuy, AppStorePurchase, Endpoint, GooglePlayBuy, GooglePlayPurchase, IdentityToken,
    Period, PushToken, Sandbox, Store, Webhooks,
};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use sqlx::{PgPool, Row as _};
use tonic::Status;

use crate::process::eventually;
use crate::support::{HTTP, World, entitlement, start};

pub const MONTHLY: &str = "com.example.premium.monthly";
pub const YEARLY: &str = "com.example.premium.yearly";
pub const EXPORT: &str = "com.example.export";
pub const PACKAGE: &str = "com.example.app";

/// So many sign in at the same moment where many are needed.
const AT_ONCE: usize = 8;

/// A replica that only answers: what it tells, others have committed.
pub const READER: Roles = Roles {
    serve: true,
    webhooks: false,
    worker: false,
};

/// A replica that only works.
pub const WORKER: Roles = Roles {
    serve: false,
    webhooks: false,
    worker: true,
};

/// A user of the app with the token that their purchases carry.
#[derive(Clone)]
pub struct Person {
    pub name: String,
    pub client: Client,
    pub store_token: String,
    pub account: String,
}

impl Person {
    pub async fn now(&self) -> EntitlementSnapshot {
        now(&self.client).await
    }

    pub async fn bind_apple(
        &self,
        signed_transaction: &str,
    ) -> Result<BindPurchaseResponse, Status> {
        self.client.clone().bind_app_store(signed_transaction).await
    }

    pub async fn bind_google(&self, token: &str) -> Result<BindPurchaseResponse, Status> {
        self.client.clone().bind_google_play(PACKAGE, token).await
    }

    pub async fn bind_bare_id(&self, transaction_id: &str) -> Result<BindPurchaseResponse, Status> {
        self.client.clone().bind(bare_id(transaction_id)).await
    }
}

/// What the database says now.
pub async fn now(client: &Client) -> EntitlementSnapshot {
    read(client, Requirement::FullyConsistent(true)).await
}

/// What a reader gets that has seen `epoch` and `revision`.
pub async fn at_least(client: &Client, epoch: &str, revision: i64) -> EntitlementSnapshot {
    read(
        client,
        Requirement::AtLeast(RevisionToken {
            epoch: epoch.to_owned(),
            revision,
        }),
    )
    .await
}

async fn read(client: &Client, requirement: Requirement) -> EntitlementSnapshot {
    let consistency = Some(Consistency {
        requirement: Some(requirement),
    });
    let request = GetEntitlementsRequest {
        as_of: None,
        consistency,
        account: String::new(),
    };
    let answer = client
        .clone()
        .inner
        .get_entitlements(request)
        .await
        .expect("an answer");
    answer.into_inner().snapshot.expect("a snapshot")
}

/// A transaction id without a signature.
pub fn bare_id(transaction_id: &str) -> Proof {
    let proof = app_store_proof::Proof::TransactionId(transaction_id.to_owned());
    Proof::AppStore(AppStoreProof { proof: Some(proof) })
}

pub fn google_token(token: &str) -> Proof {
    Proof::GooglePlay(entitled::proto::GooglePlayProof {
        package_name: PACKAGE.into(),
        purchase_token: token.into(),
    })
}

pub fn proof(proof: Proof) -> Option<PurchaseProof> {
    Some(PurchaseProof { proof: Some(proof) })
}

pub fn payload_of(jws: &str) -> Value {
    let payload = jws.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("JSON")
}

/// Access, why (not), and whether it renews.
pub fn pro(snapshot: &EntitlementSnapshot) -> (bool, AccessReason, InactiveReason, bool) {
    let pro = entitlement(snapshot, "pro_access");
    (
        pro.active,
        pro.reason(),
        pro.inactive_reason(),
        pro.will_renew,
    )
}

pub fn on(reason: AccessReason, will_renew: bool) -> (bool, AccessReason, InactiveReason, bool) {
    (true, reason, InactiveReason::Unspecified, will_renew)
}

pub fn off(reason: InactiveReason) -> (bool, AccessReason, InactiveReason, bool) {
    (false, AccessReason::Unspecified, reason, false)
}

pub fn status(snapshot: &EntitlementSnapshot) -> SubscriptionStatus {
    snapshot.subscriptions[0].status()
}

pub fn access_until(snapshot: &EntitlementSnapshot) -> i64 {
    entitlement(snapshot, "pro_access")
        .access_until
        .expect("an end")
        .seconds
}

pub fn period(text: &str) -> Period {
    text.parse().expect("a period")
}

pub fn seconds(at: DateTime<Utc>) -> i64 {
    at.timestamp()
}

/// Where a server at `url` takes what the stores say.
pub fn webhooks_at(url: &str) -> Webhooks {
    Webhooks {
        app_store: Some(format!("{url}/webhooks/app-store")),
        google_play: Some(format!("{url}/webhooks/google-play")),
        ..Default::default()
    }
}

/// The stores.
impl World {
    pub fn stores(&self) -> &Sandbox {
        &self.stack.sandbox
    }

    pub async fn buy_apple(
        &self,
        buyer: &str,
        product: &str,
        token: Option<&str>,
    ) -> AppStorePurchase {
        let buy = AppStoreBuy {
            customer: buyer.into(),
            product_id: product.into(),
            app_account_token: token.map(|token| token.parse().expect("a UUID")),
            ..AppStoreBuy::default()
        };
        self.stores().buy_app_store(&buy).await.expect("bought")
    }

    pub async fn buy_google(
        &self,
        buyer: &str,
        plan: &str,
        token: Option<&str>,
    ) -> GooglePlayPurchase {
        self.stores()
            .buy_google_play(&google_buy(buyer, plan, token))
            .await
            .expect("bought")
    }

    /// Ids of everything that the stores have said, oldest first.
    pub fn said(&self) -> Vec<String> {
        self.stores()
            .notifications()
            .into_iter()
            .map(|notification| notification.id)
            .collect()
    }

    pub async fn deliver(&self, id: &str) {
        self.stores().deliver(id).await.expect("delivered");
    }

    /// From now on the stores speak and nobody hears them.
    pub async fn hold(&self) {
        self.stores().hold_deliveries(true).await.expect("held");
    }

    /// How often an endpoint of a store has been called.
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        let calls = self.stores().store_calls();
        calls.get(&endpoint).copied().unwrap_or_default()
    }

    /// How often a store has been asked; access tokens and key sets do not count.
    pub fn asked(&self, store: Store) -> u64 {
        let calls = self.stores().store_calls();
        let of_store = calls.iter().filter(|(endpoint, _)| match store {
            Store::AppStore => matches!(
                endpoint,
                Endpoint::AppleTransaction | Endpoint::AppleStatuses | Endpoint::AppleRefunds
            ),
            Store::GooglePlay => matches!(
                endpoint,
                Endpoint::GoogleSubscription
                    | Endpoint::GoogleProduct
                    | Endpoint::GoogleAcknowledge
                    | Endpoint::GoogleOrder
            ),
        });
        of_store.map(|(_, calls)| calls).sum()
    }

    /// A notification that the stores did not plan, sent as they would; the HTTP status.
    pub async fn post(&self, store: Store, body: String) -> u16 {
        let url = self.stack.app.webhooks_url().expect("webhooks");
        let request = match store {
            Store::AppStore => HTTP.post(format!("{url}/webhooks/app-store")),
            Store::GooglePlay => {
                let bearer = self
                    .stores()
                    .push_token(&PushToken::default())
                    .expect("a token");
                HTTP.post(format!("{url}/webhooks/google-play"))
                    .bearer_auth(bearer)
            }
        };
        let request = request
            .header("content-type", "application/json")
            .body(body);
        request.send().await.expect("an answer").status().as_u16()
    }
}

pub fn google_buy(buyer: &str, plan: &str, token: Option<&str>) -> GooglePlayBuy {
    let subscription = plan.starts_with("premium");
    GooglePlayBuy {
        customer: buyer.into(),
        product_id: if subscription { "premium" } else { plan }.into(),
        base_plan_id: subscription.then(|| plan.to_owned()),
        obfuscated_account_id: token.map(str::to_owned),
        ..Default::default()
    }
}

/// People and replicas.
impl World {
    /// A token that may name accounts.
    pub fn service_token(&self) -> String {
        let mut token = IdentityToken::of("backend");
        token
            .claims
            .insert("scope".into(), "entitled.service".into());
        self.stores().identity_token(&token).expect("a token")
    }

    pub async fn person(&self, name: &str) -> Person {
        let client = self.client(name).await;
        let account = now(&client).await.account.expect("an account");
        Person {
            name: name.into(),
            client,
            store_token: account.store_token,
            account: account.id,
        }
    }

    /// Somebody who has not signed in.
    pub async fn nobody(&self, name: &str) -> Person {
        let client = self.client_with_token(&self.anonymous_token(name)).await;
        let account = now(&client).await.account.expect("an account");
        Person {
            name: name.into(),
            client,
            store_token: account.store_token,
            account: account.id,
        }
    }

    pub async fn nobodies(&self, prefix: &str, count: usize) -> Vec<Person> {
        let sign_in = async |number| self.nobody(&format!("{prefix}{number}")).await;
        stream::iter(0..count)
            .map(sign_in)
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    pub async fn people(&self, prefix: &str, count: usize) -> Vec<Person> {
        let sign_in = async |number| self.person(&format!("{prefix}{number}")).await;
        stream::iter(0..count)
            .map(sign_in)
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    /// A further server on the same database, stores and clock, on ports of its own.
    pub async fn replica(&self, roles: Roles, change: impl FnOnce(&mut Config)) -> App {
        let mut config = Config::load(Some(&self.stack.address.config)).expect("a configuration");
        change(&mut config);
        App::start(config, roles, Some(self.stack.clock.clone().into()))
            .await
            .expect("a replica")
    }

    /// Business time stands still, and the first look at the stores is over: until a test moves time
    /// or makes a store speak, whatever is asked and written is the doing of what the test sends.
    pub async fn still() -> Self {
        let world = Self::with(|options| options.clock = VirtualClock::stopped(start())).await;
        world.nothing_due().await;
        world
    }

    /// Waits until nothing is due by now: neither what `settled` waits for, nor what backs off, nor a
    /// look at a store for what was not delivered.
    pub async fn nothing_due(&self) {
        self.settled().await;
        let pool = self.tables().await;
        let quiet = "select not exists (select 1 from purchase_chains where merged_into is null
                and (dirty_seq > synced_seq or next_check_at <= $1))
            and not exists (select 1 from duties where done_at is null and due_at <= $1)
            and not exists (select 1 from raw_notifications where status in ('received', 'sealed'))
            and 2 = (select count(*) from job_cursors where job = 'sweep'
                and cursor ->> 'run' is null and asked is null
                and (cursor ->> 'covered_until')::timestamptz > $1 - case split_part(subject, '/', 1)
                    when 'google_play' then interval '1 hour' else interval '6 hours' end)";
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let row = sqlx::query(quiet).bind(self.stack.clock.now());
            let row = row.fetch_one(&pool).await.expect("asked");
            if row.get(0) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "something is due");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        pool.close().await;
    }

    /// From now on nothing happens by itself: the workers are gone, and what they had begun is done
    /// or given up. Until then there are looks at purchases that `settled` does not wait for: by the
    /// hour of business time Google's list of voided purchases is read, and what is new in it looked
    /// at once more, although a notification has told it already; a doubtful answer is asked for again
    /// after 15 s; what failed is tried again. Requests are answered, by a server at another address.
    pub async fn rest(&mut self) {
        let reader = self.replica(READER, |_| {}).await;
        std::mem::replace(&mut self.stack.app, reader).stop().await;
        self.stack.address.server = self.stack.app.grpc_url().expect("gRPC");
    }

    /// The same deployment after a restart with another configuration: the old server is gone
    /// before the new one works.
    pub async fn restart(&mut self, change: impl FnOnce(&mut Config)) {
        let meanwhile = self.replica(READER, |_| {}).await;
        std::mem::replace(&mut self.stack.app, meanwhile)
            .stop()
            .await;
        let started = self.replica(Roles::ALL, change).await;
        std::mem::replace(&mut self.stack.app, started).stop().await;
        let app = &self.stack.app;
        self.stack.address.server = app.grpc_url().expect("gRPC");
        let url = app.webhooks_url().expect("webhooks");
        self.stores().set_webhooks(webhooks_at(&url)).expect("told");
        self.time_waits_for_the_server();
    }

    /// The same with another catalog file; returns once it is the active version.
    pub async fn restart_with_catalog(&mut self, file: &Path) {
        let text = std::fs::read_to_string(file).expect("written");
        self.restart(|config| config.catalog = Some(file.to_owned()))
            .await;
        eventually("the file is applied", async || {
            let newest = "select body from catalog_versions order by version desc limit 1";
            self.row(newest).await == text
        })
        .await;
    }

    /// Writes a catalog beside the configuration.
    pub fn catalog_file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.stack.address.config.with_file_name(name);
        std::fs::write(&file, text).expect("written");
        file
    }

    /// Runs the program as an operator would; what it prints.
    pub async fn command(&self, arguments: &[&str]) -> String {
        match self.try_command(arguments).await {
            Ok(printed) => printed,
            Err(complaint) => panic!("{arguments:?}: {complaint}"),
        }
    }

    /// The same where it may be refused: what it complains of.
    pub async fn try_command(&self, arguments: &[&str]) -> Result<String, String> {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(arguments)
            .arg("--config")
            .arg(&self.stack.address.config)
            .output()
            .await
            .expect("the program runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(printed),
            false => Err(format!("{printed}{complaint}")),
        }
    }

    /// Our id of a purchase, by its store's.
    pub async fn chain_of(&self, id: &str) -> String {
        let pool = self.tables().await;
        let query = "select chain_id::text from chain_aliases where value = $1";
        let row = sqlx::query(query).bind(id).fetch_one(&pool).await;
        let chain = row.expect("a purchase").get(0);
        pool.close().await;
        chain
    }
}

/// The tables.
impl World {
    pub async fn tables(&self) -> PgPool {
        PgPool::connect(&self.database_url)
            .await
            .expect("the test's database")
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        let row = sqlx::query(query).fetch_one(&self.looks).await;
        row.expect(query).get(0)
    }

    /// One row as text, for comparing before with after.
    pub async fn row(&self, query: &'static str) -> String {
        let row = sqlx::query(query).fetch_one(&self.looks).await;
        row.expect(query).get(0)
    }

    pub async fn refuses(&self, statement: &'static str) -> String {
        let pool = self.tables().await;
        let refused = sqlx::query(statement).execute(&pool).await;
        pool.close().await;
        refused.expect_err(statement).to_string()
    }
}

/// Counts over all tables that a signal has an effect in; the same before and after a repetition.
pub const EFFECTS: &str = "
    select jsonb_build_object(
        'chains', (select count(*) from purchase_chains),
        'transactions', (select count(*) from transactions),
        'duties', (select jsonb_agg(jsonb_build_array(transaction_id, kind, attempts) order by id) from duties),
        'claims', (select count(*) from ownership_claims where verdict = 'won'),
        'owners', (select count(*) from ownership_changes),
        'raw', (select count(*) from raw_notifications ),
        'evidence', (select count(*) from chain_evidence),
        'events', (select count(*) from subscription_events),
        'revisions', (select jsonb_agg(jsonb_build_array(account_id, revision) order by account_id)
                      from entitlement_snapshots))::text";

/// How often the stores were asked about purchases: what looks for undelivered notifications by
/// itself, and what credentials cost, does not count.
pub fn asked_about_purchases(stores: &Sandbox) -> BTreeMap<Endpoint, u64> {
    let mut calls = stores.store_calls();
    calls.retain(|endpoint, _| {
        !matches!(
            endpoint,
            Endpoint::AppleNotificationHistory
                | Endpoint::GoogleVoided
                | Endpoint::GoogleToken
                | Endpoint::IdentityKeys
        )
    });
    calls
}
