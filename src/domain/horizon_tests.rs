//! A table of accounts, transactions that overlap, and a reader that is cut off anywhere.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn account(number: u8) -> AccountId {
    AccountId(Uuid::from_u128(u128::from(number)))
}

#[test]
fn one_set_has_one_form() {
    assert_eq!(Horizon::new(10, vec![9, 8, 4]), Horizon::new(8, vec![4]));
    assert_eq!(
        Horizon::new(5, vec![7, 3, 3, 1]),
        Horizon::new(5, vec![1, 3])
    );
    let one = Horizon::new(8, vec![4, 6]);
    assert_eq!(
        (one.floor(), one.sees(3), one.sees(5), one.sees(7)),
        (4, true, true, true)
    );
    assert!(!one.sees(4) && !one.sees(6) && !one.sees(8));
    let nothing = Horizon::default();
    assert!(!nothing.sees(0) && !nothing.sees(3));
}

#[test]
fn a_later_read_includes_an_earlier_one_and_not_the_other_way() {
    let earlier = Horizon::new(8, vec![4, 6]);
    for later in [
        Horizon::new(8, vec![6]),
        Horizon::new(9, vec![4, 6]),
        Horizon::new(12, vec![9]),
    ] {
        assert!(later.includes(&earlier), "{later:?}");
        assert!(!earlier.includes(&later), "{later:?}");
    }
    assert!(earlier.includes(&earlier) && earlier.includes(&Horizon::default()));
    let now = Horizon::new(9, vec![4]);
    let place = Place {
        number: 5,
        account: account(1),
    };
    let position = |seen: &Horizon, target: &Horizon| Position {
        seen: seen.clone(),
        step: Some((target.clone(), place)),
    };
    assert!(position(&earlier, &now).is_past(&now));
    assert!(!position(&earlier, &Horizon::new(10, vec![])).is_past(&now));
    assert!(!Position::at(Horizon::new(9, vec![])).is_past(&now));
}

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    /// A transaction begins that will write these accounts.
    Begin(Vec<u8>),
    /// The open transaction of that rank commits.
    Commit(usize),
    /// The reader takes at most so many rows.
    Read(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => prop::collection::vec(0..6_u8, 1..4).prop_map(Act::Begin),
        3 => (0..4_usize).prop_map(Act::Commit),
        3 => (1..4_usize).prop_map(Act::Read),
    ]
}

#[derive(Default)]
struct Table {
    next: i64,
    open: BTreeMap<i64, Vec<u8>>,
    /// Of each account its last transaction and its revision.
    rows: BTreeMap<u8, (i64, i64)>,
}

impl Table {
    fn horizon(&self) -> Horizon {
        Horizon::new(self.next, self.open.keys().copied().collect())
    }

    fn begin(&mut self, mut accounts: Vec<u8>) {
        // Whoever writes an account has its lock.
        accounts.retain(|account| !self.open.values().any(|locked| locked.contains(account)));
        accounts.dedup();
        self.open.insert(self.next, accounts);
        self.next += 1;
    }

    fn commit(&mut self, rank: usize) {
        let number = self.open.keys().nth(rank % self.open.len().max(1)).copied();
        let Some(number) = number else { return };
        for account in self.open.remove(&number).unwrap_or_default() {
            let row = self.rows.entry(account).or_default();
            *row = (number, row.1 + 1);
        }
    }

    /// The statement of `storage::feed`: a page of what is owed, and whether that was all.
    fn read(&self, seen: &Horizon, target: &Horizon, after: Option<Place>, limit: usize) -> Page {
        let mut owed: Vec<(Place, i64)> = self
            .rows
            .iter()
            .map(|(name, (number, revision))| {
                let account = account(*name);
                let number = *number;
                (Place { number, account }, *revision)
            })
            .filter(|(place, _)| !seen.sees(place.number) && target.sees(place.number))
            .filter(|(place, _)| after.is_none_or(|after| *place > after))
            .collect();
        owed.sort_unstable();
        let all = owed.len() < limit;
        owed.truncate(limit);
        (owed, all)
    }
}

type Page = (Vec<(Place, i64)>, bool);

/// Reads one page and moves on, as a feed does; its position is all that it keeps.
fn read(table: &Table, position: &mut Position, limit: usize, told: &mut Vec<(Place, i64)>) {
    let (target, after) = match position.step.take() {
        Some((target, after)) => (target, Some(after)),
        None => (table.horizon(), None),
    };
    let (page, all) = table.read(&position.seen, &target, after, limit);
    match page.last() {
        Some((last, _)) if !all => position.step = Some((target, *last)),
        Some(_) | None => position.seen = target,
    }
    told.extend(page);
}

proptest! {
    #[test]
    fn each_revision_is_told_once_in_order_and_the_last_is_told(
        acts in prop::collection::vec(act(), 1..120)
    ) {
        let mut table = Table { next: 3, ..Table::default() };
        let (mut position, mut told) = (Position::default(), Vec::new());
        for act in acts {
            match act {
                Act::Begin(accounts) => table.begin(accounts),
                Act::Commit(rank) => table.commit(rank),
                Act::Read(limit) => read(&table, &mut position, limit, &mut told),
            }
            prop_assert!(position.is_past(&table.horizon()));
        }
        // Whatever is open stays open: what is committed is told all the same.
        while position.step.is_some() || position.seen != table.horizon() {
            read(&table, &mut position, 4, &mut told);
        }
        let mut last = BTreeMap::new();
        for (place, revision) in &told {
            let before = last.insert(place.account, *revision);
            prop_assert!(before.is_none_or(|before| before < *revision), "{told:?}");
        }
        for (name, (_, revision)) in &table.rows {
            prop_assert_eq!(last.get(&account(*name)), Some(revision), "{}", name);
        }
    }
}
