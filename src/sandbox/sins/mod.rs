//! The network's sins: what goes wrong between the stores and a server under test. Each strikes by
//! chance drawn from the seed and the number of what it strikes, never from timing; or on demand.

mod calls;
mod deliveries;
mod stamps;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

pub use calls::{CallSin, CallSins};
pub use deliveries::{DeliverySin, DeliverySins};
pub use stamps::ClockSins;

/// How likely each sin is. Nothing goes wrong by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sins {
    /// What becomes of notifications on their way.
    pub deliveries: DeliverySins,
    /// How the stores' APIs answer.
    pub calls: CallSins,
    /// How wrong the sources' clocks are.
    pub clock: ClockSins,
}

impl Sins {
    /// What is wrong with these numbers, if anything.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let sane = |chance: &f64| (0.0..=1.0).contains(chance);
        let deliveries = self.deliveries.chances();
        let calls = self.calls.chances();
        (!deliveries.iter().chain(&calls).all(sane)).then_some("a chance is a number from 0 to 1")
    }
}

/// Randomness for one decision: the same for the same seed, question and number.
fn random(seed: u64, question: &str, number: u64) -> StdRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..24].copy_from_slice(&digest(question).to_le_bytes());
    StdRng::from_seed(bytes)
}

/// FNV-1a: the same on every machine and in every version.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notification_has_its_own_fate_and_the_seed_decides_it() {
        let sins = DeliverySins {
            duplicate: 0.02,
            drop: 0.5,
            ..DeliverySins::default()
        };
        let fates = |seed| (0..2_000).map(move |number| sins.draw(seed, number));
        let count = |sin: fn(&DeliverySin) -> bool| fates(1).flatten().filter(sin).count();
        let twice = count(|sin| matches!(sin, DeliverySin::Duplicate { .. }));
        let lost = count(|sin| matches!(sin, DeliverySin::Drop));
        assert!((20..70).contains(&twice), "{twice} of 2000 at 2 %");
        assert!((900..1_100).contains(&lost), "{lost} of 2000 at 50 %");
        assert!(fates(1).eq(fates(1)));
        assert!(!fates(1).eq(fates(2)));
    }

    #[test]
    fn one_chance_does_not_move_another() {
        let few = DeliverySins {
            drop: 0.1,
            ..DeliverySins::default()
        };
        let many = DeliverySins { slow: 0.5, ..few };
        let lost = |sins: DeliverySins| {
            (0..500)
                .filter(move |number| sins.draw(3, *number).contains(&DeliverySin::Drop))
                .collect::<Vec<_>>()
        };
        assert_eq!(lost(few), lost(many));
    }

    #[test]
    fn chances_beyond_one_are_refused() {
        let mut sins = Sins::default();
        assert_eq!(sins.fault(), None);
        sins.calls.stale = 1.5;
        assert!(sins.fault().is_some());
        sins.calls.stale = f64::NAN;
        assert!(sins.fault().is_some());
    }
}
