//! `GetTimeline`.

use tonic::Status;

use crate::domain::time::Instant;
use crate::flows::tell_timeline::{
    Entry, Part, Subject, named_purchases, story, tell_timeline as tell,
};
use crate::grpc::door::{Door, Operator};
use crate::grpc::pages::{self, PageToken};
use crate::grpc::{convert, status, wire};

use wire::TimelineLayer as Layer;

const LAYERS: [(Layer, &str); 12] = [
    (Layer::Notification, "notification"),
    (Layer::Claim, "claim"),
    (Layer::Answer, "answer"),
    (Layer::Decision, "decision"),
    (Layer::Owner, "owner"),
    (Layer::Snapshot, "snapshot"),
    (Layer::Transaction, "transaction"),
    (Layer::Credit, "credit"),
    (Layer::Delivery, "delivery"),
    (Layer::Duty, "duty"),
    (Layer::Grant, "grant"),
    (Layer::Action, "action"),
];

pub(super) async fn get_timeline(
    door: &Door,
    operator: &Operator,
    request: wire::GetTimelineRequest,
) -> Result<wire::GetTimelineResponse, Status> {
    use wire::get_timeline_request::Subject as Named;
    let subject = match request.subject {
        Some(Named::Account(name)) => {
            Subject::Account(door.known_subject(&operator.caller, &name).await?.id)
        }
        Some(Named::Purchase(name)) => {
            let found = named_purchases(&door.core, &name).await;
            Subject::Purchases(found.map_err(status::from_storage)?)
        }
        None => {
            return Err(status::bad_request(
                "account",
                "name an account or a purchase",
            ));
        }
    };
    let layers = request
        .layers
        .iter()
        .map(|layer| {
            let known = LAYERS.iter().find(|(known, _)| i32::from(*known) == *layer);
            known
                .map(|(_, word)| (*word).to_owned())
                .ok_or_else(|| status::bad_request("layers", "no such layer"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let size = pages::size(request.page_size)?;
    let since = convert::moment("since", request.since.as_ref())?;
    let until = convert::moment("until", request.until.as_ref())?;
    let question = (format!("{subject:?}"), &layers, since, until);
    let after = PageToken::<(Instant, i32, String)>::read(&request.page_token, &question)?;
    let part = Part {
        layers: layers.clone(),
        since,
        until,
        after,
        limit: Some(size + 1),
    };
    let mut entries = tell(&door.core, &subject, part)
        .await
        .map_err(status::from_storage)?;
    let more = i64::try_from(entries.len()).is_ok_and(|count| count > size);
    if more {
        entries.pop();
    }
    let next_page_token = match entries.last() {
        Some(last) if more => PageToken::write(&(last.at, last.rank, last.tie.clone()), &question),
        Some(_) | None => String::new(),
    };
    Ok(wire::GetTimelineResponse {
        entries: entries.into_iter().map(entry).collect(),
        next_page_token,
    })
}

fn entry(entry: Entry) -> wire::TimelineEntry {
    let layer = LAYERS
        .iter()
        .find(|(_, word)| *word == entry.layer)
        .map_or(Layer::Unspecified, |(layer, _)| *layer);
    wire::TimelineEntry {
        at: Some(convert::timestamp(entry.at)),
        layer: layer.into(),
        story: story(&entry),
        what: entry.what,
        detail: entry.detail,
        purchase_id: entry.purchase.map(|id| id.to_string()).unwrap_or_default(),
        revision: entry.revision.unwrap_or_default(),
        actor: entry.actor.unwrap_or_default(),
        decision: entry.decision.unwrap_or_default(),
        reason: entry.reason.unwrap_or_default(),
    }
}
