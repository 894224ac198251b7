//! RestorePurchases: everything that a device holds, each purchase by the flow of BindPurchase.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream;
use tokio::time::Instant as MachineInstant;

use super::Core;
use super::bind_purchase::{
    Begun, BindError, Binding, Outcome, Verified, answer_by, begin, finish, found_decided, verify,
};
use crate::domain::ownership::stronger;
use crate::domain::provider::Provider;
use crate::domain::subscription::store_state::StoreState;
use crate::providers::contract::{ProofError, Proven};
use crate::storage::accounts::Account;

/// Proofs of one restore that are looked at at once, and purchases at each store: a store that
/// hangs holds up no other's.
const AT_ONCE: usize = 8;

/// What became of one proof; several proofs of one purchase share it.
pub(crate) type Restored = Result<Outcome, Arc<BindError>>;

/// Binds everything that `bindings` show; one outcome for each, in their order. Safe to repeat.
///
/// Every claim is durable before the first store is waited for: what is not decided in time is
/// decided later, and told on the stream.
pub(crate) async fn restore_purchases(
    core: &Arc<Core>,
    account: &Account,
    bindings: Vec<Binding>,
    patience: Option<Duration>,
) -> Vec<Restored> {
    let deadline = answer_by(core, patience);
    let mut answers = Answers(vec![None; bindings.len()]);
    let sent = within_budget(core, account, bindings, &mut answers);
    let mut purchases = Vec::new();
    for (places, verified) in verify_all(core, account, sent, deadline).await {
        match verified {
            Ok(shown) => gather(&mut purchases, Shown { shown, places }),
            Err(error) => answers.tell(&places, Err(error)),
        }
    }
    let begun = stream::iter(purchases)
        .map(|purchase| begin_one(core, account, purchase, deadline))
        .buffered(AT_ONCE);
    let mut at_store: BTreeMap<Provider, Vec<Pending>> = BTreeMap::new();
    for pending in begun.collect::<Vec<_>>().await {
        let provider = pending.first.shown.proven.alias.provider;
        at_store.entry(provider).or_default().push(pending);
    }
    let done = at_store.into_values().map(|pending| {
        stream::iter(pending)
            .map(|pending| finish_one(core, account, pending, deadline))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
    });
    for (places, outcome) in join_all(done).await.into_iter().flatten().flatten() {
        answers.tell(&places, outcome);
    }
    answers.all()
}

/// What is told, by place in the request.
struct Answers(Vec<Option<Restored>>);

impl Answers {
    fn tell(&mut self, places: &[usize], outcome: Result<Outcome, BindError>) {
        let outcome = outcome.map_err(Arc::new);
        for place in places {
            if let Some(answer) = self.0.get_mut(*place) {
                *answer = Some(outcome.clone());
            }
        }
    }

    fn all(self) -> Vec<Restored> {
        let told = |answer: Option<Restored>| answer.unwrap_or_else(|| Err(late().into()));
        self.0.into_iter().map(told).collect()
    }
}

/// What could not even be looked at in time.
fn late() -> BindError {
    BindError::Proof(ProofError::Unavailable)
}

/// A proof, and where in the request it stands: the same proof may stand there several times.
struct Sent {
    binding: Binding,
    places: Vec<usize>,
}

/// Each proof counts, repeated or not; what is above the account's budget is answered at once.
fn within_budget(
    core: &Core,
    account: &Account,
    bindings: Vec<Binding>,
    answers: &mut Answers,
) -> Vec<Sent> {
    let mut sent: HashMap<Binding, Vec<usize>> = HashMap::new();
    for (place, binding) in bindings.into_iter().enumerate() {
        match core.limits.restored.take(account.id) {
            Ok(()) => sent.entry(binding).or_default().push(place),
            Err(wait) => answers.tell(&[place], Err(BindError::TooMany(wait))),
        }
    }
    let sent = sent.into_iter();
    sent.map(|(binding, places)| Sent { binding, places })
        .collect()
}

type Looked = (Vec<usize>, Result<Verified, BindError>);

/// Looks at every proof. Bare ids are answered no sooner than their time, all of them together, so
/// that the answer's time tells their number and nothing else.
async fn verify_all(
    core: &Core,
    account: &Account,
    sent: Vec<Sent>,
    deadline: MachineInstant,
) -> Vec<Looked> {
    let (shown, named): (Vec<Sent>, Vec<Sent>) = sent
        .into_iter()
        .partition(|sent| sent.binding.proof.shows_possession());
    let look = |sent| look(core, account, sent, deadline);
    let named = join_all(named.into_iter().map(look));
    let shown = stream::iter(shown.into_iter().map(look))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>();
    let (mut looked, named) = tokio::join!(shown, named);
    looked.extend(named);
    looked
}

async fn look(core: &Core, account: &Account, sent: Sent, deadline: MachineInstant) -> Looked {
    let looked = tokio::time::timeout_at(deadline, verify(core, account, &sent.binding)).await;
    (sent.places, looked.unwrap_or_else(|_| Err(late())))
}

/// What proofs show together.
struct Shown {
    shown: Verified,
    places: Vec<usize>,
}

/// One purchase: what is shown of it, under each further name that its holder gives it.
struct Purchase {
    first: Shown,
    others: Vec<Shown>,
}

/// A purchase whose first claim is open, decided or refused.
struct Pending {
    first: Shown,
    others: Vec<Shown>,
    begun: Result<Begun, BindError>,
}

/// Adds what is shown to its purchase: an account has one open claim on it, which must not depend on
/// which of its proofs was looked at last.
fn gather(purchases: &mut Vec<Purchase>, new: Shown) {
    let alias = &new.shown.proven.alias;
    let mut known = purchases.iter_mut();
    let Some(purchase) = known.find(|known| known.first.shown.proven.alias == *alias) else {
        purchases.push(Purchase {
            first: new,
            others: Vec::new(),
        });
        return;
    };
    let mut all = std::iter::once(&mut purchase.first).chain(&mut purchase.others);
    match all.find(|known| known.shown.also_named == new.shown.also_named) {
        Some(same) => {
            same.places.extend(new.places);
            strengthen(&mut same.shown.proven, new.shown.proven);
        }
        None => purchase.others.push(new),
    }
}

fn strengthen(proven: &mut Proven, by: Proven) {
    proven.possession = stronger(std::mem::take(&mut proven.possession), by.possession);
    let known = proven.stand_in.as_ref().map(|state| state.stamp);
    let newer = |state: &StoreState| known.is_none_or(|known| known < state.stamp);
    if let Some(state) = by.stand_in.filter(newer) {
        proven.stand_in = Some(state);
        proven.account_token = by.account_token;
    }
}

async fn begin_one(
    core: &Core,
    account: &Account,
    purchase: Purchase,
    deadline: MachineInstant,
) -> Pending {
    let Purchase { first, others } = purchase;
    let begun = begin_in_time(core, account, &first, deadline).await;
    Pending {
        first,
        others,
        begun,
    }
}

async fn begin_in_time(
    core: &Core,
    account: &Account,
    shown: &Shown,
    deadline: MachineInstant,
) -> Result<Begun, BindError> {
    let begun = tokio::time::timeout_at(deadline, begin(core, account, &shown.shown)).await;
    begun.unwrap_or_else(|_| Err(late()))
}

type Told = (Vec<usize>, Result<Outcome, BindError>);

/// Ends what was begun, then what is shown under other names, one after the other: they share the
/// account's claim.
async fn finish_one(
    core: &Arc<Core>,
    account: &Account,
    pending: Pending,
    deadline: MachineInstant,
) -> Vec<Told> {
    let Pending {
        first,
        others,
        begun,
    } = pending;
    let outcome = end(core, account, begun, deadline).await;
    let mut told = vec![(first.places, outcome)];
    for other in others {
        let begun = begin_in_time(core, account, &other, deadline).await;
        let outcome = end(core, account, begun, deadline).await;
        told.push((other.places, outcome));
    }
    told
}

async fn end(
    core: &Arc<Core>,
    account: &Account,
    begun: Result<Begun, BindError>,
    deadline: MachineInstant,
) -> Result<Outcome, BindError> {
    match begun? {
        Begun::Decided(outcome) => Ok(outcome),
        Begun::Claimed(claimed) if MachineInstant::now() < deadline => {
            finish(core, account, &claimed, deadline).await
        }
        // Not reached in time: the workers go on with it.
        Begun::Claimed(claimed) => {
            core.work.notify_one();
            found_decided(core, account, &claimed).await
        }
    }
}
