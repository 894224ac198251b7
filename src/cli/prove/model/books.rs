//! The server's books without its database: what the shell around the domain does, in memory. The
//! providers' reads and the domain's decisions are the server's own; only tables, locks and leases
//! are not here. Those are the business of the runs through Postgres.

mod settling;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::TimeDelta;
use uuid::Uuid;

use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::credit::Entry;
use crate::domain::duty::{Duty, NewDuty};
use crate::domain::entitlement::{Snapshot, derive};
use crate::domain::event::SignalSource;
use crate::domain::holding::{self, Holding};
use crate::domain::ids::{AccountId, ClaimId};
use crate::domain::ownership::{OpenClaim, Owner, Possession, Verdict};
use crate::domain::reconcile::{Answer, Book, Outcome, Policy, Step, awaits_renewal, reconcile};
use crate::domain::subscription::store_state::{Evidence, StoreState};
use crate::domain::time::{Instant, earliest};
use crate::providers::contract::{Effect, FetchError, FetchRequest, Proven};
use crate::providers::registry::Stores;

/// As in `flows::reconcile`.
const STAND_IN_AGE_MAX: TimeDelta = TimeDelta::hours(24);
/// How long a store that could not be asked is left alone.
const AWAY_PAUSE: TimeDelta = TimeDelta::minutes(5);

/// One purchase chain as the server knows it.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) head: Alias,
    pub(super) book: Book,
    evidence: Vec<Evidence>,
    claims: Vec<(OpenClaim, Option<StoreState>)>,
    names: BTreeSet<Alias>,
    pub(super) next_check: Option<Instant>,
    /// The chain that this one turned out to be a part of.
    merged_into: Option<usize>,
    /// Accounts that it was taken from, and when last.
    lost: BTreeMap<AccountId, Instant>,
    /// What every step since the last rebasing was decided from.
    steps: Vec<Step>,
    base: Book,
    /// Whoever has ever shown it, or been named by it, here.
    pub(super) entitled_to_own: BTreeSet<AccountId>,
    /// Accounts that the store's record has named so far.
    pub(super) hints: BTreeSet<AccountId>,
    /// Whoever has it first, of those that may: nobody else may have it while no record names
    /// another and no operator moves it.
    pub(super) first_owner: Option<AccountId>,
    /// Moved by an operator, or grown together with another: who owned what before decides.
    pub(super) moved: bool,
    /// Who was told, after an answer of a moment ago, that the store does not know it.
    pub(super) not_known_yet: BTreeSet<AccountId>,
    /// What was credited for it, never changed.
    pub(super) entries: Vec<Entry>,
}

/// An answer that was given and is not worked in yet.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) chain: usize,
    pub(super) source: SignalSource,
    answer: Answer,
    claims_seen: usize,
}

/// A signal with what its store answered when it was sent.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    alias: Alias,
    evidence: Vec<Evidence>,
    claim: Option<AccountId>,
    answer: Answer,
}

impl Recorded {
    /// Whose wish it is.
    pub(super) fn claim(&self) -> Option<AccountId> {
        self.claim
    }

    /// Every name that it gives to its purchase.
    pub(super) fn names(&self) -> BTreeSet<Alias> {
        let told = match &self.answer {
            Answer::Store(state) | Answer::Proof(state) => all_names(state),
            Answer::NotFound | Answer::Gone | Answer::Away => Vec::new(),
        };
        told.into_iter()
            .chain(std::iter::once(self.alias.clone()))
            .collect()
    }
}

/// What a settle leaves to be done.
#[derive(Debug, Default)]
pub(super) struct After {
    /// What the store must be told, and of which chain.
    pub(super) duties: Vec<NewDuty>,
    pub(super) chain: usize,
    /// The chain has a new head: it is to be looked at once more.
    pub(super) again: bool,
}

/// Counts of what happened, to prove that the interesting things did.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) signals: u64,
    pub(super) decisions: BTreeMap<String, u64>,
    pub(super) verdicts: BTreeMap<&'static str, u64>,
    pub(super) joins: u64,
    pub(super) duties: u64,
    pub(super) duties_failed: u64,
}

/// All chains, and who may own them.
pub(super) struct Books {
    pub(super) stores: Stores,
    pub(super) catalog: Catalog,
    pub(super) policy: Policy,
    pub(super) chains: Vec<Chain>,
    names: HashMap<Alias, usize>,
    /// Store tokens of living accounts, in lower case.
    tokens: HashMap<String, AccountId>,
    named: Vec<(AccountId, String)>,
    claims: u128,
    /// What devices read: derived when something was settled, evaluated at the moment of reading.
    snapshots: BTreeMap<AccountId, Snapshot>,
    /// A promise that a step broke.
    broken: Option<String>,
    /// Whether a store has ever answered with the past.
    pub(super) has_been_stale: bool,
    pub(super) tally: Tally,
}

impl Books {
    pub(super) fn new(
        stores: Stores,
        catalog: Catalog,
        tokens: impl IntoIterator<Item = (String, AccountId)>,
    ) -> Self {
        let named: Vec<(String, AccountId)> = tokens.into_iter().collect();
        Self {
            stores,
            catalog,
            named: named
                .iter()
                .map(|(token, account)| (*account, token.clone()))
                .collect(),
            policy: Policy::default(),
            chains: Vec::new(),
            names: HashMap::new(),
            tokens: named
                .into_iter()
                .map(|(token, account)| (token.to_lowercase(), account))
                .collect(),
            claims: 0,
            snapshots: BTreeMap::new(),
            broken: None,
            has_been_stale: false,
            tally: Tally::default(),
        }
    }

    /// The chain that carries on whatever `index` was.
    pub(super) fn whole(&self, mut index: usize) -> usize {
        while let Some(into) = self.chains[index].merged_into {
            index = into;
        }
        index
    }

    pub(super) fn find(&self, alias: &Alias) -> Option<usize> {
        self.names.get(alias).map(|index| self.whole(*index))
    }

    pub(super) fn find_or_create(&mut self, alias: &Alias) -> usize {
        if let Some(index) = self.find(alias) {
            return index;
        }
        let index = self.chains.len();
        self.chains.push(Chain {
            head: alias.clone(),
            book: Book::default(),
            evidence: Vec::new(),
            claims: Vec::new(),
            names: BTreeSet::from([alias.clone()]),
            next_check: None,
            merged_into: None,
            lost: BTreeMap::new(),
            steps: Vec::new(),
            base: Book::default(),
            entitled_to_own: BTreeSet::new(),
            hints: BTreeSet::new(),
            first_owner: None,
            moved: false,
            not_known_yet: BTreeSet::new(),
            entries: Vec::new(),
        });
        self.names.insert(alias.clone(), index);
        index
    }

    /// Living chains by number.
    pub(super) fn living(&self) -> impl Iterator<Item = (usize, &Chain)> {
        let all = self.chains.iter().enumerate();
        all.filter(|(_, chain)| chain.merged_into.is_none())
    }

    pub(super) fn add_evidence(&mut self, chain: usize, facts: Vec<Evidence>) {
        let kept = &mut self.chains[chain].evidence;
        for fact in facts {
            if kept.iter().all(|known| known.key() != fact.key()) {
                kept.push(fact);
            }
        }
        kept.sort_by(|a, b| a.key().cmp(&b.key()));
    }

    /// An account shows a purchase; the wish is decided by the next settle.
    pub(super) fn open_claim(&mut self, account: AccountId, proven: &Proven) -> usize {
        let chain = self.find_or_create(&proven.alias);
        self.claims += 1;
        let claim = OpenClaim {
            id: ClaimId(Uuid::from_u128(self.claims)),
            account,
            possession: proven.possession.clone(),
            misnamed: false,
        };
        let open = &mut self.chains[chain].claims;
        match open.iter_mut().find(|(known, _)| known.account == account) {
            Some((_, stand_in)) => {
                if proven.stand_in.is_some() {
                    stand_in.clone_from(&proven.stand_in);
                }
            }
            None => open.push((claim, proven.stand_in.clone())),
        }
        self.chains[chain].entitled_to_own.insert(account);
        chain
    }

    /// Asks the store about a chain. `None`: it cannot be asked, and that is worked in already.
    pub(super) async fn fetch(
        &mut self,
        chain: usize,
        source: SignalSource,
        now: Instant,
    ) -> Result<Option<Fetched>, String> {
        let chain = self.whole(chain);
        let known = &self.chains[chain];
        let names: Vec<Alias> = known.names.iter().cloned().collect();
        let request = FetchRequest {
            thorough: false,
            head: &known.head,
            evidence: &known.evidence,
            known: &names,
            last: known.book.known.as_ref().map(|known| &known.state),
            catalog: &self.catalog,
        };
        let claims_seen = known.claims.len();
        let answer = match self.stores.fetch(request).await {
            Ok(answers) => self
                .stores
                .normalize(&known.head, &answers, &self.catalog, now)
                .map_err(|error| format!("{:?}: {error}", known.head))?,
            Err(FetchError::Away { .. }) => {
                self.without_store(chain, source, now);
                return Ok(None);
            }
            Err(error @ (FetchError::Refused(_) | FetchError::Unreadable(_))) => {
                return Err(format!("{:?}: {error}", known.head));
            }
        };
        Ok(Some(Fetched {
            chain,
            source,
            answer,
            claims_seen,
        }))
    }

    /// What the store says of one name by itself, whatever is known of it here.
    pub(super) async fn record(
        &self,
        alias: &Alias,
        evidence: Vec<Evidence>,
        claim: Option<AccountId>,
        now: Instant,
    ) -> Result<Recorded, String> {
        let request = FetchRequest {
            thorough: false,
            head: alias,
            evidence: &evidence,
            known: std::slice::from_ref(alias),
            last: None,
            catalog: &self.catalog,
        };
        let words = |error: FetchError| format!("{alias:?}: {error}");
        let answers = self.stores.fetch(request).await.map_err(words)?;
        let answer = self.stores.normalize(alias, &answers, &self.catalog, now);
        Ok(Recorded {
            alias: alias.clone(),
            evidence,
            claim,
            answer: answer.map_err(words)?,
        })
    }

    /// Tells the store that a recorded purchase reached its owner, if it wants to hear so.
    pub(super) async fn acknowledge(&self, recorded: &Recorded) -> Result<(), String> {
        let Answer::Store(state) = &recorded.answer else {
            return Ok(());
        };
        if state.acknowledge_by.is_none() {
            return Ok(());
        }
        let effect = Effect {
            state,
            transaction_id: &state.head.value,
            duty: &Duty::Acknowledge {
                account_token: None,
            },
            answer: None,
        };
        let told = self.stores.perform(effect, &self.catalog).await;
        told.map_err(|error| error.to_string())
    }

    /// A recorded signal arrives now. The chain, if it has to be asked about again at once.
    pub(super) fn work_in(&mut self, recorded: &Recorded, now: Instant) -> Option<usize> {
        let after = self.take_in(recorded, now);
        let soon = now + TimeDelta::seconds(15);
        let doubtful = self.chains[after.chain].next_check;
        (after.again || doubtful.is_some_and(|at| at <= soon)).then_some(after.chain)
    }

    /// The same; what it leaves to be done.
    pub(super) fn take_in(&mut self, recorded: &Recorded, now: Instant) -> After {
        let chain = self.find_or_create(&recorded.alias);
        self.add_evidence(chain, recorded.evidence.clone());
        if let Some(account) = recorded.claim {
            let proven = Proven {
                alias: recorded.alias.clone(),
                stand_in: None,
                account_token: None,
                possession: Possession::Named,
            };
            self.open_claim(account, &proven);
        }
        let fetched = Fetched {
            chain,
            source: SignalSource::Notification,
            answer: recorded.answer.clone(),
            claims_seen: usize::MAX,
        };
        self.settle(fetched, now)
    }

    /// Empty books again, over the same stores.
    pub(super) fn forget(&mut self) {
        self.chains.clear();
        self.names.clear();
        self.snapshots.clear();
        self.broken = None;
    }

    /// As in `flows::reconcile::without_store`.
    fn without_store(&mut self, index: usize, source: SignalSource, now: Instant) {
        let chain = &self.chains[index];
        let proofs = chain.claims.iter().filter_map(|(_, proof)| proof.clone());
        let newest = proofs
            .filter(|state| now - state.stamp <= STAND_IN_AGE_MAX)
            .max_by_key(|state| state.stamp);
        let waits = chain.book.known.as_ref();
        let waits = waits.is_some_and(|known| awaits_renewal(known, now));
        let answer = match newest {
            Some(state) => Some(Answer::Proof(state)),
            None => (waits && !chain.book.store_away).then_some(Answer::Away),
        };
        if let Some(answer) = answer {
            let fetched = Fetched {
                chain: index,
                source,
                answer,
                claims_seen: usize::MAX,
            };
            self.settle(fetched, now);
        }
        let again = &mut self.chains[index].next_check;
        *again = earliest(*again, Some(now + AWAY_PAUSE));
    }

    /// Carries a duty out, unless it is moot by now; as `flows::fulfil_duties`. False: again later.
    pub(super) async fn fulfil(&mut self, chain: usize, new: &NewDuty, now: Instant) -> bool {
        let chain = &self.chains[self.whole(chain)];
        let Some(known) = &chain.book.known else {
            return true;
        };
        let moot = match new.duty {
            Duty::Acknowledge { .. } | Duty::Consume => {
                known.state.head.value != new.transaction_id || known.state.acknowledge_by.is_none()
            }
            // Named by the app meanwhile.
            Duty::SetAccountToken { .. } => known.state.account_token.is_some(),
            Duty::Finish => false,
            // Nothing is recorded to answer with here.
            Duty::AnswerConsumptionRequest | Duty::ReviewRefund { .. } => true,
        };
        if moot || now > new.deadline + TimeDelta::days(1) {
            return true;
        }
        let effect = Effect {
            state: &known.state,
            transaction_id: &new.transaction_id,
            duty: &new.duty,
            answer: None,
        };
        match self.stores.perform(effect, &self.catalog).await {
            Ok(()) => {
                self.tally.duties += 1;
                true
            }
            // Whatever it is, the server tries again.
            Err(_) => {
                self.tally.duties_failed += 1;
                false
            }
        }
    }

    /// An operator moves a chain; as `flows::transfer`.
    pub(super) fn transfer(&mut self, chain: usize, to: AccountId, now: Instant) {
        let index = self.whole(chain);
        let chain = &mut self.chains[index];
        if let Some(owner) = chain.book.owner {
            if owner.account == to {
                return;
            }
            chain.lost.insert(owner.account, now);
        }
        chain.book.owner = Some(Owner {
            account: to,
            since: now,
            provisional_until: None,
            transferred: true,
        });
        chain.moved = true;
        chain.entitled_to_own.insert(to);
        chain.next_check = Some(now);
        chain.base = chain.book.clone();
        chain.steps.clear();
        self.hand_over(index, now);
        self.derive(index, now);
    }

    /// Derives everybody whom a settle of the chain may touch: who has it, and who had it.
    fn derive(&mut self, chain: usize, now: Instant) {
        let chain = &self.chains[chain];
        let owner = chain.book.owner.map(|owner| owner.account);
        let touched: BTreeSet<AccountId> = owner
            .into_iter()
            .chain(chain.lost.keys().copied())
            .collect();
        for account in touched {
            let snapshot = self.derived(account, now);
            self.snapshots.insert(account, snapshot);
        }
    }

    /// What a device of an account reads at `now`, whether or not anything has been done since.
    pub(super) fn snapshot(&self, account: AccountId, now: Instant) -> Snapshot {
        match self.snapshots.get(&account) {
            Some(snapshot) => snapshot.at(now).into_owned(),
            // As the server tells whom nothing was ever derived for.
            None => derive(&self.catalog, &[], &[], self.policy.leniency, now),
        }
    }

    fn derived(&self, account: AccountId, now: Instant) -> Snapshot {
        let holdings: Vec<Holding> = self
            .living()
            .flat_map(|(_, chain)| holdings(chain, account))
            .collect();
        derive(&self.catalog, &holdings, &[], self.policy.leniency, now)
    }

    /// Who is told that a purchase is theirs owns it; a claim that could not be judged stays open.
    fn check_verdicts(&mut self, step: &Step, outcome: &Outcome) {
        let owner = outcome.book.owner.map(|owner| owner.account);
        for (_, account, verdict) in &outcome.verdicts {
            let wrong = match verdict {
                Verdict::Won | Verdict::Confirmed => owner != Some(*account),
                Verdict::OwnedByAnother => owner.is_none() || owner == Some(*account),
                // Nothing is handed over here that its store does not know, or has forgotten since.
                Verdict::NotFound => match step.answer {
                    Answer::NotFound => !self.has_been_stale,
                    Answer::Gone => outcome.book.known.is_some(),
                    Answer::Store(_) | Answer::Proof(_) | Answer::Away => true,
                },
                // Nobody is erased here.
                Verdict::Misnamed | Verdict::NotFresh => true,
            };
            if wrong {
                let words = format!("{account} was told {verdict:?}, and {owner:?} owns it");
                self.broken.get_or_insert(words);
            }
        }
    }

    /// A promise that was broken on the way, if one was.
    pub(super) fn broken(&self) -> Result<(), String> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// Deciding each chain again from what was kept gives what is kept (I10).
    pub(super) fn replays(&self) -> Result<(), String> {
        for (_, chain) in self.living() {
            let provider = chain.head.provider;
            let mut book = chain.base.clone();
            for step in &chain.steps {
                let facts = &chain.evidence;
                book = reconcile(provider, &book, step, facts, &self.catalog, self.policy).book;
            }
            if book != chain.book {
                return Err(format!("{:?}: decided again it differs", chain.head));
            }
        }
        Ok(())
    }
}

fn all_names(state: &StoreState) -> Vec<Alias> {
    let head = std::iter::once(&state.head);
    head.chain(&state.predecessors)
        .chain(&state.aliases)
        .cloned()
        .collect()
}

fn holdings(chain: &Chain, account: AccountId) -> Vec<Holding> {
    let owned = chain
        .book
        .owner
        .is_some_and(|owner| owner.account == account);
    let away_since = chain.lost.get(&account).copied();
    let Some(known) = chain
        .book
        .known
        .as_ref()
        .filter(|_| owned || away_since.is_some())
    else {
        return Vec::new();
    };
    let held = holding::Chain {
        provider: chain.head.provider,
        store_away: chain.book.store_away,
        away_since: away_since.filter(|_| !owned),
        known: known.clone(),
    };
    // Plans that it was before are for people to read; they grant nothing.
    held.holdings(std::iter::empty())
}
