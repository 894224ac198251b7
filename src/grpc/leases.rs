//! Signed leases: what an account may use, for whoever cannot ask. `domain::lease` says what is in
//! one; here it is asked for, signed, and sent beside the snapshots of a stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use tonic::Status;
use tracing::error;
use uuid::Uuid;

use super::accounts::Tokens;
use super::auth::{Caller, CallerKind};
use super::status::{self, Reason};
use super::{convert, wire};
use crate::domain::catalog::{App, Catalog};
use crate::domain::lease::{Holder, Lease, Leased};
use crate::domain::time::Instant;
use crate::flows::Core;
use crate::watch::{View, WatchEvent};

/// What tells a lease from a credential that the same keys have signed.
const TOKEN_TYPE: &str = "lease+jwt";
/// Of a SHA-256 thumbprint (RFC 7638).
const DEVICE_KEY_BYTES: usize = 32;
const NONCE_BYTES_MAX: usize = 128;

/// What a lease is signed for.
pub(super) struct Terms {
    audience: String,
    holder: Holder,
    device_key: Option<String>,
    nonce: Option<String>,
}

impl Terms {
    /// Reads what `caller` asks for; `field` is where the request has it.
    pub(super) fn of(
        asked: wire::LeaseTerms,
        field: &str,
        caller: &Caller,
        catalog: &Catalog,
    ) -> Result<Self, Status> {
        let bad = |name: &str, why: &str| status::bad_request(&format!("{field}.{name}"), why);
        let holder = match caller.kind {
            CallerKind::User => Holder::Device,
            CallerKind::Service => Holder::Service,
            CallerKind::Operator(_) => {
                return Err(status::bad_request(field, "is for devices and services"));
            }
        };
        let app = match (asked.app.as_str(), catalog.apps()) {
            ("", _) if holder == Holder::Service => None,
            ("", [only]) => Some(only),
            ("", _) => return Err(bad("app", "is required: the catalog has several")),
            (named, apps) => Some(app_of(apps, named).map_err(|why| bad("app", why))?),
        };
        if app.is_some_and(|app| !caller.apps.allows(&app.id)) {
            return Err(status::status(
                Reason::AppNotAllowed,
                "the key is not for that app",
            ));
        }
        let is_thumbprint = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text);
            bytes.is_ok_and(|bytes| bytes.len() == DEVICE_KEY_BYTES)
        };
        if !asked.device_key.is_empty() && !is_thumbprint(&asked.device_key) {
            let why = "is the SHA-256 thumbprint of a JWK (RFC 7638): 43 characters of base64url";
            return Err(bad("device_key", why));
        }
        if asked.nonce.len() > NONCE_BYTES_MAX {
            return Err(bad("nonce", "is longer than 128 bytes"));
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        Ok(Self {
            audience: app.map_or_else(|| caller.actor(), |app| app.id.0.clone()),
            holder,
            device_key: given(asked.device_key),
            nonce: given(asked.nonce),
        })
    }
}

/// The app of the catalog that a name means: its id, or else the one that the stores know by it.
fn app_of<'a>(apps: &'a [App], named: &str) -> Result<&'a App, &'static str> {
    if let Some(app) = apps.iter().find(|app| app.id.0 == named) {
        return Ok(app);
    }
    let known_as = |app: &&App| {
        [&app.bundle_id, &app.package_name]
            .into_iter()
            .any(|name| name.as_deref() == Some(named))
    };
    let mut meant = apps.iter().filter(known_as);
    match (meant.next(), meant.next()) {
        (Some(app), None) => Ok(app),
        (Some(_), Some(_)) => Err("means two apps of the catalog; give the catalog's id"),
        (None, _) => Err("is no app of the catalog"),
    }
}

/// Signs leases with the first key of our tokens.
#[derive(Clone)]
pub(super) struct Leases {
    core: Arc<Core>,
    tokens: Arc<Tokens>,
}

/// A lease as it goes over the wire.
pub(super) struct Signed {
    text: String,
    lease: Lease,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Uuid,
    iat: i64,
    nbf: i64,
    exp: i64,
    epoch: &'a str,
    revision: i64,
    environment: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    entitlements: BTreeMap<&'a str, Entitled>,
}

/// RFC 7800: the key that whoever shows the lease must hold.
#[derive(Serialize)]
struct Confirmation<'a> {
    jkt: &'a str,
}

#[derive(Serialize)]
struct Entitled {
    until: i64,
    environment: &'static str,
}

impl From<&Leased> for Entitled {
    fn from(leased: &Leased) -> Self {
        Self {
            until: leased.until.timestamp(),
            environment: leased.environment.as_str(),
        }
    }
}

impl Leases {
    /// `None`: this server has no keys to sign with.
    pub(super) fn new(core: &Arc<Core>, tokens: Option<&Arc<Tokens>>) -> Option<Self> {
        Some(Self {
            core: Arc::clone(core),
            tokens: Arc::clone(tokens?),
        })
    }

    /// A lease on what a view says at `now`.
    pub(super) fn sign(&self, terms: &Terms, view: &View, now: Instant) -> Result<Signed, Status> {
        let catalog = self.core.catalog.load();
        let lease = Lease::of(&view.snapshot, |id| catalog.lease(id), terms.holder, now);
        let signer = self.tokens.signer();
        let entitlements = lease.entitlements.iter();
        let claims = Claims {
            iss: signer.name(),
            aud: &terms.audience,
            sub: view.account.id.0,
            iat: lease.issued_at.timestamp(),
            nbf: lease.issued_at.timestamp(),
            exp: lease.expires_at.timestamp(),
            epoch: &view.epoch,
            revision: view.revision.0,
            environment: lease.environment.as_str(),
            cnf: terms.device_key.as_deref().map(|jkt| Confirmation { jkt }),
            nonce: terms.nonce.as_deref(),
            entitlements: entitlements
                .map(|(id, it)| (id.as_str(), it.into()))
                .collect(),
        };
        let text = signer.sign_as(TOKEN_TYPE, &claims).map_err(|cause| {
            error!(%cause, "a lease could not be signed");
            status::status(Reason::Internal, "the lease could not be signed")
        })?;
        metrics::counter!("entitled_leases_signed_total").increment(1);
        Ok(Signed { text, lease })
    }
}

impl Signed {
    pub(super) fn answer(self) -> wire::IssueLeaseResponse {
        wire::IssueLeaseResponse {
            lease: self.text,
            as_of: Some(convert::timestamp(self.lease.issued_at)),
            expires_at: Some(convert::timestamp(self.lease.expires_at)),
            renew_at: Some(convert::timestamp(self.lease.renew_at)),
        }
    }
}

/// The leases of one stream that asked for them.
pub(super) struct StreamLeases {
    leases: Leases,
    terms: Terms,
    due: Due,
}

impl StreamLeases {
    pub(super) fn new(leases: Leases, terms: Terms) -> Box<Self> {
        Box::new(Self {
            leases,
            terms,
            due: Due::default(),
        })
    }

    /// The lease that goes with an event; empty where there is none.
    pub(super) fn beside(&mut self, event: &WatchEvent, now: Instant) -> Result<String, Status> {
        let degraded = self.leases.core.hub.is_degraded();
        let Some(view) = self.due.at(event, now, degraded) else {
            return Ok(String::new());
        };
        let signed = self.leases.sign(&self.terms, &view, now)?;
        self.due.renew_at = signed.lease.renew_at;
        Ok(signed.text)
    }
}

/// When a stream's next lease is due: with every change, and with a heartbeat once the last one is
/// half over.
#[derive(Default)]
struct Due {
    /// What was told last.
    view: Option<Arc<View>>,
    /// Of the last lease, by business time.
    renew_at: Instant,
}

impl Due {
    /// What to sign beside an event. What the database cannot confirm is not signed: the first
    /// heartbeat after it can makes up for it.
    fn at(&mut self, event: &WatchEvent, now: Instant, degraded: bool) -> Option<Arc<View>> {
        match event {
            WatchEvent::Snapshot(view) | WatchEvent::Unchanged(view) => {
                self.view = Some(Arc::clone(view));
                self.renew_at = Instant::MIN_UTC;
            }
            WatchEvent::Heartbeat(_) => {}
            WatchEvent::Ended => return None,
        }
        let due = self.renew_at <= now && !degraded;
        self.view.as_ref().filter(|_| due).map(Arc::clone)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::catalog::tests::example;
    use crate::domain::entitlement::Snapshot;
    use crate::domain::ids::{AccountId, Revision};
    use crate::flows::Account;

    fn moment(minutes: i64) -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn view(revision: i64) -> Arc<View> {
        Arc::new(View {
            account: Account {
                id: AccountId(Uuid::nil()),
                store_token: String::new(),
            },
            epoch: "e".into(),
            revision: Revision(revision),
            snapshot: Snapshot::default(),
            encoded: bytes::Bytes::new(),
            read_at: tokio::time::Instant::now(),
        })
    }

    #[test]
    fn a_stream_has_a_lease_with_each_change_and_once_the_last_is_half_over() {
        let mut due = Due::default();
        let heartbeat = || WatchEvent::Heartbeat(Revision(1));
        let revision = |due: Option<Arc<View>>| due.map(|view| view.revision.0);
        assert!(due.at(&heartbeat(), moment(0), false).is_none());
        let first = due.at(&WatchEvent::Unchanged(view(1)), moment(0), false);
        assert_eq!(revision(first), Some(1));
        due.renew_at = moment(2);
        assert!(due.at(&heartbeat(), moment(1), false).is_none());
        let changed = due.at(&WatchEvent::Snapshot(view(2)), moment(1), false);
        assert_eq!(revision(changed), Some(2));
        due.renew_at = moment(3);
        assert!(
            due.at(&heartbeat(), moment(3), true).is_none(),
            "not confirmed"
        );
        assert_eq!(revision(due.at(&heartbeat(), moment(4), false)), Some(2));
        assert!(due.at(&WatchEvent::Ended, moment(9), false).is_none());
        // A change that could not be confirmed is signed by the first heartbeat after it can.
        due.renew_at = moment(60);
        assert!(
            due.at(&WatchEvent::Snapshot(view(3)), moment(5), true)
                .is_none()
        );
        assert_eq!(revision(due.at(&heartbeat(), moment(5), false)), Some(3));
    }

    #[test]
    fn an_app_is_meant_by_its_id_or_by_a_name_that_is_its_alone() {
        let catalog = example();
        let [ios, android] = catalog.apps() else {
            unreachable!("the example has two apps");
        };
        assert_eq!(app_of(catalog.apps(), &ios.id.0), Ok(ios));
        assert_eq!(app_of(catalog.apps(), &android.id.0), Ok(android));
        let both = ios.bundle_id.as_deref().unwrap();
        assert_eq!(android.package_name.as_deref(), Some(both));
        assert!(app_of(catalog.apps(), both).unwrap_err().contains("two"));
        assert_eq!(app_of(std::slice::from_ref(ios), both), Ok(ios));
        let unknown = app_of(catalog.apps(), "com.example.other");
        assert!(unknown.unwrap_err().contains("no app"));
    }
}
