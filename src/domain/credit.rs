//! Credits: what consumables are worth, booked in entries that are never changed.

use std::collections::BTreeMap;

use super::catalog::Catalog;
use super::entitlement::CreditBalance;
use super::ids::AccountId;
use super::planted::{self, Bug};
use super::provider::Environment;

/// One booking. A balance is a sum of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) account: AccountId,
    /// The line of the purchase that it is for (`goods::Line`).
    pub(crate) line: String,
    /// The catalog's id: `coins`.
    pub(crate) credit: String,
    /// Counts the entries of one line, account and credit: none is written twice.
    pub(crate) seq: i32,
    /// Of the product; negative when taken away.
    pub(crate) units: i64,
    /// As the catalog had it at the first entry of the line: later catalogs change nothing booked.
    pub(crate) per_unit: i64,
    pub(crate) reason: CreditReason,
}

impl Entry {
    /// What it adds to the balance.
    pub(crate) fn amount(&self) -> i64 {
        self.units.saturating_mul(self.per_unit)
    }
}

/// Why a balance changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreditReason {
    Purchase,
    /// The store took units back.
    Refund,
    /// The store took a refund back.
    RefundReversed,
    /// The purchase became another account's.
    Transfer,
}

impl CreditReason {
    const ALL: [Self; 4] = [
        Self::Purchase,
        Self::Refund,
        Self::RefundReversed,
        Self::Transfer,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Refund => "refund",
            Self::RefundReversed => "refund_reversed",
            Self::Transfer => "transfer",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// Entries that make the owner's sum of one line what it holds, and everybody else's nothing.
///
/// `held` is `None` while the store has not said (or no longer says): what is booked only moves.
/// `rates`: what one unit is worth, unless entries say it already.
pub(crate) fn of_line(
    line: &str,
    held: Option<u32>,
    owner: AccountId,
    rates: Option<&BTreeMap<String, i64>>,
    booked: &[Entry],
) -> Vec<Entry> {
    let booked: Vec<&Entry> = booked
        .iter()
        .filter(|entry| entry.line == line && !planted::is(Bug::CreditTwice))
        .collect();
    let frozen = rates_of(&booked);
    let first = frozen.is_empty();
    let rates: BTreeMap<&str, i64> = if first {
        let rates = rates.into_iter().flatten();
        let rates = rates.map(|(credit, worth)| (credit.as_str(), *worth));
        rates.collect()
    } else {
        frozen
    };
    let mut entries = Vec::new();
    for (credit, per_unit) in rates {
        let mut sums = sums_of(credit, &booked);
        let own = sums.remove(&owner).unwrap_or(0);
        let moved: i64 = sums.values().sum();
        let leave = sums.into_iter().map(|(account, units)| (account, -units));
        let mut units: Vec<_> = leave.chain([(owner, moved)]).collect();
        units.retain(|(_, units)| *units != 0);
        let mut seqs = BTreeMap::new();
        let mut book = |account: AccountId, units: i64, reason| {
            let seq = seqs
                .entry(account)
                .or_insert_with(|| next_seq(credit, account, &booked));
            entries.push(Entry {
                account,
                line: line.to_owned(),
                credit: credit.to_owned(),
                seq: *seq,
                units,
                per_unit,
                reason,
            });
            *seq += 1;
        };
        for (account, units) in units {
            book(account, units, CreditReason::Transfer);
        }
        let change = held.map_or(0, |held| i64::from(held) - own - moved);
        match change {
            0 => {}
            ..0 => book(owner, change, CreditReason::Refund),
            1.. if first => book(owner, change, CreditReason::Purchase),
            1.. => book(owner, change, CreditReason::RefundReversed),
        }
    }
    entries
}

/// What an account sees: one balance per credit of the catalog and environment; real money first,
/// never added up with the sandbox's, which is told to those whom sandbox purchases serve. `sums`
/// are of all entries.
pub(crate) fn balances(
    catalog: &Catalog,
    tester: bool,
    sums: &[(String, Environment, i64)],
) -> Vec<CreditBalance> {
    let mut balances = Vec::new();
    for id in catalog.credits() {
        let of_credit = |environment| {
            let sum = sums
                .iter()
                .find(|(credit, of, _)| credit == id && *of == environment)?;
            catalog
                .serves(environment, tester)
                .then_some(CreditBalance {
                    id: id.to_owned(),
                    balance: sum.2,
                    environment: Some(environment),
                })
        };
        let before = balances.len();
        balances.extend(of_credit(Environment::Production));
        balances.extend(of_credit(Environment::Sandbox));
        if balances.len() == before {
            balances.push(CreditBalance {
                id: id.to_owned(),
                balance: 0,
                environment: None,
            });
        }
    }
    balances
}

fn rates_of<'a>(booked: &[&'a Entry]) -> BTreeMap<&'a str, i64> {
    let mut rates = BTreeMap::new();
    for entry in booked {
        rates.entry(entry.credit.as_str()).or_insert(entry.per_unit);
    }
    rates
}

/// What each account has of a credit; those that have nothing left are not named.
fn sums_of(credit: &str, booked: &[&Entry]) -> BTreeMap<AccountId, i64> {
    let mut sums = BTreeMap::new();
    for entry in booked.iter().filter(|entry| entry.credit == credit) {
        *sums.entry(entry.account).or_insert(0) += entry.units;
    }
    sums.retain(|_, units| *units != 0);
    sums
}

fn next_seq(credit: &str, account: AccountId, booked: &[&Entry]) -> i32 {
    let of = booked
        .iter()
        .filter(|entry| entry.credit == credit && entry.account == account);
    of.map(|entry| entry.seq + 1).max().unwrap_or(0)
}
