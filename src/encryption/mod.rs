//! Encryption at rest: AES-256-GCM keys, what they seal, and the keys outside that wrap them.
//!
//! What is sealed is bound to its place: the same bytes in another row do not open.

pub(crate) mod providers;

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretBox};

/// Bytes of a key.
pub(crate) const KEY_LEN: usize = 32;
/// The first byte of everything sealed: how the rest is to be read.
const VERSION: u8 = 1;

/// Why something was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// No random numbers, or no memory.
    #[error("this machine's cryptography failed")]
    Machine,
    /// Another key, another place, or changed since.
    #[error("it does not open: sealed under another key or for another place, or changed since")]
    Refused,
    /// Not written by this version or one before.
    #[error("it is not sealed in a way that this version knows")]
    Format,
    /// The database has no row of the key that it was sealed under.
    #[error("it does not open: the root key that it hangs on is gone")]
    KeyGone,
}

/// The bytes of a key on their way from one wrapping to another; wiped when dropped.
pub(crate) struct KeyBytes(SecretBox<[u8; KEY_LEN]>);

impl KeyBytes {
    pub(crate) fn random() -> Result<Self, SealError> {
        let mut made = Ok(());
        let bytes = SecretBox::init_with_mut(|bytes: &mut [u8; KEY_LEN]| {
            made = rand::fill(bytes);
        });
        made.map_err(|_| SealError::Machine)?;
        Ok(Self(bytes))
    }

    /// Takes the bytes over and wipes where they stood; `None` if they are no key.
    pub(crate) fn take(mut from: Vec<u8>) -> Option<Self> {
        let bytes = (from.len() == KEY_LEN).then(|| {
            Self(SecretBox::init_with_mut(|bytes: &mut [u8; KEY_LEN]| {
                bytes.copy_from_slice(&from);
            }))
        });
        from.zeroize();
        bytes
    }

    fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes")
    }
}

/// A key ready for use; its memory is wiped when it is dropped (by the library, as for all its keys).
pub(crate) struct Key(RandomizedNonceKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(crate) fn new(bytes: &KeyBytes) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes.expose())
            .map(Self)
            .map_err(|_| SealError::Machine)
    }

    /// Seals `plain` for one place: version, nonce, ciphertext, tag.
    pub(crate) fn seal(&self, place: &Place, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(plain);
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(&place.0), &mut body)
            .map_err(|_| SealError::Machine)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// What was sealed for that place.
    pub(crate) fn open(&self, place: &Place, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, body) = match sealed.split_first() {
            Some((&VERSION, rest)) => rest.split_at_checked(NONCE_LEN).ok_or(SealError::Format)?,
            Some(_) | None => return Err(SealError::Format),
        };
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Format)?;
        let mut body = body.to_vec();
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(&place.0), &mut body)
            .map_err(|_| SealError::Refused)?
            .len();
        body.truncate(opened);
        Ok(body)
    }

    /// Seals another key.
    pub(crate) fn wrap(&self, place: &Place, key: &KeyBytes) -> Result<Vec<u8>, SealError> {
        self.seal(place, key.expose())
    }

    pub(crate) fn unwrap_key(&self, place: &Place, wrapped: &[u8]) -> Result<KeyBytes, SealError> {
        KeyBytes::take(self.open(place, wrapped)?).ok_or(SealError::Format)
    }
}

/// Where something sealed belongs: a kind and the parts of its name, none of which can be taken for
/// another.
pub(crate) struct Place(Vec<u8>);

impl Place {
    pub(crate) fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(64);
        for part in [kind.as_bytes()].into_iter().chain(parts.iter().copied()) {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(&KeyBytes::random().unwrap()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_alone() {
        let (key, other) = (key(), key());
        let place = Place::of("raw body", &[b"app_store", b"17"]);
        for plain in [&b""[..], b"{}", &[7; 100_000]] {
            let sealed = key.seal(&place, plain).unwrap();
            assert_eq!(key.open(&place, &sealed).unwrap(), plain);
            assert_ne!(
                key.seal(&place, plain).unwrap(),
                sealed,
                "a nonce of its own"
            );
            assert_eq!(other.open(&place, &sealed), Err(SealError::Refused));
            for elsewhere in [
                Place::of("raw body", &[b"app_store1", b"7"]),
                Place::of("raw body", &[b"app_store17"]),
                Place::of("raw key", &[b"app_store", b"17"]),
            ] {
                assert_eq!(key.open(&elsewhere, &sealed), Err(SealError::Refused));
            }
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let key = key();
        let place = Place::of("x", &[]);
        let sealed = key.seal(&place, b"a signed transaction").unwrap();
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1;
            assert!(key.open(&place, &changed).is_err(), "byte {byte}");
        }
        for length in 0..sealed.len() {
            assert!(
                key.open(&place, &sealed[..length]).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_key_goes_from_wrapping_to_wrapping() {
        let (old, new, inner) = (key(), key(), KeyBytes::random().unwrap());
        let place = Place::of("key", &[b"1"]);
        let sealed = Key::new(&inner).unwrap().seal(&place, b"plain").unwrap();
        let wrapped = old.wrap(&place, &inner).unwrap();
        let rewrapped = new
            .wrap(&place, &old.unwrap_key(&place, &wrapped).unwrap())
            .unwrap();
        let again = new.unwrap_key(&place, &rewrapped).unwrap();
        assert_eq!(
            Key::new(&again).unwrap().open(&place, &sealed).unwrap(),
            b"plain"
        );
        assert_eq!(format!("{again:?}{old:?}"), "KeyBytesKey");
        assert!(KeyBytes::take(vec![1; 31]).is_none());
    }

    /// What one seal costs: `cargo test --release --lib -- --ignored one_seal --nocapture`.
    #[test]
    #[ignore = "measures"]
    fn one_seal_costs() {
        let root = key();
        let place = Place::of("raw body", &[b"app_store", b"0123456789abcdef"]);
        for size in [2_000, 6_000, 20_000] {
            let plain = vec![7; size];
            let began = std::time::Instant::now();
            for _ in 0..10_000 {
                let bytes = KeyBytes::random().unwrap();
                let sealed = Key::new(&bytes).unwrap().seal(&place, &plain).unwrap();
                let wrapped = root.wrap(&place, &bytes).unwrap();
                std::hint::black_box((sealed, wrapped));
            }
            let each = began.elapsed() / 10_000;
            println!("a notification of {size} bytes, its own key included: {each:?}");
        }
    }
}
