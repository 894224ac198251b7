//! `Replay`: one page per call, so that it can be paced and taken up again.

use tonic::Status;

use crate::domain::provider::Source;
use crate::flows::replay_ingress::{Asked, Place, replay_page};
use crate::grpc::door::{Door, Operator};
use crate::grpc::pages::{self, PageToken};
use crate::grpc::{convert, status, wire};

pub(super) async fn replay(
    door: &Door,
    operator: &Operator,
    request: &wire::ReplayRequest,
) -> Result<wire::ReplayResponse, Status> {
    let account = match request.account.as_str() {
        "" => None,
        name => Some(door.known_subject(&operator.caller, name).await?.id),
    };
    let source = match request.source.as_str() {
        "" => None,
        word => Some(
            Source::parse(word)
                .map(Source::as_str)
                .ok_or_else(|| status::bad_request("source", "no such source"))?,
        ),
    };
    let since = convert::moment("since", request.since.as_ref())?;
    let until = convert::moment("until", request.until.as_ref())?;
    let question = (account, source, since, until, request.apply);
    let place = PageToken::<Place>::read(&request.page_token, &question)?;
    let asked = Asked {
        account,
        source,
        since,
        until,
        apply: request.apply.then_some(operator.actor.as_str()),
    };
    let size = pages::size(request.page_size)?;
    let page = replay_page(&door.core, &asked, place.unwrap_or(Place::START), size)
        .await
        .map_err(status::from_storage)?;
    let differences = page
        .differences
        .into_iter()
        .map(|difference| wire::ReplayDifference {
            purchase_id: difference
                .purchase
                .map(|id| id.to_string())
                .unwrap_or_default(),
            what: difference.what,
            applied: difference.applied,
        });
    let replayed = page
        .purchases
        .iter()
        .map(|replayed| wire::ReplayedPurchase {
            purchase_id: replayed.chain.to_string(),
            steps: count(replayed.steps),
            differences: replayed.differences.clone(),
            trimmed: count(replayed.trimmed),
            erased: count(replayed.erased),
        });
    Ok(wire::ReplayResponse {
        erased: count(page.erased),
        replayed: replayed.collect(),
        notifications: count(page.notifications),
        purchases: count(page.purchases.len()),
        differences: differences.collect(),
        next_page_token: page
            .next
            .map(|place| PageToken::write(&place, &question))
            .unwrap_or_default(),
    })
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
