//! Why an entitlement is on or off, in a sentence: which purchase or gift decides it, by which
//! rule, what changes it next, and what support can do. Pure: a function of what is stored.

mod off;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::catalog::Catalog;
use super::entitlement::{AccessReason, Entitlement, Grant, Snapshot, Source, derive};
use super::holding::Holding;
use super::ownership::Verdict;
use super::provider::{Environment, Provider};
use super::subscription::state::Leniency;
use super::time::{Instant, earliest};
use super::wording::moment;

/// A purchase that has something to do with the account.
#[derive(Clone, Debug)]
pub(crate) struct Purchase {
    /// `None` where only a refusal is known.
    pub(crate) store: Option<Provider>,
    /// What counts for the account: its own, or what it lost by a transfer. Empty for what it only
    /// asked for, and until the store has answered.
    pub(crate) holdings: Vec<Holding>,
    pub(crate) standing: Standing,
}

/// What a purchase is to the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its own, or lost by a transfer (the holdings say since when).
    Theirs,
    /// It asked for it, and nothing is decided yet.
    Asked { since: Instant },
    /// It asked for it in vain.
    Refused { at: Instant, verdict: Verdict },
}

/// A gift with its story.
#[derive(Clone, Debug)]
pub(crate) struct Gift {
    pub(crate) grant: Grant,
    pub(crate) actor: String,
    pub(crate) reason: String,
    /// Taken back since then.
    pub(crate) revoked_at: Option<Instant>,
}

/// Which of the account's things decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decider {
    /// By its place among the purchases.
    Purchase(usize),
    /// By its place among the gifts.
    Gift(usize),
    Nothing,
}

/// The answer to "why?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explanation {
    pub(crate) active: bool,
    /// The whole answer, to be read out.
    pub(crate) sentence: String,
    /// The snapshot's word for it: `refunded`, `trial`…; `unmapped`, `unanswered`, `not_theirs` and
    /// `unknown_at_store` say more where the snapshot says `never`.
    pub(crate) reason: &'static str,
    /// The rule in words.
    pub(crate) rule: String,
    /// Since when it is off; unset while it is on.
    pub(crate) since: Option<Instant>,
    /// When it changes if nobody says anything more.
    pub(crate) next_change_at: Option<Instant>,
    /// What changes it, or when it comes back.
    pub(crate) next: String,
    /// What support can do.
    pub(crate) advice: String,
    #[serde(skip)]
    pub(crate) decider: Decider,
}

/// How well one holding by itself explains the answer that all give together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    /// The same kind of answer; the later its end the closer.
    Alike(Option<Instant>),
    Same,
}

/// Everything that an explanation is made from.
pub(crate) struct Facts<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) purchases: &'a [Purchase],
    pub(crate) gifts: &'a [Gift],
    pub(crate) leniency: Leniency,
    pub(crate) now: Instant,
}

/// Explains one entitlement of the catalog.
pub(crate) fn explain(id: &str, facts: &Facts<'_>) -> Option<Explanation> {
    let all: Vec<Holding> = facts
        .purchases
        .iter()
        .flat_map(|purchase| purchase.holdings.iter().cloned())
        .collect();
    let grants: Vec<Grant> = facts
        .gifts
        .iter()
        .filter(|gift| gift.revoked_at.is_none())
        .map(|gift| gift.grant.clone())
        .collect();
    let whole = facts.derive(id, &all, &grants)?;
    Some(match whole.sources.first() {
        Some(source) => facts.on(id, &whole, source),
        None => facts.off(id, &whole),
    })
}

/// How an answer is put together.
struct Words {
    reason: &'static str,
    /// After "on until …: " or "off since …: ".
    because: String,
    next_change_at: Option<Instant>,
    next: String,
    advice: &'static str,
}

impl Facts<'_> {
    fn derive(&self, id: &str, holdings: &[Holding], grants: &[Grant]) -> Option<Entitlement> {
        let snapshot: Snapshot = derive(self.catalog, holdings, grants, self.leniency, self.now);
        snapshot.entitlements.into_iter().find(|one| one.id == id)
    }

    /// The holding that by itself gives the same answer: so the rules are asked, not repeated. Where
    /// several make the answer together (periods that stack), the one that comes closest.
    fn decider(
        &self,
        id: &str,
        closeness: impl Fn(&Entitlement) -> Option<Closeness>,
    ) -> Option<(usize, &Holding)> {
        let all = self.purchases.iter().enumerate().flat_map(|(n, purchase)| {
            let granting = purchase.holdings.iter();
            granting
                .filter(|holding| self.grants_it(id, holding))
                .map(move |holding| (n, holding))
        });
        let close = all.filter_map(|(n, holding)| {
            let alone = self.derive(id, std::slice::from_ref(holding), &[])?;
            Some((closeness(&alone)?, n, holding))
        });
        // The first of equals.
        close
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, n, holding)| (n, holding))
    }

    fn grants_it(&self, id: &str, holding: &Holding) -> bool {
        let plan = self.catalog.plan(holding.provider, &holding.item.product);
        plan.is_some_and(|(_, plan)| plan.grants.iter().any(|grant| grant == id))
    }

    fn gift(&self, id: &str, ends: Option<Instant>) -> Option<(usize, &Gift)> {
        let fits = |gift: &&Gift| {
            gift.grant.entitlement == id
                && gift.revoked_at.is_none()
                && gift.grant.expires_at == ends
        };
        self.gifts.iter().enumerate().find(|(_, gift)| fits(gift))
    }

    fn at(&self, at: Instant) -> String {
        moment(at, self.now)
    }

    fn on(&self, id: &str, whole: &Entitlement, source: &Source) -> Explanation {
        let until = whole.access_until();
        let decider = match source.reason {
            AccessReason::Grant => self
                .gift(id, source.expires_at)
                .map_or(Decider::Nothing, |(n, _)| Decider::Gift(n)),
            AccessReason::Subscription
            | AccessReason::Trial
            | AccessReason::GracePeriod
            | AccessReason::Purchase => self
                .decider(id, |alone| {
                    let own = alone.sources.first()?;
                    let alike = own.reason == source.reason && own.plan == source.plan;
                    if own == source {
                        Some(Closeness::Same)
                    } else {
                        alike.then_some(Closeness::Alike(own.expires_at))
                    }
                })
                .map_or(Decider::Nothing, |(n, _)| Decider::Purchase(n)),
        };
        let words = self.why_on(source, decider);
        let head = match until {
            Some(until) => format!("on until {}", self.at(until)),
            None => "on for good".to_owned(),
        };
        let more = match whole.sources.len() {
            1 => String::new(),
            2 => "; 1 more stands behind it".to_owned(),
            n => format!("; {} more stand behind it", n - 1),
        };
        let unconfirmed = if source.unconfirmed {
            "; the store could not be asked yet: only its signed document stands for it"
        } else {
            ""
        };
        Explanation {
            active: true,
            sentence: format!(
                "{head}: {}{unconfirmed}{more}; {}",
                words.because, words.next
            ),
            reason: words.reason,
            rule: words.because,
            since: None,
            next_change_at: earliest(words.next_change_at, until),
            next: words.next,
            advice: words.advice.to_owned(),
            decider,
        }
    }

    fn why_on(&self, source: &Source, decider: Decider) -> Words {
        let store = source.store.map_or("support", Provider::label);
        let plan = &source.plan;
        let sandbox = match source.environment {
            Environment::Production => "",
            Environment::Sandbox => " (sandbox: no real money)",
        };
        let end = source.expires_at.map(|at| self.at(at)).unwrap_or_default();
        let renewal = |what: &str| {
            if source.will_renew {
                format!("{store} renews it on {end}, or it ends")
            } else {
                format!("{what} on {end}")
            }
        };
        let words = |reason, because: String, next: String| Words {
            reason,
            because,
            next_change_at: source.expires_at,
            next,
            advice: "Nothing to do.",
        };
        match source.reason {
            AccessReason::Subscription => words(
                "subscription",
                format!("{store} subscription {plan}{sandbox} is paid until {end}"),
                renewal("renewal is off: it ends"),
            ),
            AccessReason::Trial => words(
                "trial",
                format!("{store} subscription {plan}{sandbox} is in its free trial until {end}"),
                renewal("renewal is off: the trial ends unpaid"),
            ),
            AccessReason::GracePeriod => Words {
                advice: "The customer should look at their payment method at the store.",
                next_change_at: source.access.until(),
                ..words(
                    "grace_period",
                    format!(
                        "{store} could not charge for {plan}{sandbox} on {end} and keeps access \
                         while it tries again"
                    ),
                    match source.access.until() {
                        Some(until) => {
                            format!(
                                "on hold from {} if it cannot charge by then",
                                self.at(until)
                            )
                        }
                        None => "on hold if it cannot charge".to_owned(),
                    },
                )
            },
            AccessReason::Purchase => words(
                "purchase",
                format!("{plan}{sandbox} was bought at {store}"),
                match source.access.until() {
                    Some(until) => format!("it ends on {}", self.at(until)),
                    None => "off only if the store takes it back".to_owned(),
                },
            ),
            AccessReason::Grant => {
                let by = match decider {
                    Decider::Gift(n) => self.gifts.get(n),
                    Decider::Purchase(_) | Decider::Nothing => None,
                };
                let by = by.map_or_else(
                    || "a gift".to_owned(),
                    |gift| format!("a gift by {} ({})", gift.actor, gift.reason),
                );
                words(
                    "grant",
                    by,
                    match source.expires_at {
                        Some(until) => format!("the gift ends on {}", self.at(until)),
                        None => "off only if it is taken back".to_owned(),
                    },
                )
            }
        }
    }
}
