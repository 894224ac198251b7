//! What a purchase token looks like: junk is turned away before it costs a call to the store.

/// Genuine tokens have about 144 characters.
const TOKEN_BYTES_MIN: usize = 20;
const TOKEN_BYTES_MAX: usize = 1024;

/// Why a text cannot be a purchase token. Never holds the text itself: a token is a bearer secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenShape {
    #[error("a purchase token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} characters, not {0}")]
    Length(usize),
    #[error("a purchase token has letters, digits, `.`, `_` and `-` only")]
    Characters,
    #[error("such tokens are made by tools that fake purchases")]
    Fake,
}

/// Only the shape: whether it exists, and of which app it is, the store alone can tell.
pub(super) fn check(token: &str) -> Result<(), TokenShape> {
    if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
        return Err(TokenShape::Length(token.len()));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !token.bytes().all(allowed) {
        return Err(TokenShape::Characters);
    }
    // Lucky Patcher invents 24 letters: the first part of a genuine token without the rest.
    let letters = token.len() == 24 && token.bytes().all(|byte| byte.is_ascii_alphabetic());
    let no_letter = !token.bytes().any(|byte| byte.is_ascii_alphabetic());
    if letters || no_letter {
        return Err(TokenShape::Fake);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_shape_of_a_purchase_token_passes() {
        let genuine = format!("{}.AO-J1O{}", "a".repeat(24), "x_Y-9".repeat(22));
        let long = "a1".repeat(512);
        for token in [genuine.as_str(), &long, "aaaaaaaaaaaaaaaaaaaaaaaa.b"] {
            assert_eq!(check(token), Ok(()), "{}", token.len());
        }
        let over = "a1".repeat(513);
        let megabyte = "a".repeat(1 << 20);
        let junk = [
            ("", TokenShape::Length(0)),
            ("123456789012345", TokenShape::Length(15)),
            ("abcdefghijklmnopqrs", TokenShape::Length(19)),
            (&over, TokenShape::Length(1026)),
            (&megabyte, TokenShape::Length(1 << 20)),
            ("abcdefghijklmnopqrstuvwx", TokenShape::Fake),
            ("12345678901234567890", TokenShape::Fake),
            ("....................", TokenShape::Fake),
            ("../../../../v3/applications/x", TokenShape::Characters),
            ("abcdefghijklmnop%2f%2e%2e%2f", TokenShape::Characters),
            ("abcdefghijklmnopqrst:acknowledge", TokenShape::Characters),
            ("abcdefghijklmnopqrst?alt=json", TokenShape::Characters),
            ("abcdefghijklmnop\r\nqrstuvw", TokenShape::Characters),
            ("abcdefghijklmnopqrst\0", TokenShape::Characters),
            ("аbcdefghijklmnopqrstuvwxyz", TokenShape::Characters),
        ];
        for (token, expected) in junk {
            assert_eq!(
                check(token),
                Err(expected),
                "{:?}",
                &token[..token.len().min(40)]
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_is_one_plain_path_segment(token in ".{0,1100}") {
            if check(&token).is_ok() {
                prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
                prop_assert!(token.len() >= TOKEN_BYTES_MIN);
            }
        }
    }
}
