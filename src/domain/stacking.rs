//! Non-renewing purchases: each lasts its period; bought again while it lasts, that much longer.
//!
//! The stores sell them without an end: the catalog's period makes it. Nothing is remembered
//! between derivations: what was refunded is as if it had never been bought.

use super::catalog::{Catalog, ProductKind};
use super::holding::Holding;
use super::subscription::state::ItemState;
use super::time::{Instant, Period};

/// A purchase that lasts for a period, with its place among the holdings.
struct Lasting<'a> {
    plan: &'a str,
    period: Period,
    since: Instant,
    units: u32,
    at: usize,
    holding: &'a Holding,
}

/// When each holding ends by its plan's period; `None` for what does not end that way. Purchases
/// of one plan in one environment follow each other, whichever store sold them.
pub(super) fn ends(catalog: &Catalog, holdings: &[Holding]) -> Vec<Option<Instant>> {
    let mut lasting: Vec<Lasting<'_>> = holdings
        .iter()
        .enumerate()
        .filter_map(|(at, holding)| lasting(catalog, at, holding))
        .collect();
    lasting.sort_by_key(|one| {
        (
            one.plan,
            one.holding.environment,
            one.since,
            one.holding.item.transaction_id.as_deref(),
        )
    });
    let mut ends = vec![None; holdings.len()];
    let mut before: Option<(&Lasting<'_>, Instant)> = None;
    for one in &lasting {
        let same = before.filter(|(other, _)| {
            other.plan == one.plan && other.holding.environment == one.holding.environment
        });
        let start = same.map_or(one.since, |(_, end)| end.max(one.since));
        let Some(end) = one.period.after(start, one.units) else {
            continue;
        };
        ends[one.at] = Some(end);
        before = Some((one, end));
    }
    ends
}

fn lasting<'a>(catalog: &'a Catalog, at: usize, holding: &'a Holding) -> Option<Lasting<'a>> {
    let (plan, product) = catalog.plan(holding.provider, &holding.item.product)?;
    let ItemState::Owned { since } = holding.item.state else {
        return None;
    };
    let mine = holding.away_since.is_none() && catalog.serves(holding.environment, holding.tester);
    (product.kind == ProductKind::NonRenewing && mine).then_some(Lasting {
        plan,
        period: product.period?,
        since,
        units: holding.units,
        at,
        holding,
    })
}
