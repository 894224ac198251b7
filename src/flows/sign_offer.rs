//! SignOffer: an offer of the App Store, signed for those whom the catalog makes it to.

use super::{Core, derive};
use crate::domain::api_key::AppScope;
use crate::domain::catalog::{App, Catalog};
use crate::domain::holding::Holding;
use crate::domain::offer::{self, OfferKind};
use crate::domain::provider::Provider;
use crate::providers::app_store::{OfferClaims, Promotion};
use crate::storage::accounts::Account;
use crate::storage::{StorageError, ledger};

pub(crate) use crate::providers::app_store::PromotionSignature;

/// Apple's ids are no longer.
const TRANSACTION_ID_BYTES_MAX: usize = 64;

/// What the app hands to StoreKit.
pub(crate) struct Signed {
    pub(crate) product_id: String,
    /// Empty for introductory offers.
    pub(crate) offer_id: String,
    pub(crate) jws: String,
    /// What the signature says of an introductory offer; true for promotional ones.
    pub(crate) allowed: bool,
    /// A promotional offer for StoreKit's older interface.
    pub(crate) promotion: Option<PromotionSignature>,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignOfferError {
    #[error("the catalog has no such offer, or the App Store is not configured")]
    UnknownOffer,
    #[error("the offer is not made to this account")]
    NotEligible,
    #[error("name the app: the catalog has several of the App Store, or none of that name")]
    UnknownApp,
    #[error("send the customer's appTransactionId, or the id of one of their transactions")]
    NoTransaction,
    #[error("the In-App Purchase key does not sign")]
    Key,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Who asks for what.
pub(crate) struct Request<'a> {
    pub(crate) account: &'a Account,
    /// The apps that the caller signs for.
    pub(crate) apps: &'a AppScope,
    pub(crate) offer: &'a str,
    /// The catalog's id or the bundle id; may be empty while there is one app.
    pub(crate) app: &'a str,
    /// May be empty if the account has bought in the App Store before.
    pub(crate) transaction_id: &'a str,
}

/// Signs an offer if the account's own history allows it. An introductory one is always signed:
/// the signature says yes or no, over Apple's own rule.
pub(crate) async fn sign_offer(
    core: &Core,
    request: &Request<'_>,
) -> Result<Signed, SignOfferError> {
    let catalog = core.catalog.load_full();
    let store = core.stores.app_store.as_ref();
    let (store, (spec, product)) = store
        .zip(catalog.offer(request.offer))
        .ok_or(SignOfferError::UnknownOffer)?;
    let sold_as = product.app_store.as_ref();
    let product_id = sold_as
        .ok_or(SignOfferError::UnknownOffer)?
        .product_id
        .clone();
    let (app, bundle_id) =
        app_of(&catalog, request.app, request.apps).ok_or(SignOfferError::UnknownApp)?;
    let mut tx = core.db.begin().await?;
    let mut holdings = ledger::holdings(&mut tx, request.account.id, &[]).await?;
    let tester = derive::is_tester_in(&mut tx, request.account.id, &catalog).await?;
    tx.commit().await.map_err(StorageError::from)?;
    holdings
        .iter_mut()
        .for_each(|holding| holding.tester = tester);
    let now = core.clock.now();
    let history = offer::history(&catalog, product, &holdings, core.policy.leniency, now);
    let allowed = spec.eligible.allows(history);
    let transaction_id = transaction_of(request.transaction_id, app, &catalog, &holdings)?;
    let offer_id = spec.offer_id.as_deref().unwrap_or(request.offer);
    let (offer_id, claims) = match spec.kind {
        OfferKind::Promotional if !allowed => return Err(SignOfferError::NotEligible),
        OfferKind::Promotional => (
            offer_id.to_owned(),
            OfferClaims::Promotional {
                product_id: product_id.clone(),
                offer_identifier: offer_id.to_owned(),
                transaction_id,
            },
        ),
        OfferKind::Introductory => (
            String::new(),
            OfferClaims::Introductory {
                product_id: product_id.clone(),
                allow_introductory_offer: allowed,
                transaction_id: transaction_id.ok_or(SignOfferError::NoTransaction)?,
            },
        ),
    };
    let key = |_| SignOfferError::Key;
    let jws = store.sign_offer(bundle_id, &claims).map_err(key)?;
    let promotion = match spec.kind {
        OfferKind::Introductory => None,
        OfferKind::Promotional => {
            let promotion = Promotion {
                bundle_id,
                product_id: &product_id,
                offer_identifier: &offer_id,
                account_token: &request.account.store_token,
            };
            Some(store.sign_promotion(&promotion).map_err(key)?)
        }
    };
    Ok(Signed {
        product_id,
        offer_id,
        jws,
        allowed,
        promotion,
    })
}

fn app_of<'a>(catalog: &'a Catalog, named: &str, apps: &AppScope) -> Option<(&'a App, &'a str)> {
    let fits = |app: &&App| {
        let is_named =
            named.is_empty() || app.id.0 == named || app.bundle_id.as_deref() == Some(named);
        is_named && apps.allows(&app.id)
    };
    let sold = catalog.apps().iter().filter(fits);
    let mut apps = sold.filter_map(|app| Some((app, app.bundle_id.as_deref()?)));
    let app = apps.next()?;
    // With several, an empty name names none.
    apps.next().is_none().then_some(app)
}

/// What names the customer to Apple: what the app says, or a purchase of the account's in that app.
fn transaction_of(
    said: &str,
    app: &App,
    catalog: &Catalog,
    holdings: &[Holding],
) -> Result<Option<String>, SignOfferError> {
    if !said.is_empty() {
        let sound = said.len() <= TRANSACTION_ID_BYTES_MAX
            && said.bytes().all(|byte| byte.is_ascii_digit());
        return if sound {
            Ok(Some(said.to_owned()))
        } else {
            Err(SignOfferError::NoTransaction)
        };
    }
    let own = holdings.iter().filter(|holding| {
        holding.provider == Provider::AppStore
            && holding.app == app.id
            && holding.away_since.is_none()
            && catalog.serves(holding.environment, holding.tester)
    });
    Ok(own
        .filter_map(|holding| holding.item.transaction_id.clone())
        .next_back())
}
