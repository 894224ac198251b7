//! Medians and percentiles of exact samples: none is dropped or put into a bucket.

use std::time::Duration;

use serde_json::{Value, json};

/// The middle value; of two, the upper.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Times in microseconds, sorted.
pub(crate) struct Samples(Vec<i64>);

impl Samples {
    pub(crate) fn new(micros: impl IntoIterator<Item = i64>) -> Self {
        let mut sorted: Vec<i64> = micros.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds under which `share` of the samples lie (nearest rank).
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let micros = self.0.get(rank.saturating_sub(1)).copied();
        micros.map_or(f64::NAN, |micros| micros as f64 / 1_000.0)
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.percentile_ms(1.0)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "samples": self.len(),
            "p50_ms": self.percentile_ms(0.50),
            "p90_ms": self.percentile_ms(0.90),
            "p99_ms": self.percentile_ms(0.99),
            "max_ms": self.max_ms(),
        })
    }
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
