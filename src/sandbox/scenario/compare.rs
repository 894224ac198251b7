//! What the scenario says, what the stores know, and what the server told, side by side.

use std::collections::BTreeMap;

use super::check::END;
use super::expect::{Access, Claim, Expectations, Status};
use super::file::{Placed, Scenario};
use super::step::{Expect, Outcome};
use super::truth::Truth;

/// What a server told of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// By entitlement; each status names its reason.
    pub entitlements: BTreeMap<String, Access>,
    /// What is counted.
    pub counted: BTreeMap<String, u64>,
}

/// One thing of one account at one moment, from three sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Line of the step in the file; 0 at the end.
    pub line: usize,
    /// The moment, if it has a name.
    pub step: Option<String>,
    /// Whose.
    pub account: String,
    /// Which entitlement, or what is counted.
    pub entitlement: String,
    /// What the scenario says.
    pub expected: String,
    /// What the stores know.
    pub truth: String,
    /// What the server told.
    pub told: String,
    /// What that means.
    pub verdict: Verdict,
}

/// What a comparison means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All say the same.
    Equal,
    /// The server is wrong.
    ServerDiffers,
    /// The scenario expects what is not true.
    ScenarioDiffers,
    /// The server is wrong, as the scenario knows it is.
    Gap {
        /// What it needs.
        needs: String,
    },
    /// The scenario says that the server is wrong, and it is right.
    GapClosed {
        /// What it was said to need.
        needs: String,
    },
    /// The server does not know the truth yet, as the scenario says it cannot.
    Behind,
    /// The scenario says that the server cannot know the truth, and it does.
    NotBehind,
}

impl Verdict {
    /// Whether a run with it fails.
    pub const fn is_failure(&self) -> bool {
        match self {
            Self::Equal | Self::Gap { .. } | Self::Behind => false,
            Self::ServerDiffers
            | Self::ScenarioDiffers
            | Self::GapClosed { .. }
            | Self::NotBehind => true,
        }
    }

    /// Whether the server is wrong, as the scenario knows it is.
    pub const fn is_gap(&self) -> bool {
        matches!(self, Self::Gap { .. })
    }
}

/// The moment that is compared.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Line of the step in the file; 0 at the end.
    pub line: usize,
    /// The step's name.
    pub step: Option<&'a str>,
    /// What the scenario says; none at the end, where the truth alone counts.
    pub expected: Option<&'a Expectations>,
    /// Whether the server cannot know the truth now.
    pub behind: bool,
}

impl<'a> At<'a> {
    /// The moment of a step that expects something.
    pub fn step(placed: &'a Placed, expect: &'a Expect) -> Self {
        Self {
            line: placed.line,
            step: placed.name.as_deref(),
            expected: Some(&expect.expect),
            behind: expect.behind.is_some(),
        }
    }

    /// After the last step, when the truth alone counts.
    pub const fn end() -> Self {
        Self {
            line: 0,
            step: Some(END),
            expected: None,
            behind: false,
        }
    }
}

/// What a server answered when an app handed it a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The purchase is the account's from now on.
    Bound,
    /// It was before.
    AlreadyYours,
    /// It will be once it is paid.
    Pending,
    /// It is, and gives nothing now.
    WithoutAccess,
    /// It is not; the reason.
    Refused(String),
}

/// What a scenario wants to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The step.
    pub placed: &'a Placed,
    /// What the app hands over, as the scenario calls it.
    pub what: &'a str,
    /// The outcome, unless it is refused.
    pub outcome: Outcome,
    /// The reason to refuse it with.
    pub refused: Option<&'a str>,
}

/// Compares an answer with what was wanted.
pub fn compare_answer(
    scenario: &Scenario,
    wanted: &Wanted<'_>,
    account: &str,
    answer: &Answer,
) -> Comparison {
    let right = match (answer, wanted.refused, wanted.outcome) {
        (Answer::Refused(reason), refused, _) => refused == Some(reason.as_str()),
        (_, Some(_), _) => false,
        (Answer::Bound, None, outcome) => matches!(outcome, Outcome::Yours | Outcome::Bound),
        (Answer::AlreadyYours, None, outcome) => {
            matches!(outcome, Outcome::Yours | Outcome::AlreadyYours)
        }
        (Answer::Pending, None, outcome) => outcome == Outcome::Pending,
        (Answer::WithoutAccess, None, outcome) => outcome == Outcome::WithoutAccess,
    };
    let expected = match (wanted.refused, wanted.outcome) {
        (Some(reason), _) => format!("refused: {reason}"),
        (None, Outcome::Yours) => "yours".to_owned(),
        (None, Outcome::Bound) => "bound".to_owned(),
        (None, Outcome::AlreadyYours) => "already yours".to_owned(),
        (None, Outcome::Pending) => "pending".to_owned(),
        (None, Outcome::WithoutAccess) => "yours without access".to_owned(),
    };
    let told = match answer {
        Answer::Bound => "bound".to_owned(),
        Answer::AlreadyYours => "already yours".to_owned(),
        Answer::Pending => "pending".to_owned(),
        Answer::WithoutAccess => "yours without access".to_owned(),
        Answer::Refused(reason) => format!("refused: {reason}"),
    };
    let said = Said {
        account,
        what: format!("binding {}", wanted.what),
        expected,
        told,
    };
    said.compare(scenario, wanted.placed, right)
}

/// What a server said to a step of the app, in words, beside what it was to say.
pub(super) struct Said<'a> {
    pub(super) account: &'a str,
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) told: String,
}

impl Said<'_> {
    pub(super) fn compare(self, scenario: &Scenario, placed: &Placed, right: bool) -> Comparison {
        let step = placed.name.as_deref();
        let mut gaps = scenario.expected_gap.iter();
        let gap = gaps.find(|gap| step == Some(gap.step.as_str()));
        Comparison {
            line: placed.line,
            step: step.map(str::to_owned),
            account: self.account.to_owned(),
            entitlement: self.what,
            truth: self.expected.clone(),
            expected: self.expected,
            told: self.told,
            verdict: match (right, gap.map(|gap| gap.needs.clone())) {
                (true, None) => Verdict::Equal,
                (false, None) => Verdict::ServerDiffers,
                (true, Some(needs)) => Verdict::GapClosed { needs },
                (false, Some(needs)) => Verdict::Gap { needs },
            },
        }
    }
}

/// Finds a server that was said to be behind and is not; `compared` is everything of that moment.
pub fn check_behind(at: At<'_>, compared: &mut Vec<Comparison>) {
    let is_behind = |comparison: &Comparison| comparison.verdict == Verdict::Behind;
    if at.behind && !compared.iter().any(is_behind) {
        compared.push(Comparison {
            line: at.line,
            step: at.step.map(str::to_owned),
            account: "everybody".to_owned(),
            entitlement: "everything".to_owned(),
            expected: "a server that is behind".to_owned(),
            truth: "as expected".to_owned(),
            told: "as expected".to_owned(),
            verdict: Verdict::NotBehind,
        });
    }
}

/// What is said of one thing by all sides.
struct Sides {
    expected: String,
    truth: String,
    told: String,
    /// Whether the scenario's word is true.
    sound: bool,
    /// Whether the server's word is what the scenario says.
    right: bool,
}

/// Compares everything that one account can have.
pub fn compare(
    scenario: &Scenario,
    at: At<'_>,
    truth: &Truth,
    account: &str,
    told: &Told,
) -> Vec<Comparison> {
    let claims = at.expected.and_then(|all| all.get(account));
    let claim = |name: &str| claims.and_then(|claims| claims.0.get(name));
    let accesses = scenario.entitlements().into_iter().map(|name| {
        let is_on = truth.is_on(account, name);
        let told = told.entitlements.get(name);
        let sides = match at.expected {
            Some(_) => access(claim(name), is_on, told),
            None => access_by_truth(is_on, told),
        };
        (name, sides)
    });
    let counts = scenario.counted().into_iter().map(|name| {
        let true_count = truth.count(account, name);
        let told = told.counted.get(name).copied();
        let expected = match (at.expected, claim(name)) {
            (None, _) => true_count,
            (Some(_), Some(Claim::Balance(count))) => *count,
            (Some(_), Some(Claim::Access(_)) | None) => 0,
        };
        (name, balance(expected, true_count, told))
    });
    let judged = accesses.chain(counts).map(|(name, sides)| Comparison {
        verdict: verdict(scenario, at, account, name, &sides),
        line: at.line,
        step: at.step.map(str::to_owned),
        account: account.to_owned(),
        entitlement: name.to_owned(),
        expected: sides.expected,
        truth: sides.truth,
        told: sides.told,
    });
    judged.collect()
}

fn verdict(
    scenario: &Scenario,
    at: At<'_>,
    account: &str,
    entitlement: &str,
    sides: &Sides,
) -> Verdict {
    let mut gaps = scenario.expected_gap.iter();
    let gap = gaps.find(|gap| {
        at.step == Some(gap.step.as_str())
            && gap.account.as_deref() == Some(account)
            && gap.entitlement.as_deref() == Some(entitlement)
    });
    match (sides.sound, sides.right, gap) {
        (false, true, None) if at.behind => Verdict::Behind,
        (false, ..) => Verdict::ScenarioDiffers,
        (true, true, None) => Verdict::Equal,
        (true, false, None) => Verdict::ServerDiffers,
        (true, true, Some(gap)) => Verdict::GapClosed {
            needs: gap.needs.clone(),
        },
        (true, false, Some(gap)) => Verdict::Gap {
            needs: gap.needs.clone(),
        },
    }
}

fn access(claim: Option<&Claim>, is_on: bool, told: Option<&Access>) -> Sides {
    let off = Access::only(Status::Off);
    let claimed = match claim {
        Some(Claim::Access(access)) => access,
        Some(Claim::Balance(_)) | None => &off,
    };
    Sides {
        expected: in_words(claimed),
        truth: on_or_off(is_on),
        told: told.map_or_else(not_told, |told| as_asked(claimed, told)),
        sound: claimed.is.is_on() == is_on,
        right: told.is_some_and(|told| meets(claimed, told)),
    }
}

fn access_by_truth(is_on: bool, told: Option<&Access>) -> Sides {
    Sides {
        expected: on_or_off(is_on),
        truth: on_or_off(is_on),
        told: told.map_or_else(not_told, |told| told.is.as_str().to_owned()),
        sound: true,
        right: told.is_some_and(|told| told.is.is_on() == is_on),
    }
}

fn balance(expected: u64, truth: u64, told: Option<u64>) -> Sides {
    Sides {
        expected: expected.to_string(),
        truth: truth.to_string(),
        told: told.map_or_else(not_told, |told| told.to_string()),
        sound: expected == truth,
        // A server that counts nothing is right about nothing.
        right: told.unwrap_or(0) == expected,
    }
}

fn meets(claimed: &Access, told: &Access) -> bool {
    claimed.is.accepts(told.is)
        && claimed.until.is_none_or(|until| told.until == Some(until))
        && claimed
            .renews
            .is_none_or(|renews| told.renews == Some(renews))
}

fn in_words(access: &Access) -> String {
    let mut words = vec![access.is.as_str().to_owned()];
    if let Some(until) = access.until {
        words.push(format!("until {}", until.0.format("%F %T")));
    }
    match access.renews {
        Some(true) => words.push("renews".to_owned()),
        Some(false) => words.push("does not renew".to_owned()),
        None => {}
    }
    words.join(", ")
}

/// Of what was told, only what was asked for.
fn as_asked(claimed: &Access, told: &Access) -> String {
    in_words(&Access {
        is: told.is,
        until: claimed.until.and(told.until),
        renews: claimed.renews.and(told.renews),
    })
}

fn on_or_off(is_on: bool) -> String {
    let word = if is_on { Status::On } else { Status::Off };
    word.as_str().to_owned()
}

fn not_told() -> String {
    "not told".to_owned()
}
