//! What is not theirs: another account sends Alice's purchase, a changed one, and one of another app.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::super::device::Device;
use super::super::report::{Miss, Shown, Words};
use super::super::scene::{Scene, in_words, is_off};
use crate::proto::{BindPurchaseResponse, InactiveReason};
use crate::sandbox::{AppStorePurchase, GooglePlayPurchase};

const BOB: &str = "bob";

pub(crate) const CLAIM: Words = Words {
    title: "Bob tries to use Alice's purchase",
    about: "Bob has a copy of Alice's signed transaction and sends it as his own. Then he changes a \
            letter in it. Then he sends a purchase of an app that is none of ours. Nothing opens for \
            him, nothing changes for her, and his app is told what to do.",
    promises: &[1, 4, 9],
};

pub(crate) async fn claim(
    scene: &mut Scene<'_>,
    apple: &AppStorePurchase,
    google: &GooglePlayPurchase,
) -> Result<Shown, Miss> {
    let mark = scene.mark();
    let mut app = scene.stack.client(BOB).await?;
    let phone = Device::open("Bob", scene.stack.client(BOB).await?).await?;
    let copied = app.bind_app_store(&apple.signed_transaction).await;
    let copied = refused(
        copied,
        Code::FailedPrecondition,
        "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
    )?;
    let changed = app
        .bind_app_store(&with_a_changed_letter(&apple.signed_transaction))
        .await;
    let changed = refused(changed, Code::InvalidArgument, "PROOF_INVALID")?;
    let foreign = app
        .bind_google_play("com.example.another", &google.purchase_token)
        .await;
    let foreign = refused(foreign, Code::FailedPrecondition, "APP_UNKNOWN")?;
    let unchanged = scene.nothing_changed(mark).await?;
    let latest = phone.latest();
    if !is_off(&latest, InactiveReason::Never) {
        return Err(Miss::new("Bob has nothing", in_words(&latest)));
    }
    Ok(Shown::lines([
        format!("a copy:      {copied}"),
        format!("a forgery:   {changed}"),
        format!("another app: {foreign}"),
        format!("Bob     {}", in_words(&latest)),
        format!("Alice   {unchanged}"),
    ]))
}

/// The payload says something else, the signature stays as it was.
fn with_a_changed_letter(jws: &str) -> String {
    let Some((head, signature)) = jws.rsplit_once('.') else {
        return String::new();
    };
    let mut changed = head.to_owned();
    let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
    changed.push(last);
    format!("{changed}.{signature}")
}

/// The refusal's reason and what the app is told to do, if it is the expected one.
fn refused(
    answer: Result<BindPurchaseResponse, Status>,
    code: Code,
    reason: &str,
) -> Result<String, Miss> {
    let expected = format!("BindPurchase is refused with {reason}");
    let status = match answer {
        Ok(bound) => return Err(Miss::new(expected, bound.outcome().as_str_name())),
        Err(status) => status,
    };
    let info = status.get_details_error_info();
    let said = info
        .as_ref()
        .map_or("without a reason", |info| info.reason.as_str());
    if status.code() != code || said != reason {
        return Err(Miss::new(expected, format!("{:?} {said}", status.code())));
    }
    match info
        .as_ref()
        .and_then(|info| info.metadata.get("client_action"))
    {
        Some(action) => Ok(format!("{reason}, the app should {action}")),
        None => Err(Miss::new(
            "the refusal says what the app should do",
            "it does not",
        )),
    }
}
