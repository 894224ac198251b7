//! What a server foretells of a purchase or a product, compared with what it is to foretell.

use super::compare::{Comparison, Said};
use super::file::{Placed, Scenario};
use super::step::{Paywall, Preflight, Standing};

/// What a server says before anything is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foretold {
    /// What it is to the account.
    Standing {
        /// The server's word.
        is: Standing,
        /// Whether a bind would take it from its owner.
        moves: bool,
        /// The products by which the account has the same, in order.
        held: Vec<String>,
    },
    /// It tells nothing; the reason.
    Refused(String),
}

/// Compares what is said of a purchase.
pub fn compare_foretold(
    scenario: &Scenario,
    placed: &Placed,
    step: &Preflight,
    account: &str,
    told: &Foretold,
) -> Comparison {
    let expected = match (step.says, &step.refused) {
        (Some(is), _) => words(is, step.moves, &[]),
        (None, refused) => refused_words(refused.as_deref().unwrap_or_default()),
    };
    let told = match told {
        Foretold::Standing { is, moves, .. } => words(*is, *moves, &[]),
        Foretold::Refused(reason) => refused_words(reason),
    };
    let right = expected == told;
    let what = format!("asking about {}", step.preflight);
    let said = Said {
        account,
        what,
        expected,
        told,
    };
    said.compare(scenario, placed, right)
}

/// Compares what is said before a paywall.
pub fn compare_paywall(
    scenario: &Scenario,
    placed: &Placed,
    step: &Paywall,
    account: &str,
    told: &Foretold,
) -> Comparison {
    let expected = words(step.says, false, &step.held);
    let told = match told {
        Foretold::Standing { is, moves, held } => words(*is, *moves, held),
        Foretold::Refused(reason) => refused_words(reason),
    };
    let right = expected == told;
    let what = format!("before buying {}", step.paywall);
    let said = Said {
        account,
        what,
        expected,
        told,
    };
    said.compare(scenario, placed, right)
}

fn words(is: Standing, moves: bool, held: &[String]) -> String {
    let is = match is {
        Standing::New => "new",
        Standing::Yours => "yours",
        Standing::OwnedByOther => "another's",
        Standing::AlreadySubscribed => "had already",
    };
    let moves = if moves { ", a bind moves it" } else { "" };
    let by = if held.is_empty() { "" } else { " by " };
    format!("{is}{moves}{by}{}", held.join(", "))
}

fn refused_words(reason: &str) -> String {
    format!("refused: {reason}")
}
