//! `SignOffer`: parse, one flow, convert.

use tonic::Status;

use super::auth::Caller;
use super::door::Door;
use super::status::{self, Reason};
use super::wire;
use crate::flows::sign_offer::{PromotionSignature, Request, SignOfferError, sign_offer as sign};

pub(super) async fn sign_offer(
    door: &Door,
    caller: &Caller,
    request: &wire::SignOfferRequest,
) -> Result<wire::SignOfferResponse, Status> {
    if request.offer.is_empty() {
        return Err(status::bad_request("offer", "is required"));
    }
    let account = door.known_subject(caller, &request.account).await?;
    let request = Request {
        account: &account,
        apps: &caller.apps,
        offer: &request.offer,
        app: &request.app,
        transaction_id: &request.transaction_id,
    };
    let signed = sign(&door.core, &request).await.map_err(refused)?;
    Ok(wire::SignOfferResponse {
        product_id: signed.product_id,
        offer_id: signed.offer_id,
        jws: signed.jws,
        allow_introductory_offer: signed.allowed,
        promotion: signed.promotion.map(promotion),
    })
}

fn promotion(signed: PromotionSignature) -> wire::PromotionSignature {
    wire::PromotionSignature {
        key_id: signed.key_id,
        nonce: signed.nonce.to_string(),
        timestamp: signed.timestamp,
        signature: signed.signature,
        app_account_token: signed.account_token,
    }
}

fn refused(cause: SignOfferError) -> Status {
    match cause {
        SignOfferError::UnknownOffer => status::status(Reason::OfferUnknown, cause.to_string()),
        SignOfferError::NotEligible => status::status(Reason::OfferNotEligible, cause.to_string()),
        SignOfferError::UnknownApp => status::bad_request("app", &cause.to_string()),
        SignOfferError::NoTransaction => status::bad_request("transaction_id", &cause.to_string()),
        SignOfferError::Key => status::status(Reason::Internal, cause.to_string()),
        SignOfferError::Storage(cause) => status::from_storage(cause),
    }
}
