//! What the stores have said, over HTTP: read it, send it again, hold it back, lose it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Sandbox;
use super::super::delivery::{
    Attempt, DeliveryState, Notification, NotificationRecord, Source, Store,
};
use super::super::error::SandboxError;
use super::super::sins::DeliverySin;
use super::super::state::World;
use super::body::{Body, Params};
use super::problem::Problem;
use super::{Done, decode, done};

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// A notification without its body.
#[derive(Serialize)]
pub(super) struct Summary {
    /// Position among all notifications; later ones have higher numbers.
    pub(super) number: u64,
    id: String,
    source: Source,
    notification_type: String,
    subtype: Option<String>,
    purchase: Option<String>,
    /// Whose purchase it is about.
    customer: Option<String>,
    created_at: DateTime<Utc>,
    state: DeliveryState,
    /// What the network does to it on purpose.
    sins: Vec<DeliverySin>,
    attempt_count: usize,
    last_attempt: Option<Attempt>,
    next_attempt_at: Option<DateTime<Utc>>,
}

impl Summary {
    pub(super) fn of(notification: &Notification, world: &World) -> Self {
        let record = &notification.record;
        Self {
            number: notification.number,
            id: record.id.clone(),
            source: record.source,
            notification_type: record.notification_type.clone(),
            subtype: record.subtype.clone(),
            purchase: record.purchase.clone(),
            customer: customer(record, world).map(str::to_owned),
            created_at: record.created_at,
            state: record.state,
            sins: record.sins.clone(),
            attempt_count: record.attempts.len(),
            last_attempt: record.attempts.last().cloned(),
            next_attempt_at: notification.next_attempt,
        }
    }
}

fn customer<'a>(record: &NotificationRecord, world: &'a World) -> Option<&'a str> {
    let purchase = record.purchase.as_deref()?;
    let apple = world.app_store.chains.get(purchase);
    let google = || world.google_play.purchases.get(purchase);
    apple
        .map(|chain| chain.customer.as_str())
        .or_else(|| google().map(|purchase| purchase.customer.as_str()))
}

/// The latest about a customer's purchases, newest first.
pub(super) fn about(sandbox: &Sandbox, customer: &str, limit: usize) -> Vec<Summary> {
    let filter = Filter {
        customer: Some(customer.to_owned()),
        limit: Some(limit),
        ..Filter::default()
    };
    sandbox.inner.read(|world, _| filter.page(world))
}

/// Which notifications, and how many.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Only later ones than this number, oldest first.
    after: Option<u64>,
    /// Only earlier ones than this number, newest first.
    before: Option<u64>,
    source: Option<Source>,
    customer: Option<String>,
    purchase: Option<String>,
    state: Option<DeliveryState>,
    limit: Option<usize>,
}

impl Filter {
    fn takes(&self, notification: &Notification, world: &World) -> bool {
        let record = &notification.record;
        let same = |wanted: &Option<String>, value: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == value
        };
        self.source.is_none_or(|source| source == record.source)
            && self.state.is_none_or(|state| state == record.state)
            && same(&self.purchase, record.purchase.as_deref())
            && (self.customer.is_none() || same(&self.customer, customer(record, world)))
    }

    fn page(&self, world: &World) -> Vec<Summary> {
        let limit = self.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
        let wanted = |notification: &&Notification| self.takes(notification, world);
        let summary = |notification| Summary::of(notification, world);
        let all = world.outbox.all();
        if let Some(after) = self.after {
            let later = all.skip_while(|one| one.number <= after);
            return later.filter(wanted).take(limit).map(summary).collect();
        }
        let before = self.before.unwrap_or(u64::MAX);
        let earlier = all.rev().skip_while(|one| one.number >= before);
        earlier.filter(wanted).take(limit).map(summary).collect()
    }
}

pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    Params(filter): Params<Filter>,
) -> Json<Vec<Summary>> {
    Json(sandbox.inner.read(|world, _| filter.page(world)))
}

/// A notification with its body, as sent and opened.
#[derive(Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    summary: Summary,
    /// Every attempt, oldest first.
    attempts: Vec<Attempt>,
    /// The request body with its signed documents and its base64 opened.
    decoded: Value,
    /// The request body as sent.
    body: String,
}

pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<Json<Detail>, Problem> {
    let (summary, record) = sandbox
        .inner
        .read(|world, _| {
            let found = world.outbox.find(&id)?;
            Some((Summary::of(found, world), found.record.clone()))
        })
        .ok_or(SandboxError::UnknownNotification)?;
    Ok(Json(Detail {
        summary,
        attempts: record.attempts,
        decoded: decode::body(&record.body),
        body: record.body,
    }))
}

pub(super) async fn deliver(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<Json<NotificationRecord>, Problem> {
    Ok(Json(sandbox.deliver(&id).await?))
}

pub(super) async fn drop_one(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> Done {
    done(sandbox.drop_notification(&id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichStore {
    store: Store,
}

pub(super) async fn test(State(sandbox): State<Sandbox>, Body(which): Body<WhichStore>) -> Done {
    done(sandbox.send_test_notification(which.store).await)
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hold {
    hold: bool,
}

pub(super) async fn hold(State(sandbox): State<Sandbox>, Body(wish): Body<Hold>) -> Done {
    done(sandbox.hold_deliveries(wish.hold).await)
}

pub(super) async fn holding(State(sandbox): State<Sandbox>) -> (StatusCode, Json<Hold>) {
    let hold = sandbox.inner.read(|world, _| world.outbox.holding());
    (StatusCode::OK, Json(Hold { hold }))
}
