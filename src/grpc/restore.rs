//! RestorePurchases: a list of proofs, one answer for each.

use std::time::Duration;

use prost::Message as _;
use tonic::Status;

use super::auth::Caller;
use super::door::Door;
use super::status::{self, Refusal};
use super::{convert, streams, wire};
use crate::flows::bind_purchase::Binding;
use crate::flows::read_entitlements::read_entitlements;
use crate::flows::restore_purchases::{Restored, restore_purchases};
use crate::watch::Freshness;

/// Its path: it takes more than other RPCs.
pub(super) const PATH: &str = "/entitled.v1.EntitlementService/RestorePurchases";
/// What a list of proofs may hold.
pub(super) const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// One proof: what BindPurchase takes.
const PROOF_BYTES_MAX: usize = 64 * 1024;
const PROOFS_MAX: usize = 100;

pub(super) async fn restore(
    door: &Door,
    caller: &Caller,
    patience: Option<Duration>,
    request: wire::RestorePurchasesRequest,
) -> Result<wire::RestorePurchasesResponse, Status> {
    if request.proofs.len() > PROOFS_MAX {
        return Err(status::bad_request("proofs", "send 100 at most"));
    }
    let account = door.bind_subject(caller, &request.account).await?;
    let proofs = request.proofs.into_iter().enumerate();
    let (bindings, mistakes) = split(proofs.map(|(place, proof)| binding(caller, place, proof)));
    let restored = restore_purchases(&door.core, &account, bindings, patience).await;
    let read = read_entitlements(&door.core, &account, &Freshness::Full)
        .await
        .map_err(status::from_read)?;
    Ok(wire::RestorePurchasesResponse {
        purchases: in_order(restored, mistakes),
        snapshot: Some(streams::shared(&read.view)),
        as_of: Some(convert::timestamp(read.as_of)),
    })
}

/// A proof that cannot be read is answered by itself.
fn binding(caller: &Caller, place: usize, proof: wire::PurchaseProof) -> Result<Binding, Refusal> {
    if proof.encoded_len() > PROOF_BYTES_MAX {
        let message = format!("proofs[{place}]: is above 64 KiB");
        return Err(Refusal::mistake(message));
    }
    convert::binding(Some(proof), caller).map_err(|field| {
        let within = field.trim_start_matches("proof");
        Refusal::mistake(format!("proofs[{place}]{within}: is required"))
    })
}

/// What can be bound, and for each place of the request what is wrong there.
fn split(
    read: impl Iterator<Item = Result<Binding, Refusal>>,
) -> (Vec<Binding>, Vec<Option<Refusal>>) {
    let mut bindings = Vec::new();
    let mistakes = read.map(|read| read.map(|binding| bindings.push(binding)).err());
    let mistakes = mistakes.collect();
    (bindings, mistakes)
}

fn in_order(
    restored: Vec<Restored>,
    mistakes: Vec<Option<Refusal>>,
) -> Vec<wire::RestoredPurchase> {
    let mut restored = restored.into_iter();
    let answers = mistakes.into_iter().map(|mistake| match mistake {
        Some(mistake) => Some(mistake.into_answer()),
        None => restored.next().map(answer),
    });
    answers.flatten().collect()
}

fn answer(restored: Restored) -> wire::RestoredPurchase {
    match restored {
        Ok(outcome) => wire::RestoredPurchase {
            outcome: convert::outcome(outcome).into(),
            client_action: wire::ClientAction::Finish.into(),
            ..Default::default()
        },
        Err(cause) => status::refusal(&cause).into_answer(),
    }
}
