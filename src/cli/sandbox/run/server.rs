//! The server under test as a scenario meets it: accounts that bind purchases and read what they
//! have, over the public API.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};
use chrono::{DateTime, Utc};
use tonic::Status as RpcStatus;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

use super::device::Device;
use crate::cli::client::{Bearer, Client};
use crate::proto::account_service_client::AccountServiceClient;
use crate::proto::consistency::Requirement;
use crate::proto::preflight_purchase_request::About;
use crate::proto::{
    self, AccessReason, AppStoreProof, BindEffect, BindOutcome, Consistency,
    CreateAnonymousRequest, EntitlementSnapshot, GetEntitlementsRequest, GetEntitlementsResponse,
    GooglePlayProof, InactiveReason, LinkIdentityRequest, LinkOutcome, PurchaseStanding,
    SuperwallProof, app_store_proof, purchase_proof,
};
use crate::sandbox::scenario::{
    Access, Answer, Foretold, Moment, Proof, Scenario, Standing, Status, Told,
};
use crate::sandbox::{IdentityToken, Sandbox, Store};

/// What a credential is refused with whose account became part of another one.
const LINKED: &str = "IDENTITY_LINKED";

/// A server, and its scenario's accounts on it.
pub(super) struct Server {
    channel: Channel,
    tokens: BTreeMap<String, String>,
    clients: BTreeMap<String, Client>,
    devices: BTreeMap<String, Vec<Device>>,
}

/// What an account was told: when it asked, and on each of its devices that watch.
pub(super) struct Reading {
    pub(super) asked: Told,
    pub(super) devices: Vec<Told>,
}

impl Server {
    /// Signs every account in, with tokens of the simulator's identity provider; those that nobody
    /// signs in to the server makes itself. `suffix` keeps
    /// the subjects of one run apart from those of others on the same server.
    pub(super) async fn sign_in(
        address: &str,
        sandbox: &Sandbox,
        scenario: &Scenario,
        suffix: &str,
    ) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
        let mut tokens = BTreeMap::new();
        let (mut clients, mut devices) = (BTreeMap::new(), BTreeMap::new());
        for account in &scenario.accounts {
            let subject = format!("{account}{suffix}");
            let token = match scenario.anonymous.contains(account) {
                true => anonymous(&channel).await?,
                false => sandbox.identity_token(&IdentityToken::of(&subject))?,
            };
            let client = Client::connect(address, &token).await?;
            let mut on = Vec::new();
            for _ in 0..scenario.devices_of(account) {
                on.push(Device::switch_on(client.clone()).await?);
            }
            devices.insert(account.clone(), on);
            clients.insert(account.clone(), client);
            tokens.insert(account.clone(), token);
        }
        Ok(Self {
            channel,
            tokens,
            clients,
            devices,
        })
    }

    /// What the server's clock shows, as its answers to an account say.
    pub(super) async fn now(&self, account: &str) -> anyhow::Result<DateTime<Utc>> {
        let as_of = self.answer(account).await?.as_of;
        as_of
            .and_then(|at| DateTime::from_timestamp(at.seconds, 0))
            .context("the server does not say what time it is")
    }

    /// What the server wants an account called at the stores.
    pub(super) async fn store_token(&self, account: &str) -> anyhow::Result<String> {
        let snapshot = self.snapshot(account).await?;
        let token = snapshot.account.unwrap_or_default().store_token;
        if token.is_empty() {
            bail!("the server names no store token for {account:?}");
        }
        Ok(token)
    }

    /// What an account has: from the database, and as its devices were told.
    pub(super) async fn read(&self, account: &str) -> anyhow::Result<Reading> {
        let snapshot = self.snapshot(account).await?;
        let mut devices = Vec::new();
        for device in self.devices.get(account).into_iter().flatten() {
            devices.push(told(&device.last_told(snapshot.revision).await?)?);
        }
        let asked = told(&snapshot).with_context(|| format!("{account:?} was told"))?;
        Ok(Reading { asked, devices })
    }

    /// Binds a purchase as the account's app would.
    pub(super) async fn bind(&self, account: &str, proof: Proof) -> anyhow::Result<Answer> {
        match self.client(account)?.bind(wire(proof)).await {
            Ok(answer) => {
                yours(answer.outcome()).context("the server answered a bind with nothing")
            }
            Err(status) => Ok(Answer::Refused(reason(&status))),
        }
    }

    /// Restores purchases as the account's app would; an answer for each.
    pub(super) async fn restore(
        &self,
        account: &str,
        proofs: Vec<Proof>,
    ) -> anyhow::Result<Vec<Answer>> {
        let sent = proofs.len();
        let proofs = proofs.into_iter().map(wire).collect();
        let answer = self.client(account)?.restore(proofs).await;
        let answer = answer
            .map_err(|status| anyhow!("{}: {}", reason(&status), status.message()))
            .context("the restore was refused as a whole")?;
        if answer.purchases.len() != sent {
            bail!("{} answers to {sent} proofs", answer.purchases.len());
        }
        let answers = answer.purchases.into_iter().map(|told| {
            let yours = yours(told.outcome());
            yours.unwrap_or(Answer::Refused(told.reason))
        });
        Ok(answers.collect())
    }

    /// Makes an account a part of another one, as the app of both does once somebody has signed in.
    pub(super) async fn link(&self, account: &str, to: &str) -> anyhow::Result<Answer> {
        let bearer = Bearer::of(self.token(to)?)?;
        let mut client = AccountServiceClient::with_interceptor(self.channel.clone(), bearer);
        let request = LinkIdentityRequest {
            account: String::new(),
            other_token: self.token(account)?.to_owned(),
        };
        match client.link_identity(request).await {
            Ok(answer) => match answer.into_inner().outcome() {
                LinkOutcome::Linked => Ok(Answer::Bound),
                LinkOutcome::AlreadyLinked => Ok(Answer::AlreadyYours),
                LinkOutcome::Unspecified => bail!("the server answered a link with nothing"),
            },
            Err(status) => Ok(Answer::Refused(reason(&status))),
        }
    }

    /// Fails if the credential of an account that was linked is still good for anything.
    pub(super) async fn knows_no_more(&self, account: &str) -> anyhow::Result<()> {
        match self.client(account)?.get().await {
            Err(status) if reason(&status) == LINKED => Ok(()),
            Err(status) => bail!(
                "{account:?} is refused with {}, not {LINKED}",
                reason(&status)
            ),
            Ok(_) => bail!("{account:?} was linked, and its credential is still good"),
        }
    }

    fn token(&self, account: &str) -> anyhow::Result<&str> {
        let token = self.tokens.get(account);
        token
            .map(String::as_str)
            .ok_or_else(|| anyhow!("no account {account:?} is signed in"))
    }

    /// What the server says of a purchase, or a product, before anything is done.
    pub(super) async fn foretell(&self, account: &str, about: About) -> anyhow::Result<Foretold> {
        let told = match self.client(account)?.preflight(about).await {
            Ok(told) => told,
            Err(status) => return Ok(Foretold::Refused(reason(&status))),
        };
        let mut held: Vec<String> = told.held.iter().map(|held| held.plan.clone()).collect();
        held.sort();
        Ok(Foretold::Standing {
            is: match told.standing() {
                PurchaseStanding::New => Standing::New,
                PurchaseStanding::Yours => Standing::Yours,
                PurchaseStanding::OwnedByOther => Standing::OwnedByOther,
                PurchaseStanding::AlreadySubscribed => Standing::AlreadySubscribed,
                PurchaseStanding::Unspecified => bail!("the server foretold nothing"),
            },
            moves: told.bind_effect() == BindEffect::Move,
            held,
        })
    }

    fn client(&self, account: &str) -> anyhow::Result<Client> {
        let client = self.clients.get(account);
        client
            .cloned()
            .ok_or_else(|| anyhow!("no account {account:?} is signed in"))
    }

    async fn snapshot(&self, account: &str) -> anyhow::Result<EntitlementSnapshot> {
        let snapshot = self.answer(account).await?.snapshot;
        snapshot.with_context(|| format!("{account:?} was told nothing"))
    }

    async fn answer(&self, account: &str) -> anyhow::Result<GetEntitlementsResponse> {
        let request = GetEntitlementsRequest {
            as_of: None,
            consistency: Some(Consistency {
                requirement: Some(Requirement::FullyConsistent(true)),
            }),
            account: String::new(),
        };
        let answer = self.client(account)?.inner.get_entitlements(request).await;
        let answer = answer
            .map_err(|status| anyhow!("{}: {}", reason(&status), status.message()))
            .with_context(|| format!("{account:?} could not be read"))?;
        Ok(answer.into_inner())
    }
}

/// A token of a new account that nobody has signed in to, as an app without a login gets one at its
/// first start.
async fn anonymous(channel: &Channel) -> anyhow::Result<String> {
    let made = AccountServiceClient::new(channel.clone())
        .create_anonymous(CreateAnonymousRequest {})
        .await
        .map_err(|status| anyhow!("{}: {}", reason(&status), status.message()))
        .context("the server makes no anonymous account")?;
    let credentials = made.into_inner().credentials.unwrap_or_default();
    Ok(credentials.access_token)
}

/// `None`: it is not the account's.
fn yours(outcome: BindOutcome) -> Option<Answer> {
    match outcome {
        BindOutcome::Bound => Some(Answer::Bound),
        BindOutcome::AlreadyYours => Some(Answer::AlreadyYours),
        BindOutcome::Pending => Some(Answer::Pending),
        BindOutcome::BoundWithoutAccess => Some(Answer::WithoutAccess),
        BindOutcome::Unspecified => None,
    }
}

fn told(snapshot: &EntitlementSnapshot) -> anyhow::Result<Told> {
    let mut told = Told::default();
    for entitlement in &snapshot.entitlements {
        let access = access(entitlement).with_context(|| format!("of {:?}", entitlement.id))?;
        told.entitlements.insert(entitlement.id.clone(), access);
    }
    for credit in &snapshot.credits {
        // Real money and what testers were given stand apart; a scenario has one of them.
        let counted = told.counted.entry(credit.id.clone()).or_default();
        *counted += u64::try_from(credit.balance).context("a balance below zero")?;
    }
    Ok(told)
}

pub(super) fn wire(proof: Proof) -> purchase_proof::Proof {
    let app_store = |proof| purchase_proof::Proof::AppStore(AppStoreProof { proof: Some(proof) });
    match proof {
        Proof::SignedTransaction(jws) => app_store(app_store_proof::Proof::SignedTransaction(jws)),
        Proof::TransactionId(id) => app_store(app_store_proof::Proof::TransactionId(id)),
        Proof::PurchaseToken {
            package_name,
            token,
        } => purchase_proof::Proof::GooglePlay(GooglePlayProof {
            package_name,
            purchase_token: token,
        }),
        Proof::Superwall {
            store,
            app,
            original_transaction_id,
            transaction_id,
            signed_transaction,
            purchase_token,
        } => purchase_proof::Proof::Superwall(SuperwallProof {
            store: match store {
                Store::AppStore => proto::Store::AppStore.into(),
                Store::GooglePlay => proto::Store::GooglePlay.into(),
            },
            app,
            original_transaction_id,
            transaction_id,
            signed_transaction: signed_transaction.unwrap_or_default(),
            purchase_token: purchase_token.unwrap_or_default(),
        }),
    }
}

/// The stable reason of a refusal, or the code of one that has none.
fn reason(status: &RpcStatus) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}

fn access(entitlement: &proto::Entitlement) -> anyhow::Result<Access> {
    let is = match entitlement.active {
        true => match entitlement.reason() {
            AccessReason::Subscription => Status::Subscription,
            AccessReason::Trial => Status::Trial,
            AccessReason::GracePeriod => Status::GracePeriod,
            AccessReason::Purchase => Status::Purchase,
            AccessReason::Grant => Status::Grant,
            AccessReason::Unspecified => bail!("access for no reason"),
        },
        false => match entitlement.inactive_reason() {
            InactiveReason::Never => Status::Never,
            InactiveReason::Expired => Status::Expired,
            InactiveReason::Refunded => Status::Refunded,
            InactiveReason::Revoked => Status::Revoked,
            InactiveReason::OnHold => Status::OnHold,
            InactiveReason::Paused => Status::Paused,
            InactiveReason::Pending => Status::Pending,
            InactiveReason::Transferred => Status::Transferred,
            InactiveReason::EnvironmentNotAccepted => Status::EnvironmentNotAccepted,
            InactiveReason::FamilySharingRefused => Status::FamilySharingRefused,
            InactiveReason::Unspecified => bail!("no access for no reason"),
        },
    };
    let until = entitlement.expires_at.map(|at| {
        let nanos = u32::try_from(at.nanos).unwrap_or_default();
        DateTime::<Utc>::from_timestamp(at.seconds, nanos).context("an end beyond all time")
    });
    Ok(Access {
        is,
        until: until.transpose()?.map(Moment),
        renews: Some(entitlement.will_renew),
    })
}
