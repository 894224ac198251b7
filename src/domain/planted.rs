//! Plausible bugs that tests plant where a decision is made, to see that the suite finds each.
//! Debug builds only: in a release build nothing is ever planted, and a question is a constant.
//!
//! A bug is planted for one thread ([`plant`]: runs in one process) or for the whole process
//! ([`plant_everywhere`]: the shell reads `ENTITLED_PLANTED`; nothing here reads an environment).

/// A mistake that somebody could make, or that others have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Bug {
    /// An event id that was seen is kept again.
    SkipDedupe = 1,
    /// The answer that arrives last is taken, whatever its stamp.
    CompareArrivalNotEventTime,
    /// An answer that takes paid time back is believed at once.
    DropPeriodEndComparison,
    /// The late end of a replaced token ends its successor.
    LateExpiredOfReplacedTokenRevokesNew,
    /// The refund of any order ends what is paid for now.
    RefundOfOldTransactionRevokesActive,
    /// A webhook is answered before it is durable.
    AcknowledgeBeforeCommit,
    /// Sandbox purchases grant where they must not.
    IgnoreEnvironment,
    /// Whoever shows a purchase owns it.
    NoOwnerCheckOnRestore,
    /// A snapshot outlives its end.
    CachePastExpiry,
    /// Every settle credits again.
    CreditTwice,
    /// Everybody who claims is told to have won.
    EveryClaimWins,
    /// The account in the store's record is not looked at.
    HintIgnored,
    /// A refund of a part is one of the whole.
    PartialRefundRevokesAll,
    /// A notification is read, and its purchase not looked at.
    LostSignals,
    /// A claim is refused because its store cannot be asked.
    OutageRefusesClaims,
    /// Access ends where grace begins.
    GraceIsOver,
    /// What is not paid yet grants.
    PendingGrants,
    /// Nothing is looked at without a signal.
    NeverLooksAgain,
    /// A base plan that nobody mapped grants what its product's first one does.
    AnyBasePlanGrants,
    /// A renewal that is late by minutes cuts its payer off.
    NoLeniency,
    /// A signal that is skipped is not worth an event.
    SkippedLeavesNoTrace,
    /// An account that has a snapshot keeps its revision when that changes.
    RevisionIsReused,
    /// Hints are lost, and no sweep makes up for it.
    LostHintsAreNotMissed,
    /// A watcher is told "unchanged" by the revision alone.
    UnchangedOverAnEnd,
    /// Replay decides without the facts that only signals carried.
    ReplayIgnoresEvidence,
    /// A refresh token that was replaced carries its session on.
    ReplacedTokenIsGood,
    /// Whoever shows a second sign-in takes what that one had.
    LinkTakesFromSomebody,
    /// A minted token lasts as long as it was asked to.
    MintedForYears,
    /// An operator may do whatever operators do.
    EveryRoleMay,
    /// A key of one app acts on the purchases of all.
    KeyReachesEveryApp,
    /// A stream's place stays where it began.
    PlaceStandsStill,
    /// What any certificate has signed for itself is believed.
    AnyXcode,
    /// A feed takes transactions to commit in the order of their numbers.
    FeedByNumber,
    /// A feed's cursor is ahead of what was told with it.
    CursorAhead,
}

impl Bug {
    /// All of them.
    #[cfg(debug_assertions)]
    pub(crate) const ALL: [Self; 34] = [
        Self::SkipDedupe,
        Self::CompareArrivalNotEventTime,
        Self::DropPeriodEndComparison,
        Self::LateExpiredOfReplacedTokenRevokesNew,
        Self::RefundOfOldTransactionRevokesActive,
        Self::AcknowledgeBeforeCommit,
        Self::IgnoreEnvironment,
        Self::NoOwnerCheckOnRestore,
        Self::CachePastExpiry,
        Self::CreditTwice,
        Self::EveryClaimWins,
        Self::HintIgnored,
        Self::PartialRefundRevokesAll,
        Self::LostSignals,
        Self::OutageRefusesClaims,
        Self::GraceIsOver,
        Self::PendingGrants,
        Self::NeverLooksAgain,
        Self::AnyBasePlanGrants,
        Self::NoLeniency,
        Self::SkippedLeavesNoTrace,
        Self::RevisionIsReused,
        Self::LostHintsAreNotMissed,
        Self::UnchangedOverAnEnd,
        Self::ReplayIgnoresEvidence,
        Self::ReplacedTokenIsGood,
        Self::LinkTakesFromSomebody,
        Self::MintedForYears,
        Self::EveryRoleMay,
        Self::KeyReachesEveryApp,
        Self::PlaceStandsStill,
        Self::AnyXcode,
        Self::FeedByNumber,
        Self::CursorAhead,
    ];

    /// The word for `ENTITLED_PLANTED` and the documents.
    #[cfg(debug_assertions)]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SkipDedupe => "skip_dedupe",
            Self::CompareArrivalNotEventTime => "compare_arrival_not_event_time",
            Self::DropPeriodEndComparison => "drop_period_end_comparison",
            Self::LateExpiredOfReplacedTokenRevokesNew => {
                "late_expired_of_replaced_token_revokes_new"
            }
            Self::RefundOfOldTransactionRevokesActive => "refund_of_old_transaction_revokes_active",
            Self::AcknowledgeBeforeCommit => "acknowledge_before_commit",
            Self::IgnoreEnvironment => "ignore_environment",
            Self::NoOwnerCheckOnRestore => "no_owner_check_on_restore",
            Self::CachePastExpiry => "cache_past_expiry",
            Self::CreditTwice => "credit_twice",
            Self::EveryClaimWins => "every_claim_wins",
            Self::HintIgnored => "hint_ignored",
            Self::PartialRefundRevokesAll => "partial_refund_revokes_all",
            Self::LostSignals => "lost_signals",
            Self::OutageRefusesClaims => "outage_refuses_claims",
            Self::GraceIsOver => "grace_is_over",
            Self::PendingGrants => "pending_grants",
            Self::NeverLooksAgain => "never_looks_again",
            Self::AnyBasePlanGrants => "any_base_plan_grants",
            Self::NoLeniency => "no_leniency",
            Self::SkippedLeavesNoTrace => "skipped_leaves_no_trace",
            Self::RevisionIsReused => "revision_is_reused",
            Self::LostHintsAreNotMissed => "lost_hints_are_not_missed",
            Self::UnchangedOverAnEnd => "unchanged_over_an_end",
            Self::ReplayIgnoresEvidence => "replay_ignores_evidence",
            Self::ReplacedTokenIsGood => "replaced_token_is_good",
            Self::LinkTakesFromSomebody => "link_takes_from_somebody",
            Self::MintedForYears => "minted_for_years",
            Self::EveryRoleMay => "every_role_may",
            Self::KeyReachesEveryApp => "key_reaches_every_app",
            Self::PlaceStandsStill => "place_stands_still",
            Self::AnyXcode => "any_xcode",
            Self::FeedByNumber => "feed_by_number",
            Self::CursorAhead => "cursor_ahead",
        }
    }

    #[cfg(debug_assertions)]
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.as_str() == word)
    }
}

#[cfg(debug_assertions)]
mod switch {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    static EVERYWHERE: AtomicU8 = AtomicU8::new(0);

    thread_local! {
        static HERE: Cell<u8> = const { Cell::new(0) };
    }

    pub(super) fn is(bug: Bug) -> bool {
        HERE.get() == bug as u8 || EVERYWHERE.load(Ordering::Relaxed) == bug as u8
    }

    pub(super) fn here(bug: Option<Bug>) {
        HERE.set(bug.map_or(0, |bug| bug as u8));
    }

    pub(super) fn everywhere(bug: Bug) {
        EVERYWHERE.store(bug as u8, Ordering::Relaxed);
    }
}

/// Whether this bug is planted.
#[inline]
pub(crate) fn is(bug: Bug) -> bool {
    #[cfg(debug_assertions)]
    {
        switch::is(bug)
    }
    #[cfg(not(debug_assertions))]
    {
        let _ = bug;
        false
    }
}

/// Plants a bug for this thread, or takes it away again.
#[cfg(debug_assertions)]
pub(crate) fn plant(bug: Option<Bug>) {
    switch::here(bug);
}

/// Plants a bug for the whole process.
#[cfg(debug_assertions)]
pub(crate) fn plant_everywhere(bug: Bug) {
    switch::everywhere(bug);
}

/// What comes of it with a bug in this thread.
#[cfg(test)]
pub(crate) fn with<T>(bug: Bug, act: impl FnOnce() -> T) -> T {
    plant(Some(bug));
    let came = act();
    plant(None);
    came
}
