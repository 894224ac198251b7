//! Working an answer in, as `flows::settle` does: join, gather, decide, hand over.

use std::collections::BTreeSet;

use super::{After, Books, Fetched, all_names};
use crate::domain::chain::Alias;
use crate::domain::credit::Entry;
use crate::domain::duty::NewDuty;
use crate::domain::event::{Decision, SignalSource};
use crate::domain::goods::{self, Booked};
use crate::domain::ids::{AccountId, ClaimId};
use crate::domain::ownership::Verdict;
use crate::domain::reconcile::{Answer, Step, reconcile};
use crate::domain::subscription::guard::with_evidence;
use crate::domain::time::Instant;

impl Books {
    /// Works an answer in, as `flows::settle` does.
    pub(in super::super) fn settle(&mut self, fetched: Fetched, now: Instant) -> After {
        let Fetched {
            chain,
            source,
            answer,
            claims_seen,
        } = fetched;
        let from = self.whole(chain);
        let names = match &answer {
            Answer::Store(state) | Answer::Proof(state) => all_names(state),
            Answer::NotFound | Answer::Gone | Answer::Away => Vec::new(),
        };
        let (whole, joined) = self.join(from, &names, now);
        let step = self.gather(whole, answer, source, claims_seen, now);
        let chain = &self.chains[whole];
        let outcome = reconcile(
            chain.head.provider,
            &chain.book,
            &step,
            &chain.evidence,
            &self.catalog,
            self.policy,
        );
        let before = chain.book.owner;
        self.count(&outcome.decision, &outcome.verdicts);
        self.check_verdicts(&step, &outcome);
        let chain = &mut self.chains[whole];
        if let Some(lost) = before
            && outcome.book.owner.map(|owner| owner.account) != Some(lost.account)
        {
            chain.lost.insert(lost.account, now);
        }
        chain
            .claims
            .retain(|(open, _)| outcome.verdicts.iter().all(|(id, ..)| *id != open.id));
        for (_, account, verdict) in &outcome.verdicts {
            match verdict {
                Verdict::NotFound => chain.not_known_yet.insert(*account),
                Verdict::Won
                | Verdict::Confirmed
                | Verdict::OwnedByAnother
                | Verdict::Misnamed
                | Verdict::NotFresh => chain.not_known_yet.remove(account),
            };
        }
        if let Some(hint) = step.hint {
            chain.entitled_to_own.insert(hint);
            chain.hints.insert(hint);
        }
        if outcome.book.owner.is_some() && chain.first_owner.is_none() {
            let first = step.claims.first().map(|claim| claim.account);
            chain.first_owner = step.hint.or(first);
        }
        if let Some(known) = &outcome.book.known {
            chain.head = known.state.head.clone();
        }
        let taken = !matches!(outcome.decision, Decision::Skip(_));
        if taken {
            for name in names {
                chain.names.insert(name.clone());
                self.names.insert(name, whole);
            }
        }
        let chain = &mut self.chains[whole];
        chain.book = outcome.book;
        chain.next_check = outcome.next_check_at;
        chain.steps.push(step);
        let mut duties = outcome.duties;
        duties.extend(self.hand_over(whole, now));
        self.derive(whole, now);
        After {
            duties,
            chain: whole,
            again: joined,
        }
    }

    /// What consumables bring their owner; as `flows::goods`.
    pub(super) fn hand_over(&mut self, whole: usize, now: Instant) -> Vec<NewDuty> {
        let chain = &mut self.chains[whole];
        let (Some(owner), Some(known)) = (chain.book.owner, &chain.book.known) else {
            return Vec::new();
        };
        let booked = Booked {
            entries: &chain.entries,
            deliveries: &[],
        };
        let (provider, state) = (chain.head.provider, &known.state);
        let served = self.catalog.accepts(state.environment);
        let due = goods::hand_over(
            provider,
            state,
            owner.account,
            served,
            &self.catalog,
            booked,
            now,
        );
        chain.entries.extend(due.entries);
        due.duties
    }

    /// What is credited to an account.
    pub(in super::super) fn credited(&self, account: AccountId) -> i64 {
        let entries = self.chains.iter().flat_map(|chain| &chain.entries);
        let mine = entries.filter(|entry| entry.account == account);
        mine.map(Entry::amount).sum()
    }

    fn count(&mut self, decision: &Decision, verdicts: &[(ClaimId, AccountId, Verdict)]) {
        *self
            .tally
            .decisions
            .entry(format!("{decision:?}"))
            .or_default() += 1;
        for (_, _, verdict) in verdicts {
            *self.tally.verdicts.entry(verdict.as_str()).or_default() += 1;
        }
    }

    /// Everything that the answer names becomes a part of the oldest; as `settle::join`.
    fn join(&mut self, from: usize, names: &[Alias], now: Instant) -> (usize, bool) {
        let mut linked = BTreeSet::from([from]);
        linked.extend(names.iter().filter_map(|name| self.find(name)));
        // Chains are numbered in the order of their making.
        let Some(whole) = linked.pop_first() else {
            return (from, false);
        };
        let joined = !linked.is_empty();
        for part in linked {
            self.tally.joins += 1;
            let names = std::mem::take(&mut self.chains[part].names);
            let claims = std::mem::take(&mut self.chains[part].claims);
            let evidence = std::mem::take(&mut self.chains[part].evidence);
            let book = std::mem::take(&mut self.chains[part].book);
            let rights = std::mem::take(&mut self.chains[part].entitled_to_own);
            let lost = std::mem::take(&mut self.chains[part].lost);
            self.chains[part].merged_into = Some(whole);
            self.chains[part].next_check = None;
            for name in &names {
                self.names.insert(name.clone(), whole);
            }
            self.add_evidence(whole, evidence);
            let hints = std::mem::take(&mut self.chains[part].hints);
            let not_known_yet = std::mem::take(&mut self.chains[part].not_known_yet);
            let entries = std::mem::take(&mut self.chains[part].entries);
            let chain = &mut self.chains[whole];
            chain.moved = true;
            chain.hints.extend(hints);
            chain.not_known_yet.extend(not_known_yet);
            chain.entries.extend(entries);
            chain.names.extend(names);
            chain.entitled_to_own.extend(rights);
            for (account, at) in lost {
                chain.lost.insert(account, at);
            }
            for (claim, proof) in claims {
                match chain
                    .claims
                    .iter_mut()
                    .find(|(o, _)| o.account == claim.account)
                {
                    Some((_, known)) => *known = known.take().or(proof),
                    None => chain.claims.push((claim, proof)),
                }
            }
            if let (Some(theirs), Some(ours)) = (book.owner, chain.book.owner)
                && theirs.account != ours.account
            {
                chain.lost.insert(theirs.account, now);
            }
            chain.book.owner = chain.book.owner.or(book.owner);
            chain.book.known = chain.book.known.take().or(book.known);
            chain.base = chain.book.clone();
            chain.steps.clear();
        }
        (whole, joined)
    }

    fn gather(
        &self,
        chain: usize,
        answer: Answer,
        source: SignalSource,
        claims_seen: usize,
        now: Instant,
    ) -> Step {
        let chain = &self.chains[chain];
        let answer = match answer {
            Answer::Store(state) => Answer::Store(with_evidence(state, &chain.evidence)),
            Answer::Proof(state) => Answer::Proof(with_evidence(state, &chain.evidence)),
            other @ (Answer::NotFound | Answer::Gone | Answer::Away) => other,
        };
        let token = match &answer {
            Answer::Store(state) | Answer::Proof(state) => state.account_token.as_deref(),
            Answer::NotFound | Answer::Gone | Answer::Away => None,
        };
        let hint = token.and_then(|token| self.tokens.get(&token.to_lowercase()));
        let seen = match answer {
            Answer::NotFound => claims_seen,
            Answer::Store(_) | Answer::Proof(_) | Answer::Gone | Answer::Away => usize::MAX,
        };
        Step {
            source,
            now,
            hint: hint.copied(),
            claims: chain
                .claims
                .iter()
                .take(seen)
                .map(|(open, _)| open.clone())
                .collect(),
            tokens: self.named.clone(),
            // No policy of this catalog moves anything.
            not_testers: Vec::new(),
            moves: 0,
            owner_is_anonymous: false,
            forgotten: false,
            answer,
        }
    }
}
