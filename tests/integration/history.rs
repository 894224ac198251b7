//! What a watch promises, as checkers over what its readers have recorded: etcd's six words
//! (ordered, unique, reliable, atomic, resumable, bookmarkable), that they converge, and that nobody
//! is told what is not theirs.
//!
//! A reader records what came, where it was cut and came back, and where each message ended. What
//! was written is told by whoever wrote it, in the order in which that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

/// What a reader is told of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its revision, and a word for what is in it.
    Revision {
        epoch: String,
        revision: i64,
        content: String,
    },
    /// It is no more; a word for what became of it.
    Ended(String),
}

/// One thing that happened to a reader.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A stream was opened, to go on after what came before; so many writes had been acknowledged.
    Opened {
        acknowledged: usize,
    },
    Told {
        account: String,
        told: Told,
    },
    /// A message ended.
    Mark {
        /// What was told is of one moment.
        whole: bool,
        /// Nothing that was committed before the stream was opened is left.
        caught_up: bool,
    },
}

/// One transaction: the revisions that it gave to accounts.
#[derive(Clone, Debug)]
pub struct Write(pub Vec<(String, i64)>);

/// What is known of the truth.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// In the order of their acknowledgements.
    pub writes: Vec<Write>,
    /// What each account came to.
    pub last: BTreeMap<String, Told>,
    /// Whom the reader may be told of; `None`: all.
    pub theirs: Option<BTreeSet<String>>,
}

type Verdict = Result<(), String>;

/// Looks whether a history keeps a promise.
type Check = fn(&[Entry], &Truth) -> Verdict;

/// All promises, by name.
const PROMISES: [(&str, Check); 8] = [
    ("ordered", ordered),
    ("unique", unique),
    ("reliable", reliable),
    ("atomic", atomic),
    ("resumable", resumable),
    ("bookmarkable", bookmarkable),
    ("converges", converges),
    ("authorised", authorised),
];

/// Which promises a history breaks, and how.
pub fn broken(history: &[Entry], truth: &Truth) -> Vec<String> {
    let verdicts = PROMISES.iter().filter_map(|(name, check)| {
        let why = check(history, truth).err()?;
        Some(format!("{name}: {why}"))
    });
    verdicts.collect()
}

/// What a reader has after an entry.
#[derive(Default)]
struct Copy(BTreeMap<String, Told>);

impl Copy {
    fn take(&mut self, entry: &Entry) {
        if let Entry::Told { account, told } = entry {
            self.0.insert(account.clone(), told.clone());
        }
    }

    /// Whether it has that revision of the account, or what came after it.
    fn reaches(&self, account: &str, wanted: i64) -> bool {
        match self.0.get(account) {
            Some(Told::Revision { revision, .. }) => *revision >= wanted,
            Some(Told::Ended(_)) => true,
            None => false,
        }
    }
}

/// Of an account, nothing older follows what is newer, and nothing at all its end.
fn ordered(history: &[Entry], _: &Truth) -> Verdict {
    let mut copy = Copy::default();
    for entry in history {
        if let Entry::Told { account, told } = entry {
            match (copy.0.get(account), told) {
                (
                    Some(Told::Revision {
                        epoch, revision, ..
                    }),
                    Told::Revision {
                        epoch: now,
                        revision: next,
                        ..
                    },
                ) if epoch == now && next < revision => {
                    return Err(format!("{account}: {next} after {revision}"));
                }
                (Some(Told::Ended(_)), Told::Revision { revision, .. }) => {
                    return Err(format!("{account}: {revision} after its end"));
                }
                _ => {}
            }
        }
        copy.take(entry);
    }
    Ok(())
}

/// Nothing is told twice.
fn unique(history: &[Entry], _: &Truth) -> Verdict {
    let mut copy = Copy::default();
    for entry in history {
        if let Entry::Told { account, told } = entry
            && copy.0.get(account) == Some(told)
        {
            return Err(format!("{account}: {told:?} twice"));
        }
        copy.take(entry);
    }
    Ok(())
}

/// What is told was written, and of what was written nothing is missed in the end.
fn reliable(history: &[Entry], truth: &Truth) -> Verdict {
    let mut copy = Copy::default();
    let written: BTreeSet<(&str, i64)> = truth
        .writes
        .iter()
        .flat_map(|write| &write.0)
        .map(|(account, revision)| (account.as_str(), *revision))
        .collect();
    for entry in history {
        if let Entry::Told { account, told } = entry
            && let Told::Revision { revision, .. } = told
            && !written.contains(&(account.as_str(), *revision))
        {
            return Err(format!("{account}: nobody wrote {revision}"));
        }
        copy.take(entry);
    }
    for (account, revision) in truth.writes.iter().flat_map(|write| &write.0) {
        let told = truth
            .theirs
            .as_ref()
            .is_none_or(|theirs| theirs.contains(account));
        if told && !copy.reaches(account, *revision) {
            return Err(format!("{account}: {revision} was never told"));
        }
    }
    Ok(())
}

/// Wherever what was told is of one moment, a transaction is in it whole or not at all, and with it
/// whatever was acknowledged before it began. Those who write one after another are not known here:
/// what is looked at is each transaction by itself.
fn atomic(history: &[Entry], truth: &Truth) -> Verdict {
    let mut copy = Copy::default();
    for entry in history {
        copy.take(entry);
        if !matches!(entry, Entry::Mark { whole: true, .. }) {
            continue;
        }
        for Write(parts) in &truth.writes {
            let in_it = |part: &&(String, i64)| copy.reaches(&part.0, part.1);
            let count = parts.iter().filter(in_it).count();
            if count != 0 && count != parts.len() {
                return Err(format!("{count} of {parts:?}"));
            }
        }
    }
    Ok(())
}

/// Whoever comes back is told what follows what they had: nothing that they had, nothing older.
fn resumable(history: &[Entry], truth: &Truth) -> Verdict {
    let mut copy = Copy::default();
    let mut back = 0;
    for entry in history {
        match entry {
            Entry::Opened { .. } => back += 1,
            Entry::Told { account, told } => {
                if let Told::Revision { revision, .. } = told
                    && copy.reaches(account, *revision)
                {
                    return Err(format!("{account}: {revision} again, on stream {back}"));
                }
            }
            Entry::Mark { .. } => {}
        }
        copy.take(entry);
    }
    // What was skipped between two streams is never told.
    converges(history, truth)
}

/// A stream that says that it has caught up has told all that was acknowledged before it was opened,
/// and no mark is ahead of what was told with it.
fn bookmarkable(history: &[Entry], truth: &Truth) -> Verdict {
    let mut copy = Copy::default();
    let mut owed = 0;
    for entry in history {
        copy.take(entry);
        match entry {
            Entry::Opened { acknowledged } => owed = *acknowledged,
            Entry::Mark {
                caught_up: true, ..
            } => {
                let owed = truth.writes.iter().take(owed).flat_map(|write| &write.0);
                for (account, revision) in owed {
                    let theirs = truth.theirs.as_ref();
                    let told = theirs.is_none_or(|theirs| theirs.contains(account));
                    if told && !copy.reaches(account, *revision) {
                        return Err(format!("{account}: caught up without {revision}"));
                    }
                }
            }
            Entry::Mark { .. } | Entry::Told { .. } => {}
        }
    }
    Ok(())
}

/// In the end a reader has what there is.
fn converges(history: &[Entry], truth: &Truth) -> Verdict {
    let mut copy = Copy::default();
    for entry in history {
        copy.take(entry);
    }
    for (account, last) in &truth.last {
        let told = truth
            .theirs
            .as_ref()
            .is_none_or(|theirs| theirs.contains(account));
        if told && copy.0.get(account) != Some(last) {
            return Err(format!(
                "{account}: {:?}, not {last:?}",
                copy.0.get(account)
            ));
        }
    }
    Ok(())
}

/// Nobody is told of anybody who is none of theirs.
fn authorised(history: &[Entry], truth: &Truth) -> Verdict {
    let Some(theirs) = &truth.theirs else {
        return Ok(());
    };
    for entry in history {
        if let Entry::Told { account, told } = entry
            && !theirs.contains(account)
        {
            return Err(format!("{account}: {told:?}"));
        }
    }
    Ok(())
}

/// Each checker sees the history that breaks its promise; the sound one passes all.
#[test]
fn each_promise_has_a_history_that_breaks_it() {
    let told = |account: &str, revision: i64| Entry::Told {
        account: account.into(),
        told: of(revision),
    };
    fn of(revision: i64) -> Told {
        Told::Revision {
            epoch: "one".into(),
            revision,
            content: revision.to_string(),
        }
    }
    let opened = |acknowledged| Entry::Opened { acknowledged };
    let mark = |whole, caught_up| Entry::Mark { whole, caught_up };
    let write =
        |parts: &[(&str, i64)]| Write(parts.iter().map(|(a, r)| ((*a).to_owned(), *r)).collect());
    let truth = Truth {
        writes: vec![
            write(&[("a", 1)]),
            write(&[("a", 2), ("b", 1)]),
            write(&[("a", 3)]),
        ],
        last: [("a".to_owned(), of(3)), ("b".to_owned(), of(1))].into(),
        theirs: None,
    };
    let sound = vec![
        opened(1),
        told("a", 1),
        mark(true, true),
        told("a", 2),
        mark(false, false),
        told("b", 1),
        mark(true, true),
        opened(3),
        told("a", 3),
        mark(true, true),
    ];
    assert_eq!(broken(&sound, &truth), [""; 0]);
    let breaks = |promise: &str, history: &[Entry], truth: &Truth| {
        let found = broken(history, truth);
        let named = found.iter().any(|why| why.starts_with(promise));
        assert!(named, "{promise}: {found:?}");
    };
    let with = |place: usize, entry: Entry| {
        let mut history = sound.clone();
        history.insert(place, entry);
        history
    };
    let without = |place: usize| {
        let mut history = sound.clone();
        history.remove(place);
        history
    };
    breaks("ordered", &with(9, told("a", 1)), &truth);
    breaks("unique", &with(9, told("a", 3)), &truth);
    breaks("reliable", &with(9, told("b", 2)), &truth);
    breaks("reliable", &without(5), &truth);
    breaks("atomic", &with(4, mark(true, false)), &truth);
    breaks("resumable", &with(8, told("b", 1)), &truth);
    breaks("resumable", &without(8), &truth);
    breaks("bookmarkable", &with(8, mark(false, true)), &truth);
    breaks("converges", &without(8), &truth);
    let hers = Truth {
        theirs: Some(["a".to_owned()].into()),
        ..truth.clone()
    };
    breaks("authorised", &sound, &hers);
}
