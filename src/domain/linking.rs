//! Linking: whether one account may become part of another, once both credentials were shown.

use super::planted::{self, Bug};

/// What is known of two accounts under their locks; `joins` is to become part of `stays`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Somebody has signed in to the account that stays.
    pub(crate) stays_is_signed_in: bool,
    pub(crate) joins_is_signed_in: bool,
    /// The joining account has, or had, something.
    pub(crate) joins_has_anything: bool,
    /// Both have a signed-in identity of one issuer.
    pub(crate) share_an_issuer: bool,
    /// One of them was erased.
    pub(crate) one_has_ended: bool,
}

/// Why two accounts stay two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("nobody has signed in on either side")]
    NobodySignedIn,
    /// Two people could share one purchase that way, as many as like.
    #[error("both are users of one identity provider")]
    SameIssuer,
    /// What is whose is for support to say: a stolen token must not take purchases away.
    #[error("both accounts are signed in, and the other one has something of its own")]
    BothHaveSomething,
    #[error("one of the accounts does not exist any more")]
    Ended,
    #[error("the other credential was linked to another account")]
    LinkedElsewhere,
}

/// Whether the accounts become one. What belongs to nobody who signed in goes to whoever shows its
/// credential and a sign-in; an account that somebody signed in to is never taken from them.
pub(crate) fn may_link(pair: Pair) -> Result<(), Refusal> {
    if pair.one_has_ended {
        Err(Refusal::Ended)
    } else if !pair.stays_is_signed_in {
        Err(Refusal::NobodySignedIn)
    } else if !pair.joins_is_signed_in {
        Ok(())
    } else if pair.share_an_issuer {
        Err(Refusal::SameIssuer)
    } else if pair.joins_has_anything && !planted::is(Bug::LinkTakesFromSomebody) {
        Err(Refusal::BothHaveSomething)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: Pair = Pair {
        stays_is_signed_in: true,
        joins_is_signed_in: false,
        joins_has_anything: true,
        share_an_issuer: false,
        one_has_ended: false,
    };

    #[test]
    fn what_nobody_signed_in_to_joins_whoever_signs_in() {
        assert_eq!(may_link(UPGRADE), Ok(()));
        let empty = Pair {
            joins_has_anything: false,
            ..UPGRADE
        };
        assert_eq!(may_link(empty), Ok(()));
    }

    #[test]
    fn a_sign_in_of_another_provider_joins_unless_something_is_theirs() {
        let second = Pair {
            joins_is_signed_in: true,
            joins_has_anything: false,
            ..UPGRADE
        };
        assert_eq!(may_link(second), Ok(()));
        let full = Pair {
            joins_has_anything: true,
            ..second
        };
        assert_eq!(may_link(full), Err(Refusal::BothHaveSomething));
        let taken = planted::with(Bug::LinkTakesFromSomebody, || may_link(full));
        assert_eq!(taken, Ok(()), "the bug is seen");
        let same = Pair {
            share_an_issuer: true,
            ..second
        };
        assert_eq!(may_link(same), Err(Refusal::SameIssuer));
    }

    #[test]
    fn without_a_sign_in_and_without_an_account_there_is_nothing_to_join() {
        let nobody = Pair {
            stays_is_signed_in: false,
            ..UPGRADE
        };
        assert_eq!(may_link(nobody), Err(Refusal::NobodySignedIn));
        let erased = Pair {
            one_has_ended: true,
            ..UPGRADE
        };
        assert_eq!(may_link(erased), Err(Refusal::Ended));
    }
}
