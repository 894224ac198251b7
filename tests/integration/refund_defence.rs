//! Refund defence: what the stores are told when a customer asks for money back, and when.

use chrono::TimeDelta;
use entitled::config::Config;
use entitled::config::refund_defence::RefundPreference;
use entitled::proto::purchase_service_client::PurchaseServiceClient;
use entitled::proto::{DeliveryStatus, SetConsumptionRequest};
use entitled::sandbox::{AppStoreAction, Endpoint, GooglePlayAction, Outage, RefundReason, Store};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

use crate::process::eventually;
use crate::scene::{EXPORT, WORKER};
use crate::support::{World, assert_refused};

/// A word about consumption, without a transaction: of everything.
fn word(consented: bool, used: Option<i32>) -> SetConsumptionRequest {
    SetConsumptionRequest {
        customer_consented: consented,
        delivery: DeliveryStatus::Delivered.into(),
        used_percent: used,
        ..Default::default()
    }
}

/// A store that failed is asked again after a second at most, not after up to five minutes.
fn soon_again(config: &mut Config) {
    config.worker.backoff_max_seconds = 1;
}

impl World {
    async fn tell(&self, subject: &str, request: SetConsumptionRequest) -> Result<(), Status> {
        let server = self.stack.address.server.clone();
        let mut client = PurchaseServiceClient::connect(server)
            .await
            .expect("connected");
        let mut request = Request::new(request);
        let bearer = format!("Bearer {}", self.token(subject));
        let bearer = bearer.parse().expect("a header");
        request.metadata_mut().insert("authorization", bearer);
        client.set_consumption(request).await.map(|_| ())
    }

    async fn ask_apple_for_money(&self, transaction_id: &str) {
        let action = AppStoreAction::RequestRefund {
            transaction_id: transaction_id.into(),
            reason: RefundReason::UnsatisfiedWithPurchase,
        };
        self.stores().app_store(action).await.expect("asked");
        self.settled().await;
    }

    /// What Apple was told; waits for it.
    async fn told_apple(&self, transaction_id: &str) -> Value {
        let told = || self.stores().consumption_answer(transaction_id);
        eventually("Apple is told", async || told().is_some()).await;
        told().expect("told")
    }

    /// Waits for a store to be asked so often.
    async fn until_calls(&self, endpoint: Endpoint, count: u64) {
        let asked = async || self.calls(endpoint) >= count;
        eventually(&format!("{endpoint:?} is called"), asked).await;
        self.settled().await;
        assert_eq!(self.calls(endpoint), count, "{endpoint:?}");
    }

    /// Every question: kind, whether done, why waived; the hours from the first deadline to its own.
    async fn questions(&self) -> String {
        self.row(
            "select string_agg(concat_ws(' ', kind, case when done_at is null then 'open' else 'done' end,
                 waived, '+' || round(extract(epoch from deadline - first) / 3600)), ', ' order by id)
             from (select *, min(deadline) over () as first from duties where kind in
                   ('answer_consumption_request', 'review_refund')) q",
        )
        .await
    }

    /// Kind, whether done, why waived, what it waits for.
    async fn question(&self) -> String {
        self.row(
            "select concat_ws(' ', kind, case when done_at is null then 'open' else 'done' end,
                 waived, waits_for) from duties where kind in
                 ('answer_consumption_request', 'review_refund') order by id desc limit 1",
        )
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apple_is_told_what_was_used_with_consent_and_once() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_apple("alice", EXPORT, token).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let id = bought.transaction_id.as_str();

    let about_it = SetConsumptionRequest {
        store_transaction_id: id.into(),
        ..word(true, Some(40))
    };
    world.tell("alice", about_it.clone()).await.expect("kept");
    // The account's word in general does not stand against the word about this one.
    world.tell("alice", word(false, None)).await.expect("kept");
    let strange = world.tell("bob", about_it.clone()).await;
    let strange = strange.expect_err("not bob's");
    assert_refused(&strange, Code::NotFound, "PURCHASE_NOT_FOUND");
    let too_much = world.tell("alice", word(true, Some(101))).await;
    let too_much = too_much.expect_err("more than all");
    assert_refused(&too_much, Code::InvalidArgument, "REQUEST_INVALID");

    world.ask_apple_for_money(id).await;
    let told = world.told_apple(id).await;
    let expected = json!({
        "customerConsented": true, "deliveryStatus": "DELIVERED",
        "sampleContentProvided": false, "consumptionPercentage": 40_000,
    });
    assert_eq!(told, expected);
    world.settled().await;
    assert_eq!(world.question().await, "answer_consumption_request done");

    // Said again, and read again: answered once.
    let request = world.said().pop().expect("the question");
    world.deliver(&request).await;
    world.command(&["resync", "dev:alice"]).await;
    world.settled().await;
    assert_eq!(world.calls(Endpoint::AppleConsumption), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_consent_apple_is_told_nothing_until_it_comes() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_apple("alice", EXPORT, token).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let id = bought.transaction_id.as_str();
    world.ask_apple_for_money(id).await;
    assert_eq!(
        world.question().await,
        "answer_consumption_request open consent"
    );
    let story = ["timeline", "dev:alice", "--layer", "duty"];
    let told = world.command(&story).await;
    let waits = format!("about {id}, waits for consent, due by then");
    assert!(told.contains(&waits), "{told}");
    let late = TimeDelta::hours(11);
    world.stores().advance_by(late).await.expect("later");
    assert_eq!(world.calls(Endpoint::AppleConsumption), 0);
    world.tell("alice", word(true, None)).await.expect("kept");
    let told = world.told_apple(id).await;
    assert_eq!(told["customerConsented"], true);
    assert!(told.get("consumptionPercentage").is_none(), "{told}");

    // Nobody agrees: let go at the deadline, and the timeline says why.
    let bob = world.person("bob").await;
    let token = Some(bob.store_token.as_str());
    let bought = world.buy_apple("bob", EXPORT, token).await;
    bob.bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world.ask_apple_for_money(&bought.transaction_id).await;
    let over = TimeDelta::hours(12) + TimeDelta::minutes(1);
    world.stores().advance_by(over).await.expect("too late");
    world.settled().await;
    assert_eq!(
        world.question().await,
        "answer_consumption_request done no consent"
    );
    let told = world
        .command(&["timeline", "dev:bob", "--layer", "duty"])
        .await;
    let waived = format!("about {}, no consent", bought.transaction_id);
    assert!(told.contains(&waived), "{told}");
    assert_eq!(world.calls(Endpoint::AppleConsumption), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_told_when_it_comes_back_and_somebody_is_woken_before() {
    let mut world = World::start().await;
    world.restart(soon_again).await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_apple("alice", EXPORT, token).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let id = bought.transaction_id.as_str();
    world.ask_apple_for_money(id).await;
    world
        .stores()
        .set_outage(Store::AppStore, Some(Outage::Down503));
    world
        .tell("alice", word(true, Some(5)))
        .await
        .expect("kept");
    let later = TimeDelta::hours(7);
    world.stores().advance_by(later).await.expect("later");
    let alarmed = "select count(*) from duties where alarmed_at is not null and done_at is null
                   and last_error is not null";
    // Deadlines are looked at every ten seconds, and by a worker that starts.
    let woken_by = world.replica(WORKER, soon_again).await;
    eventually("half of the time is over", async || {
        world.count(alarmed).await == 1
    })
    .await;
    woken_by.stop().await;
    world.stores().set_outage(Store::AppStore, None);
    let told = world.told_apple(id).await;
    assert_eq!(told["consumptionPercentage"], 5_000);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_is_asked_to_decline_within_a_day_and_keeps_the_money() {
    let mut world = World::start().await;
    world
        .restart(|config| config.refund_defence.preference = RefundPreference::Decline)
        .await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_google("alice", "premium-monthly", token).await;
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    let action = GooglePlayAction::ChargeBack {
        purchase_token: bought.purchase_token.clone(),
        order_id: None,
    };
    world.stores().google_play(action).await.expect("charged");
    world.settled().await;
    assert_eq!(
        world.question().await,
        "review_refund open consumption",
        "the app may know more"
    );
    // Nothing is told: the answer goes without it, long before the store stops waiting.
    let later = TimeDelta::minutes(61);
    world.stores().advance_by(later).await.expect("later");
    world.until_calls(Endpoint::GoogleReviewRefund, 1).await;
    assert_eq!(world.question().await, "review_refund done");
    let day = TimeDelta::hours(30);
    world.stores().advance_by(day).await.expect("a day later");
    let truth = world.stores().purchases("alice");
    assert!(truth[0].entitled, "the store listened: {truth:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apple_may_ask_twice_about_one_transaction_and_each_time_is_answered() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_apple("alice", EXPORT, token).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let id = bought.transaction_id.as_str();
    world.tell("alice", word(true, Some(10))).await.expect("ok");
    world.ask_apple_for_money(id).await;
    world.until_calls(Endpoint::AppleConsumption, 1).await;
    let declined = AppStoreAction::DeclineRefund {
        transaction_id: id.into(),
    };
    world.stores().app_store(declined).await.expect("declined");
    let later = TimeDelta::hours(48);
    world.stores().advance_by(later).await.expect("later");
    world.settled().await;

    world.tell("alice", word(true, Some(90))).await.expect("ok");
    world.ask_apple_for_money(id).await;
    world.until_calls(Endpoint::AppleConsumption, 2).await;
    let told = world.told_apple(id).await;
    assert_eq!(told["consumptionPercentage"], 90_000, "what holds now");
    assert_eq!(
        world.questions().await,
        "answer_consumption_request done +0, answer_consumption_request done +48"
    );
    // Delivered once more, and read again: the same two questions.
    let request = world.said().pop().expect("the question");
    world.deliver(&request).await;
    world.command(&["resync", "dev:alice"]).await;
    world.settled().await;
    assert_eq!(world.calls(Endpoint::AppleConsumption), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_may_ask_twice_about_one_order_and_each_review_is_answered() {
    let mut world = World::start().await;
    world
        .restart(|config| {
            config.refund_defence.preference = RefundPreference::Decline;
            config.refund_defence.wait_for_consumption_minutes = 0;
        })
        .await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_google("alice", "premium-monthly", token).await;
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    for time in 1..=2 {
        let action = GooglePlayAction::ChargeBack {
            purchase_token: bought.purchase_token.clone(),
            order_id: None,
        };
        world.stores().google_play(action).await.expect("charged");
        world.until_calls(Endpoint::GoogleReviewRefund, time).await;
        let later = TimeDelta::hours(30);
        world.stores().advance_by(later).await.expect("later");
        world.settled().await;
    }
    assert_eq!(
        world.questions().await,
        "review_refund done +0, review_refund done +30"
    );
    let truth = world.stores().purchases("alice");
    assert!(truth[0].entitled, "the store listened twice: {truth:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_has_its_deadline_at_once_though_its_store_is_away() {
    let mut world = World::start().await;
    world.restart(soon_again).await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let apple = world.buy_apple("alice", EXPORT, token).await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    let google = world.buy_google("alice", "premium-monthly", token).await;
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.tell("alice", word(true, Some(5))).await.expect("ok");
    world.settled().await;

    let down = Some(Outage::Down503);
    world.stores().set_outage(Store::AppStore, down);
    world.stores().set_outage(Store::GooglePlay, down);
    let asked_at = world.stores().now();
    let ask = AppStoreAction::RequestRefund {
        transaction_id: apple.transaction_id.clone(),
        reason: RefundReason::UnsatisfiedWithPurchase,
    };
    world.stores().app_store(ask).await.expect("asked");
    let ask = GooglePlayAction::ChargeBack {
        purchase_token: google.purchase_token.clone(),
        order_id: None,
    };
    world.stores().google_play(ask).await.expect("charged");
    let questions = "select count(*) from duties where done_at is null and kind in
                     ('answer_consumption_request', 'review_refund')";
    eventually("both questions are kept", async || {
        world.count(questions).await == 2
    })
    .await;
    let deadlines = world
        .row(
            "select string_agg(extract(epoch from deadline)::bigint::text, ' ' order by deadline)
             from duties where kind in ('answer_consumption_request', 'review_refund')",
        )
        .await;
    let asked_at = asked_at.timestamp();
    let since = deadlines.split(' ').filter_map(|at| at.parse::<i64>().ok());
    // The simulated clock runs on while the two are asked.
    let hours: Vec<i64> = since.map(|at| (at - asked_at) / 3600).collect();
    assert_eq!(hours, [12, 24], "from the question, {deadlines}");

    // Nobody could be told for seven hours: somebody is woken for Apple's half.
    let later = TimeDelta::hours(7);
    world.stores().advance_by(later).await.expect("later");
    let woken = "select count(*) from duties where alarmed_at is not null and done_at is null
                 and kind = 'answer_consumption_request'";
    // Deadlines are looked at every ten seconds, and by a worker that starts.
    let woken_by = world.replica(WORKER, soon_again).await;
    eventually("somebody is woken for Apple's half", async || {
        world.count(woken).await == 1
    })
    .await;
    woken_by.stop().await;
    world.stores().set_outage(Store::AppStore, None);
    world.stores().set_outage(Store::GooglePlay, None);
    eventually("both are answered", async || {
        world.count(questions).await == 0
    })
    .await;
    world.settled().await;
    assert_eq!(
        world.questions().await,
        "answer_consumption_request done +0, review_refund done +12"
    );
    world.stop().await;
}
