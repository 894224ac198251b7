//! Signatures of promotional offers for StoreKit's older interface: fields joined by U+2063, signed
//! with the key of the API calls (`promotional_offer.py` of Apple's own library).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use uuid::Uuid;

use super::token::KeyError;

/// INVISIBLE SEPARATOR: in no id, so that no field can reach into the next.
const SEPARATOR: &str = "\u{2063}";

/// What an offer is signed for.
pub(crate) struct Promotion<'a> {
    pub(crate) bundle_id: &'a str,
    pub(crate) product_id: &'a str,
    pub(crate) offer_identifier: &'a str,
    /// `appAccountToken` of the purchase, or `applicationUsername` of the payment; may be empty.
    pub(crate) account_token: &'a str,
}

/// What StoreKit is handed beside the offer's identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PromotionSignature {
    pub(crate) key_id: String,
    /// Never used before.
    pub(crate) nonce: Uuid,
    /// Milliseconds since 1970; Apple takes the signature for 24 hours from it.
    pub(crate) timestamp: i64,
    /// ECDSA over SHA-256, in DER.
    pub(crate) signature: Vec<u8>,
    /// As it was signed.
    pub(crate) account_token: String,
}

/// The key that signs.
pub(super) struct PromotionSigner {
    key_id: String,
    key: EcdsaKeyPair,
}

impl PromotionSigner {
    pub(super) fn new(key_id: &str, pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der());
        Ok(Self {
            key_id: key_id.to_owned(),
            key: key.map_err(|_| KeyError)?,
        })
    }

    /// `timestamp`: now, in milliseconds since 1970, by the machine's clock as Apple's is.
    pub(super) fn sign(
        &self,
        promotion: &Promotion<'_>,
        timestamp: i64,
    ) -> Result<PromotionSignature, KeyError> {
        let nonce = Uuid::new_v4();
        let account_token = promotion.account_token.to_lowercase();
        let fields = [
            promotion.bundle_id,
            &self.key_id,
            promotion.product_id,
            promotion.offer_identifier,
            &account_token,
            &nonce.to_string(),
            &timestamp.to_string(),
        ];
        if fields.iter().any(|field| field.contains(SEPARATOR)) {
            return Err(KeyError);
        }
        let message = fields.join(SEPARATOR);
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        Ok(PromotionSignature {
            key_id: self.key_id.clone(),
            nonce,
            timestamp,
            signature: signature.map_err(|_| KeyError)?.as_ref().to_vec(),
            account_token,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};

    use super::*;

    const AT: i64 = 1_799_571_600_000;

    fn promotion<'a>() -> Promotion<'a> {
        Promotion {
            bundle_id: "com.example.app",
            product_id: "com.example.premium.yearly",
            offer_identifier: "back_50",
            account_token: "0B5C8A86-3C3F-4C29-9D56-02C0F2C3A1AA",
        }
    }

    #[test]
    fn a_promotion_verifies_with_the_public_key_over_apples_fields_and_nothing_else() {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = PromotionSigner::new("KEY1234567", &pair.serialize_pem()).unwrap();
        let signed = signer.sign(&promotion(), AT).unwrap();
        assert_eq!(signed.account_token, "0b5c8a86-3c3f-4c29-9d56-02c0f2c3a1aa");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.der_bytes());
        let nonce = signed.nonce.hyphenated().to_string();
        let message = |offer: &str, token: &str, nonce: &str, at: i64| {
            format!(
                "com.example.app\u{2063}KEY1234567\u{2063}com.example.premium.yearly\u{2063}\
                 {offer}\u{2063}{token}\u{2063}{nonce}\u{2063}{at}"
            )
        };
        let token = signed.account_token.as_str();
        let good = message("back_50", token, &nonce, AT);
        let verify = |message: &str| public.verify(message.as_bytes(), &signed.signature);
        assert!(verify(&good).is_ok());
        let other = Uuid::new_v4().to_string();
        for wrong in [
            message("back_90", token, &nonce, AT),
            message("back_50", "", &nonce, AT),
            message("back_50", &token.to_uppercase(), &nonce, AT),
            message("back_50", token, &other, AT),
            message("back_50", token, &nonce, AT + 1),
            good.replace('\u{2063}', ""),
        ] {
            assert!(verify(&wrong).is_err(), "{wrong:?}");
        }
        assert_ne!(signer.sign(&promotion(), AT).unwrap().nonce, signed.nonce);
    }

    #[test]
    fn no_field_reaches_into_the_next() {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = PromotionSigner::new("KEY1234567", &pair.serialize_pem()).unwrap();
        let smuggled = Promotion {
            offer_identifier: "back_50\u{2063}x",
            ..promotion()
        };
        assert!(signer.sign(&smuggled, AT).is_err());
        assert!(PromotionSigner::new("KEY1234567", "not a key").is_err());
    }
}
