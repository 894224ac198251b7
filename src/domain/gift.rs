//! By which rules operators may give access away.

use chrono::TimeDelta;

use super::time::Instant;

/// What every gift must keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GiftRules {
    /// None lasts for ever.
    pub(crate) must_end: bool,
    /// None lasts longer; then none lasts for ever either.
    pub(crate) longest: Option<TimeDelta>,
}

/// Why a gift is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GiftRefused {
    #[error("is over already")]
    Over,
    #[error("gifts of this deployment must end: say when")]
    Endless,
    #[error("gifts of this deployment last at most {0} days")]
    TooLong(i64),
}

impl GiftRules {
    /// Whether a gift may be given now.
    pub(crate) fn check(
        self,
        expires_at: Option<Instant>,
        now: Instant,
    ) -> Result<(), GiftRefused> {
        let Some(end) = expires_at else {
            let may = !self.must_end && self.longest.is_none();
            return may.then_some(()).ok_or(GiftRefused::Endless);
        };
        if end <= now {
            return Err(GiftRefused::Over);
        }
        match self.longest {
            Some(longest) if end - now > longest => Err(GiftRefused::TooLong(longest.num_days())),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gift_ends_when_the_rules_say_so() {
        let now: Instant = "2027-01-10T09:00:00Z".parse().unwrap();
        let day = |days| Some(now + TimeDelta::days(days));
        let free = GiftRules::default();
        let ends = GiftRules {
            must_end: true,
            longest: None,
        };
        let month = GiftRules {
            must_end: false,
            longest: Some(TimeDelta::days(31)),
        };
        let cases = [
            (free, None, Ok(())),
            (free, day(10_000), Ok(())),
            (free, Some(now), Err(GiftRefused::Over)),
            (ends, None, Err(GiftRefused::Endless)),
            (ends, day(10_000), Ok(())),
            (month, None, Err(GiftRefused::Endless)),
            (month, day(31), Ok(())),
            (month, day(32), Err(GiftRefused::TooLong(31))),
        ];
        for (rules, end, expected) in cases {
            assert_eq!(rules.check(end, now), expected, "{rules:?} {end:?}");
        }
    }
}
