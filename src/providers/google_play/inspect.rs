//! `entitled inspect rtdn`: what a notification says and whether it would be believed, line by line.

use std::fmt;

use super::SetupError;
use super::read::{self, Notification, Subject};
use super::verify::{Moment, PushVerifier};
use crate::config::google_play::PushConfig;
use crate::domain::catalog::Catalog;
use crate::domain::subscription::store_state::Evidence;
use crate::http::HttpClient;

/// How one check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Ok,
    Failed,
    /// There was nothing to check with.
    Skipped,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) finding: Finding,
    pub(crate) what: &'static str,
    pub(crate) explanation: String,
}

/// All checks in the order in which they were made. Purchase tokens are never in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) checks: Vec<Check>,
}

impl Report {
    /// Nothing failed.
    pub(crate) fn is_ok(&self) -> bool {
        self.checks
            .iter()
            .all(|check| check.finding != Finding::Failed)
    }

    fn add(&mut self, finding: Finding, what: &'static str, explanation: impl Into<String>) {
        self.checks.push(Check {
            finding,
            what,
            explanation: explanation.into(),
        });
    }

    fn judge<E: fmt::Display>(&mut self, what: &'static str, found: Result<String, E>) {
        match found {
            Ok(explanation) => self.add(Finding::Ok, what, explanation),
            Err(error) => self.add(Finding::Failed, what, error.to_string()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check {
            finding,
            what,
            explanation,
        } in &self.checks
        {
            let word = match finding {
                Finding::Ok => "ok",
                Finding::Failed => "failed",
                Finding::Skipped => "skipped",
            };
            writeln!(f, "{word:<8}{what:<14}{explanation}")?;
        }
        Ok(())
    }
}

/// Explains a notification and, if there is one, the token that it came with. `body` is a push as
/// Pub/Sub sends it, or the bare notification inside. Fetches Google's keys to verify the token.
pub(crate) async fn rtdn(
    push: Option<&PushConfig>,
    http: &HttpClient,
    catalog: Option<&Catalog>,
    body: &[u8],
    bearer: Option<&str>,
) -> Result<Report, SetupError> {
    let push = push.map(|push| PushVerifier::new(push, http)).transpose()?;
    let push = push.as_ref();
    let mut report = Report::default();
    inspect_bearer(&mut report, push, bearer).await;
    let unwrapped = read::unwrap(body);
    match (&unwrapped, push) {
        (Ok(_), Some(push)) => report.judge(
            "subscription",
            push.verify_body(body)
                .map(|authentic| format!("message {}", authentic.event_id)),
        ),
        (Ok(_), None) => report.add(Finding::Skipped, "subscription", "none is configured"),
        (Err(_), _) => {
            report.add(
                Finding::Skipped,
                "subscription",
                "not a push; read as the bare notification",
            );
        }
    }
    match read::decode(unwrapped.as_deref().unwrap_or(body)) {
        Ok(notification) => describe(&mut report, notification, catalog),
        Err(reason) => report.add(Finding::Failed, "notification", reason),
    }
    Ok(report)
}

async fn inspect_bearer(report: &mut Report, push: Option<&PushVerifier>, bearer: Option<&str>) {
    match (push, bearer) {
        (Some(push), Some(bearer)) => {
            let bearer = bearer.strip_prefix("Bearer ").unwrap_or(bearer).trim();
            let verified = push.verify_bearer(bearer, Moment::now()).await;
            let genuine = "signed by Google for the configured account and audience";
            report.judge("token", verified.map(|()| genuine.to_owned()));
        }
        (None, Some(_)) => report.add(
            Finding::Skipped,
            "token",
            "no push subscription is configured",
        ),
        (_, None) => report.add(
            Finding::Skipped,
            "token",
            "none given; the sender is not verified",
        ),
    }
}

fn describe(report: &mut Report, notification: Notification, catalog: Option<&Catalog>) {
    let Notification {
        package_name,
        event_time,
        kind: (kind, meaning),
        subject,
    } = notification;
    report.add(
        Finding::Ok,
        "notification",
        format!(
            "{kind} ({}) at {}",
            meaning.as_str(),
            event_time.to_rfc3339()
        ),
    );
    match catalog.map(|catalog| catalog.app_by_package(&package_name)) {
        None => report.add(
            Finding::Skipped,
            "app",
            format!("{package_name}; there is no catalog"),
        ),
        Some(Some(app)) => report.add(Finding::Ok, "app", format!("{package_name} is {}", app.id)),
        Some(None) => report.add(
            Finding::Failed,
            "app",
            format!("{package_name} is not in the catalog; the notification would be ignored"),
        ),
    }
    match subject {
        Subject::Purchase { token, void } => {
            let length = token.len();
            let shape = super::token::check(&token);
            report.judge(
                "purchase",
                shape.map(|()| {
                    format!("a token of {length} characters; the store is asked about it")
                }),
            );
            if let Some(Evidence::Void {
                order_id, partial, ..
            }) = void
            {
                let extent = if partial { "part of order" } else { "order" };
                report.add(
                    Finding::Ok,
                    "void",
                    format!("{extent} {order_id} was voided"),
                );
            }
        }
        Subject::Order { id, .. } => report.add(
            Finding::Ok,
            "order",
            format!("{id}; Google waits for our word on its refund"),
        ),
        Subject::Nothing { reason } => {
            report.add(
                Finding::Ok,
                "purchase",
                format!("none: nothing changes ({reason})"),
            );
        }
    }
}
