//! Sessions: what a refresh token that is presented comes to.

use std::time::Duration;

use super::planted::{self, Bug};

/// Short name of the issuer that is this server: accounts without a sign-in are known by it and
/// their own id.
pub(crate) const OWN_ISSUER: &str = "entitled";

/// Whoever sends the same token again so soon is sent the same answer: it was sent twice, or its
/// answer was lost.
const REPEATED_WITHIN: Duration = Duration::from_secs(60);

/// Why a session takes no token any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A token came that had been replaced: somebody else has it, too.
    Reused,
    /// Its user has signed in, and their purchases are the signed-in account's.
    Linked,
    /// Its account was erased.
    Erased,
}

impl Why {
    const ALL: [Self; 3] = [Self::Reused, Self::Linked, Self::Erased];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::Linked => "linked",
            Self::Erased => "erased",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == word)
    }
}

/// A session as it is kept: hashes of its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) current: Vec<u8>,
    /// What the current one took the place of.
    pub(crate) previous: Option<Vec<u8>>,
    pub(crate) rotated_for: Duration,
    pub(crate) expired: bool,
    pub(crate) revoked: Option<Why>,
}

/// What becomes of a session by the token that was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The token is good: another takes its place.
    Rotate,
    /// It was presented a moment ago: the same answer again.
    Repeat,
    /// The answer to it was lost: what was in it has never been used and is replaced.
    Replace,
    /// It was replaced by one that is in use: two hold this session, and nobody knows who is who.
    Revoke,
    Refuse(Option<Why>),
}

/// Judges a token by its hash. Its session is known by the part that all its tokens share, so
/// whoever presents another one had a token of this session once.
pub(crate) fn renew(kept: &Kept, presented: &[u8]) -> Renewal {
    if kept.revoked.is_some() || kept.expired {
        return Renewal::Refuse(kept.revoked);
    }
    if kept.current == presented {
        return Renewal::Rotate;
    }
    if kept.previous.as_deref() != Some(presented) {
        if planted::is(Bug::ReplacedTokenIsGood) {
            return Renewal::Rotate;
        }
        return Renewal::Revoke;
    }
    // The current token has not been presented yet, or this one would not be the one before it.
    // If somebody has it all the same, its use tells that it was replaced.
    if kept.rotated_for <= REPEATED_WITHIN {
        Renewal::Repeat
    } else {
        Renewal::Replace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        Kept {
            current: b"two".to_vec(),
            previous: Some(b"one".to_vec()),
            rotated_for: Duration::from_secs(3_600),
            expired: false,
            revoked: None,
        }
    }

    #[test]
    fn the_current_token_is_replaced() {
        assert_eq!(renew(&kept(), b"two"), Renewal::Rotate);
    }

    #[test]
    fn a_lost_answer_locks_nobody_out() {
        let lately = Kept {
            rotated_for: Duration::from_secs(60),
            ..kept()
        };
        assert_eq!(renew(&lately, b"one"), Renewal::Repeat);
        assert_eq!(renew(&kept(), b"one"), Renewal::Replace);
    }

    #[test]
    fn what_was_replaced_ends_the_session() {
        assert_eq!(renew(&kept(), b"zero"), Renewal::Revoke);
        let first = Kept {
            previous: None,
            ..kept()
        };
        assert_eq!(renew(&first, b"one"), Renewal::Revoke);
    }

    #[test]
    fn a_replaced_token_that_is_good_is_found() {
        let taken = planted::with(Bug::ReplacedTokenIsGood, || renew(&kept(), b"zero"));
        assert_eq!(taken, Renewal::Rotate);
    }

    #[test]
    fn what_is_over_stays_over() {
        for presented in [b"zero".as_slice(), b"one", b"two"] {
            let expired = Kept {
                expired: true,
                ..kept()
            };
            assert_eq!(renew(&expired, presented), Renewal::Refuse(None));
            let revoked = Kept {
                revoked: Some(Why::Linked),
                ..kept()
            };
            let refused = Renewal::Refuse(Some(Why::Linked));
            assert_eq!(renew(&revoked, presented), refused);
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for why in Why::ALL {
            assert_eq!(Why::parse(why.as_str()), Some(why));
        }
    }
}
