//! BindPurchase: an authenticated account shows possession; the store confirms; the chain is theirs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant as MachineInstant;
use tracing::warn;

use super::reconcile::{Reconciled, may_look_up, reconcile_one, stand_in_during_backoff};
use super::{Core, derive, limits, settled_events, spread_catalog};
use crate::domain::api_key::AppScope;
use crate::domain::chain::{Alias, AliasKind, base_order_id, is_order_id};
use crate::domain::event::SignalSource;
use crate::domain::ids::{AccountId, ChainId, ClaimId};
use crate::domain::ownership::{Rules, Verdict};
use crate::domain::reconcile::grants;
use crate::domain::subscription::guard::Known;
use crate::domain::subscription::state::ItemState;
use crate::domain::subscription::store_state::Item;
use crate::domain::time::Instant;
use crate::failpoint;
use crate::providers::contract::{Proof, ProofError, Proven};
use crate::storage::accounts::Account;
use crate::storage::claims::{ClaimState, Shown};
use crate::storage::{StorageError, accounts, chains, claims, ledger};

/// A bare id is answered no sooner than this, whatever the store said: timing tells nothing.
const BARE_ID_ANSWER_MIN: Duration = Duration::from_millis(1_500);
/// Polling is the fallback for settles of other replicas.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// What a caller hands over, and what else they say of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Binding {
    pub(crate) proof: Proof,
    /// The original transaction id that somebody else (Superwall) gave the purchase: must be its.
    pub(crate) original_transaction_id: Option<String>,
    /// The apps whose purchases the caller may bind.
    pub(crate) apps: AppScope,
}

impl From<Proof> for Binding {
    fn from(proof: Proof) -> Self {
        Self {
            proof,
            original_transaction_id: None,
            apps: AppScope::all(),
        }
    }
}

/// What became of a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Bound,
    AlreadyYours,
    /// Owned, not paid yet.
    Pending,
    /// Owned, but it grants nothing now.
    BoundWithoutAccess,
}

/// Why a bind did not happen (yet).
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The caller's key is for other apps.
    #[error("the purchase is of another app")]
    OtherApp,
    #[error("the purchase belongs to another account")]
    OwnedByAnother,
    #[error("the store does not know this purchase")]
    NotFound,
    #[error("too many attempts")]
    TooMany(Duration),
    /// The claim stays open and is decided when the store answers.
    #[error("the store cannot be asked now")]
    StoreAway(Duration),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Binds a purchase to `account`. Safe to repeat; a chain in sync costs no call to the store.
///
/// `patience` is the caller's own deadline, if it has one: an undecided claim is answered before.
pub(crate) async fn bind_purchase(
    core: &Arc<Core>,
    account: &Account,
    binding: &Binding,
    patience: Option<Duration>,
) -> Result<Outcome, BindError> {
    let deadline = answer_by(core, patience);
    core.limits
        .calls
        .take(account.id, limits::BIND)
        .map_err(BindError::TooMany)?;
    let shown = verify(core, account, binding).await?;
    match begin(core, account, &shown).await? {
        Begun::Decided(outcome) => Ok(outcome),
        Begun::Claimed(claimed) => finish(core, account, &claimed, deadline).await,
    }
}

/// When an answer is due: at the caller's own deadline, and not much later than now.
pub(super) fn answer_by(core: &Core, patience: Option<Duration>) -> MachineInstant {
    let wait_max = core.tuning.wait_max;
    MachineInstant::now() + patience.map_or(wait_max, |patience| patience.min(wait_max))
}

/// A proof that holds, and the further name that its holder gives the purchase.
pub(super) struct Verified {
    pub(super) proven: Proven,
    pub(super) also_named: Option<Alias>,
}

/// How a bind begins.
pub(super) enum Begun {
    /// There is nothing to ask the store.
    Decided(Outcome),
    /// The wish is durable.
    Claimed(Claimed),
}

/// An open claim on a chain.
pub(super) struct Claimed {
    alias: Alias,
    chain: ChainId,
    claim: ClaimId,
}

/// Decides at once what needs no store, and opens a claim for what does.
pub(super) async fn begin(
    core: &Core,
    account: &Account,
    shown: &Verified,
) -> Result<Begun, BindError> {
    let Verified { proven, also_named } = shown;
    if let Some(outcome) = decided_already(core, account, proven, also_named.as_ref()).await? {
        return Ok(Begun::Decided(outcome));
    }
    if core.limits.is_known_missing(&proven.alias) {
        return Err(BindError::NotFound);
    }
    let shown = Shown {
        possession: &proven.possession,
        stand_in: proven.stand_in.as_ref(),
        also_named: also_named.as_ref(),
    };
    let (chain, claim) = open_claim(core, account, &proven.alias, &shown).await?;
    failpoint::at("after_claim_opened");
    Ok(Begun::Claimed(Claimed {
        alias: proven.alias.clone(),
        chain,
        claim,
    }))
}

/// Waits for an open claim to be decided, and works at it meanwhile.
pub(super) async fn finish(
    core: &Arc<Core>,
    account: &Account,
    claimed: &Claimed,
    deadline: MachineInstant,
) -> Result<Outcome, BindError> {
    let verdict = decided(core, account, claimed.chain, claimed.claim, deadline).await?;
    conclude(core, account, claimed, verdict).await
}

/// The same without waiting: somebody else works at it.
pub(super) async fn found_decided(
    core: &Core,
    account: &Account,
    claimed: &Claimed,
) -> Result<Outcome, BindError> {
    match verdict(core, account, claimed.chain, claimed.claim).await? {
        Some(verdict) => conclude(core, account, claimed, verdict).await,
        None => Err(BindError::StoreAway(RETRY_AFTER_MIN)),
    }
}

async fn conclude(
    core: &Core,
    account: &Account,
    claimed: &Claimed,
    verdict: Verdict,
) -> Result<Outcome, BindError> {
    match verdict {
        Verdict::Won => outcome_of(core, account, claimed.chain, Outcome::Bound).await,
        Verdict::Confirmed => outcome_of(core, account, claimed.chain, Outcome::AlreadyYours).await,
        Verdict::OwnedByAnother => Err(BindError::OwnedByAnother),
        Verdict::Misnamed => Err(misnamed()),
        Verdict::NotFresh => Err(ProofError::Insufficient.into()),
        Verdict::NotFound => {
            core.limits.note_missing(&claimed.alias);
            Err(BindError::NotFound)
        }
    }
}

fn misnamed() -> BindError {
    ProofError::Invalid("it is not of the purchase with that original transaction id".into()).into()
}

/// The further name that the store's answer must give the purchase. A signed transaction says its
/// own; which orders belong to a token only the store can tell.
fn other_name(binding: &Binding, proven: &Proven) -> Result<Option<Alias>, BindError> {
    let Some(id) = &binding.original_transaction_id else {
        return Ok(None);
    };
    match proven.alias.kind {
        AliasKind::OriginalTransactionId if proven.alias.value == *id => Ok(None),
        AliasKind::OriginalTransactionId if binding.proof.shows_possession() => Err(misnamed()),
        // Not even that the other id exists is the caller's to know.
        AliasKind::OriginalTransactionId => Err(ProofError::Insufficient.into()),
        // What can be no order's is not looked for and not kept.
        AliasKind::PurchaseToken | AliasKind::OrderId if !is_order_id(id) => Err(misnamed()),
        AliasKind::PurchaseToken | AliasKind::OrderId => Ok(Some(Alias {
            kind: AliasKind::OrderId,
            value: base_order_id(id).to_owned(),
            ..proven.alias.clone()
        })),
    }
}

/// Holds a proof to what can be told without a claim.
pub(super) async fn verify(
    core: &Core,
    account: &Account,
    binding: &Binding,
) -> Result<Verified, BindError> {
    let proven = prove(core, account, binding).await?;
    if !binding.apps.allows(&proven.alias.app) {
        return Err(BindError::OtherApp);
    }
    let also_named = other_name(binding, &proven)?;
    Ok(Verified { proven, also_named })
}

async fn prove(core: &Core, account: &Account, binding: &Binding) -> Result<Proven, BindError> {
    let proof = &binding.proof;
    let catalog = core.catalog.load_full();
    let now = core.clock.now();
    if proof.shows_possession() {
        return Ok(core.stores.verify_proof(proof, &catalog, now).await?);
    }
    core.limits
        .bare_id
        .take(account.id)
        .map_err(BindError::TooMany)?;
    let answer_at = MachineInstant::now() + BARE_ID_ANSWER_MIN;
    let look_up = async {
        if !may_look_up(core, proof.provider()).await? {
            return Err(BindError::Proof(ProofError::Insufficient));
        }
        Ok(core.stores.verify_proof(proof, &catalog, now).await?)
    };
    let named = async {
        let proven: Proven = look_up.await?;
        let theirs =
            binding.apps.allows(&proven.alias.app) && names(core, &proven, account).await?;
        Ok::<_, BindError>(Some(proven).filter(|_| theirs))
    };
    let named = tokio::time::timeout_at(answer_at, named).await;
    tokio::time::sleep_until(answer_at).await;
    match named {
        Ok(Ok(Some(proven))) => Ok(proven),
        // Whether the id exists, or is another's or another app's, is not the caller's to know.
        Ok(Ok(None) | Err(_)) | Err(_) => Err(ProofError::Insufficient.into()),
    }
}

/// Whether the store's record names one of the account's tokens.
async fn names(core: &Core, proven: &Proven, account: &Account) -> Result<bool, StorageError> {
    let Some(token) = proven.account_token.as_deref() else {
        return Ok(false);
    };
    let mut tx = core.db.begin().await?;
    let named = accounts::by_store_token(&mut tx, token).await?;
    tx.commit().await?;
    Ok(named == Some(account.id))
}

/// A chain in sync about which the proof says nothing new: decided without asking the store.
async fn decided_already(
    core: &Core,
    account: &Account,
    proven: &Proven,
    also_named: Option<&Alias>,
) -> Result<Option<Outcome>, BindError> {
    let mut tx = core.db.begin().await?;
    let chain = chains::find(&mut tx, &proven.alias).await?;
    let other = match also_named {
        Some(name) => chains::find(&mut tx, name).await?,
        None => chain,
    };
    tx.commit().await.map_err(StorageError::from)?;
    let Some(chain) = chain.filter(|_| other == chain) else {
        return Ok(None);
    };
    let now = core.clock.now();
    let progress = chains::progress(&core.db, chain, now).await?;
    let (Some(owner), true) = (progress.owner, progress.in_sync) else {
        return Ok(None);
    };
    let Some(known) = ledger::peek(&core.db, chain).await? else {
        return Ok(None);
    };
    let doubtful = known
        .state
        .items
        .iter()
        .any(|item| may_have_moved(&item.state, now));
    if doubtful || known.unconfirmed_since.is_some() || says_more(proven, &known) {
        return Ok(None);
    }
    if owner == account.id {
        spread_catalog::reach(core, account.id).await?;
        let outcome = classify(core, account, &known, Outcome::AlreadyYours).await?;
        return Ok(Some(outcome));
    }
    let rules = Rules::of(
        &core.catalog.load(),
        proven.alias.provider,
        &known.state,
        progress.owner_is_anonymous,
    );
    if progress.owner_is_settled && rules.keep_always() {
        if core.limits.is_first_refusal(chain, account.id) {
            refuse(core, chain, account.id, owner, now).await?;
        }
        return Err(BindError::OwnedByAnother);
    }
    Ok(None)
}

/// A state that the store may have left without a word to us.
fn may_have_moved(state: &ItemState, now: Instant) -> bool {
    match state {
        ItemState::Active { expires_at, .. } => *expires_at <= now,
        ItemState::GracePeriod { .. }
        | ItemState::OnHold { .. }
        | ItemState::Paused { .. }
        | ItemState::Pending
        | ItemState::Unknown { .. } => true,
        ItemState::Expired { .. } | ItemState::Revoked { .. } | ItemState::Owned { .. } => false,
    }
}

async fn refuse(
    core: &Core,
    chain: ChainId,
    claimant: AccountId,
    owner: AccountId,
    now: Instant,
) -> Result<(), StorageError> {
    let mut tx = core.db.begin().await?;
    settled_events::refuse(&mut tx, chain, claimant, Some(owner), now).await?;
    tx.commit().await?;
    Ok(())
}

/// The proof is of a transaction that the ledger has not seen, or of the end of one it has.
fn says_more(proven: &Proven, known: &Known) -> bool {
    let Some(stand_in) = &proven.stand_in else {
        return false;
    };
    let seen = |id: &str| {
        known
            .state
            .transactions
            .iter()
            .any(|transaction| transaction.transaction_id == id)
            || known
                .state
                .items
                .iter()
                .any(|item| item.transaction_id.as_deref() == Some(id))
    };
    let goes_on = |id: &str| {
        let mut items = known.state.items.iter();
        items.any(|item| item.transaction_id.as_deref() == Some(id) && !item.state.is_ended())
    };
    stand_in.stamp > known.state.stamp
        && stand_in.items.iter().any(|item| {
            let id = item.transaction_id.as_deref();
            id.is_some_and(|id| !seen(id) || (item.state.is_ended() && goes_on(id)))
        })
}

/// The wish outlives its connection: claim and dirty mark in one commit.
async fn open_claim(
    core: &Core,
    account: &Account,
    alias: &Alias,
    shown: &Shown<'_>,
) -> Result<(ChainId, ClaimId), StorageError> {
    let now = core.clock.now();
    for _ in 0..3 {
        match try_open_claim(core, account, alias, shown, now).await {
            Err(StorageError::Conflict(_)) => {}
            other => return other,
        }
    }
    try_open_claim(core, account, alias, shown, now).await
}

async fn try_open_claim(
    core: &Core,
    account: &Account,
    alias: &Alias,
    shown: &Shown<'_>,
    now: Instant,
) -> Result<(ChainId, ClaimId), StorageError> {
    let mut tx = core.db.begin().await?;
    let chain = chains::find_or_create(&mut tx, alias, now).await?;
    // Dirty mark first: it locks the chain, and fails if a join has made it a part of another.
    let seq = chains::mark_dirty(&mut tx, chain, SignalSource::Proof).await?;
    accounts::hold(&mut tx, account.id).await?;
    let claim = claims::open(&mut tx, chain, account.id, shown, seq, now).await?;
    tx.commit().await?;
    Ok((chain, claim))
}

/// Works the claim in, here or wherever the chain is held, until it is decided or time is up.
async fn decided(
    core: &Arc<Core>,
    account: &Account,
    chain: ChainId,
    claim: ClaimId,
    deadline: MachineInstant,
) -> Result<Verdict, BindError> {
    loop {
        let settled = core.settled.notified();
        // A store that hangs holds up the reconcile, which goes on by itself, but not the caller.
        let reconciled = tokio::time::timeout_at(deadline, reconcile_one(core, chain))
            .await
            .unwrap_or(Reconciled::Postponed(RETRY_AFTER_MIN));
        if let Some(verdict) = verdict(core, account, chain, claim).await? {
            return Ok(verdict);
        }
        let pause = match reconciled {
            Reconciled::Postponed(pause) => pause,
            Reconciled::Settled => LOOK_AGAIN,
            Reconciled::NotOurs => match stand_in_during_backoff(core, chain).await? {
                None => LOOK_AGAIN,
                Some(left) => {
                    if let Some(verdict) = verdict(core, account, chain, claim).await? {
                        return Ok(verdict);
                    }
                    left
                }
            },
        };
        if MachineInstant::now() + pause >= deadline {
            warn!(%chain, "a bind waits for its store; the claim stays open");
            return Err(BindError::StoreAway(pause.max(RETRY_AFTER_MIN)));
        }
        tokio::select! {
            () = settled => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn verdict(
    core: &Core,
    account: &Account,
    chain: ChainId,
    claim: ClaimId,
) -> Result<Option<Verdict>, StorageError> {
    Ok(match claims::state(&core.db, claim).await? {
        ClaimState::Open => None,
        ClaimState::Decided(verdict) => Some(verdict),
        // The account's other claim, on the chain that this one was joined to, speaks for both.
        ClaimState::Gone => match chains::progress(&core.db, chain, core.clock.now())
            .await?
            .owner
        {
            None => None,
            Some(owner) if owner == account.id => Some(Verdict::Won),
            Some(_) => Some(Verdict::OwnedByAnother),
        },
    })
}

async fn outcome_of(
    core: &Core,
    account: &Account,
    chain: ChainId,
    owned: Outcome,
) -> Result<Outcome, BindError> {
    let lives_in = chains::progress(&core.db, chain, core.clock.now())
        .await?
        .lives_in;
    match ledger::peek(&core.db, lives_in).await? {
        Some(known) => Ok(classify(core, account, &known, owned).await?),
        None => Ok(Outcome::BoundWithoutAccess),
    }
}

async fn classify(
    core: &Core,
    account: &Account,
    known: &Known,
    owned: Outcome,
) -> Result<Outcome, StorageError> {
    let (catalog, now) = (core.catalog.load_full(), core.clock.now());
    let provider = known.state.head.provider;
    let tester = derive::is_tester(core, account.id, &catalog).await?;
    let serves = catalog.serves(known.state.environment, tester);
    let open = grants(provider, known, false, &catalog, core.policy, now);
    let unpaid = |item: &Item| item.state == ItemState::Pending;
    Ok(if open && serves {
        owned
    } else if known.state.items.iter().any(unpaid) {
        Outcome::Pending
    } else {
        Outcome::BoundWithoutAccess
    })
}
