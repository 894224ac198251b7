//! PreflightPurchase: what a bind would come to, and what the account has already. Writes nothing.

use uuid::Uuid;

use super::Core;
use super::bind_purchase::{BindError, Binding, Verified, verify};
use super::read_entitlements::read_entitlements;
use super::reconcile::may_look_up;
use crate::domain::chain::Alias;
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::ownership::{Case, MOVES_COUNTED_FOR, Owner, Rules};
use crate::domain::preflight::{Effect, Held, Standing, foresee, held};
use crate::domain::reconcile::{Answer, grants};
use crate::domain::subscription::guard::Known;
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;
use crate::providers::contract::{FetchRequest, ProofError};
use crate::storage::accounts::Account;
use crate::storage::{StorageError, Tx, accounts, chains, ledger, ownership};
use crate::watch::{Freshness, ReadError};

/// What an app asks about before it acts.
#[derive(Clone)]
pub(crate) enum About {
    /// A purchase that was made.
    Purchase(Binding),
    /// The catalog's id of what is about to be bought.
    Product(String),
}

/// What an app is told.
#[derive(Debug)]
pub(crate) struct Preflight {
    pub(crate) standing: Standing,
    /// What a bind would do; of a purchase only.
    pub(crate) effect: Option<Effect>,
    /// The account's own purchases that give the same.
    pub(crate) held: Vec<Held>,
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreflightError {
    #[error(transparent)]
    Purchase(#[from] BindError),
    #[error("the catalog has no such product")]
    ProductUnknown,
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<StorageError> for PreflightError {
    fn from(error: StorageError) -> Self {
        Self::Purchase(error.into())
    }
}

/// Tells what a purchase, or a product, is to an account; `None`: to one that was never seen, which
/// is not made. What is known of a purchase is told without its store; a token that was never seen
/// is looked up once.
pub(crate) async fn preflight(
    core: &Core,
    account: Option<&Account>,
    about: &About,
) -> Result<Preflight, PreflightError> {
    let nobody = Account {
        id: AccountId(Uuid::nil()),
        store_token: String::new(),
    };
    if let Some(account) = account {
        let taken = core.limits.preflight.take(account.id);
        taken.map_err(BindError::TooMany)?;
    }
    let account = account.unwrap_or(&nobody);
    match about {
        About::Purchase(binding) => of_purchase(core, account, binding).await,
        About::Product(id) => {
            let catalog = core.catalog.load_full();
            let product = catalog.product(id).ok_or(PreflightError::ProductUnknown)?;
            let held = held_by(core, account, &product.grants).await?;
            let standing = match held.is_empty() {
                true => Standing::New,
                false => Standing::AlreadySubscribed,
            };
            Ok(Preflight {
                standing,
                effect: None,
                held,
            })
        }
    }
}

async fn of_purchase(
    core: &Core,
    account: &Account,
    binding: &Binding,
) -> Result<Preflight, PreflightError> {
    let Verified { proven, .. } = verify(core, account, binding).await?;
    let now = core.clock.now();
    let catalog = core.catalog.load_full();
    let mut file = on_file(core, &proven.alias).await?;
    if file.known.is_none() {
        let seen = match proven.stand_in {
            Some(stand_in) => stand_in,
            None => look_up(core, &proven.alias, now).await?,
        };
        file = file.or_what_it_continues(core, seen).await?;
    }
    let Some(known) = &file.known else {
        return Err(BindError::NotFound.into());
    };
    let provider = proven.alias.provider;
    let mut tx = core.db.begin().await?;
    let hint = match known.state.account_token.as_deref() {
        Some(token) => accounts::by_store_token(&mut tx, token).await?,
        None => None,
    };
    let (moves, owner_is_anonymous) = match (file.chain, file.owner) {
        (Some(chain), Some(owner)) => (
            ownership::moves_since(&mut tx, chain, now - MOVES_COUNTED_FOR).await?,
            accounts::is_anonymous(&mut tx, owner.account).await?,
        ),
        (_, None) | (None, _) => (0, false),
    };
    tx.commit().await.map_err(StorageError::from)?;
    let case = Case {
        owner: file.owner,
        detached_at: file.detached_at,
        hint,
        purchased_at: known.state.purchased_at,
        head: Some(&known.state.head),
        claims: &[],
        rules: Rules::of(&catalog, provider, &known.state, owner_is_anonymous),
        active: grants(provider, known, file.store_away, &catalog, core.policy, now),
        moves,
        now,
    };
    let (standing, effect) = foresee(&case, account.id, proven.possession);
    let plans = known.state.items.iter();
    let plans = plans.filter_map(|item| catalog.plan(provider, &item.product));
    let wanted: Vec<String> = plans.flat_map(|(_, plan)| plan.grants.clone()).collect();
    Ok(Preflight {
        standing,
        effect: Some(effect),
        held: held_by(core, account, &wanted).await?,
    })
}

/// What the books say of a purchase.
#[derive(Default)]
struct OnFile {
    chain: Option<ChainId>,
    owner: Option<Owner>,
    store_away: bool,
    detached_at: Option<Instant>,
    known: Option<Known>,
}

impl OnFile {
    /// Of a purchase that is new here: what is seen of it, and the owner of what it continues.
    async fn or_what_it_continues(
        self,
        core: &Core,
        seen: StoreState,
    ) -> Result<Self, StorageError> {
        let mut file = self;
        for name in seen.predecessors.iter().chain(&seen.aliases) {
            if file.owner.is_none() {
                file = on_file(core, name).await?;
            }
        }
        file.known = Some(Known {
            state: seen,
            contradictions: 0,
            unconfirmed_since: None,
            money_untold_since: None,
        });
        Ok(file)
    }
}

/// Read without a lock: what is told is of a moment anyway.
async fn on_file(core: &Core, alias: &Alias) -> Result<OnFile, StorageError> {
    let mut tx = core.db.begin().await?;
    let file = match chains::find(&mut tx, alias).await? {
        None => OnFile::default(),
        Some(chain) => of_chain(&mut tx, chain).await?,
    };
    tx.commit().await?;
    Ok(file)
}

async fn of_chain(tx: &mut Tx<'_>, chain: ChainId) -> Result<OnFile, StorageError> {
    let (owner, store_away) = chains::owner(tx, chain).await?;
    Ok(OnFile {
        chain: Some(chain),
        owner,
        store_away,
        detached_at: chains::detached_at(tx, chain).await?,
        known: ledger::known(tx, chain).await?,
    })
}

/// What the store says of a token that was never seen. The answer is not kept.
async fn look_up(core: &Core, alias: &Alias, now: Instant) -> Result<StoreState, BindError> {
    if core.limits.is_known_missing(alias) {
        return Err(BindError::NotFound);
    }
    if !may_look_up(core, alias.provider).await? {
        return Err(ProofError::Unavailable.into());
    }
    let catalog = core.catalog.load_full();
    let request = FetchRequest {
        head: alias,
        evidence: &[],
        known: &[],
        last: None,
        thorough: false,
        catalog: &catalog,
    };
    let fetched = tokio::time::timeout(core.tuning.fetch_timeout, core.stores.fetch(request)).await;
    let Ok(Ok(answers)) = fetched else {
        return Err(ProofError::Unavailable.into());
    };
    match core.stores.normalize(alias, &answers, &catalog, now) {
        Ok(Answer::Store(state) | Answer::Proof(state)) => Ok(state),
        Ok(Answer::NotFound | Answer::Gone) => {
            core.limits.note_missing(alias);
            Err(BindError::NotFound)
        }
        Ok(Answer::Away) | Err(_) => Err(ProofError::Unavailable.into()),
    }
}

async fn held_by(
    core: &Core,
    account: &Account,
    wanted: &[String],
) -> Result<Vec<Held>, PreflightError> {
    let read = read_entitlements(core, account, &Freshness::MinimizeLatency).await?;
    Ok(held(&read.view.snapshot, wanted, &core.catalog.load()))
}
