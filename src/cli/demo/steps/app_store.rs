//! Apple's side: a purchase, its renewal, the sins of the network, a refund.

use std::time::SystemTime;

use super::super::report::{Measured, Miss, Origin, Shown, Words};
use super::super::scene::{ALICE, Scene, day, is_off, is_on, paid_until};
use crate::proto::{BindOutcome, BindPurchaseResponse, ClientAction, InactiveReason};
use crate::sandbox::{AppStoreBuy, AppStorePurchase};

const YEARLY: &str = "com.example.premium.yearly";

pub(crate) const BUY: Words = Words {
    title: "A purchase at the App Store, told by the app",
    about: "Alice subscribes for a year on her phone. StoreKit hands the app a signed transaction; \
            the app sends it with BindPurchase. The server checks the signature, asks Apple, and \
            both devices have access. Apple's own notification is slow today, which does not matter.",
    promises: &[1],
};

pub(crate) async fn buy(scene: &mut Scene<'_>) -> Result<(Shown, AppStorePurchase), Miss> {
    let sandbox = &scene.stack.sandbox;
    sandbox.hold_deliveries(true).await?;
    let mark = scene.mark();
    let bought = sandbox
        .buy_app_store(&AppStoreBuy {
            customer: ALICE.to_owned(),
            product_id: YEARLY.to_owned(),
            app_account_token: scene.store_token().parse().ok(),
            ..AppStoreBuy::default()
        })
        .await?;
    let asked = SystemTime::now();
    let bound = scene.app.bind_app_store(&bought.signed_transaction).await?;
    expect_bound(&bound, BindOutcome::Bound)?;
    let told = scene.both_hear(mark, "pro_access is on", is_on).await?;
    let [phone, tablet] = scene.lines();
    let mut shown = Shown::lines([
        "the app is told: the purchase is bound, finish the transaction".to_owned(),
        phone,
        tablet,
    ]);
    shown.measured = Some(Measured::new(
        "App Store purchase",
        Origin::Bind,
        asked,
        &told,
    ));
    Ok((shown, bought))
}

/// The purchase is the caller's, and the app may let go of it.
pub(super) fn expect_bound(bound: &BindPurchaseResponse, outcome: BindOutcome) -> Result<(), Miss> {
    if (bound.outcome(), bound.client_action()) == (outcome, ClientAction::Finish) {
        return Ok(());
    }
    let seen = format!(
        "{} {}",
        bound.outcome().as_str_name(),
        bound.client_action().as_str_name()
    );
    Err(Miss::new(
        format!("BindPurchase answers {} and FINISH", outcome.as_str_name()),
        seen,
    ))
}

pub(crate) const LATE_MESSAGE: Words = Words {
    title: "Apple's notification about it comes after all",
    about: "It tells what is known already. The server takes it, asks Apple again, finds nothing \
            new, and bothers nobody.",
    promises: &[3],
};

pub(crate) async fn late_message(scene: &mut Scene<'_>) -> Result<Shown, Miss> {
    let mark = scene.mark();
    scene.stack.sandbox.hold_deliveries(false).await?;
    Ok(Shown::lines([scene.nothing_changed(mark).await?]))
}

pub(crate) const RENEW: Words = Words {
    title: "A year later Apple renews",
    about: "The clock jumps to the end of the year. Apple charges Alice and sends a signed \
            notification. The server stores it before it answers 200, asks Apple for the whole \
            truth, and pushes the new date to both devices.",
    promises: &[6],
};

/// Gives the notification's id.
pub(crate) async fn renew(scene: &mut Scene<'_>) -> Result<(Shown, String), Miss> {
    let end = scene.approach_renewal().await?;
    let mark = scene.mark();
    scene.stack.sandbox.advance_to(end).await?;
    let renewed = |snapshot: &_| is_on(snapshot) && paid_until(snapshot) > Some(end);
    let told = scene
        .both_hear(mark, &format!("paid beyond {}", day(end)), renewed)
        .await?;
    let mut shown = Shown::lines(scene.lines());
    shown.measured = Some(scene.since_notification(mark, "App Store renewal", &told)?);
    let sent = scene.notifications_since(mark);
    let id = sent
        .first()
        .map(|notification| notification.id.clone())
        .unwrap_or_default();
    Ok((shown, id))
}

pub(crate) const DUPLICATE: Words = Words {
    title: "Apple sends the same notification again",
    about: "Stores repeat themselves. The server recognises the notification, answers 200 so that \
            Apple is content, and its effect is not had twice.",
    promises: &[2],
};

pub(crate) async fn duplicate(scene: &mut Scene<'_>, renewal: &str) -> Result<Shown, Miss> {
    let mark = scene.mark();
    scene.deliver(renewal).await?;
    Ok(Shown::lines([
        "the second delivery was answered 200".to_owned(),
        scene.nothing_changed(mark).await?,
    ]))
}

pub(crate) const OUT_OF_ORDER: Words = Words {
    title: "Two notifications arrive in the wrong order",
    about: "Alice turns renewal off, changes her mind and turns it on. The network delivers 'on' \
            first and the older 'off' last. A server that believes the last word would now show a \
            payer as leaving; this one asks Apple what is true.",
    promises: &[3],
};

pub(crate) async fn out_of_order(
    scene: &mut Scene<'_>,
    purchase: &AppStorePurchase,
) -> Result<Shown, Miss> {
    let sandbox = &scene.stack.sandbox;
    let mark = scene.mark();
    sandbox.hold_deliveries(true).await?;
    sandbox
        .set_auto_renew(&purchase.original_transaction_id, false)
        .await?;
    sandbox
        .set_auto_renew(&purchase.original_transaction_id, true)
        .await?;
    let held = scene.notifications_since(mark);
    if held.len() != 2 {
        return Err(Miss::new(
            "two notifications wait",
            format!("{} do", held.len()),
        ));
    }
    for notification in held.iter().rev() {
        scene.deliver(&notification.id).await?;
    }
    sandbox.hold_deliveries(false).await?;
    Ok(Shown::lines([
        "delivered: 'renewal on', then the older 'renewal off'; both answered 200".to_owned(),
        scene.nothing_changed(mark).await?,
    ]))
}

pub(crate) const REFUND: Words = Words {
    title: "Apple refunds",
    about: "Alice asks Apple for her money and gets it. The notification closes access on both \
            devices. The old renewal notification, delivered once more, does not open it again.",
    promises: &[2, 3],
};

pub(crate) async fn refund(scene: &mut Scene<'_>, renewal: &str) -> Result<Shown, Miss> {
    let sandbox = &scene.stack.sandbox;
    let purchase = sandbox.purchases(ALICE).into_iter().next();
    let latest = purchase
        .map(|purchase| purchase.latest_transaction)
        .unwrap_or_default();
    let mark = scene.mark();
    sandbox.refund_app_store(&latest).await?;
    let refunded = |snapshot: &_| is_off(snapshot, InactiveReason::Refunded);
    let told = scene
        .both_hear(mark, "pro_access is off: refunded", refunded)
        .await?;
    let measured = scene.since_notification(mark, "App Store refund", &told)?;
    let [phone, tablet] = scene.lines();
    let mark = scene.mark();
    scene.deliver(renewal).await?;
    let mut shown = Shown::lines([phone, tablet, scene.nothing_changed(mark).await?]);
    shown.measured = Some(measured);
    Ok(shown)
}
