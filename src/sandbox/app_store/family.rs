//! Family Sharing: members hold chains of their own that follow the purchaser's.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::ids::Ids;
use super::Signal;
use super::chain::{Chain, Phase, transaction_prefix};
use super::transaction::{Revocation, RevocationKind, Transaction};

/// How a customer came to a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sandbox) enum Sharing {
    /// Bought; shared with the holders of these chains.
    Purchased { members: Vec<String> },
    /// Through the purchaser of that chain.
    Shared { purchaser: String },
}

impl Sharing {
    /// Whether it came through the family.
    pub(in crate::sandbox) const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared { .. })
    }

    /// Chains of the members that follow this one.
    pub(in crate::sandbox) fn members(&self) -> &[String] {
        match self {
            Self::Purchased { members } => members,
            Self::Shared { .. } => &[],
        }
    }

    /// Apple's `inAppOwnershipType`.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Purchased { .. } => "PURCHASED",
            Self::Shared { .. } => "FAMILY_SHARED",
        }
    }
}

impl Chain {
    /// The member of this chain gets, or gets back, what the purchaser has now.
    pub(super) fn join(&mut self, purchaser: &Self, ids: &mut Ids) -> Option<Signal> {
        let source = purchaser.latest()?;
        let again = !self.transactions.is_empty();
        self.subscription.clone_from(&purchaser.subscription);
        let known = self
            .latest()
            .is_some_and(|t| t.shared_from.as_deref() == Some(source.id.as_str()));
        match self.latest_mut() {
            Some(latest) if known => {
                latest.revocation = None;
                latest.expires_at = source.expires_at;
            }
            Some(_) | None => self.copy(source, ids),
        }
        Some(self.gained(again))
    }

    fn gained(&self, again: bool) -> Signal {
        match (&self.subscription, again) {
            (None, _) => self.signal("ONE_TIME_CHARGE", None),
            (Some(_), false) => self.signal("SUBSCRIBED", Some("INITIAL_BUY")),
            (Some(_), true) => self.signal("SUBSCRIBED", Some("RESUBSCRIBE")),
        }
    }

    /// The member loses what was shared.
    pub(super) fn leave(&mut self, now: DateTime<Utc>) -> Option<Signal> {
        let latest = self.latest_mut()?;
        if latest.revocation.is_some() {
            return None;
        }
        latest.revocation = Some(family_revocation(now));
        self.enter(Phase::Revoked);
        Some(self.signal("REVOKE", None))
    }

    /// Repeats in the member's chain what happened in the purchaser's; says what Apple tells the
    /// developer about the member.
    pub(super) fn follow(
        &mut self,
        purchaser: &Self,
        signals: &[Signal],
        ids: &mut Ids,
    ) -> Vec<Signal> {
        self.subscription.clone_from(&purchaser.subscription);
        let sources = &purchaser.transactions;
        // What was bought before the sharing began stays the purchaser's own.
        if let Some(last) = sources.iter().rposition(|source| self.mirror(source)) {
            let (old, new) = sources.split_at(last);
            for source in old {
                self.mirror(source);
            }
            for source in new.iter().skip(1) {
                self.copy(source, ids);
            }
        }
        for signal in signals.iter().filter(|s| s.kind == "REFUND_REVERSED") {
            self.restore(&signal.transaction_id);
        }
        signals
            .iter()
            .filter_map(|signal| self.echo(signal))
            .collect()
    }

    /// Brings the copy of a purchaser's transaction up to date; whether there is one.
    fn mirror(&mut self, source: &Transaction) -> bool {
        let copy = self
            .transactions
            .iter_mut()
            .rev()
            .find(|t| t.shared_from.as_deref() == Some(source.id.as_str()));
        let Some(copy) = copy else { return false };
        // What the member lost alone stays lost when the purchaser has it.
        let lost = source.revocation.map(|taken| family_revocation(taken.at));
        let revocation = lost.or(copy.revocation);
        let same = copy.expires_at == source.expires_at
            && copy.upgraded == source.upgraded
            && copy.commitment == source.commitment
            && copy.revocation == revocation;
        if !same {
            let copy = Arc::make_mut(copy);
            copy.expires_at = source.expires_at;
            copy.upgraded = source.upgraded;
            copy.commitment = source.commitment;
            copy.revocation = revocation;
        }
        true
    }

    fn restore(&mut self, source_id: &str) {
        let copy = self
            .transactions
            .iter_mut()
            .find(|t| t.shared_from.as_deref() == Some(source_id));
        if let Some(copy) = copy {
            Arc::make_mut(copy).revocation = None;
        }
    }

    fn copy(&mut self, source: &Transaction, ids: &mut Ids) {
        let prefix = transaction_prefix(&self.original_transaction_id);
        self.transactions.push(Arc::new(Transaction {
            id: match self.transactions.is_empty() {
                true => self.original_transaction_id.clone(),
                false => ids.number(prefix, 15),
            },
            web_order_line_item_id: source
                .web_order_line_item_id
                .as_ref()
                .map(|_| ids.number(prefix, 15)),
            order_id: None,
            app_account_token: None,
            shared_from: Some(source.id.clone()),
            refund_request: None,
            finished: false,
            consumption: None,
            modified_at: DateTime::UNIX_EPOCH,
            revision: 0,
            ..source.clone()
        }));
    }

    /// What a signal about the purchaser means for the member: access alone is told.
    fn echo(&self, signal: &Signal) -> Option<Signal> {
        let copy = self
            .transactions
            .iter()
            .rev()
            .find(|t| t.shared_from.as_deref() == Some(signal.transaction_id.as_str()))?;
        let about = |kind, subtype| Some(Signal::about(copy.id.clone(), kind, subtype));
        match (signal.kind, signal.subtype) {
            (
                "SUBSCRIBED"
                | "DID_RENEW"
                | "DID_FAIL_TO_RENEW"
                | "GRACE_PERIOD_EXPIRED"
                | "EXPIRED"
                | "RENEWAL_EXTENDED",
                subtype,
            ) => about(signal.kind, subtype),
            ("DID_CHANGE_RENEWAL_PREF" | "OFFER_REDEEMED", Some("UPGRADE")) => {
                about("DID_CHANGE_RENEWAL_PREF", Some("UPGRADE"))
            }
            ("REFUND", _) => about("REVOKE", None),
            ("REFUND_REVERSED", _) => Some(self.gained(true)),
            _ => None,
        }
    }
}

fn family_revocation(at: DateTime<Utc>) -> Revocation {
    Revocation {
        at,
        app_issue: false,
        kind: RevocationKind::FamilyRevoke,
    }
}
