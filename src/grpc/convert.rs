//! Domain → wire and back. No decision is made here.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost::Message as _;
use prost_types::{Duration, Timestamp};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::auth::Caller;
use super::{deadline, status, wire};
use crate::domain::api_key::AppScope;
use crate::domain::catalog;
use crate::domain::entitlement::{
    AccessReason, CreditBalance, Entitlement, InactiveReason, PendingPurchase, Snapshot, Source,
    SubscriptionView,
};
use crate::domain::ids::Revision;
use crate::domain::provider::{Environment, Provider};
use crate::domain::subscription::state::{ItemState, Offer, Renewal};
use crate::domain::time::Instant;
use crate::flows::Account;
use crate::flows::Proof;
use crate::flows::bind_purchase::{Binding, Outcome};
use crate::proto;

/// How long a reader may go on without hearing from us: three missed heartbeats.
const MAX_STALE_SECONDS: i64 = 60;

pub(super) fn timestamp(at: Instant) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

pub(super) fn instant(at: &Timestamp) -> Option<Instant> {
    DateTime::<Utc>::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}

/// A moment in a request, if there is one.
pub(super) fn moment(field: &str, at: Option<&Timestamp>) -> Result<Option<Instant>, Status> {
    at.map(|at| instant(at).ok_or_else(|| status::bad_request(field, "is not a moment")))
        .transpose()
}

/// The bytes that every device of the account reads.
pub(crate) fn encode_snapshot(
    account: &Account,
    epoch: &str,
    revision: Revision,
    snapshot: &Snapshot,
) -> Bytes {
    proto::EntitlementSnapshot {
        account: Some(proto::Account {
            id: account.id.to_string(),
            store_token: account.store_token.clone(),
        }),
        epoch: epoch.to_owned(),
        revision: revision.0,
        entitlements: snapshot.entitlements.iter().map(entitlement).collect(),
        subscriptions: snapshot.subscriptions.iter().map(subscription).collect(),
        next_transition_at: snapshot.next_transition_at.map(timestamp),
        max_stale: Some(Duration {
            seconds: MAX_STALE_SECONDS,
            nanos: 0,
        }),
        credits: snapshot.credits.iter().map(credit).collect(),
        pending_purchases: snapshot.pending.iter().map(pending).collect(),
    }
    .encode_to_vec()
    .into()
}

fn entitlement(entitlement: &Entitlement) -> proto::Entitlement {
    let best = entitlement.sources.first();
    let active = entitlement.is_active();
    let inactive = if active {
        proto::InactiveReason::Unspecified
    } else {
        inactive_reason(entitlement.inactive_reason)
    };
    proto::Entitlement {
        id: entitlement.id.clone(),
        active,
        reason: best
            .map_or(proto::AccessReason::Unspecified, |s| {
                access_reason(s.reason)
            })
            .into(),
        inactive_reason: inactive.into(),
        expires_at: best
            .map_or(entitlement.ended_at, |s| s.expires_at)
            .map(timestamp),
        access_until: if active {
            entitlement.access_until()
        } else {
            entitlement.ended_at
        }
        .map(timestamp),
        will_renew: best.is_some_and(|s| s.will_renew),
        environment: best
            .map_or(proto::Environment::Unspecified, |s| {
                environment(s.environment)
            })
            .into(),
        sources: entitlement.sources.iter().map(source).collect(),
    }
}

fn source(source: &Source) -> proto::Source {
    proto::Source {
        reason: access_reason(source.reason).into(),
        store: source.store.map_or(proto::Store::Unspecified, store).into(),
        product_id: source.product_id.clone(),
        plan: source.plan.clone(),
        environment: environment(source.environment).into(),
        expires_at: source.expires_at.map(timestamp),
        access_until: source.access.until().map(timestamp),
        will_renew: source.will_renew,
        unconfirmed: source.unconfirmed,
        offer_type: offer_type(source.offer).into(),
        family_shared: source.family_shared,
    }
}

fn credit(credit: &CreditBalance) -> proto::CreditBalance {
    proto::CreditBalance {
        id: credit.id.clone(),
        balance: credit.balance,
        environment: credit
            .environment
            .map_or(proto::Environment::Unspecified, environment)
            .into(),
    }
}

fn subscription(view: &SubscriptionView) -> proto::Subscription {
    proto::Subscription {
        store: store(view.store).into(),
        plan: view.plan.clone(),
        product_id: view.product_id.clone(),
        status: status(&view.state).into(),
        period_start: view.started_at.map(timestamp),
        period_end: view.state.expires_at().map(timestamp),
        will_renew: view.will_renew,
        billing_issue_since: view.billing_issue_since.map(timestamp),
        pending_plan: view.pending_plan.clone(),
        manage_url: manage_url(view.store).to_owned(),
        environment: environment(view.environment).into(),
        trial: view.trial,
        offer_type: offer_type(view.offer).into(),
        family_shared: view.family_shared,
    }
}

fn pending(purchase: &PendingPurchase) -> proto::PendingPurchase {
    proto::PendingPurchase {
        store: store(purchase.store).into(),
        plan: purchase.plan.clone(),
        product_id: purchase.product_id.clone(),
        environment: environment(purchase.environment).into(),
        quantity: i32::try_from(purchase.quantity).unwrap_or(i32::MAX),
    }
}

fn offer_type(offer: Offer) -> proto::OfferType {
    match offer {
        Offer::None => proto::OfferType::Unspecified,
        Offer::FreeTrial => proto::OfferType::FreeTrial,
        Offer::Introductory => proto::OfferType::Introductory,
        Offer::Promotional => proto::OfferType::Promotional,
    }
}

pub(super) fn manage_url(store: Provider) -> &'static str {
    match store {
        Provider::AppStore => "https://apps.apple.com/account/subscriptions",
        Provider::GooglePlay => "https://play.google.com/store/account/subscriptions",
    }
}

pub(super) fn status(state: &ItemState) -> proto::SubscriptionStatus {
    use proto::SubscriptionStatus as S;
    match state {
        ItemState::Active {
            renewal: Renewal::On,
            ..
        } => S::Active,
        ItemState::Active {
            renewal: Renewal::Off,
            ..
        } => S::Canceled,
        ItemState::GracePeriod { .. } => S::GracePeriod,
        ItemState::OnHold { .. } => S::OnHold,
        ItemState::Paused { .. } => S::Paused,
        ItemState::Pending => S::Pending,
        ItemState::Expired { .. } => S::Expired,
        ItemState::Revoked { .. } => S::Revoked,
        ItemState::Owned { .. } | ItemState::Unknown { .. } => S::Unspecified,
    }
}

fn access_reason(reason: AccessReason) -> proto::AccessReason {
    match reason {
        AccessReason::Subscription => proto::AccessReason::Subscription,
        AccessReason::Trial => proto::AccessReason::Trial,
        AccessReason::GracePeriod => proto::AccessReason::GracePeriod,
        AccessReason::Purchase => proto::AccessReason::Purchase,
        AccessReason::Grant => proto::AccessReason::Grant,
    }
}

fn inactive_reason(reason: InactiveReason) -> proto::InactiveReason {
    match reason {
        InactiveReason::Never => proto::InactiveReason::Never,
        InactiveReason::Expired => proto::InactiveReason::Expired,
        InactiveReason::Refunded => proto::InactiveReason::Refunded,
        InactiveReason::Revoked => proto::InactiveReason::Revoked,
        InactiveReason::OnHold => proto::InactiveReason::OnHold,
        InactiveReason::Paused => proto::InactiveReason::Paused,
        InactiveReason::Pending => proto::InactiveReason::Pending,
        InactiveReason::Transferred => proto::InactiveReason::Transferred,
        InactiveReason::EnvironmentNotAccepted => proto::InactiveReason::EnvironmentNotAccepted,
        InactiveReason::FamilySharingRefused => proto::InactiveReason::FamilySharingRefused,
    }
}

fn store(provider: Provider) -> proto::Store {
    match provider {
        Provider::AppStore => proto::Store::AppStore,
        Provider::GooglePlay => proto::Store::GooglePlay,
    }
}

pub(super) fn environment(environment: Environment) -> proto::Environment {
    match environment {
        Environment::Production => proto::Environment::Production,
        Environment::Sandbox => proto::Environment::Sandbox,
    }
}

pub(super) fn outcome(outcome: Outcome) -> wire::BindOutcome {
    match outcome {
        Outcome::Bound => wire::BindOutcome::Bound,
        Outcome::AlreadyYours => wire::BindOutcome::AlreadyYours,
        Outcome::Pending => wire::BindOutcome::Pending,
        Outcome::BoundWithoutAccess => wire::BindOutcome::BoundWithoutAccess,
    }
}

/// What an answer needs to arrive before the caller hangs up.
const ANSWER_MARGIN: std::time::Duration = std::time::Duration::from_millis(250);

/// How long the caller waits (`grpc-timeout`), less what the answer needs on its way.
pub(super) fn patience(metadata: &MetadataMap) -> Option<std::time::Duration> {
    let told = deadline::told(metadata.as_ref())?;
    Some(told.saturating_sub(ANSWER_MARGIN))
}

/// `Err` names the field that is missing.
pub(super) fn binding(
    proof: Option<wire::PurchaseProof>,
    caller: &Caller,
) -> Result<Binding, &'static str> {
    let mut binding = read_binding(proof)?;
    binding.apps = caller.apps.clone();
    Ok(binding)
}

fn read_binding(proof: Option<wire::PurchaseProof>) -> Result<Binding, &'static str> {
    use wire::purchase_proof;
    let proof = proof.and_then(|proof| proof.proof).ok_or("proof")?;
    match proof {
        purchase_proof::Proof::AppStore(apple) => app_store_proof(apple).map(Binding::from),
        purchase_proof::Proof::GooglePlay(google) if google.package_name.is_empty() => {
            Err("proof.google_play.package_name")
        }
        purchase_proof::Proof::GooglePlay(google) if google.purchase_token.is_empty() => {
            Err("proof.google_play.purchase_token")
        }
        purchase_proof::Proof::GooglePlay(google) => Ok(Proof::GooglePlayToken {
            package_name: google.package_name,
            token: google.purchase_token,
        }
        .into()),
        purchase_proof::Proof::Superwall(superwall) => superwall_binding(superwall),
    }
}

fn app_store_proof(apple: wire::AppStoreProof) -> Result<Proof, &'static str> {
    use wire::app_store_proof::Proof as Shown;
    match apple.proof.ok_or("proof.app_store")? {
        Shown::SignedTransaction(jws) if !jws.is_empty() => Ok(Proof::AppStoreTransaction(jws)),
        Shown::TransactionId(id) if !id.is_empty() => Ok(Proof::AppStoreTransactionId {
            app: None,
            transaction_id: id,
        }),
        Shown::SignedTransaction(_) => Err("proof.app_store.signed_transaction"),
        Shown::TransactionId(_) => Err("proof.app_store.transaction_id"),
    }
}

/// What the store itself takes as proof, out of what Superwall's SDK hands to the app.
fn superwall_binding(superwall: wire::SuperwallProof) -> Result<Binding, &'static str> {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let original_transaction_id = given(&superwall.original_transaction_id);
    let proof = match superwall.store() {
        wire::Store::AppStore => match given(&superwall.signed_transaction) {
            Some(signed) => Proof::AppStoreTransaction(signed),
            None => Proof::AppStoreTransactionId {
                app: given(&superwall.app),
                // The store's record of a later transaction may name an account that the first
                // one's does not.
                transaction_id: given(&superwall.transaction_id)
                    .or_else(|| original_transaction_id.clone())
                    .ok_or("proof.superwall.signed_transaction")?,
            },
        },
        wire::Store::GooglePlay => Proof::GooglePlayToken {
            package_name: given(&superwall.app).ok_or("proof.superwall.app")?,
            token: given(&superwall.purchase_token).ok_or("proof.superwall.purchase_token")?,
        },
        wire::Store::Unspecified => return Err("proof.superwall.store"),
    };
    Ok(Binding {
        proof,
        original_transaction_id,
        apps: AppScope::all(),
    })
}

pub(super) fn product(id: &str, product: &catalog::Product) -> wire::Product {
    let kind = match product.kind {
        catalog::ProductKind::Subscription => wire::ProductKind::Subscription,
        catalog::ProductKind::NonRenewing => wire::ProductKind::NonRenewing,
        catalog::ProductKind::NonConsumable => wire::ProductKind::NonConsumable,
        catalog::ProductKind::Consumable => wire::ProductKind::Consumable,
    };
    wire::Product {
        id: id.to_owned(),
        kind: kind.into(),
        period: product
            .period
            .map(|period| period.to_string())
            .unwrap_or_default(),
        entitlements: product.grants.clone(),
        credits: product
            .credits
            .iter()
            .map(|(credit, amount)| wire::ProductCredit {
                id: credit.clone(),
                amount: *amount,
            })
            .collect(),
        store_products: product
            .store_products()
            .map(|(provider, product)| wire::StoreProduct {
                store: wire_store(provider).into(),
                product_id: product.product_id,
                base_plan_id: product.base_plan_id.unwrap_or_default(),
            })
            .collect(),
    }
}

/// A stored word for an environment.
pub(super) fn environment_word(word: &str) -> wire::Environment {
    match Environment::parse(word) {
        Some(Environment::Production) => wire::Environment::Production,
        Some(Environment::Sandbox) => wire::Environment::Sandbox,
        None => wire::Environment::Unspecified,
    }
}

pub(super) fn wire_store(provider: Provider) -> wire::Store {
    match provider {
        Provider::AppStore => wire::Store::AppStore,
        Provider::GooglePlay => wire::Store::GooglePlay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_deadline_is_read_as_grpc_writes_it() {
        let patience_of = |timeout: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", timeout.parse().unwrap());
            patience(&metadata).map(|patience| patience.as_millis())
        };
        assert_eq!(patience_of("3S"), Some(2_750));
        assert_eq!(patience_of("3000m"), Some(2_750));
        assert_eq!(patience_of("100m"), Some(0));
        assert_eq!(patience_of("1M"), Some(59_750));
        for nonsense in ["", "S", "3", "3s", "-3S", "99999999999S"] {
            assert_eq!(patience_of(nonsense), None, "{nonsense}");
        }
        assert_eq!(patience(&MetadataMap::new()), None);
    }
}
