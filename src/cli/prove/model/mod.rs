//! The model: random lives of purchases at both stores against the server's own reading and
//! deciding, through every delivery that a network can think of.

mod acts;
mod books;
mod case;
mod draw;
mod oracle;
mod orders;
mod run;
mod scenarios;
mod shop;
mod stage;
mod stories;

#[cfg(test)]
mod planted_tests;
#[cfg(test)]
mod tests;

pub(super) use acts::household::{Deed, Household, PEOPLE};
pub(super) use orders::{Effort, Told, all as every_order};
pub(super) use run::{Settings, Totals, cores, replay, run};
pub(super) use shop::{COINS, COMMON, PACKAGE, SoldAs, Ware, catalog_text, setup, ware};
pub(super) use stage::OnDevice;
