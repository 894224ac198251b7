//! Why an entitlement is off, in words.

use super::{Closeness, Decider, Explanation, Facts, Gift, Purchase, Standing, Words};
use crate::domain::catalog::SandboxAccess;
use crate::domain::entitlement::{Entitlement, InactiveReason};
use crate::domain::holding::Holding;
use crate::domain::ownership::Verdict;
use crate::domain::provider::Provider;
use crate::domain::subscription::state::{ExpiryReason, ItemState, Renewal, RevocationReason};
use crate::domain::subscription::store_state::ItemKind;
use crate::domain::wording::tail;

impl Facts<'_> {
    pub(super) fn off(&self, id: &str, whole: &Entitlement) -> Explanation {
        let closeness = |alone: &Entitlement| {
            let alike = !alone.is_active() && alone.inactive_reason == whole.inactive_reason;
            if alike && alone.ended_at == whole.ended_at {
                Some(Closeness::Same)
            } else {
                alike.then_some(Closeness::Alike(alone.ended_at))
            }
        };
        let (decider, words) = match self.decider(id, closeness) {
            Some((n, holding)) => (Decider::Purchase(n), self.why_off(whole, holding)),
            None => match self.last_gift(id, whole) {
                Some((n, gift)) => (Decider::Gift(n), self.gift_over(gift)),
                None => self.never(id),
            },
        };
        let since = match decider {
            Decider::Gift(n) => self
                .gifts
                .get(n)
                .and_then(|gift| gift.revoked_at.or(gift.grant.expires_at)),
            Decider::Purchase(_) | Decider::Nothing => whole.ended_at,
        };
        let since = since.filter(|since| *since <= self.now);
        let head = match since {
            Some(since) => format!("off since {}", self.at(since)),
            None => "off".to_owned(),
        };
        Explanation {
            active: false,
            sentence: format!("{head}: {}; {}", words.because, words.next),
            reason: words.reason,
            rule: words.because,
            since,
            next_change_at: words.next_change_at,
            next: words.next,
            advice: words.advice.to_owned(),
            decider,
        }
    }

    fn why_off(&self, whole: &Entitlement, holding: &Holding) -> Words {
        let store = holding.provider.label();
        let item = &holding.item;
        let again = again(holding);
        let words = |reason, because: String, next: String, advice| Words {
            reason,
            because,
            next_change_at: None,
            next,
            advice,
        };
        match whole.inactive_reason {
            InactiveReason::Refunded => words(
                "refunded",
                match &item.transaction_id {
                    Some(id) => format!("{store} refunded transaction {}", tail(id)),
                    None => format!("{store} refunded the purchase"),
                },
                again,
                "The store decided it; the customer has the money back. Buying again brings access.",
            ),
            InactiveReason::Expired => self.expired(holding),
            InactiveReason::Revoked => words(
                "revoked",
                self.taken_back(holding),
                again,
                "The store decided it. Buying again brings access.",
            ),
            InactiveReason::OnHold => words(
                "on_hold",
                format!("{store} could not charge for {}", item.product),
                "on again by itself when the payment goes through".to_owned(),
                "The customer should update the payment method at the store.",
            ),
            InactiveReason::Paused => self.paused(holding),
            InactiveReason::Pending => words(
                "pending",
                format!("{} was bought at {store} and is not paid yet", item.product),
                "on by itself once it is paid or approved".to_owned(),
                "Cash at a shop, or a parent's approval: the customer has to complete it.",
            ),
            InactiveReason::Transferred => words(
                "transferred",
                "the purchase was moved to another account".to_owned(),
                again,
                "See the timeline for who moved it. `transfer` can move it back.",
            ),
            InactiveReason::EnvironmentNotAccepted => words(
                "environment_not_accepted",
                format!(
                    "{} was bought in {store}'s sandbox, and sandbox purchases serve {} here",
                    item.product,
                    match self.catalog.sandbox_access() {
                        SandboxAccess::Everyone => "everyone",
                        SandboxAccess::Testers => "testers alone",
                        SandboxAccess::Nobody => "nobody",
                    }
                ),
                "on with a purchase for real money".to_owned(),
                "TestFlight, App Review or a licence tester. The catalog's `sandbox_access` and \
                 `testers` say whom sandbox purchases serve.",
            ),
            InactiveReason::FamilySharingRefused => words(
                "family_sharing_refused",
                format!(
                    "{} was bought by somebody of the family, and the catalog keeps it to its buyer",
                    item.product
                ),
                "on with a purchase of their own".to_owned(),
                "The product's `family_sharing` in the catalog is `refuse`.",
            ),
            InactiveReason::Never => match &item.state {
                ItemState::Expired { reason, .. } => {
                    let (why, advice) = ended(*reason);
                    words(
                        "never",
                        format!("{store} purchase {} {why}", item.product),
                        "on with a purchase that is paid".to_owned(),
                        advice,
                    )
                }
                ItemState::Active { .. }
                | ItemState::GracePeriod { .. }
                | ItemState::OnHold { .. }
                | ItemState::Paused { .. }
                | ItemState::Pending
                | ItemState::Revoked { .. }
                | ItemState::Owned { .. }
                | ItemState::Unknown { .. } => words(
                    "never",
                    format!(
                        "{store} says something about {} that grants nothing here",
                        item.product
                    ),
                    "on once the store says otherwise".to_owned(),
                    "Compare the product's kind in the catalog with the store's; see the timeline.",
                ),
            },
        }
    }

    fn expired(&self, holding: &Holding) -> Words {
        let store = holding.provider.label();
        let product = &holding.item.product;
        let again = again(holding);
        let words = |because: String, next: String, advice| Words {
            reason: "expired",
            because,
            next_change_at: None,
            next,
            advice,
        };
        match &holding.item.state {
            ItemState::Active {
                renewal: Renewal::On,
                expires_at,
            } => words(
                format!(
                    "the paid period of {product} ended {} and {store} has not renewed it",
                    self.at(*expires_at)
                ),
                "on again when the store renews it, or the account resubscribes".to_owned(),
                "`resync` asks the store now.",
            ),
            ItemState::Active { .. } => words(
                format!("the paid period of {product} ended, and it does not renew"),
                again,
                "The customer can buy it again.",
            ),
            ItemState::GracePeriod { .. } => words(
                format!("{store} could not charge for {product}, and its grace period is over"),
                "on again when the payment goes through".to_owned(),
                "The customer should update the payment method at the store.",
            ),
            ItemState::Expired { reason, .. } => {
                let (why, advice) = ended(*reason);
                words(
                    format!("{store} subscription {product} {why}"),
                    again,
                    advice,
                )
            }
            ItemState::OnHold { .. }
            | ItemState::Paused { .. }
            | ItemState::Pending
            | ItemState::Revoked { .. }
            | ItemState::Owned { .. }
            | ItemState::Unknown { .. } => words(
                format!("{product}, bought at {store}, is over"),
                again,
                "The customer can buy it again.",
            ),
        }
    }

    fn taken_back(&self, holding: &Holding) -> String {
        let store = holding.provider.label();
        let product = &holding.item.product;
        match &holding.item.state {
            ItemState::Revoked {
                reason: RevocationReason::FamilySharingEnded,
                ..
            } => format!("the family no longer shares {product}"),
            ItemState::Revoked { .. }
            | ItemState::Active { .. }
            | ItemState::GracePeriod { .. }
            | ItemState::OnHold { .. }
            | ItemState::Paused { .. }
            | ItemState::Pending
            | ItemState::Expired { .. }
            | ItemState::Owned { .. }
            | ItemState::Unknown { .. } => format!("{store} took {product} back"),
        }
    }

    fn paused(&self, holding: &Holding) -> Words {
        let resumes_at = match holding.item.state {
            ItemState::Paused { resumes_at, .. } => resumes_at,
            ItemState::Active { .. }
            | ItemState::GracePeriod { .. }
            | ItemState::OnHold { .. }
            | ItemState::Pending
            | ItemState::Expired { .. }
            | ItemState::Revoked { .. }
            | ItemState::Owned { .. }
            | ItemState::Unknown { .. } => None,
        };
        Words {
            reason: "paused",
            because: format!(
                "the customer paused {} at {}",
                holding.item.product,
                holding.provider.label()
            ),
            next_change_at: resumes_at,
            next: match resumes_at {
                Some(at) => format!("on again {} if the store can charge then", self.at(at)),
                None => "on again when the customer resumes it".to_owned(),
            },
            advice: "The customer can resume it at the store.",
        }
    }

    /// The gift whose end speaks for the entitlement: taken back last, or run out.
    fn last_gift(&self, id: &str, whole: &Entitlement) -> Option<(usize, &Gift)> {
        let end = |gift: &Gift| gift.revoked_at.or(gift.grant.expires_at);
        self.gifts
            .iter()
            .enumerate()
            .filter(|(_, gift)| gift.grant.entitlement == id && end(gift) >= whole.ended_at)
            .max_by_key(|(_, gift)| end(gift))
    }

    fn gift_over(&self, gift: &Gift) -> Words {
        let because = match gift.revoked_at {
            Some(_) => format!("the gift by {} was taken back", gift.actor),
            None => format!("the gift by {} ran out", gift.actor),
        };
        Words {
            reason: "expired",
            because,
            next_change_at: None,
            next: "on again with a purchase or another gift".to_owned(),
            advice: "`grant` gives it again.",
        }
    }

    /// Nothing that the account holds speaks of it: then what it asked for, or holds and nobody
    /// maps, may.
    fn never(&self, id: &str) -> (Decider, Words) {
        let told = self
            .purchases
            .iter()
            .enumerate()
            .find_map(|(n, purchase)| Some((Decider::Purchase(n), self.no_use(purchase)?)));
        told.unwrap_or_else(|| {
            let words = Words {
                reason: "never",
                because: format!("no purchase and no gift that grants {id} has arrived here"),
                next_change_at: None,
                next: "on once a purchase arrives: by the store's word, or by the app".to_owned(),
                advice: "If the customer has paid: let the app restore purchases under this \
                         account, or look for the store's order id with `find`.",
            };
            (Decider::Nothing, words)
        })
    }

    fn no_use(&self, purchase: &Purchase) -> Option<Words> {
        let store = purchase.store.map_or("a store", Provider::label);
        let words = |reason, because: String, next: &str, advice| Words {
            reason,
            because,
            next_change_at: None,
            next: next.to_owned(),
            advice,
        };
        match purchase.standing {
            Standing::Theirs => {
                let unmapped = purchase.holdings.iter().find(|holding| {
                    holding.away_since.is_none()
                        && self
                            .catalog
                            .plan(holding.provider, &holding.item.product)
                            .is_none()
                })?;
                Some(words(
                    "unmapped",
                    format!(
                        "the account has {} at {store}, and the catalog knows no such product",
                        unmapped.item.product
                    ),
                    "on by itself once a catalog that names it is applied",
                    "Add the store's product to the catalog; nothing is lost meanwhile.",
                ))
            }
            Standing::Asked { since } => Some(words(
                "unanswered",
                format!(
                    "the account asked for a purchase at {store} on {}, and the store has not \
                     answered yet",
                    self.at(since)
                ),
                "on by itself when it does",
                "`doctor` and the metrics say whether the store can be asked; `resync` asks now.",
            )),
            Standing::Refused { at, verdict } => Some(match verdict {
                Verdict::OwnedByAnother => words(
                    "not_theirs",
                    format!(
                        "the account asked for a purchase at {store} on {} that belongs to another \
                         account",
                        self.at(at)
                    ),
                    "on if it is moved here, or with a purchase of its own",
                    "The customer may have another login. If they own both, `transfer` moves it.",
                ),
                Verdict::NotFound | Verdict::Misnamed => words(
                    "unknown_at_store",
                    format!(
                        "the account asked for a purchase at {store} on {} that the store does not \
                         know",
                        self.at(at)
                    ),
                    "on with a purchase that the store knows",
                    "A purchase of another app, of another environment, or a made-up one.",
                ),
                Verdict::NotFresh => words(
                    "not_fresh",
                    format!(
                        "the account asked for a purchase at {store} on {} whose owner was erased, \
                         with a proof from before that",
                        self.at(at)
                    ),
                    "on once the app shows the purchase anew",
                    "The app restores purchases: a transaction signed now shows who has it now.",
                ),
                Verdict::Won | Verdict::Confirmed => return None,
            }),
        }
    }
}

/// What brings back what the customer has to pay for anew.
fn again(holding: &Holding) -> String {
    match holding.item.kind {
        ItemKind::Subscription => "on again if the account resubscribes",
        ItemKind::OneTime => "on again if the account buys it again",
    }
    .to_owned()
}

fn ended(reason: ExpiryReason) -> (&'static str, &'static str) {
    const BUY: &str = "The customer can buy it again.";
    match reason {
        ExpiryReason::Canceled => (
            "was canceled by the customer and its paid period is over",
            BUY,
        ),
        ExpiryReason::BillingError => (
            "could not be charged in time and has ended",
            "The customer should update the payment method and buy it again.",
        ),
        ExpiryReason::PriceIncreaseDeclined => (
            "has ended: the customer did not agree to the new price",
            BUY,
        ),
        ExpiryReason::ProductUnavailable => (
            "has ended: the product was no longer sold",
            "Offer another product.",
        ),
        ExpiryReason::NeverPaid => ("was never paid", "The customer can buy it again."),
        ExpiryReason::Replaced => (
            "was replaced by another purchase",
            "See the account's other purchases.",
        ),
        ExpiryReason::Other => ("has ended", BUY),
    }
}
