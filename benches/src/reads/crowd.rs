//! Who asks: many accounts with a purchase each, some of them with a token of about 600 bytes, asked
//! for as unevenly as people are (Zipf).

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use entitled::proto::GetEntitlementsRequest;
use entitled::sandbox::{IdentityToken, Sandbox};
use http::HeaderValue;
use prost::Message as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::catalog::CROWD;

const TOKEN_BYTES: usize = 600;
/// Longer than a run.
const TOKEN_SECONDS: i64 = 6 * 60 * 60;
/// Drawn once; rounds begin at different places.
const DRAWS: usize = 1 << 20;

/// The copies get names that an identity provider gives.
const NAMED: &str = "
    with unnamed as (
        select id, row_number() over (order by id) as number from accounts a
        where not exists (select from account_identities i where i.account_id = a.id)
        limit $1
    )
    insert into account_identities (issuer, subject, account_id, created_at)
    select 'app', 'reader-' || number, id, now() from unnamed
    returning subject, account_id";

/// One caller's header and the account that must answer.
pub(super) struct Caller {
    pub(super) authorization: HeaderValue,
    pub(super) account: String,
}

/// Everybody.
pub(super) struct Crowd {
    pub(super) callers: Vec<Caller>,
    /// A credential that may name any account.
    pub(super) backend: HeaderValue,
    /// Accounts without a caller here.
    others: Vec<Uuid>,
    draws: Vec<u32>,
    start: std::sync::atomic::AtomicU64,
}

impl Crowd {
    /// `accounts` in all, `tokens` of them with a token; one account with a purchase is there.
    pub(super) async fn gather(
        database: &mut PgConnection,
        stores: &Sandbox,
        accounts: i64,
        tokens: i64,
    ) -> anyhow::Result<Self> {
        ensure!(tokens < accounts, "fewer tokens than accounts");
        sqlx::query(CROWD)
            .bind(accounts)
            .execute(&mut *database)
            .await?;
        let named = sqlx::query(NAMED)
            .bind(tokens)
            .fetch_all(&mut *database)
            .await?;
        sqlx::query("analyze").execute(&mut *database).await?;
        let callers = named.iter().map(|row| {
            let (subject, account): (String, Uuid) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Caller {
                authorization: bearer(&token(stores, &subject)?)?,
                account: account.to_string(),
            })
        });
        let callers: Vec<Caller> = callers.collect::<anyhow::Result<_>>()?;
        let others = sqlx::query(
            "select s.account_id from entitlement_snapshots s
             where not exists (select from account_identities i where i.account_id = s.account_id)",
        );
        let others = others.fetch_all(&mut *database).await?;
        let others = others.iter().map(|row| row.try_get(0));
        let mut backend = IdentityToken::of("backend");
        let scope = "entitled.service".into();
        backend.claims.insert("scope".to_owned(), scope);
        Ok(Self {
            draws: zipf(callers.len()),
            callers,
            backend: bearer(&stores.identity_token(&backend)?)?,
            others: others.collect::<Result<_, _>>()?,
            start: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// Where the next round begins.
    pub(super) fn start(&self) -> u64 {
        let ordering = std::sync::atomic::Ordering::Relaxed;
        self.start.fetch_add(99_991, ordering)
    }

    pub(super) fn caller(&self, number: u64) -> &Caller {
        let draw = self.draws[number as usize % self.draws.len()];
        &self.callers[draw as usize]
    }

    /// What a backend asks to read each of the other accounts once.
    pub(super) fn questions_of_a_backend(&self) -> impl Iterator<Item = Bytes> {
        self.others.iter().map(|account| {
            let request = GetEntitlementsRequest {
                account: account.to_string(),
                ..Default::default()
            };
            let message = request.encode_to_vec();
            let mut framed = BytesMut::new();
            framed.put_u8(0);
            framed.put_u32(message.len() as u32);
            framed.put_slice(&message);
            framed.freeze()
        })
    }

    /// All accounts.
    pub(super) fn accounts(&self) -> usize {
        self.callers.len() + self.others.len()
    }

    /// How long an `authorization` header is on average.
    pub(super) fn header_bytes(&self) -> usize {
        let bytes = self.callers.iter().map(|caller| caller.authorization.len());
        bytes.sum::<usize>() / self.callers.len().max(1)
    }
}

fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    HeaderValue::try_from(format!("Bearer {token}")).context("a token that is no header")
}

/// An ES256 token of the app's identity provider, as long as those of real ones.
fn token(stores: &Sandbox, subject: &str) -> anyhow::Result<String> {
    let mut token = IdentityToken {
        ttl_seconds: TOKEN_SECONDS,
        ..IdentityToken::of(subject)
    };
    let bare = stores.identity_token(&token)?.len();
    // Four characters of base64 hold three bytes; a claim's name and quotes are a dozen.
    let padding = TOKEN_BYTES.saturating_sub(bare) * 3 / 4;
    let session = "s".repeat(padding.saturating_sub(12));
    token.claims.insert("session".to_owned(), session.into());
    Ok(stores.identity_token(&token)?)
}

/// Draws of `count` things, the nth as often as 1/n; the same in every run.
fn zipf(count: usize) -> Vec<u32> {
    let mut sums = Vec::with_capacity(count);
    let mut sum = 0.0;
    for rank in 1..=count {
        sum += 1.0 / rank as f64;
        sums.push(sum);
    }
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let draw = || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let at = (mixed >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        let rank = sums.partition_point(|below| *below < at);
        u32::try_from(rank.min(count.saturating_sub(1))).unwrap_or_default()
    };
    std::iter::repeat_with(draw).take(DRAWS).collect()
}
