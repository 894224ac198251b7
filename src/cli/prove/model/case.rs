//! One case: what happens at the stores and on the devices, and what the way between does to it.
//! All of it follows from one number.

use super::draw::Draw;

/// Something that happens; its details follow from its own roll and what there is by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) what: What,
    pub(super) roll: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    BuyApple,
    BuyGoogle,
    /// Another plan in the place of one: at Apple by buying within the group, at Google by a
    /// replacement in any mode.
    Change,
    Billing,
    AutoRenew,
    RedeemOffer,
    RequestRefund,
    Refund,
    ReverseRefund,
    ChargeBack,
    Pause,
    Resume,
    SettlePending,
    TopUp,
    RaisePrice,
    AnswerPrice,
    Items,
    Share,
    Unshare,
    Extend,
    Withdraw,
    /// An app hands over a purchase as its own account.
    Bind,
    /// A device that others use too hands over what is on it.
    BindForeign,
    Refresh,
    /// An operator moves a purchase.
    Transfer,
    /// A store cannot be asked for a while.
    Away,
    /// A store's next answers are of a moment ago.
    Stale,
    Advance,
}

/// How often each thing happens.
const WEIGHTS: &[(What, u64)] = &[
    (What::BuyApple, 8),
    (What::BuyGoogle, 9),
    (What::Change, 7),
    (What::Billing, 9),
    (What::AutoRenew, 8),
    (What::RedeemOffer, 3),
    (What::RequestRefund, 1),
    (What::Refund, 6),
    (What::ReverseRefund, 3),
    (What::ChargeBack, 2),
    (What::Pause, 3),
    (What::Resume, 2),
    (What::SettlePending, 3),
    (What::TopUp, 3),
    (What::RaisePrice, 2),
    (What::AnswerPrice, 2),
    (What::Items, 3),
    (What::Share, 2),
    (What::Unshare, 1),
    (What::Extend, 2),
    (What::Withdraw, 1),
    (What::Bind, 10),
    (What::BindForeign, 3),
    (What::Refresh, 4),
    (What::Transfer, 1),
    (What::Away, 2),
    (What::Stale, 3),
    (What::Advance, 34),
];

/// What becomes of signals and answers on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Of a hundred notifications so many are lost.
    pub(super) drop_percent: u64,
    /// A notification comes up to so many times more.
    pub(super) copies_max: u64,
    /// A delivery takes up to so many seconds.
    pub(super) delay_seconds_max: u64,
    /// Of a hundred answers so many are worked in later than they were given.
    pub(super) late_percent: u64,
    /// A duty is carried out after up to so many seconds.
    pub(super) duty_seconds_max: u64,
}

/// Which of the stores' worlds it happens in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Production,
    /// Where the catalog lets sandbox purchases grant.
    Sandbox,
    /// Where it does not.
    SandboxRefused,
}

/// Days by which a notification is late at most.
const DELAY_DAYS_MAX: u64 = 30;

impl Weather {
    fn of(draw: &mut Draw) -> Self {
        let one = |draw: &mut Draw, all: &[u64]| draw.pick(all).copied().unwrap_or_default();
        Self {
            drop_percent: one(draw, &[0, 5, 15, 30]),
            copies_max: one(draw, &[0, 1, 3]),
            delay_seconds_max: one(draw, &[0, 5, 3_600, 86_400, DELAY_DAYS_MAX * 86_400]),
            late_percent: one(draw, &[0, 0, 10]),
            duty_seconds_max: one(draw, &[0, 600, 2 * 86_400]),
        }
    }

    /// Everything arrives, once and at once.
    pub(super) const CALM: Self = Self {
        drop_percent: 0,
        copies_max: 0,
        delay_seconds_max: 0,
        late_percent: 0,
        duty_seconds_max: 0,
    };
}

/// A case that can be played, and played again with fewer operations.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) weather: Weather,
    pub(super) place: Place,
    /// Each with its number in the whole case.
    pub(super) ops: Vec<(usize, Op)>,
}

impl Case {
    pub(super) fn of(seed: u64, ops: usize) -> Self {
        let mut draw = Draw::of(seed, u64::MAX);
        let weather = Weather::of(&mut draw);
        let place = match draw.below(20) {
            0..17 => Place::Production,
            17..19 => Place::Sandbox,
            _ => Place::SandboxRefused,
        };
        let ops = (0..ops).map(|number| (number, op(seed, number))).collect();
        Self {
            seed,
            weather,
            place,
            ops,
        }
    }

    /// The same with only these operations.
    pub(super) fn keeping(&self, kept: &[usize]) -> Self {
        let ops = self.ops.iter().filter(|(number, _)| kept.contains(number));
        Self {
            ops: ops.copied().collect(),
            ..self.clone()
        }
    }

    pub(super) fn numbers(&self) -> Vec<usize> {
        self.ops.iter().map(|(number, _)| *number).collect()
    }
}

fn op(seed: u64, number: usize) -> Op {
    let mut draw = Draw::of(seed, number as u64);
    // Somebody buys before anything can happen to a purchase.
    let what = match number {
        0 => What::BuyApple,
        1 => What::BuyGoogle,
        _ => weighted(&mut draw),
    };
    Op {
        what,
        roll: draw.next(),
    }
}

fn weighted(draw: &mut Draw) -> What {
    let all: u64 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut left = draw.below(all);
    for (what, weight) in WEIGHTS {
        if left < *weight {
            return *what;
        }
        left -= weight;
    }
    What::Advance
}
