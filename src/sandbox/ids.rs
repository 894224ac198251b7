//! Ids as the stores make them, each drawn from the seed and its own number in the sequence, so
//! that a simulator loaded from disk goes on where it stopped.

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The source of all ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ids {
    seed: u64,
    draws: u64,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, draws: 0 }
    }

    /// What everything random is drawn from.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    fn next(&mut self) -> StdRng {
        self.draws += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&self.draws.to_le_bytes());
        StdRng::from_seed(seed)
    }

    /// A random (version 4) UUID.
    pub(super) fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.next().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A decimal number of `digits` digits that starts with `prefix`.
    pub(super) fn number(&mut self, prefix: &str, digits: usize) -> String {
        let mut random = self.next();
        let mut text = prefix.to_owned();
        while text.len() < digits {
            text.push(char::from(b'0' + random.random_range(0..10u8)));
        }
        text
    }

    /// A Google order id: `GPA.1234-5678-9012-34567`.
    pub(super) fn order(&mut self) -> String {
        let digits = self.number("", 17);
        let (a, b, c, d) = (&digits[..4], &digits[4..8], &digits[8..12], &digits[12..]);
        format!("GPA.{a}-{b}-{c}-{d}")
    }

    /// A Google purchase token: opaque, long, and of the shape that Google's have.
    pub(super) fn purchase_token(&mut self) -> String {
        const TAIL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut random = self.next();
        let mut token = String::with_capacity(144);
        for _ in 0..24 {
            token.push(char::from(b'a' + random.random_range(0..26u8)));
        }
        token.push_str(".AO-J1O");
        while token.len() < 144 {
            token.push(char::from(TAIL[random.random_range(0..TAIL.len())]));
        }
        token
    }
}
