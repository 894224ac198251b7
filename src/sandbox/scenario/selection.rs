//! Which notifications a step means.

use std::collections::BTreeSet;

use super::super::delivery::NotificationRecord;
use super::step::Which;

/// The word for notifications of every type.
const ALL: &str = "all";

/// Ids of the notifications of a type (`TYPE`, `TYPE/SUBTYPE` or `all`) about a purchase, in the
/// order in which they are wanted.
pub(super) fn choose(
    said: &[NotificationRecord],
    kind: &str,
    purchase: Option<&str>,
    which: Which,
) -> Vec<String> {
    let wanted = |record: &&NotificationRecord| {
        let about = purchase.is_none_or(|id| record.purchase.as_deref() == Some(id));
        about && (kind == ALL || kind == record.notification_type || kind == full_type(record))
    };
    let mut found: Vec<&NotificationRecord> = said.iter().filter(wanted).collect();
    match which {
        Which::OldestFirst => {}
        Which::NewestFirst => found.reverse(),
        Which::First => found.truncate(1),
        Which::Latest => {
            found.reverse();
            found.truncate(1);
        }
    }
    found.into_iter().map(|record| record.id.clone()).collect()
}

/// All types that have been said, for an error.
pub(super) fn types(said: &[NotificationRecord]) -> String {
    let types: BTreeSet<String> = said.iter().map(full_type).collect();
    let types: Vec<String> = types.into_iter().collect();
    match types.is_empty() {
        true => "nothing".to_owned(),
        false => types.join(", "),
    }
}

fn full_type(record: &NotificationRecord) -> String {
    match &record.subtype {
        Some(subtype) => format!("{}/{subtype}", record.notification_type),
        None => record.notification_type.clone(),
    }
}
