//! Elliptic-curve keys that can be drawn from the seed, and signatures without chance (RFC 6979):
//! the same key signs the same message with the same bytes, so that a story repeats to the letter.
//!
//! Points are multiplied by the C library; what it does not offer, the choice of the nonce and the
//! arithmetic modulo the group's order, is done here and not in constant time. Good enough for
//! keys that protect nothing, and for nothing else.

use std::sync::LazyLock;

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384};
use aws_lc_rs::digest::{self, SHA256, SHA384};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    EcdsaVerificationAlgorithm, KeyPair, UnparsedPublicKey,
};
use der::Encode;
use der::asn1::Uint;
use num_bigint::BigUint;

use super::error::SandboxError;

/// A NIST curve, with the hash that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

static ORDER_P256: LazyLock<BigUint> =
    LazyLock::new(|| order("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"));
static ORDER_P384: LazyLock<BigUint> = LazyLock::new(|| {
    order(concat!(
        "ffffffffffffffffffffffffffffffffffffffffffffffff",
        "c7634d81f4372ddf581a0db248b0a77aecec196accc52973"
    ))
});

fn order(hexadecimal: &str) -> BigUint {
    BigUint::parse_bytes(hexadecimal.as_bytes(), 16).unwrap_or_default()
}

impl Curve {
    /// Length of a coordinate, a scalar and the hash; it is one and the same on these curves.
    const fn bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    fn order(self) -> &'static BigUint {
        match self {
            Self::P256 => &ORDER_P256,
            Self::P384 => &ORDER_P384,
        }
    }

    fn digest(self, message: &[u8]) -> digest::Digest {
        match self {
            Self::P256 => digest::digest(&SHA256, message),
            Self::P384 => digest::digest(&SHA384, message),
        }
    }

    const fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::P256 => hmac::HMAC_SHA256,
            Self::P384 => hmac::HMAC_SHA384,
        }
    }

    const fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    const fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
        }
    }

    /// The uncompressed point `scalar` times the generator.
    fn point(self, scalar: &[u8]) -> Result<agreement::PublicKey, SandboxError> {
        let algorithm = match self {
            Self::P256 => &ECDH_P256,
            Self::P384 => &ECDH_P384,
        };
        let scalar = agreement::PrivateKey::from_private_key(algorithm, scalar)?;
        Ok(scalar.compute_public_key()?)
    }

    /// Big-endian, padded to the length of a scalar.
    fn scalar(self, number: &BigUint) -> Vec<u8> {
        let digits = number.to_bytes_be();
        let mut scalar = vec![0; self.bytes().saturating_sub(digits.len())];
        scalar.extend(digits);
        scalar
    }

    fn is_scalar(self, number: &BigUint) -> bool {
        *number != BigUint::ZERO && number < self.order()
    }
}

/// A private key.
pub(super) struct EcKey {
    curve: Curve,
    secret: Vec<u8>,
    public: Vec<u8>,
    pkcs8: Vec<u8>,
}

impl EcKey {
    /// The key that belongs to a secret: the hash of it, modulo the order.
    pub(super) fn derive(curve: Curve, secret: &[u8]) -> Result<Self, SandboxError> {
        let hash = curve.digest(secret);
        let number = BigUint::from_bytes_be(hash.as_ref()) % curve.order();
        let secret = curve.scalar(&number);
        let public = curve.point(&secret)?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            curve.signing(),
            &secret,
            public.as_ref(),
        )?;
        Self::of(curve, &pair, pair.to_pkcs8v1()?.as_ref().to_vec())
    }

    /// A key that nobody can guess.
    pub(super) fn random(curve: Curve) -> Result<Self, SandboxError> {
        let pair = EcdsaKeyPair::generate(curve.signing())?;
        Self::of(curve, &pair, pair.to_pkcs8v1()?.as_ref().to_vec())
    }

    pub(super) fn from_pkcs8(curve: Curve, pkcs8: Vec<u8>) -> Result<Self, SandboxError> {
        let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), &pkcs8)?;
        Self::of(curve, &pair, pkcs8)
    }

    fn of(curve: Curve, pair: &EcdsaKeyPair, pkcs8: Vec<u8>) -> Result<Self, SandboxError> {
        Ok(Self {
            curve,
            secret: pair.private_key().as_be_bytes()?.as_ref().to_vec(),
            public: pair.public_key().as_ref().to_vec(),
            pkcs8,
        })
    }

    /// PKCS#8 in DER.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The uncompressed point: 04, x, y.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// A signature as JWS writes it: r and s, each of full length.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SandboxError> {
        let (mut signature, s) = self.signature(message)?;
        signature.extend(s);
        Ok(signature)
    }

    /// A signature as certificates carry it: a sequence of two integers.
    pub(super) fn sign_der(&self, message: &[u8]) -> Result<Vec<u8>, SandboxError> {
        let (r, s) = self.signature(message)?;
        Ok(vec![Uint::new(&r)?, Uint::new(&s)?].to_der()?)
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.curve.verification(), &self.public)
            .verify(message, signature)
            .is_ok()
    }

    fn signature(&self, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), SandboxError> {
        let (curve, order) = (self.curve, self.curve.order());
        let hash = BigUint::from_bytes_be(curve.digest(message).as_ref()) % order;
        let secret = BigUint::from_bytes_be(&self.secret);
        let mut nonces = Nonces::new(curve, &self.secret, &curve.scalar(&hash));
        loop {
            let nonce = nonces.next();
            if !curve.is_scalar(&nonce) {
                continue;
            }
            let point = curve.point(&curve.scalar(&nonce))?;
            let x = point.as_ref().get(1..=curve.bytes()).unwrap_or_default();
            let r = BigUint::from_bytes_be(x) % order;
            // By Fermat's little theorem: quicker here than Euclid's algorithm.
            let inverse = nonce.modpow(&(order - 2_u8), order);
            let s = inverse * (&hash + &r * &secret) % order;
            if curve.is_scalar(&r) && curve.is_scalar(&s) {
                return Ok((curve.scalar(&r), curve.scalar(&s)));
            }
        }
    }
}

/// The candidates for a signature's nonce, by RFC 6979, section 3.2.
struct Nonces {
    algorithm: hmac::Algorithm,
    key: hmac::Key,
    value: Vec<u8>,
    drawn: bool,
}

impl Nonces {
    fn new(curve: Curve, secret: &[u8], hash: &[u8]) -> Self {
        let algorithm = curve.hmac();
        let mut nonces = Self {
            algorithm,
            key: hmac::Key::new(algorithm, &vec![0; curve.bytes()]),
            value: vec![1; curve.bytes()],
            drawn: false,
        };
        nonces.stir(0, &[secret, hash]);
        nonces.stir(1, &[secret, hash]);
        nonces
    }

    fn stir(&mut self, separator: u8, parts: &[&[u8]]) {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&self.value);
        context.update(&[separator]);
        for part in parts {
            context.update(part);
        }
        self.key = hmac::Key::new(self.algorithm, context.sign().as_ref());
        self.value = hmac::sign(&self.key, &self.value).as_ref().to_vec();
    }

    fn next(&mut self) -> BigUint {
        if self.drawn {
            self.stir(0, &[]);
        }
        self.drawn = true;
        self.value = hmac::sign(&self.key, &self.value).as_ref().to_vec();
        BigUint::from_bytes_be(&self.value)
    }
}

impl rcgen::PublicKeyData for EcKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.curve {
            Curve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Curve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }
}

impl rcgen::SigningKey for EcKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.sign_der(message)
            .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let digits: Vec<char> = hexadecimal.chars().collect();
        let pairs = digits.chunks(2).map(String::from_iter);
        pairs
            .map(|pair| u8::from_str_radix(&pair, 16).unwrap())
            .collect()
    }

    fn key(curve: Curve, secret: &str) -> EcKey {
        let secret = bytes(secret);
        let public = curve.point(&secret).unwrap();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            curve.signing(),
            &secret,
            public.as_ref(),
        )
        .unwrap();
        EcKey::of(curve, &pair, Vec::new()).unwrap()
    }

    /// RFC 6979, appendices A.2.5 and A.2.6.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let p256 = key(
            Curve::P256,
            "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
        );
        let p384 = key(
            Curve::P384,
            "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5",
        );
        for (key, message, signature) in [
            (
                &p256,
                "sample",
                "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
            ),
            (
                &p256,
                "test",
                "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
            ),
            (
                &p384,
                "sample",
                "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe4699ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
            ),
        ] {
            assert_eq!(key.sign(message.as_bytes()).unwrap(), bytes(signature));
            assert!(key.verify(message.as_bytes(), &bytes(signature)));
        }
    }

    #[test]
    fn derived_keys_repeat_and_survive_storage() {
        for curve in [Curve::P256, Curve::P384] {
            let one = EcKey::derive(curve, b"one").unwrap();
            let other = EcKey::derive(curve, b"other").unwrap();
            assert_ne!(one.public(), other.public());
            let stored = EcKey::from_pkcs8(curve, one.pkcs8().to_vec()).unwrap();
            let again = EcKey::derive(curve, b"one").unwrap();
            assert_eq!(again.pkcs8(), one.pkcs8());
            for key in [&stored, &again, &EcKey::random(curve).unwrap()] {
                let signature = key.sign(b"message").unwrap();
                assert!(key.verify(b"message", &signature));
                assert!(!key.verify(b"another", &signature));
                assert_eq!(
                    one.verify(b"message", &signature),
                    key.public() == one.public()
                );
            }
        }
    }
}
