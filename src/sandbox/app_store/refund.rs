//! Refunds: asked for, declined, given in full or in part, and taken back.

use chrono::{DateTime, Utc};

use super::Signal;
use super::action::RefundReason;
use super::chain::{Chain, Intent, Phase};
use super::transaction::{Revocation, RevocationKind};

impl Chain {
    /// The customer asks; Apple wants to know from the developer what was consumed.
    pub(super) fn request_refund(
        &mut self,
        transaction_id: &str,
        reason: RefundReason,
    ) -> Option<Signal> {
        let transaction = self.transaction_mut(transaction_id)?;
        if transaction.revocation.is_some() {
            return None;
        }
        transaction.refund_request = Some(reason);
        Some(Signal {
            consumption_reason: Some(reason),
            ..Signal::about(transaction_id.to_owned(), "CONSUMPTION_REQUEST", None)
        })
    }

    /// Apple says no to what was asked.
    pub(super) fn decline_refund(&mut self, transaction_id: &str) -> Option<Signal> {
        let transaction = self.transaction_mut(transaction_id)?;
        transaction.refund_request.take()?;
        let id = transaction_id.to_owned();
        Some(Signal::about(id, "REFUND_DECLINED", None))
    }

    /// Refunds one transaction; ends the subscription, commitment included, only if it is the
    /// latest.
    pub(super) fn refund(
        &mut self,
        transaction_id: &str,
        percent: u8,
        now: DateTime<Utc>,
    ) -> Option<Signal> {
        let latest = self.latest()?.id == transaction_id;
        let transaction = self.transaction_mut(transaction_id)?;
        if transaction.revocation.is_some() {
            return None;
        }
        transaction.revocation = Some(Revocation {
            at: now,
            app_issue: transaction.refund_request == Some(RefundReason::FulfillmentIssue),
            kind: match percent {
                100.. => RevocationKind::RefundFull,
                percent => RevocationKind::RefundProrated { percent },
            },
        });
        transaction.refund_request = None;
        if let Some(subscription) = self.subscription.as_mut().filter(|_| latest) {
            subscription.auto_renew = false;
            subscription.commitment = None;
            subscription.phase = Phase::Revoked;
        }
        let id = transaction_id.to_owned();
        Some(Signal::about(id, "REFUND", None))
    }

    /// Takes a refund back: what still runs of the period gives access again, and its end stays.
    /// Renewal had ended with the refund; only the customer turns it on again.
    pub(super) fn reverse_refund(
        &mut self,
        transaction_id: &str,
        now: DateTime<Utc>,
    ) -> Option<Signal> {
        let latest = self.latest()?.id == transaction_id;
        let transaction = self.transaction_mut(transaction_id)?;
        if !transaction.refunded() {
            return None;
        }
        transaction.revocation = None;
        let expires = self.expires_at();
        if let Some(subscription) = self.subscription.as_mut().filter(|_| latest) {
            subscription.phase = match now < expires {
                true => Phase::Active,
                false => Phase::Expired {
                    intent: Intent::Other,
                },
            };
        }
        let id = transaction_id.to_owned();
        Some(Signal::about(id, "REFUND_REVERSED", None))
    }
}
