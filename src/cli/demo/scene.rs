//! Who is on stage: Alice's app, her two devices, and how a step looks at what they were told.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::device::{Device, Told};
use super::report::{Measured, Miss, Origin};
use crate::cli::client::Client;
use crate::cli::stack::Stack;
use crate::proto::consistency::Requirement;
use crate::proto::{
    Consistency, Entitlement, EntitlementSnapshot, GetEntitlementsRequest, InactiveReason,
};
use crate::sandbox::NotificationRecord;

/// The account whose story it is, as the server and operators name it.
pub(super) const ACCOUNT: &str = "dev:alice";
/// Alice's name at the stores and in her tokens.
pub(super) const ALICE: &str = "alice";
/// The entitlement that the story follows.
const ENTITLEMENT: &str = "pro_access";
/// A change would have been pushed long before.
const QUIET: Duration = Duration::from_millis(150);
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Alice at her app, with two devices that watch.
pub(super) struct Scene<'a> {
    pub(super) stack: &'a Stack,
    pub(super) app: Client,
    pub(super) phone: Device,
    pub(super) tablet: Device,
}

/// A moment of the story: what follows is looked for after it.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    told: [usize; 2],
    notifications: usize,
}

impl Scene<'_> {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            told: [self.phone.count(), self.tablet.count()],
            notifications: self.stack.sandbox.notifications().len(),
        }
    }

    /// What the account's token at the stores is.
    pub(super) fn store_token(&self) -> String {
        self.phone
            .latest()
            .account
            .map(|account| account.store_token)
            .unwrap_or_default()
    }

    /// What both devices were told after `mark` that is as wanted.
    pub(super) async fn both_hear(
        &self,
        mark: Mark,
        expected: &str,
        wanted: impl Fn(&EntitlementSnapshot) -> bool,
    ) -> Result<[Told; 2], Miss> {
        let (phone, tablet) = tokio::join!(
            self.phone.hears(mark.told[0], &wanted),
            self.tablet.hears(mark.told[1], &wanted),
        );
        match (phone, tablet) {
            (Some(phone), Some(tablet)) => Ok([phone, tablet]),
            _ => Err(Miss::new(
                format!("both devices are told: {expected}"),
                self.held(),
            )),
        }
    }

    /// The way from the first notification after `mark` that was acknowledged to both devices.
    pub(super) fn since_notification(
        &self,
        mark: Mark,
        event: &str,
        told: &[Told; 2],
    ) -> Result<Measured, Miss> {
        let sent = self.notifications_since(mark);
        let acknowledged = sent.iter().find_map(|notification| {
            let attempt = notification
                .attempts
                .iter()
                .find(|attempt| attempt.status == Some(200))?;
            Some((&notification.notification_type, attempt.answered_at))
        });
        let Some((kind, answered_at)) = acknowledged else {
            return Err(Miss::new(
                "the server answers the notification with 200",
                answers(&sent),
            ));
        };
        Ok(Measured::new(
            format!("{event} ({kind})"),
            Origin::Notification,
            answered_at,
            told,
        ))
    }

    pub(super) fn notifications_since(&self, mark: Mark) -> Vec<NotificationRecord> {
        self.stack
            .sandbox
            .notifications()
            .split_off(mark.notifications)
    }

    /// That neither device was told anything after `mark` although the server has done all its work.
    pub(super) async fn nothing_changed(&self, mark: Mark) -> Result<String, Miss> {
        if !self.stack.app.idle(SETTLED_WITHIN).await {
            return Err(Miss::new(
                "the server settles",
                "it still had work after 10 s",
            ));
        }
        tokio::time::sleep(QUIET).await;
        if [self.phone.count(), self.tablet.count()] != mark.told {
            return Err(Miss::new("no device is told anything new", self.held()));
        }
        Ok(format!(
            "phone and tablet still at revision {}: no message came",
            self.phone.latest().revision
        ))
    }

    /// Delivers a notification (once more), which the server has to take.
    pub(super) async fn deliver(&self, id: &str) -> Result<(), Miss> {
        let record = self.stack.sandbox.deliver(id).await?;
        match record.attempts.last().and_then(|attempt| attempt.status) {
            Some(200) => Ok(()),
            _ => Err(Miss::new(
                "the server answers the notification with 200",
                answers(&[record]),
            )),
        }
    }

    /// Lets time pass to a little before the end of what was paid, so that what the clock alone
    /// brings about (a look at the store each day) is over when the store acts.
    pub(super) async fn approach_renewal(&self) -> Result<DateTime<Utc>, Miss> {
        let end = paid_until(&self.phone.latest());
        let end = end.ok_or_else(|| Miss::new("a paid period", self.held()))?;
        self.stack
            .sandbox
            .advance_to(end - chrono::TimeDelta::minutes(5))
            .await?;
        Ok(end)
    }

    /// When access closes if nobody says anything more.
    pub(super) fn access_ends(&self) -> Result<DateTime<Utc>, Miss> {
        let latest = self.phone.latest();
        let until = entitlement(&latest).and_then(|entitlement| instant(entitlement.access_until?));
        until.ok_or_else(|| Miss::new("access that ends", self.held()))
    }

    /// What the database says now, past every cache.
    pub(super) async fn read_strictly(&mut self) -> Result<EntitlementSnapshot, Miss> {
        let consistency = Consistency {
            requirement: Some(Requirement::FullyConsistent(true)),
        };
        let request = GetEntitlementsRequest {
            as_of: None,
            consistency: Some(consistency),
            account: String::new(),
        };
        let answer = self.app.inner.get_entitlements(request).await?.into_inner();
        answer
            .snapshot
            .ok_or_else(|| Miss::new("an answer with a snapshot", "one without"))
    }

    /// What both devices hold, in words.
    pub(super) fn held(&self) -> String {
        let [phone, tablet] = [&self.phone, &self.tablet].map(line);
        format!("{phone}; {tablet}")
    }

    pub(super) fn lines(&self) -> [String; 2] {
        [&self.phone, &self.tablet].map(line)
    }
}

fn answers(sent: &[NotificationRecord]) -> String {
    let answers: Vec<String> = sent
        .iter()
        .map(|notification| match notification.attempts.last() {
            Some(attempt) => format!("{}: {:?}", notification.notification_type, attempt.status),
            None => format!("{}: not sent", notification.notification_type),
        })
        .collect();
    if answers.is_empty() {
        "no notification".to_owned()
    } else {
        answers.join(", ")
    }
}

fn line(device: &Device) -> String {
    format!("{:<7} {}", device.name, in_words(&device.latest()))
}

/// What a device shows its user.
pub(super) fn in_words(snapshot: &EntitlementSnapshot) -> String {
    let revision = snapshot.revision;
    let Some(entitlement) = entitlement(snapshot) else {
        return format!("the catalog has no {ENTITLEMENT} (revision {revision})");
    };
    if entitlement.active {
        let renews = if entitlement.will_renew {
            "renews"
        } else {
            "ends"
        };
        let until = paid_until(snapshot)
            .map_or("for ever".to_owned(), |at| format!("{renews} {}", day(at)));
        return format!("{ENTITLEMENT} is on, {until} (revision {revision})");
    }
    let why = match entitlement.inactive_reason() {
        InactiveReason::Never => "never bought".to_owned(),
        InactiveReason::Expired => "what was paid is over".to_owned(),
        InactiveReason::Refunded => "refunded".to_owned(),
        InactiveReason::Revoked => "taken back by the store".to_owned(),
        other @ (InactiveReason::Unspecified
        | InactiveReason::OnHold
        | InactiveReason::Paused
        | InactiveReason::Pending
        | InactiveReason::Transferred
        | InactiveReason::EnvironmentNotAccepted
        | InactiveReason::FamilySharingRefused) => other.as_str_name().to_owned(),
    };
    format!("{ENTITLEMENT} is off: {why} (revision {revision})")
}

pub(super) fn day(at: DateTime<Utc>) -> String {
    at.format("%-d %b %Y").to_string()
}

pub(super) fn is_on(snapshot: &EntitlementSnapshot) -> bool {
    entitlement(snapshot).is_some_and(|entitlement| entitlement.active)
}

pub(super) fn is_off(snapshot: &EntitlementSnapshot, reason: InactiveReason) -> bool {
    entitlement(snapshot)
        .is_some_and(|entitlement| !entitlement.active && entitlement.inactive_reason() == reason)
}

/// End of what was paid.
pub(super) fn paid_until(snapshot: &EntitlementSnapshot) -> Option<DateTime<Utc>> {
    instant(entitlement(snapshot)?.expires_at?)
}

fn entitlement(snapshot: &EntitlementSnapshot) -> Option<&Entitlement> {
    snapshot
        .entitlements
        .iter()
        .find(|entitlement| entitlement.id == ENTITLEMENT)
}

fn instant(at: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}
