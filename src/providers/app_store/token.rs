//! The JWT that every call to the Server API carries: ES256, one bundle, five minutes.
//!
//! Machine time: Apple judges `exp` by the real clock, whatever business time it is here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

const AUDIENCE: &str = "appstoreconnect-v1";
const LIFETIME: Duration = Duration::from_secs(300);
/// A token is used until it has this long to live, so that none expires on its way.
const SPARE: Duration = Duration::from_secs(120);

/// The key cannot sign.
#[derive(Debug, thiserror::Error)]
#[error("the App Store private key cannot be used: it must be an EC P-256 key in PKCS#8 PEM")]
pub(crate) struct KeyError;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: u64,
    exp: u64,
    aud: &'static str,
    bid: &'a str,
}

/// What StoreKit is told about an offer (`jws_signature_creator.py` of Apple's own library).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(crate) enum OfferClaims {
    Promotional {
        product_id: String,
        offer_identifier: String,
        /// Any transaction of the customer's, or their `appTransactionId`.
        #[serde(skip_serializing_if = "Option::is_none")]
        transaction_id: Option<String>,
    },
    Introductory {
        product_id: String,
        allow_introductory_offer: bool,
        transaction_id: String,
    },
}

#[derive(Serialize)]
struct SignedOffer<'a> {
    bid: &'a str,
    iss: &'a str,
    aud: &'static str,
    iat: u64,
    nonce: String,
    #[serde(flatten)]
    offer: &'a OfferClaims,
}

struct Minted {
    authorization: HeaderValue,
    at: Instant,
}

/// Makes and keeps request tokens, one per bundle.
pub(super) struct RequestTokens {
    issuer_id: String,
    key_id: String,
    key: EncodingKey,
    minted: Mutex<HashMap<String, Minted>>,
}

impl RequestTokens {
    pub(super) fn new(issuer_id: &str, key_id: &str, pem: &str) -> Result<Self, KeyError> {
        let tokens = Self {
            issuer_id: issuer_id.to_owned(),
            key_id: key_id.to_owned(),
            key: EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| KeyError)?,
            minted: Mutex::default(),
        };
        tokens.mint("probe").map(|_| tokens)
    }

    /// The `Authorization` value for calls about `bundle_id`.
    pub(super) fn authorization(&self, bundle_id: &str) -> Result<HeaderValue, KeyError> {
        let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = minted.get(bundle_id)
            && token.at.elapsed() < LIFETIME - SPARE
        {
            return Ok(token.authorization.clone());
        }
        let at = Instant::now();
        let authorization = self.mint(bundle_id)?;
        minted.insert(
            bundle_id.to_owned(),
            Minted {
                authorization: authorization.clone(),
                at,
            },
        );
        Ok(authorization)
    }

    /// Forgets a token that was refused, so that the next call does not repeat it.
    pub(super) fn forget(&self, bundle_id: &str) {
        self.minted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(bundle_id);
    }

    /// An offer's claims, signed: a compact JWS for StoreKit.
    pub(super) fn sign_offer(
        &self,
        bundle_id: &str,
        offer: &OfferClaims,
    ) -> Result<String, KeyError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let claims = SignedOffer {
            iss: &self.issuer_id,
            iat: now.as_secs(),
            aud: match offer {
                OfferClaims::Promotional { .. } => "promotional-offer",
                OfferClaims::Introductory { .. } => "introductory-offer-eligibility",
            },
            bid: bundle_id,
            nonce: uuid::Uuid::new_v4().to_string(),
            offer,
        };
        jsonwebtoken::encode(&self.header(), &claims, &self.key).map_err(|_| KeyError)
    }

    fn header(&self) -> Header {
        Header {
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::ES256)
        }
    }

    fn mint(&self, bundle_id: &str) -> Result<HeaderValue, KeyError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let claims = Claims {
            iss: &self.issuer_id,
            iat: now.as_secs(),
            exp: (now + LIFETIME).as_secs(),
            aud: AUDIENCE,
            bid: bundle_id,
        };
        let jwt = jsonwebtoken::encode(&self.header(), &claims, &self.key).map_err(|_| KeyError)?;
        let mut value = HeaderValue::try_from(format!("Bearer {jwt}")).map_err(|_| KeyError)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
    use serde_json::{Map, Value, json};

    use super::*;

    #[test]
    fn an_offer_is_signed_with_apples_claims_and_verifies_with_the_public_key() {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let tokens = RequestTokens::new("issuer", "key", &pair.serialize_pem()).unwrap();
        let public = DecodingKey::from_ec_der(pair.der_bytes());
        let promotional = OfferClaims::Promotional {
            product_id: "yearly".into(),
            offer_identifier: "back".into(),
            transaction_id: None,
        };
        let introductory = OfferClaims::Introductory {
            product_id: "yearly".into(),
            allow_introductory_offer: false,
            transaction_id: "2000000000000001".into(),
        };
        for (offer, audience, own) in [
            (
                promotional,
                "promotional-offer",
                json!({"productId": "yearly", "offerIdentifier": "back"}),
            ),
            (
                introductory,
                "introductory-offer-eligibility",
                json!({"productId": "yearly", "allowIntroductoryOffer": false,
                    "transactionId": "2000000000000001"}),
            ),
        ] {
            let jws = tokens.sign_offer("com.example.app", &offer).unwrap();
            let mut rules = Validation::new(Algorithm::ES256);
            rules.set_audience(&[audience]);
            rules.set_issuer(&["issuer"]);
            rules.set_required_spec_claims(&["aud", "iss"]);
            rules.validate_exp = false;
            let told = jsonwebtoken::decode::<Map<String, Value>>(&jws, &public, &rules).unwrap();
            assert_eq!(told.header.kid.as_deref(), Some("key"));
            let mut claims = told.claims;
            assert_eq!(claims.remove("bid"), Some(json!("com.example.app")));
            assert!(claims.remove("iat").unwrap().is_u64());
            let nonce = claims.remove("nonce").unwrap();
            assert!(uuid::Uuid::try_parse(nonce.as_str().unwrap()).is_ok());
            claims.remove("aud");
            claims.remove("iss");
            assert_eq!(Value::Object(claims), own);
        }
    }
}
