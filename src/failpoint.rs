//! Named places at which tests kill the process. Debug builds only: in a release build a call
//! is nothing at all.

/// Ends the process without any clean-up if `ENTITLED_CRASH_AT` names this place.
#[inline]
pub(crate) fn at(place: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os("ENTITLED_CRASH_AT").is_some_and(|named| named == place) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = place;
}
