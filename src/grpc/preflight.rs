//! PreflightPurchase: parse → one flow → convert.

use tonic::Status;

use super::auth::Caller;
use super::door::{Door, Subject};
use super::status::{self, Reason};
use super::{convert, wire};
use crate::domain::preflight::{Effect, Held, Standing};
use crate::flows::preflight::{About, Preflight, PreflightError, preflight};

pub(super) async fn answer(
    door: &Door,
    caller: &Caller,
    request: wire::PreflightPurchaseRequest,
) -> Result<wire::PreflightPurchaseResponse, Status> {
    use wire::preflight_purchase_request::About as Asked;
    let account = match door.subject(caller, &request.account).await? {
        Subject::Known(account) => Some(account),
        Subject::Unknown => None,
    };
    let about = match request.about {
        Some(Asked::Proof(proof)) => {
            let binding = convert::binding(Some(proof), caller);
            About::Purchase(binding.map_err(|field| status::bad_request(field, "is required"))?)
        }
        Some(Asked::Product(id)) if !id.is_empty() => About::Product(id),
        Some(Asked::Product(_)) | None => {
            return Err(status::bad_request("about", "send a proof or a product"));
        }
    };
    let told = preflight(&door.core, account.as_ref(), &about).await;
    told.map(convert_answer).map_err(refuse)
}

fn refuse(cause: PreflightError) -> Status {
    match cause {
        PreflightError::Purchase(cause) => status::from_bind(cause),
        PreflightError::Read(cause) => status::from_read(cause),
        cause @ PreflightError::ProductUnknown => {
            status::status(Reason::ProductUnknown, cause.to_string())
        }
    }
}

fn convert_answer(told: Preflight) -> wire::PreflightPurchaseResponse {
    let standing = match told.standing {
        Standing::New => wire::PurchaseStanding::New,
        Standing::Yours => wire::PurchaseStanding::Yours,
        Standing::OwnedByOther => wire::PurchaseStanding::OwnedByOther,
        Standing::AlreadySubscribed => wire::PurchaseStanding::AlreadySubscribed,
    };
    let effect = match told.effect {
        None => wire::BindEffect::Unspecified,
        Some(Effect::Bind) => wire::BindEffect::Bind,
        Some(Effect::Confirm) => wire::BindEffect::Confirm,
        Some(Effect::Move) => wire::BindEffect::Move,
        Some(Effect::Refuse) => wire::BindEffect::Refuse,
    };
    wire::PreflightPurchaseResponse {
        standing: standing.into(),
        bind_effect: effect.into(),
        held: told.held.into_iter().map(held).collect(),
    }
}

fn held(held: Held) -> wire::HeldPurchase {
    let manage_url = match &held.state {
        Some(_) => convert::manage_url(held.store).to_owned(),
        None => String::new(),
    };
    wire::HeldPurchase {
        store: convert::wire_store(held.store).into(),
        plan: held.plan,
        product_id: held.product_id,
        environment: convert::environment(held.environment).into(),
        entitlements: held.entitlements,
        status: held.state.map_or(0, |state| convert::status(&state).into()),
        expires_at: held.expires_at.map(convert::timestamp),
        will_renew: held.will_renew,
        family_shared: held.family_shared,
        manage_url,
    }
}
