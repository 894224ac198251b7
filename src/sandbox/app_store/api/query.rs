//! The query of a request, and the tokens with which a caller reads on.

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::super::jws::encode;
use super::error::{AppleError, BAD_REQUEST};

/// A query as axum takes it apart; Apple's Node library sends a bare `?` where it has none.
pub(super) type Asked = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The parameters of a query, some of which may stand there more than once.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of(asked: Asked) -> Result<Self, AppleError> {
        match asked {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(_) => Err(BAD_REQUEST),
        }
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value; an empty one counts as none.
    pub(super) fn one<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }
}

/// What a request asked for, in short: tokens hold only for the request that they were given for.
pub(super) fn fingerprint(request: &str) -> String {
    encode(digest(&SHA256, request.as_bytes()).as_ref())
        .chars()
        .take(12)
        .collect()
}

/// Where a caller reads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bookmark {
    /// The last thing that was read; milliseconds, or a number.
    pub(super) position: i64,
    pub(super) fingerprint: String,
}

impl Bookmark {
    /// Opaque to callers.
    pub(super) fn token(&self) -> String {
        encode(format!("{} {}", self.position, self.fingerprint))
    }

    pub(super) fn parse(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (position, fingerprint) = text.split_once(' ')?;
        Some(Self {
            position: position.parse().ok()?,
            fingerprint: fingerprint.to_owned(),
        })
    }
}
