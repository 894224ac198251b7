//! Who may ask, and what operators do under their own name.

use chrono::TimeDelta;
use entitled::proto::{
    ActAtStoreRequest, CancelSubscription, ExplainEntitlementRequest, ExtendSubscription,
    GrantEntitlementRequest, ListTransactionsRequest, RefundOrder, ResyncRequest,
    RevokeGrantRequest, TransferPurchaseRequest, act_at_store_request::Action,
};
use entitled::sandbox::{Endpoint, GooglePlayAction, Outage, Store};
use tonic::Code;

use super::{Operator, token};
use crate::scene::MONTHLY;
use crate::support::{World, assert_refused, is_active};

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_may_and_they_bind_nothing() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    for (who, token) in [
        ("a user", world.token("alice")),
        ("a service", world.service_token()),
    ] {
        let mut caller = Operator::with(&world, &token).await;
        let request = ResyncRequest {
            account: "dev:alice".into(),
        };
        let refused = caller.support.resync(request).await.expect_err(who);
        assert_refused(&refused, Code::PermissionDenied, "OPERATOR_REQUIRED");
        let request = ExplainEntitlementRequest {
            account: "dev:alice".into(),
            entitlement: "pro_access".into(),
            at: None,
        };
        let refused = caller.support.explain_entitlement(request).await;
        assert_refused(
            &refused.expect_err(who),
            Code::PermissionDenied,
            "OPERATOR_REQUIRED",
        );
    }
    // A user's own money only; everybody's for operators alone.
    let mut user = Operator::with(&world, &world.token("bob")).await;
    let request = ListTransactionsRequest {
        account: "dev:alice".into(),
        ..Default::default()
    };
    let refused = user.purchases.list_transactions(request).await;
    assert_refused(
        &refused.expect_err("another's"),
        Code::PermissionDenied,
        "ACCOUNT_NOT_ALLOWED",
    );
    let bought = world.buy_apple("alice", MONTHLY, None).await;
    let mut operator = world
        .client_with_token(&token(&world, "sue", "entitled.operator"))
        .await;
    let refused = operator.bind_app_store(&bought.signed_transaction).await;
    assert_refused(
        &refused.expect_err("operators bind nothing"),
        Code::PermissionDenied,
        "ACCOUNT_NOT_ALLOWED",
    );
    assert!(!is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_does_carries_name_and_reason() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let mut sue = Operator::of(&world).await;
    let grant = GrantEntitlementRequest {
        account: "dev:alice".into(),
        entitlement: "pro_access".into(),
        expires_at: None,
        reason: "a lost week".into(),
    };
    sue.support.grant_entitlement(grant).await.expect("given");
    assert!(is_active(&alice.now().await, "pro_access"));
    let why = sue.why("dev:alice").await;
    assert_eq!(
        why.sentence,
        "on for good: a gift by app:sue (a lost week); off only if it is taken back"
    );
    let revoke = RevokeGrantRequest {
        account: "dev:alice".into(),
        entitlement: "pro_access".into(),
        reason: "a mistake".into(),
    };
    let revoked = sue.support.revoke_grant(revoke.clone()).await;
    assert_eq!(revoked.expect("taken back").into_inner().revoked, 1);
    let again = sue.support.revoke_grant(revoke).await;
    assert_eq!(again.expect("no gift left").into_inner().revoked, 0);
    assert!(!is_active(&alice.now().await, "pro_access"));
    assert!(
        sue.why("dev:alice")
            .await
            .sentence
            .contains("was taken back")
    );

    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let mut transfer = TransferPurchaseRequest {
        purchase: bought.original_transaction_id.clone(),
        to_account: "dev:bob".into(),
        from_account: "dev:bob".into(),
        reason: "the customer's new login".into(),
        operation_id: "ticket-4711".into(),
    };
    let stale = sue.support.transfer_purchase(transfer.clone()).await;
    assert_refused(
        &stale.expect_err("it is alice's"),
        Code::FailedPrecondition,
        "TRANSFER_STALE",
    );
    transfer.from_account = "dev:alice".into();
    for id in ["ticket 4711", "ticket\u{7f}", &"t".repeat(65)] {
        let unbounded = TransferPurchaseRequest {
            operation_id: id.into(),
            ..transfer.clone()
        };
        let refused = sue.support.transfer_purchase(unbounded).await;
        let refused = refused.expect_err(id);
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    }
    // Sent again, it is done; for another purchase or another account the id is used up.
    for _ in 0..2 {
        let moved = sue.support.transfer_purchase(transfer.clone()).await;
        moved.expect("moved");
    }
    let carol = world.person("carol").await;
    let other = world.buy_google("carol", "premium-monthly", None).await;
    carol
        .bind_google(&other.purchase_token)
        .await
        .expect("bound");
    let other = world.chain_of(&other.purchase_token).await;
    for (purchase, to) in [(&transfer.purchase, "dev:alice"), (&other, "dev:bob")] {
        let reused = TransferPurchaseRequest {
            purchase: purchase.clone(),
            to_account: to.into(),
            from_account: String::new(),
            ..transfer.clone()
        };
        let refused = sue.support.transfer_purchase(reused).await;
        let refused = refused.expect_err("the id was used");
        assert_refused(&refused, Code::AlreadyExists, "OPERATION_ID_REUSED");
    }
    assert!(is_active(&bob.now().await, "pro_access"));
    let story = sue.story("dev:alice", &[]).await;
    for what in [
        "it belongs",
        "an operator gave access",
        "took a gift back",
        "moved it",
    ] {
        let told = story.iter().find(|entry| entry.story.contains(what));
        if what != "it belongs" {
            assert_eq!(told.expect(what).actor, "app:sue", "{what}");
        }
    }
    assert_eq!(sue.why("dev:alice").await.reason, "transferred");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_asked_once_per_operation_and_what_came_of_it_is_read() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    let mut sue = Operator::of(&world).await;
    let act = |action, operation_id: &str| ActAtStoreRequest {
        purchase: bought.purchase_token.clone(),
        reason: "the customer asked".into(),
        operation_id: operation_id.into(),
        action: Some(action),
    };
    let cancel = || Action::Cancel(CancelSubscription { by_developer: true });
    let first = sue
        .support
        .act_at_store(act(cancel(), "ticket-4711"))
        .await
        .expect("canceled")
        .into_inner();
    assert!(first.settled);
    let asked = || world.calls(Endpoint::GoogleCancel);
    let second = sue
        .support
        .act_at_store(act(cancel(), "ticket-4711"))
        .await
        .expect("the same outcome")
        .into_inner();
    assert_eq!(second.outcome, first.outcome);
    assert_eq!(asked(), 1, "asked once");
    let other = Action::Extend(ExtendSubscription { days: 3 });
    let reused = sue.support.act_at_store(act(other, "ticket-4711")).await;
    assert_refused(
        &reused.expect_err("another action"),
        Code::AlreadyExists,
        "OPERATION_ID_REUSED",
    );
    world.settled().await;
    let pro = alice.now().await;
    assert!(is_active(&pro, "pro_access"));
    assert!(!pro.subscriptions[0].will_renew);
    let asked = sue.story("dev:alice", &[]).await;
    let by_sue = asked.iter().filter(|entry| entry.actor == "app:sue");
    assert!(by_sue.count() >= 3, "the wish, before and after: {asked:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_not_reached_has_done_nothing_and_is_asked_again() {
    let mut world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    let cancel = || ActAtStoreRequest {
        purchase: bought.purchase_token.clone(),
        reason: "the customer asked".into(),
        operation_id: "ticket-4711".into(),
        action: Some(Action::Cancel(CancelSubscription { by_developer: true })),
    };
    let canceled = |world: &World| world.calls(Endpoint::GoogleCancel);
    // Nobody listens there.
    world
        .restart(|config| {
            let google = config.google_play.as_mut().expect("Google Play");
            google.base_url = "http://127.0.0.1:9".into();
        })
        .await;
    let mut sue = Operator::of(&world).await;
    let away = sue.support.act_at_store(cancel()).await;
    let away = away.expect_err("not reached");
    assert_refused(&away, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(away.message().contains("has done nothing"), "{away}");
    let told = sue.story("dev:alice", &[]).await;
    let told = told.iter().filter(|entry| entry.actor == "app:sue");
    assert_eq!(told.count(), 2, "the wish, and that it came to nothing");

    world.restart(|_| {}).await;
    // Turned away as one too many: the same.
    let busy = Some(Outage::RateLimited);
    world.stores().set_outage(Store::GooglePlay, busy);
    let mut sue = Operator::of(&world).await;
    let away = sue.support.act_at_store(cancel()).await;
    let away = away.expect_err("turned away");
    assert_refused(&away, Code::Unavailable, "STORE_UNAVAILABLE");
    world.stores().set_outage(Store::GooglePlay, None);
    assert_eq!(canceled(&world), 0);
    let acted = sue.support.act_at_store(cancel()).await;
    acted.expect("the same operation, at last");
    assert_eq!(canceled(&world), 1);

    // What may have arrived is another matter.
    let down = Some(Outage::Down503);
    world.stores().set_outage(Store::GooglePlay, down);
    let other = ActAtStoreRequest {
        operation_id: "ticket-4712".into(),
        ..cancel()
    };
    let lost = sue.support.act_at_store(other).await;
    let lost = lost.expect_err("nobody knows");
    assert_refused(&lost, Code::FailedPrecondition, "STORE_ACTION_UNDECIDED");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_refunded_long_ago_is_not_refunded_again() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    let refund = GooglePlayAction::Refund {
        purchase_token: bought.purchase_token.clone(),
        order_id: Some(bought.order_id.clone()),
        revoke: false,
        quantity: None,
        source: Default::default(),
        reason: Default::default(),
    };
    world.stores().google_play(refund).await.expect("refunded");
    // Two renewals later the last read has nothing of it.
    for _ in 0..2 {
        world
            .stores()
            .advance_by(TimeDelta::days(31))
            .await
            .expect("a month");
        world.settled().await;
    }
    let last = "select (known -> 'state' -> 'transactions')::text from store_subscription_state";
    let last = world.row(last).await;
    assert!(!last.contains("refund\":{"), "{last}");
    let before = world.calls(Endpoint::GoogleRefund);
    let mut sue = Operator::of(&world).await;
    let act = |revoke, operation_id: &str| ActAtStoreRequest {
        purchase: bought.purchase_token.clone(),
        reason: "the customer asked".into(),
        operation_id: operation_id.into(),
        action: Some(Action::Refund(RefundOrder {
            order_id: bought.order_id.clone(),
            revoke,
        })),
    };
    for _ in 0..2 {
        let again = sue.support.act_at_store(act(false, "ticket-4711")).await;
        let again = again.expect_err("its money is back already");
        assert_refused(&again, Code::FailedPrecondition, "STORE_ACTION_REFUSED");
        assert!(again.message().contains("refunded already"), "{again}");
    }
    let asked = world.calls(Endpoint::GoogleRefund);
    assert_eq!(asked, before, "the store is not asked");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_another_purchase_is_not_refunded() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let mut orders = Vec::new();
    for person in [&alice, &bob] {
        let bought = world
            .buy_google(&person.name, "premium-monthly", Some(&person.store_token))
            .await;
        person
            .bind_google(&bought.purchase_token)
            .await
            .expect("bound");
        orders.push(bought);
    }
    world.settled().await;
    let mut sue = Operator::of(&world).await;
    let act = |order: &str| ActAtStoreRequest {
        purchase: orders[0].purchase_token.clone(),
        reason: "the customer asked".into(),
        operation_id: "ticket-4712".into(),
        action: Some(Action::Refund(RefundOrder {
            order_id: order.into(),
            revoke: false,
        })),
    };
    let foreign = sue.support.act_at_store(act(&orders[1].order_id)).await;
    assert_refused(
        &foreign.expect_err("bob's order"),
        Code::InvalidArgument,
        "REQUEST_INVALID",
    );
    let refunds = world.calls(Endpoint::GoogleRefund);
    assert_eq!(refunds, 0, "no money moved");
    // The operation id is still free.
    let own = sue.support.act_at_store(act(&orders[0].order_id)).await;
    own.expect("alice's order");
    world.stop().await;
}
