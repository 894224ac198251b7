//! Access that ends by time alone: nobody says anything, and nobody can be asked.

use std::time::{Duration, SystemTime};

use chrono::TimeDelta;

use super::super::report::{Measured, Miss, Origin, Shown, Words};
use super::super::scene::{ALICE, Mark, Scene, in_words, is_off, is_on};
use super::app_store::expect_bound;
use crate::proto::{BindOutcome, EntitlementSnapshot, InactiveReason};
use crate::sandbox::{AppStoreBuy, AppStorePurchase, Outage, Store};

/// How far before the end the clock is set; from there it runs by itself.
const BEFORE_THE_END: Duration = Duration::from_millis(600);

pub(crate) const COME_BACK: Words = Words {
    title: "Alice comes back for one month, and Apple says nothing",
    about: "She subscribes again at the App Store and turns renewal off at once. Every notification \
            about it is lost on the way. The app's BindPurchase is enough.",
    promises: &[3],
};

pub(crate) async fn come_back(scene: &mut Scene<'_>) -> Result<(Shown, AppStorePurchase), Miss> {
    let sandbox = &scene.stack.sandbox;
    sandbox.hold_deliveries(true).await?;
    let mark = scene.mark();
    let bought = sandbox
        .buy_app_store(&AppStoreBuy {
            customer: ALICE.to_owned(),
            product_id: "com.example.premium.monthly".to_owned(),
            app_account_token: scene.store_token().parse().ok(),
            ..AppStoreBuy::default()
        })
        .await?;
    sandbox
        .set_auto_renew(&bought.original_transaction_id, false)
        .await?;
    for lost in scene.notifications_since(mark) {
        sandbox.drop_notification(&lost.id)?;
    }
    let asked = SystemTime::now();
    let bound = scene.app.bind_app_store(&bought.signed_transaction).await?;
    expect_bound(&bound, BindOutcome::AlreadyYours)?;
    let told = scene.both_hear(mark, "pro_access is on", is_on).await?;
    let mut shown = Shown::lines(scene.lines());
    shown.measured = Some(Measured::new(
        "App Store purchase, again",
        Origin::Bind,
        asked,
        &told,
    ));
    Ok((shown, bought))
}

pub(crate) const END: Words = Words {
    title: "The month ends, in silence",
    about: "Apple sends nothing and, from now on, answers nothing. The clock reaches the end of the \
            month. Access closes at that moment on both devices, because the server knows the time.",
    promises: &[7, 8],
};

pub(crate) async fn end(scene: &mut Scene<'_>) -> Result<Shown, Miss> {
    let (sandbox, clock) = (&scene.stack.sandbox, &scene.stack.clock);
    let end = scene.access_ends()?;
    sandbox.set_outage(Store::AppStore, Some(Outage::Down503));
    let mark = scene.mark();
    sandbox
        .advance_to(end - TimeDelta::from_std(BEFORE_THE_END)?)
        .await?;
    let machine = SystemTime::now();
    let moment = match (end - clock.now()).to_std() {
        Ok(left) => machine + left,
        Err(_) => machine - (clock.now() - end).to_std()?,
    };
    let over = |snapshot: &_| is_off(snapshot, InactiveReason::Expired);
    let told = scene
        .both_hear(mark, "pro_access is off: what was paid is over", over)
        .await?;
    let heard_of = scene.notifications_since(mark);
    if heard_of
        .iter()
        .any(|notification| !notification.attempts.is_empty())
    {
        return Err(Miss::new("no notification was sent", "one was"));
    }
    sandbox.set_outage(Store::AppStore, None);
    let [phone, tablet] = scene.lines();
    let confirmed = ask_again(scene, mark).await?;
    let mut shown = Shown::lines([phone, tablet, confirmed]);
    shown.measured = Some(Measured::new(
        "end of the paid month",
        Origin::Clock,
        moment,
        &told,
    ));
    Ok(shown)
}

/// The store answers again: what the server concluded by itself is what the store says.
async fn ask_again(scene: &mut Scene<'_>, mark: Mark) -> Result<String, Miss> {
    let refreshed = scene.app.refresh().await?;
    if refreshed.pending != 0 {
        return Err(Miss::new(
            "Apple has been asked again",
            "it still has to be",
        ));
    }
    let latest = refreshed.snapshot.unwrap_or_default();
    if is_on(&latest) {
        return Err(Miss::new(
            "Apple agrees that the month is over",
            in_words(&latest),
        ));
    }
    let caught_up = |snapshot: &EntitlementSnapshot| snapshot.revision >= latest.revision;
    scene.both_hear(mark, &in_words(&latest), caught_up).await?;
    Ok("afterwards Apple can be asked again, and agrees".to_owned())
}
