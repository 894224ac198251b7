//! The demo's tables, narrow enough for an ordinary terminal.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};

use super::report::{Measured, Origin};
use crate::storage::timeline::Entry;

/// Columns that every line fits into.
pub(super) const WIDTH: usize = 100;

/// How long it took from each event of a store until each device knew.
pub(super) fn latencies(all: &[Measured]) -> Table {
    let mut table = table();
    table.set_header(["store event", "measured from", "phone, ms", "tablet, ms"]);
    for measured in all {
        let from = match measured.from {
            Origin::Notification => "its notification's 200",
            Origin::Bind => "the app's BindPurchase",
            Origin::Clock => "the moment itself",
        };
        let ms = |ms: f64| format!("{ms:>8.1}");
        table.add_row([
            &measured.event,
            from,
            &ms(measured.phone_ms),
            &ms(measured.tablet_ms),
        ]);
    }
    table
}

/// The account's story, oldest first.
pub(super) fn timeline(entries: &[Entry]) -> Table {
    let mut table = table();
    table.set_header(["day", "", "what happened", "revision"]);
    for entry in entries {
        let what = match entry.detail.as_str() {
            "" => entry.what.clone(),
            detail => format!("{}; {detail}", entry.what),
        };
        table.add_row([
            entry.at.format("%Y-%m-%d").to_string(),
            entry.layer.clone(),
            what,
            entry
                .revision
                .map(|revision| format!("{revision:>8}"))
                .unwrap_or_default(),
        ]);
    }
    table
}

fn table() -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(WIDTH).unwrap_or(u16::MAX));
    table
}
