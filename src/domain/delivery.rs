//! Deliveries: goods that a backend hands out itself, each claimed by it once.

use super::goods::Line;
use super::ids::AccountId;
use super::time::Instant;

/// What a backend owes, or gave, for one line of a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The line of the purchase (`goods::Line`).
    pub(crate) line: String,
    /// Who gets it; who got it, once it is claimed.
    pub(crate) account: AccountId,
    /// The catalog's id of the product.
    pub(crate) product: String,
    pub(crate) units: u32,
    pub(crate) claimed_at: Option<Instant>,
    /// The store took it back: not to be handed out, or to be taken back.
    pub(crate) revoked_at: Option<Instant>,
}

/// The row of a line as it must be from now on, if that is new. `product`: the plan, while the
/// line may become a delivery.
pub(crate) fn of_line(
    line: &Line<'_>,
    owner: AccountId,
    product: Option<&str>,
    row: Option<&Delivery>,
    now: Instant,
) -> Option<Delivery> {
    let held = line.held?;
    let Some(row) = row else {
        return product.filter(|_| held > 0).map(|product| Delivery {
            line: line.id.clone(),
            account: owner,
            product: product.to_owned(),
            units: held,
            claimed_at: None,
            revoked_at: None,
        });
    };
    // What has been handed out stays with whom it went to; less than that held now is taken back.
    let (account, units) = match row.claimed_at {
        Some(_) => (row.account, row.units),
        None if held == 0 => (owner, row.units),
        None => (owner, held),
    };
    let next = Delivery {
        account,
        units,
        revoked_at: (held < units).then(|| row.revoked_at.unwrap_or(now)),
        ..row.clone()
    };
    (next != *row).then_some(next)
}
