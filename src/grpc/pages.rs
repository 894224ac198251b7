//! Page tokens: where a list goes on, tied to the question that it answers. Opaque to callers; they
//! hold nothing that the caller was not told.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::status;

const SIZE_DEFAULT: i64 = 50;
const SIZE_MAX: i32 = 500;

/// How many rows a caller wants.
pub(super) fn size(asked: i32) -> Result<i64, Status> {
    match asked {
        0 => Ok(SIZE_DEFAULT),
        1..=SIZE_MAX => Ok(asked.into()),
        _ => Err(status::bad_request("page_size", "1 to 500, or 0 for 50")),
    }
}

/// What is inside a token.
#[derive(Serialize, Deserialize)]
pub(super) struct PageToken<T> {
    after: T,
    /// Of the question: another one starts from the beginning.
    question: u64,
}

impl<T: Serialize + DeserializeOwned> PageToken<T> {
    /// The place after which `question` goes on.
    pub(super) fn write<Q: Serialize>(after: &T, question: &Q) -> String {
        let token = PageToken {
            after,
            question: digest(question),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    /// `None`: from the beginning.
    pub(super) fn read<Q: Serialize>(token: &str, question: &Q) -> Result<Option<T>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .filter(|token| token.question == digest(question))
            .map(|token| Some(token.after))
            .ok_or_else(|| {
                status::bad_request(
                    "page_token",
                    "send the token of the page before, and the other fields as they were",
                )
            })
    }
}

/// FNV-1a: the same in every process, and no secret.
pub(super) fn digest<Q: Serialize>(question: &Q) -> u64 {
    serde_json::to_vec(question)
        .unwrap_or_default()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_on_where_its_own_question_stopped() {
        let token = PageToken::write(&7_i64, &("alice", 1));
        assert_eq!(
            PageToken::<i64>::read(&token, &("alice", 1)).unwrap(),
            Some(7)
        );
        assert_eq!(PageToken::<i64>::read("", &("alice", 1)).unwrap(), None);
        for (token, question) in [
            (token.as_str(), ("bob", 1)),
            (token.as_str(), ("alice", 2)),
            ("nonsense", ("alice", 1)),
            ("e30", ("alice", 1)),
        ] {
            assert!(PageToken::<i64>::read(token, &question).is_err(), "{token}");
        }
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(size(0).unwrap(), 50);
        assert_eq!(size(500).unwrap(), 500);
        assert!(size(501).is_err() && size(-1).is_err());
    }
}
