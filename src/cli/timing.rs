//! `inspect timing`: whether the time that a refusal takes tells how much of a secret tag was right.
//!
//! After dudect (Reparaz, Balasch, Verbauwhede 2017): forgeries of two classes in random order, one
//! wrong in the first byte and one in the last, and Welch's t-test over the times of both. An early
//! exit is measured beside them, to show that the measurement would see it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::ensure;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Args;
use http::{HeaderMap, HeaderValue};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::clock::Clock;
use crate::config::issuers::IssuerConfig;
use crate::config::superwall::SuperwallConfig;
use crate::grpc::auth::Authenticator;
use crate::http::HttpClient;
use crate::providers::contract::Delivery;
use crate::providers::superwall::Superwall;

/// Beyond this a difference is taken for one (dudect).
const T_MAX: f64 = 4.5;
/// The slowest samples are the machine's: statistics are also taken without them.
const CROPS: [f64; 4] = [1.0, 0.99, 0.9, 0.5];
/// So many are made before they are timed.
const BATCH: usize = 256;
const SECRET: &[u8] = b"a secret of thirty-two bytes....";
const BODY: &[u8] = br#"{"object":"event","type":"renewal","projectId":1,"data":{}}"#;

#[derive(Args)]
pub(crate) struct TimingArgs {
    /// Refusals that are timed, of each kind
    #[arg(long, default_value_t = 1_000_000)]
    samples: usize,
    /// Draws the order
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Where a tag is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    First,
    Last,
}

impl Wrong {
    fn of(self, tag: &[u8], dice: &mut StdRng) -> Vec<u8> {
        let mut tag = tag.to_vec();
        let byte = match self {
            Self::First => tag.first_mut(),
            Self::Last => tag.last_mut(),
        };
        if let Some(byte) = byte {
            *byte ^= dice.random_range(1..=255_u8);
        }
        tag
    }
}

/// Measures and prints; whether no comparison of ours tells anything, and the early exit does.
pub(super) async fn run(args: &TimingArgs) -> anyhow::Result<bool> {
    let mut dice = StdRng::seed_from_u64(args.seed);
    println!(
        "Welch's t over {} refusals each, tag wrong in the first byte or in the last; |t| < {T_MAX} tells nothing\n",
        args.samples
    );
    let told = control(args, &mut dice)
        .await?
        .report("an early exit, for comparison");
    let webhook = webhook(args, &mut dice)
        .await?
        .report("Superwall webhook, HMAC");
    let bearer = bearer(args, &mut dice).await?;
    let bearer = bearer.report("bearer token under a shared secret, HMAC");
    Ok(told && !webhook && !bearer)
}

async fn webhook(args: &TimingArgs, dice: &mut StdRng) -> anyhow::Result<Times> {
    let superwall = Superwall::new(&SuperwallConfig {
        signing_secret_file: None,
        signing_secret: Some(format!("whsec_{}", STANDARD.encode(SECRET)).into()),
    })?;
    let now = Clock::System.now();
    let stamp = now.timestamp().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let tag = hmac::sign(&key, &[b"msg.", stamp.as_bytes(), b".", BODY].concat());
    let dress = |tag: &[u8]| -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert("svix-id", HeaderValue::from_static("msg"));
        headers.insert("svix-timestamp", HeaderValue::from_str(&stamp)?);
        let signature = format!("v1,{}", STANDARD.encode(tag));
        headers.insert("svix-signature", HeaderValue::from_str(&signature)?);
        Ok(headers)
    };
    let answer = |headers: &HeaderMap| {
        let delivery = Delivery {
            headers,
            body: BODY,
            now,
        };
        superwall.authenticate(&delivery).is_ok()
    };
    ensure!(
        answer(&dress(tag.as_ref())?),
        "the right signature is refused: nothing would be measured"
    );
    measure(args, dice, tag.as_ref(), dress, async |headers| {
        answer(headers)
    })
    .await
}

async fn bearer(args: &TimingArgs, dice: &mut StdRng) -> anyhow::Result<Times> {
    let issuer: IssuerConfig = serde_json::from_value(json!({
        "name": "dev", "audience": ["entitled"], "shared_secret": std::str::from_utf8(SECRET)?,
    }))?;
    let http = HttpClient::new(Duration::from_secs(1))?;
    let authenticator = Authenticator::new(vec![issuer], http)?;
    let expires = Clock::System.now().timestamp() + 86_400;
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!(
        "{}.{}",
        part(json!({ "alg": "HS256", "typ": "JWT" })),
        part(json!({ "iss": "dev", "aud": "entitled", "sub": "mallory", "exp": expires }))
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let tag = hmac::sign(&key, message.as_bytes());
    let dress = |tag: &[u8]| format!("Bearer {message}.{}", URL_SAFE_NO_PAD.encode(tag));
    ensure!(
        authenticator
            .authenticate(Some(&dress(tag.as_ref())))
            .await
            .is_ok(),
        "the right token is refused: nothing would be measured"
    );
    let believed = async |token: &String| authenticator.authenticate(Some(token)).await.is_ok();
    measure(args, dice, tag.as_ref(), |tag| Ok(dress(tag)), believed).await
}

/// What a comparison that stops at the first difference gives away.
async fn control(args: &TimingArgs, dice: &mut StdRng) -> anyhow::Result<Times> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), BODY);
    let believed = async |forged: &Vec<u8>| {
        let mut pairs = forged.iter().zip(tag.as_ref());
        pairs.all(|(ours, theirs)| black_box(ours) == theirs)
    };
    measure(args, dice, tag.as_ref(), |tag| Ok(tag.to_vec()), believed).await
}

/// Times refusals of forgeries of both classes. They are made by the batch, each anew: neither where
/// one lies nor what the processor did a moment ago goes with its class.
async fn measure<T>(
    args: &TimingArgs,
    dice: &mut StdRng,
    tag: &[u8],
    dress: impl Fn(&[u8]) -> anyhow::Result<T>,
    believed: impl AsyncFn(&T) -> bool,
) -> anyhow::Result<Times> {
    let mut times = Times::of(args.samples);
    let mut batch = Vec::with_capacity(BATCH);
    for done in (0..args.samples).step_by(BATCH) {
        batch.clear();
        for _ in done..args.samples.min(done + BATCH) {
            let wrong = match dice.random() {
                true => Wrong::First,
                false => Wrong::Last,
            };
            batch.push((wrong, dress(&wrong.of(tag, dice))?));
        }
        for (wrong, forged) in &batch {
            let begun = Instant::now();
            let answer = believed(black_box(forged)).await;
            times.took(*wrong, begun.elapsed(), answer)?;
        }
    }
    Ok(times)
}

/// Nanoseconds per refusal, by class.
struct Times {
    first: Vec<u32>,
    last: Vec<u32>,
}

impl Times {
    fn of(samples: usize) -> Self {
        Self {
            first: Vec::with_capacity(samples),
            last: Vec::with_capacity(samples),
        }
    }

    fn took(&mut self, wrong: Wrong, time: Duration, believed: bool) -> anyhow::Result<()> {
        ensure!(!believed, "a forgery was believed");
        let nanos = u32::try_from(time.as_nanos()).unwrap_or(u32::MAX);
        match wrong {
            Wrong::First => self.first.push(nanos),
            Wrong::Last => self.last.push(nanos),
        }
        Ok(())
    }

    /// Prints a line; whether the two classes differ.
    fn report(&self, what: &str) -> bool {
        let mut all = [self.first.as_slice(), &self.last].concat();
        all.sort_unstable();
        let at = |share: f64| {
            let index = (all.len() as f64 * share) as usize;
            all.get(index.min(all.len().saturating_sub(1))).copied()
        };
        let largest = CROPS
            .iter()
            .map(|share| {
                let limit = at(*share).unwrap_or(u32::MAX);
                welch(&self.first, &self.last, limit)
            })
            .fold(0.0, |max: f64, t| if t.abs() > max.abs() { t } else { max });
        println!(
            "{what}: {} + {} samples, median {} ns, max |t| {:.2}",
            self.first.len(),
            self.last.len(),
            at(0.5).unwrap_or_default(),
            largest.abs()
        );
        largest.abs() >= T_MAX
    }
}

/// Welch's t of the samples up to `limit`.
fn welch(a: &[u32], b: &[u32], limit: u32) -> f64 {
    let moments = |samples: &[u32]| {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for sample in samples.iter().filter(|sample| **sample <= limit) {
            let sample = f64::from(*sample);
            count += 1.0;
            let off = sample - mean;
            mean += off / count;
            squares += off * (sample - mean);
        }
        (
            mean,
            squares / f64::max(count - 1.0, 1.0) / f64::max(count, 1.0),
        )
    };
    let ((mean_a, error_a), (mean_b, error_b)) = (moments(a), moments(b));
    let error = (error_a + error_b).sqrt();
    if error > 0.0 {
        (mean_a - mean_b) / error
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistic_is_welchs() {
        // Worked by hand: means 3 and 5, variances 2.5 and 2.5, five each.
        let t = welch(&[1, 2, 3, 4, 5], &[3, 4, 5, 6, 7], u32::MAX);
        assert!((t + 2.0).abs() < 1e-9, "{t}");
        assert!(welch(&[1, 2, 3], &[1, 2, 3], u32::MAX).abs() < 1e-9);
        // What is cropped does not count.
        let t = welch(&[1, 2, 3, 900], &[1, 2, 3], 10);
        assert!(t.abs() < 1e-9, "{t}");
        assert!(welch(&[], &[], 1).abs() < 1e-9);
    }

    #[test]
    fn a_forgery_is_wrong_in_one_byte() {
        let mut dice = StdRng::seed_from_u64(1);
        let tag = [7_u8; 32];
        for (wrong, at) in [(Wrong::First, 0), (Wrong::Last, 31)] {
            for _ in 0..100 {
                let forged = wrong.of(&tag, &mut dice);
                let differs: Vec<usize> = (0..32).filter(|i| forged[*i] != tag[*i]).collect();
                assert_eq!(differs, [at]);
            }
        }
    }
}
