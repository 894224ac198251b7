//! Looks at one signed document step by step and says what is right and what is wrong with each.
//!
//! The same steps that [`super::Verifier`] takes, without stopping at the first fault.

use serde_json::Value;

use super::chain::Candidate;
use super::jws::{self, Header, Parts};
use super::{Document, Roots, VerifyError, check_not_future};
use crate::domain::catalog::Catalog;
use crate::domain::time::Instant;
use crate::providers::app_store::wire::{Notification, RenewalInfo, Transaction};

/// How deep documents are looked for in documents: a notification holds two.
const DEPTH_MAX: usize = 1;

/// Where a notification says what it is about.
const PLACES: [&str; 4] = ["data", "summary", "appData", "externalPurchaseToken"];

/// One step and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where: `document`, or the field of the notification that holds it.
    pub(crate) part: &'static str,
    /// What was looked at.
    pub(crate) step: &'static str,
    pub(crate) ok: bool,
    /// What was found: a fact if it is right, the fault if it is not.
    pub(crate) explanation: String,
}

/// What was found out about a document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    /// The payload, whether or not it is to be believed.
    pub(crate) payload: Option<Value>,
}

impl Report {
    /// Whether every step held.
    pub(crate) fn is_genuine(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.ok)
    }
}

/// Decodes and verifies a signed transaction, renewal info or notification. With a catalog, also
/// says whether its app is listed there.
pub(crate) fn inspect(jws: &str, roots: &Roots, catalog: Option<&Catalog>, now: Instant) -> Report {
    let inspection = Inspection {
        roots,
        catalog,
        now,
    };
    let mut report = Report::default();
    report.payload = inspection.document("document", jws.trim(), DEPTH_MAX, &mut report.lines);
    report
}

struct Inspection<'a> {
    roots: &'a Roots,
    catalog: Option<&'a Catalog>,
    now: Instant,
}

/// Collects the steps of one document.
struct Steps<'a> {
    part: &'static str,
    lines: &'a mut Vec<Line>,
}

impl Steps<'_> {
    /// Notes a step; gives its value if it held.
    fn note<T>(
        &mut self,
        step: &'static str,
        result: Result<T, VerifyError>,
        found: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (ok, explanation) = match &result {
            Ok(value) => (true, found(value)),
            Err(error) => (false, error.to_string()),
        };
        self.say(step, ok, explanation);
        result.ok()
    }

    fn say(&mut self, step: &'static str, ok: bool, explanation: String) {
        self.lines.push(Line {
            part: self.part,
            step,
            ok,
            explanation,
        });
    }
}

impl Inspection<'_> {
    fn document(
        &self,
        part: &'static str,
        jws: &str,
        depth: usize,
        lines: &mut Vec<Line>,
    ) -> Option<Value> {
        let mut steps = Steps { part, lines };
        let parts = steps.note("form", Parts::split(jws), |_| "a compact JWS".to_owned())?;
        let header = steps.note("header", parts.header(), |_| "readable".to_owned());
        let payload = steps.note("payload", parts.payload(), |bytes| {
            format!("{} bytes", bytes.len())
        })?;
        let signed_at = steps.note("signedDate", jws::signed_at(&payload), Instant::to_rfc3339);
        if let Some(at) = signed_at {
            steps.note("signedDate is past", check_not_future(at, self.now), |()| {
                "not in the future".to_owned()
            });
        }
        if let Some(header) = header {
            self.signature(&mut steps, &parts, &header, signed_at);
        }
        let value: Option<Value> = serde_json::from_slice(&payload).ok();
        let Some(value) = value else {
            steps.say("contents", false, "the payload is not JSON".to_owned());
            return None;
        };
        self.contents(&mut steps, &value);
        if depth > 0 {
            self.inner(&value, depth, lines);
        }
        Some(value)
    }

    fn signature(
        &self,
        steps: &mut Steps<'_>,
        parts: &Parts<'_>,
        header: &Header,
        signed_at: Option<Instant>,
    ) {
        steps.note("alg", header.check_algorithm(), |()| "ES256".to_owned());
        steps.note("header names", header.check_names(), |()| {
            "nothing that brings its own keys".to_owned()
        });
        let certificates = steps.note("x5c", header.certificates(), |_| {
            "3 certificates".to_owned()
        });
        let candidate = certificates.and_then(|certificates| {
            steps.note("certificates", Candidate::decode(certificates), |_| {
                "standard base64; the third is ignored, roots are pinned".to_owned()
            })
        });
        let Some(candidate) = candidate else { return };
        let key = steps.note("leaf", candidate.check_leaf(), |_| {
            "may sign for the App Store, with a key on P-256".to_owned()
        });
        steps.note("intermediate", candidate.check_intermediate(), |()| {
            "is Apple's authority for developer relations".to_owned()
        });
        if let Some(at) = signed_at {
            let path = candidate
                .check_path(self.roots, at)
                .and_then(|(_, validity)| {
                    if validity.covers(at) {
                        Ok(validity)
                    } else {
                        Err(VerifyError::NotValidThen)
                    }
                });
            steps.note("chain", path, |validity| {
                let (from, until) = (validity.not_before, validity.not_after);
                format!(
                    "leads to a trusted root, valid {} to {}",
                    from.date_naive(),
                    until.date_naive()
                )
            });
        }
        let signature = parts.signature().and_then(|signature| match key {
            Some(key) => key
                .verify_sig(parts.signed.as_bytes(), &signature)
                .map_err(|_| VerifyError::Signature),
            None => Err(VerifyError::LeafKey),
        });
        steps.note("signature", signature, |()| {
            "by the leaf's key over header and payload".to_owned()
        });
    }

    fn contents(&self, steps: &mut Steps<'_>, value: &Value) {
        let kind = [
            is::<Notification>(value),
            is::<Transaction>(value),
            is::<RenewalInfo>(value),
        ];
        match kind.into_iter().flatten().next() {
            Some(name) => steps.say("contents", true, format!("a {name}")),
            None => steps.say(
                "contents",
                false,
                "neither a transaction, renewal info nor a notification".to_owned(),
            ),
        }
        // A notification says of which app it is one level further in.
        let about = PLACES.iter().find_map(|place| value.get(place));
        let notification = about.is_some();
        let about = about.unwrap_or(value);
        let said = text(about, "environment");
        if let Some(said) = said {
            let ok = matches!(said, "Production" | "Sandbox");
            let signed_by = if ok {
                "signed by Apple"
            } else {
                "never signed by Apple"
            };
            steps.say("environment", ok, format!("{said}, {signed_by}"));
        }
        if let (Some(catalog), Some(bundle_id)) = (self.catalog, text(about, "bundleId")) {
            match catalog.app_by_bundle(bundle_id) {
                Some(app)
                    if notification
                        && said == Some("Production")
                        && about.get("appAppleId").and_then(Value::as_i64) != app.app_apple_id =>
                {
                    steps.say(
                        "app",
                        false,
                        "the catalog has another app_apple_id for this app".to_owned(),
                    );
                }
                Some(app) => steps.say("app", true, format!("{} in the catalog", app.id)),
                None => steps.say(
                    "app",
                    false,
                    "the catalog has no app of this bundle id".to_owned(),
                ),
            }
        }
    }

    /// The documents inside a notification, each on its own and against each other.
    fn inner(&self, value: &Value, depth: usize, lines: &mut Vec<Line>) {
        let Some(data) = value.get("data") else {
            return;
        };
        let mut look = |name: &'static str| {
            let jws = text(data, name)?;
            self.document(name, jws, depth - 1, lines)
        };
        let transaction = look("signedTransactionInfo");
        let renewal = look("signedRenewalInfo");
        let mut steps = Steps {
            part: "document",
            lines,
        };
        let pairs = [
            ("bundleId", Some(data), transaction.as_ref()),
            ("environment", Some(data), transaction.as_ref()),
            ("environment", Some(data), renewal.as_ref()),
            (
                "originalTransactionId",
                transaction.as_ref(),
                renewal.as_ref(),
            ),
        ];
        for (name, one, other) in pairs {
            let (Some(one), Some(other)) = (one, other) else {
                continue;
            };
            let same = text(one, name) == text(other, name);
            let found = if same { "agree on" } else { "differ in" };
            steps.say(
                "belonging together",
                same,
                format!("the documents {found} {name}"),
            );
        }
    }
}

fn is<T: Document>(value: &Value) -> Option<&'static str> {
    serde_json::from_value::<T>(value.clone())
        .ok()
        .map(|_| T::NAME)
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}
