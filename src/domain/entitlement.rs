//! From payment state to access: the snapshot that every device of an account reads.

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, FamilySharing, Product, ProductKind};
use super::chain::StoreProduct;
use super::credit;
use super::holding::Holding;
use super::planted::{self, Bug};
use super::provider::{Environment, Provider};
use super::stacking;
use super::subscription::state::{
    Access, ExpiryReason, ItemState, Leniency, Offer, RevocationReason,
};
use super::subscription::store_state::{Item, ItemKind};
use super::time::{Instant, earliest};

/// An audited gift.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) entitlement: String,
    pub(crate) expires_at: Option<Instant>,
}

/// All entitlements of an account as of a moment, without its name (epoch, revision).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) entitlements: Vec<Entitlement>,
    pub(crate) subscriptions: Vec<SubscriptionView>,
    /// One-time purchases that await their payment.
    #[serde(default)]
    pub(crate) pending: Vec<PendingPurchase>,
    /// What consumables were worth; at least one per credit of the catalog, ordered by id.
    #[serde(default)]
    pub(crate) credits: Vec<CreditBalance>,
    /// When the next source of access ends if nobody says anything more.
    pub(crate) next_transition_at: Option<Instant>,
}

/// What an account was credited with: one for each credit and environment, real money first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreditBalance {
    /// The catalog's id: `coins`.
    pub(crate) id: String,
    /// What purchases were worth, without what the stores took back.
    pub(crate) balance: i64,
    /// `None`: nothing was ever bought.
    pub(crate) environment: Option<Environment>,
}

/// One thing the account can, or cannot, use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entitlement {
    pub(crate) id: String,
    /// Open sources, best first; empty means inactive.
    pub(crate) sources: Vec<Source>,
    /// Why it is off, while `sources` is empty.
    pub(crate) inactive_reason: InactiveReason,
    /// When the last source ended, if one did.
    pub(crate) ended_at: Option<Instant>,
}

/// One reason why an entitlement is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) reason: AccessReason,
    /// `None` for grants.
    pub(crate) store: Option<Provider>,
    pub(crate) product_id: String,
    pub(crate) plan: String,
    pub(crate) environment: Environment,
    pub(crate) expires_at: Option<Instant>,
    pub(crate) access: Access,
    pub(crate) will_renew: bool,
    /// The store has not confirmed a signed proof yet.
    pub(crate) unconfirmed: bool,
    /// What kind of period it is.
    #[serde(default)]
    pub(crate) offer: Offer,
    /// Somebody of the family bought it.
    #[serde(default)]
    pub(crate) family_shared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AccessReason {
    Subscription,
    Trial,
    GracePeriod,
    Purchase,
    Grant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InactiveReason {
    Never,
    /// What was paid is over, whether the customer canceled it or the charge failed: time alone
    /// must give the word that the store's next answer will.
    Expired,
    Refunded,
    Revoked,
    OnHold,
    Paused,
    Pending,
    Transferred,
    /// A sandbox purchase where sandbox grants nothing.
    EnvironmentNotAccepted,
    /// Shared by a family member, and the product is for its purchaser alone.
    FamilySharingRefused,
}

/// One subscription of the account, for a "manage subscription" screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubscriptionView {
    pub(crate) store: Provider,
    /// Empty while the catalog does not know the product.
    pub(crate) plan: String,
    pub(crate) product_id: String,
    pub(crate) environment: Environment,
    pub(crate) state: ItemState,
    pub(crate) trial: bool,
    pub(crate) started_at: Option<Instant>,
    pub(crate) will_renew: bool,
    pub(crate) billing_issue_since: Option<Instant>,
    pub(crate) pending_plan: String,
    /// What kind of period it is in.
    #[serde(default)]
    pub(crate) offer: Offer,
    /// Somebody of the family bought it.
    #[serde(default)]
    pub(crate) family_shared: bool,
}

/// A one-time purchase that is not paid yet (cash, approval by a parent).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingPurchase {
    pub(crate) store: Provider,
    /// Empty while the catalog does not know the product.
    pub(crate) plan: String,
    pub(crate) product_id: String,
    pub(crate) environment: Environment,
    pub(crate) quantity: u32,
}

impl Entitlement {
    pub(crate) fn is_active(&self) -> bool {
        !self.sources.is_empty()
    }

    /// When access ends over all sources; `None` while inactive or for ever.
    pub(crate) fn access_until(&self) -> Option<Instant> {
        let ends = self.sources.iter().map(|source| source.access.until());
        ends.reduce(|a, b| Some(a?.max(b?))).flatten()
    }
}

impl Snapshot {
    /// What the same snapshot says at `now`: sources whose access has ended are gone.
    pub(crate) fn at(&self, now: Instant) -> std::borrow::Cow<'_, Self> {
        if self.next_transition_at.is_none_or(|next| now < next)
            || planted::is(Bug::CachePastExpiry)
        {
            return std::borrow::Cow::Borrowed(self);
        }
        let mut later = self.clone();
        for entitlement in &mut later.entitlements {
            close_ended(entitlement, now);
        }
        later.next_transition_at = next_transition(&later.entitlements);
        std::borrow::Cow::Owned(later)
    }
}

fn close_ended(entitlement: &mut Entitlement, now: Instant) {
    let was_active = entitlement.is_active();
    let ended = entitlement.access_until();
    entitlement
        .sources
        .retain(|source| source.access.is_open_at(now));
    if was_active && !entitlement.is_active() {
        entitlement.inactive_reason = InactiveReason::Expired;
        entitlement.ended_at = ended;
    }
}

fn next_transition(entitlements: &[Entitlement]) -> Option<Instant> {
    let sources = entitlements
        .iter()
        .flat_map(|entitlement| &entitlement.sources);
    sources.fold(None, |next, source| earliest(next, source.access.until()))
}

/// Everything an account may use at `now`: one entry per entitlement of the catalog. What it was
/// credited with is a sum over `credit_entries`, for the caller to set.
pub(crate) fn derive(
    catalog: &Catalog,
    holdings: &[Holding],
    grants: &[Grant],
    leniency: Leniency,
    now: Instant,
) -> Snapshot {
    let held: Vec<Held<'_>> = holdings
        .iter()
        .zip(stacking::ends(catalog, holdings))
        .map(|(holding, lasts_until)| Held {
            holding,
            lasts_until,
        })
        .collect();
    let entitlements: Vec<_> = catalog
        .entitlements()
        .map(|id| derive_one(id, catalog, &held, grants, leniency, now))
        .collect();
    let next_transition_at = next_transition(&entitlements);
    let mine = holdings
        .iter()
        .filter(|holding| holding.away_since.is_none() && !holding.former);
    let subscriptions = mine
        .clone()
        .filter(|holding| holding.item.kind == ItemKind::Subscription)
        .map(|holding| subscription_view(catalog, holding))
        .collect();
    let pending = mine
        .filter(|holding| {
            holding.item.kind == ItemKind::OneTime && holding.item.state == ItemState::Pending
        })
        .map(|holding| pending_purchase(catalog, holding))
        .collect();
    Snapshot {
        entitlements,
        subscriptions,
        pending,
        credits: credit::balances(catalog, false, &[]),
        next_transition_at,
    }
}

/// A holding with the end of what it bought, where the store does not say it.
struct Held<'a> {
    holding: &'a Holding,
    /// Non-renewing: the end of its stacked periods.
    lasts_until: Option<Instant>,
}

/// What an account has that never had anything: every entitlement, off.
pub(crate) fn nothing(catalog: &Catalog) -> Snapshot {
    derive(catalog, &[], &[], Leniency::default(), Instant::default())
}

fn derive_one(
    id: &str,
    catalog: &Catalog,
    held: &[Held<'_>],
    grants: &[Grant],
    leniency: Leniency,
    now: Instant,
) -> Entitlement {
    let mut sources = Vec::new();
    let mut last: Option<(Option<Instant>, InactiveReason)> = None;
    for held in held {
        let holding = held.holding;
        let Some((plan, product)) = catalog.plan(holding.provider, &holding.item.product) else {
            continue;
        };
        if !product.grants.iter().any(|grant| grant == id) {
            continue;
        }
        match open_source(catalog, held, plan, product, leniency, now) {
            Ok(source) => sources.push(source),
            Err(closed) => {
                // The latest end speaks for the entitlement.
                if last.is_none_or(|seen| seen.0 <= closed.0) {
                    last = Some(closed);
                }
            }
        }
    }
    for grant in grants.iter().filter(|grant| grant.entitlement == id) {
        let access = grant.expires_at.map_or(Access::Lifetime, Access::Until);
        if access.is_open_at(now) {
            sources.push(granted(grant, access));
        } else if last.is_none_or(|seen| seen.0 <= grant.expires_at) {
            last = Some((grant.expires_at, InactiveReason::Expired));
        }
    }
    sources.sort_by(best_first);
    let (ended_at, inactive_reason) = last.unwrap_or((None, InactiveReason::Never));
    Entitlement {
        id: id.to_owned(),
        ended_at: ended_at.filter(|_| sources.is_empty()),
        sources,
        inactive_reason,
    }
}

fn granted(grant: &Grant, access: Access) -> Source {
    Source {
        reason: AccessReason::Grant,
        store: None,
        product_id: String::new(),
        plan: String::new(),
        environment: Environment::Production,
        expires_at: grant.expires_at,
        access,
        will_renew: false,
        unconfirmed: false,
        offer: Offer::None,
        family_shared: false,
    }
}

/// Production before sandbox, then the longest access.
fn best_first(a: &Source, b: &Source) -> std::cmp::Ordering {
    (a.environment, std::cmp::Reverse(a.access), &a.plan).cmp(&(
        b.environment,
        std::cmp::Reverse(b.access),
        &b.plan,
    ))
}

/// The source that a holding opens, or when and why it is closed.
fn open_source(
    catalog: &Catalog,
    held: &Held<'_>,
    plan: &str,
    product: &Product,
    leniency: Leniency,
    now: Instant,
) -> Result<Source, (Option<Instant>, InactiveReason)> {
    let holding = held.holding;
    let item = &holding.item;
    let lasts_until = held.lasts_until;
    let expires_at = lasts_until.or_else(|| item.state.expires_at());
    let closed = |reason| Err((expires_at, reason));
    if let Some(since) = holding.away_since {
        // What the new owner has is not this account's to see.
        return Err((Some(since), InactiveReason::Transferred));
    }
    if !catalog.serves(holding.environment, holding.tester) {
        return closed(InactiveReason::EnvironmentNotAccepted);
    }
    if item.family_shared && product.family_sharing == FamilySharing::Refuse {
        return closed(InactiveReason::FamilySharingRefused);
    }
    let fits = match product.kind {
        ProductKind::Subscription => item.kind == ItemKind::Subscription,
        ProductKind::NonConsumable | ProductKind::NonRenewing | ProductKind::Consumable => {
            item.kind == ItemKind::OneTime
        }
    };
    if !fits {
        // The store and the catalog disagree on what this is: fail closed.
        return closed(InactiveReason::Never);
    }
    let mut access = holding_access(holding, leniency);
    if product.kind == ProductKind::NonRenewing && access != Access::None {
        // Without an end it would last for ever.
        access = lasts_until.map_or(Access::None, |end| access.no_later_than(end));
    }
    if access.is_open_at(now) {
        Ok(Source {
            reason: access_reason(item),
            store: Some(holding.provider),
            product_id: item.product.product_id.clone(),
            plan: plan.to_owned(),
            environment: holding.environment,
            expires_at,
            access,
            will_renew: item.state.will_renew(),
            unconfirmed: holding.unconfirmed_since.is_some(),
            offer: item.offer,
            family_shared: item.family_shared,
        })
    } else if access != Access::None {
        closed(InactiveReason::Expired)
    } else {
        closed(inactive_reason(&item.state))
    }
}

fn holding_access(holding: &Holding, leniency: Leniency) -> Access {
    let access = holding.item.state.access(leniency, holding.store_away);
    match holding.unconfirmed_since {
        Some(since) => access.no_later_than(since + leniency.unconfirmed),
        None => access,
    }
}

fn access_reason(item: &Item) -> AccessReason {
    match (&item.state, item.offer) {
        (ItemState::Owned { .. }, _) => AccessReason::Purchase,
        (ItemState::GracePeriod { .. }, _) => AccessReason::GracePeriod,
        (_, Offer::FreeTrial) => AccessReason::Trial,
        (_, Offer::None | Offer::Introductory | Offer::Promotional) => AccessReason::Subscription,
    }
}

fn inactive_reason(state: &ItemState) -> InactiveReason {
    match state {
        ItemState::Expired {
            reason: ExpiryReason::NeverPaid,
            ..
        } => InactiveReason::Never,
        ItemState::Active { .. } | ItemState::GracePeriod { .. } | ItemState::Expired { .. } => {
            InactiveReason::Expired
        }
        ItemState::OnHold { .. } => InactiveReason::OnHold,
        ItemState::Paused { .. } => InactiveReason::Paused,
        ItemState::Pending => InactiveReason::Pending,
        ItemState::Revoked {
            reason: RevocationReason::Refunded,
            ..
        } => InactiveReason::Refunded,
        ItemState::Revoked { .. } => InactiveReason::Revoked,
        ItemState::Owned { .. } | ItemState::Unknown { .. } => InactiveReason::Never,
    }
}

/// The catalog's word for a store's product; empty while it has none.
fn plan_of(catalog: &Catalog, store: Provider, product: &StoreProduct) -> String {
    let plan = catalog.plan(store, product);
    plan.map(|(id, _)| id.to_owned()).unwrap_or_default()
}

fn pending_purchase(catalog: &Catalog, holding: &Holding) -> PendingPurchase {
    let item = &holding.item;
    PendingPurchase {
        store: holding.provider,
        plan: plan_of(catalog, holding.provider, &item.product),
        product_id: item.product.product_id.clone(),
        environment: holding.environment,
        quantity: item.quantity,
    }
}

fn subscription_view(catalog: &Catalog, holding: &Holding) -> SubscriptionView {
    let item = &holding.item;
    let plan = |product: &StoreProduct| plan_of(catalog, holding.provider, product);
    SubscriptionView {
        store: holding.provider,
        plan: plan(&item.product),
        product_id: item.product.product_id.clone(),
        environment: holding.environment,
        state: item.state.clone(),
        trial: item.offer == Offer::FreeTrial,
        started_at: item.started_at,
        will_renew: item.state.will_renew(),
        billing_issue_since: item.state.billing_issue_since(),
        pending_plan: item.pending_product.as_ref().map(plan).unwrap_or_default(),
        offer: item.offer,
        family_shared: item.family_shared,
    }
}

#[cfg(test)]
#[path = "entitlement_tests.rs"]
mod tests;
