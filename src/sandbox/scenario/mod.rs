//! Scenario files: a story of purchases, time and trouble, and at chosen moments which entitlements
//! every account must have. `docs/sandbox.md` describes the format.
//!
//! What belongs to the stores is here: reading a file, playing its steps at a simulator, and the
//! truth per account. Talking to a server under test is the caller's: it binds what a step says is
//! bound, tells what its accounts have, and gets both compared.

mod check;
mod compare;
mod error;
mod expect;
mod file;
pub mod offer;
mod player;
mod preflight;
pub mod product;
mod proof;
mod selection;
pub mod step;
mod store_actions;
#[cfg(test)]
mod tests;
mod time;
mod truth;

pub use compare::{
    Answer, At, Comparison, Told, Verdict, Wanted, check_behind, compare, compare_answer,
};
pub use error::ScenarioError;
pub use expect::{Access, Claim, Expectations, Gap, Holdings, Status};
pub use file::{App, Customer, Placed, Scenario};
pub use player::{PlayError, Player};
pub use preflight::{Foretold, compare_foretold, compare_paywall};
pub use product::{Kind, Product};
pub use proof::Proof;
pub use step::{Bind, Expect, Link, Outcome, Paywall, Preflight, Restore, Standing, Step, Via};
pub use time::{InvalidMoment, Length, Moment};
pub use truth::Truth;
