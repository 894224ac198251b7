//! What happens at the App Store, as Superwall tells it.

use chrono::{DateTime, Utc};

use super::super::app_store::{
    Chain, OfferKind, OfferPayment, RevocationKind, Signal, Transaction,
};
use super::super::delivery::Store;
use super::event::{Event, Name, PeriodType, Reason, State, Subject};

/// What Superwall makes of a signal; of most it makes nothing. A subscription that was taken up
/// again after a lapse is an initial purchase to Superwall; the original transaction id stays what
/// it is at Apple.
pub(super) fn event(chain: &Chain, signal: &Signal, now: DateTime<Utc>) -> Option<Event> {
    let transaction = chain.transaction(&signal.transaction_id)?;
    let subject = subject(chain, transaction, now);
    let tell = |name: Name| Event::new(name, subject.clone());
    let price = paid_micros(transaction);
    Some(match (signal.kind, signal.subtype) {
        ("SUBSCRIBED", _) => tell(Name::InitialPurchase).charged(price),
        ("ONE_TIME_CHARGE", _) => tell(Name::NonRenewingPurchase).charged(price),
        ("DID_RENEW", _) => Event {
            trial_conversion: subject.period_type != PeriodType::Trial
                && before(chain, transaction).is_some_and(|t| period_type(t) == PeriodType::Trial),
            ..tell(Name::Renewal).charged(price)
        },
        ("DID_CHANGE_RENEWAL_PREF" | "OFFER_REDEEMED", Some("UPGRADE")) => {
            let old = before(chain, transaction)?.product_id.clone();
            let mut event = tell(Name::ProductChange).charged(price);
            let new = std::mem::replace(&mut event.subject.product_id, old);
            event.changed_to(new)
        }
        ("DID_CHANGE_RENEWAL_PREF", _) | ("OFFER_REDEEMED", Some("DOWNGRADE")) => {
            let next = chain.subscription.as_ref()?.renews_to.clone();
            tell(Name::ProductChange).changed_to(next)
        }
        ("DID_CHANGE_RENEWAL_STATUS", Some("AUTO_RENEW_ENABLED")) => tell(Name::Uncancellation),
        ("DID_CHANGE_RENEWAL_STATUS", _) => tell(Name::Cancellation).because(Reason::Unsubscribe),
        ("DID_FAIL_TO_RENEW", _) => tell(Name::BillingIssue),
        ("EXPIRED", subtype) => tell(Name::Expiration).because(match subtype {
            Some("VOLUNTARY") => Reason::Unsubscribe,
            Some("BILLING_RETRY") => Reason::BillingError,
            Some("PRICE_INCREASE") => Reason::PriceIncrease,
            Some("PRODUCT_NOT_FOR_SALE") => Reason::DeveloperInitiated,
            _ => Reason::Unknown,
        }),
        // Superwall has no event of its own for money given back.
        ("REFUND", _) => tell(Name::Cancellation)
            .because(Reason::CustomerSupport)
            .charged(-refunded_micros(transaction)),
        ("REVOKE", _) => tell(Name::Expiration).because(Reason::Unknown),
        _ => return None,
    })
}

fn subject(chain: &Chain, transaction: &Transaction, now: DateTime<Utc>) -> Subject {
    let subscription = chain.subscription.as_ref();
    let offer = transaction.offer.as_ref();
    let code = offer.filter(|offer| offer.kind == OfferKind::OfferCode);
    let renews = subscription.is_some_and(|subscription| subscription.auto_renew);
    let latest = chain.latest().is_some_and(|t| t.id == transaction.id);
    Subject {
        store: Store::AppStore,
        purchase: chain.original_transaction_id.clone(),
        customer: chain.customer.clone(),
        original_transaction_id: chain.original_transaction_id.clone(),
        transaction_id: transaction.id.clone(),
        product_id: transaction.product_id.clone(),
        period_type: period_type(transaction),
        purchased_at: transaction.purchased_at,
        expires_at: match latest {
            true => chain.access_until(),
            false => transaction.expires_at,
        },
        currency: transaction.currency.clone(),
        offer_code: code.and_then(|offer| offer.id.clone()),
        family_share: chain.sharing.is_shared(),
        state: match chain.status(now) {
            Some(2) => State::Expired,
            Some(3) => State::InBillingRetry,
            Some(4) => State::InGracePeriod,
            Some(5) => State::Revoked,
            None if transaction.revocation.is_some() => State::Revoked,
            Some(_) if !renews => State::Canceled,
            Some(_) | None => State::Active,
        },
        renews,
    }
}

fn period_type(transaction: &Transaction) -> PeriodType {
    match transaction.offer.as_ref().map(|offer| offer.payment) {
        Some(OfferPayment::FreeTrial) => PeriodType::Trial,
        Some(OfferPayment::PayAsYouGo | OfferPayment::PayUpFront | OfferPayment::OneTime) => {
            PeriodType::Intro
        }
        None => PeriodType::Normal,
    }
}

/// The transaction that precedes another one of the chain.
fn before<'a>(chain: &'a Chain, transaction: &Transaction) -> Option<&'a Transaction> {
    let position = chain
        .transactions
        .iter()
        .rposition(|t| t.id == transaction.id)?;
    let before = chain.transactions.get(position.checked_sub(1)?)?;
    Some(before)
}

/// Apple counts thousandths.
fn paid_micros(transaction: &Transaction) -> i64 {
    transaction.price_milliunits * 1_000
}

fn refunded_micros(transaction: &Transaction) -> i64 {
    let percent = match transaction.revocation.map(|revocation| revocation.kind) {
        Some(RevocationKind::RefundFull) => 100,
        Some(RevocationKind::RefundProrated { percent }) => i64::from(percent),
        Some(RevocationKind::FamilyRevoke) | None => 0,
    };
    transaction.price_milliunits * 10 * percent
}
