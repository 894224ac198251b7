//! What an app passes to the stores so that their records name its user: StoreKit's
//! `appAccountToken`, Google Play's obfuscated account id.

/// The most that Google Play takes; Apple takes a UUID alone.
const BYTES_MAX: usize = 64;

/// Whether a store can have been told this: visible ASCII, compared without regard to case.
pub(crate) fn is_sound(token: &str) -> bool {
    (1..=BYTES_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_a_store_takes() {
        let longest = "a".repeat(BYTES_MAX);
        for sound in [
            "6d2a1b52-7c1f-4a5b-9d36-0f6c2b9e4a11",
            "u",
            longest.as_str(),
        ] {
            assert!(is_sound(sound), "{sound}");
        }
        let long = "a".repeat(BYTES_MAX + 1);
        for not in ["", " ", "a b", "\u{fc}", "a\n", long.as_str()] {
            assert!(!is_sound(not), "{not}");
        }
    }
}
