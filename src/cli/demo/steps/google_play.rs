//! Google's side: a push before the app has spoken, the acknowledgement, a renewal, a refund.

use super::super::report::{Miss, Shown, Words};
use super::super::scene::{ALICE, Scene, day, is_off, is_on, paid_until};
use super::app_store::expect_bound;
use crate::proto::{BindOutcome, InactiveReason};
use crate::sandbox::{GooglePlayBuy, GooglePlayPurchase};

const PACKAGE: &str = "com.example.app";

pub(crate) const BUY: Words = Words {
    title: "A purchase at Google Play, and the app crashes before it can tell",
    about: "Alice pays for a month on her tablet. The app dies at once. Google's push (RTDN) names \
            the purchase; the server asks Google, finds Alice's account in the purchase, and both \
            devices have access although no app said anything.",
    promises: &[1],
};

pub(crate) async fn buy(scene: &mut Scene<'_>) -> Result<(Shown, GooglePlayPurchase), Miss> {
    let mark = scene.mark();
    let buy = GooglePlayBuy {
        customer: ALICE.to_owned(),
        product_id: "premium".to_owned(),
        base_plan_id: Some("premium-monthly".to_owned()),
        obfuscated_account_id: Some(scene.store_token()),
        ..GooglePlayBuy::default()
    };
    let bought = scene.stack.sandbox.buy_google_play(&buy).await?;
    let told = scene.both_hear(mark, "pro_access is on", is_on).await?;
    let mut shown = Shown::lines(scene.lines());
    shown.measured = Some(scene.since_notification(mark, "Google Play purchase", &told)?);
    Ok((shown, bought))
}

pub(crate) const BIND: Words = Words {
    title: "The app restarts and sends the purchase token",
    about: "BindPurchase is safe to repeat: it answers that the purchase is Alice's already. The \
            server has acknowledged it to Google, or Google would refund it after three days.",
    promises: &[3],
};

pub(crate) async fn bind(
    scene: &mut Scene<'_>,
    purchase: &GooglePlayPurchase,
) -> Result<Shown, Miss> {
    let mark = scene.mark();
    let bound = scene
        .app
        .bind_google_play(PACKAGE, &purchase.purchase_token)
        .await?;
    expect_bound(&bound, BindOutcome::AlreadyYours)?;
    let unchanged = scene.nothing_changed(mark).await?;
    if scene
        .stack
        .sandbox
        .is_acknowledged(&purchase.purchase_token)
        != Some(true)
    {
        return Err(Miss::new(
            "Google knows the purchase as acknowledged",
            "it does not",
        ));
    }
    Ok(Shown::lines([
        "the app is told: the purchase is yours already".to_owned(),
        "Google knows it as acknowledged".to_owned(),
        unchanged,
    ]))
}

pub(crate) const RENEW: Words = Words {
    title: "A month later Google renews",
    about: "Google charges and pushes. Both devices have the new date.",
    promises: &[6],
};

pub(crate) async fn renew(scene: &mut Scene<'_>) -> Result<Shown, Miss> {
    let end = scene.approach_renewal().await?;
    let mark = scene.mark();
    scene.stack.sandbox.advance_to(end).await?;
    let renewed = |snapshot: &_| is_on(snapshot) && paid_until(snapshot) > Some(end);
    let told = scene
        .both_hear(mark, &format!("paid beyond {}", day(end)), renewed)
        .await?;
    let mut shown = Shown::lines(scene.lines());
    shown.measured = Some(scene.since_notification(mark, "Google Play renewal", &told)?);
    Ok(shown)
}

pub(crate) const REFUND: Words = Words {
    title: "Google refunds",
    about: "Support refunds the order in the Play console. Google pushes twice, that the purchase \
            is revoked and that its order is void. Access closes on both devices, and they know why.",
    promises: &[3],
};

pub(crate) async fn refund(
    scene: &mut Scene<'_>,
    purchase: &GooglePlayPurchase,
) -> Result<Shown, Miss> {
    let mark = scene.mark();
    scene
        .stack
        .sandbox
        .refund_google_play(&purchase.purchase_token)
        .await?;
    let told = scene
        .both_hear(mark, "pro_access is off", |snapshot| !is_on(snapshot))
        .await?;
    let refunded = |snapshot: &_| is_off(snapshot, InactiveReason::Refunded);
    scene
        .both_hear(mark, "pro_access is off: refunded", refunded)
        .await?;
    let mut shown = Shown::lines(scene.lines());
    shown.measured = Some(scene.since_notification(mark, "Google Play refund", &told)?);
    Ok(shown)
}
