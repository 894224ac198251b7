//! The OCSP responders of the chain behind signed documents: each authority lets a delegate say
//! whether what it has issued still stands. All times are the machine's, as all credentials' are.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{BitString, GeneralizedTime, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::ext::pkix::CrlReason;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse,
    OcspResponseStatus, ResponderId, ResponseData, RevokedInfo, SingleResponse, Version,
};

use super::super::certs::{AppleChain, OCSP_INTERMEDIATE, OCSP_ROOT};
use super::super::error::SandboxError;
use super::super::inner::Inner;
use super::super::traffic::Endpoint;

/// How old an answer is, and how long it holds from now. Real ones come from caches too; and
/// Apple's Node library reads their times as local ones.
const ANSWER_HALF_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");

/// What the OCSP responders say about the certificates that sign Apple's documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OcspAnswer {
    /// Both stand.
    #[default]
    Good,
    /// The leaf has been revoked.
    Revoked,
    /// Nobody has issued the leaf.
    Unknown,
    /// The responders are busy: an OCSP answer that says so.
    TryLater,
    /// The responders are down: HTTP 503.
    Down,
}

pub(super) fn routes() -> Router<Arc<Inner>> {
    Router::new()
        .route("/ocsp/{responder}", post(by_post))
        .route("/ocsp/{responder}/{*request}", get(by_get))
}

async fn by_post(
    State(inner): State<Arc<Inner>>,
    Path(responder): Path<String>,
    body: Bytes,
) -> Response {
    answer(&inner, &responder, &body).await
}

/// RFC 6960, appendix A.1: the request stands in the path, base64 and then percent-encoded.
async fn by_get(
    State(inner): State<Arc<Inner>>,
    Path((responder, request)): Path<(String, String)>,
) -> Response {
    let request = STANDARD.decode(request).unwrap_or_default();
    answer(&inner, &responder, &request).await
}

async fn answer(inner: &Inner, responder: &str, request: &[u8]) -> Response {
    // Not one of the App Store's outages: its responders stand elsewhere.
    if inner.traffic.admit(Endpoint::AppleOcsp).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let wish = inner.ocsp();
    let body = match wish {
        OcspAnswer::Down => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        OcspAnswer::TryLater => Ok(bare(OcspResponseStatus::TryLater)),
        OcspAnswer::Good | OcspAnswer::Revoked | OcspAnswer::Unknown => {
            let chain = &inner.keys.apple;
            let Some(desk) = Desk::of(chain, responder, wish) else {
                return StatusCode::NOT_FOUND.into_response();
            };
            match OcspRequest::from_der(request) {
                Ok(request) => desk.and_then(|desk| desk.answer(request, chain)),
                Err(_) => Ok(bare(OcspResponseStatus::MalformedRequest)),
            }
        }
    };
    match body.and_then(|body| Ok(body.to_der()?)) {
        Ok(der) => ([(header::CONTENT_TYPE, "application/ocsp-response")], der).into_response(),
        Err(error) => {
            tracing::error!(%error, "the simulated OCSP responder failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// An answer that answers nothing.
fn bare(response_status: OcspResponseStatus) -> OcspResponse {
    OcspResponse {
        response_status,
        response_bytes: None,
    }
}

/// One authority's responder, and the one certificate that it knows of.
struct Desk {
    issuer: Certificate,
    delegate: Certificate,
    known: SerialNumber,
    status: CertStatus,
}

impl Desk {
    fn of(
        chain: &AppleChain,
        responder: &str,
        wish: OcspAnswer,
    ) -> Option<Result<Self, SandboxError>> {
        let [root, intermediate] = &chain.responders;
        let (issuer, delegate, issued, status) = match responder {
            OCSP_ROOT => (
                &chain.root.der,
                root,
                &chain.intermediate.der,
                Ok(CertStatus::good()),
            ),
            OCSP_INTERMEDIATE => (
                &chain.intermediate.der,
                intermediate,
                &chain.leaf.der,
                leaf_status(wish),
            ),
            _ => return None,
        };
        let open = || {
            Ok(Self {
                issuer: Certificate::from_der(issuer)?,
                delegate: Certificate::from_der(delegate)?,
                known: Certificate::from_der(issued)?.tbs_certificate.serial_number,
                status: status?,
            })
        };
        Some(open())
    }

    fn answer(
        &self,
        request: OcspRequest,
        chain: &AppleChain,
    ) -> Result<OcspResponse, SandboxError> {
        let nonce = request.tbs_request.request_extensions.map(|mut all| {
            all.retain(|extension| extension.extn_id == NONCE);
            all
        });
        let this_update = machine_time(|now| now.checked_sub(ANSWER_HALF_LIFE))?;
        let next_update = machine_time(|now| now.checked_add(ANSWER_HALF_LIFE))?;
        let asked = request.tbs_request.request_list.into_iter();
        let responses = asked
            .map(|asked| SingleResponse {
                cert_status: self.status_of(&asked.req_cert),
                cert_id: asked.req_cert,
                this_update,
                next_update: Some(next_update),
                single_extensions: None,
            })
            .collect();
        let data = ResponseData {
            version: Version::V1,
            responder_id: ResponderId::ByKey(OctetString::new(
                hash_of_key(&self.delegate, &SHA1_FOR_LEGACY_USE_ONLY).as_ref(),
            )?),
            produced_at: this_update,
            responses,
            response_extensions: nonce.filter(|all| !all.is_empty()),
        };
        let signature = chain.responder.sign_der(&data.to_der()?)?;
        let basic = BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: AlgorithmIdentifierOwned {
                oid: ECDSA_WITH_SHA256,
                parameters: None,
            },
            signature: BitString::from_bytes(&signature)?,
            certs: Some(vec![self.delegate.clone()]),
        };
        Ok(OcspResponse::successful(basic)?)
    }

    /// Only what its own authority has issued is known.
    fn status_of(&self, asked: &CertId) -> CertStatus {
        let matches = || {
            let algorithm = hash_algorithm(asked.hash_algorithm.oid)?;
            let name = self.issuer.tbs_certificate.subject.to_der().ok()?;
            let name = digest::digest(algorithm, &name);
            let key = hash_of_key(&self.issuer, algorithm);
            Some(
                name.as_ref() == asked.issuer_name_hash.as_bytes()
                    && key.as_ref() == asked.issuer_key_hash.as_bytes()
                    && self.known == asked.serial_number,
            )
        };
        match matches() {
            Some(true) => self.status,
            Some(false) | None => CertStatus::unknown(),
        }
    }
}

fn leaf_status(wish: OcspAnswer) -> Result<CertStatus, SandboxError> {
    Ok(match wish {
        OcspAnswer::Revoked => CertStatus::revoked(RevokedInfo {
            revocation_time: machine_time(|now| now.checked_sub(ANSWER_HALF_LIFE))?,
            revocation_reason: Some(CrlReason::KeyCompromise),
        }),
        OcspAnswer::Unknown => CertStatus::unknown(),
        OcspAnswer::Good | OcspAnswer::TryLater | OcspAnswer::Down => CertStatus::good(),
    })
}

fn hash_algorithm(oid: ObjectIdentifier) -> Option<&'static digest::Algorithm> {
    const SHA1_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
    const SHA256_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
    const SHA384_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
    const SHA512_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
    match oid {
        SHA1_OID => Some(&SHA1_FOR_LEGACY_USE_ONLY),
        SHA256_OID => Some(&SHA256),
        SHA384_OID => Some(&SHA384),
        SHA512_OID => Some(&SHA512),
        _ => None,
    }
}

/// The hash of the bare public key, without what says which kind it is.
fn hash_of_key(certificate: &Certificate, algorithm: &'static digest::Algorithm) -> digest::Digest {
    let key = &certificate.tbs_certificate.subject_public_key_info;
    digest::digest(algorithm, key.subject_public_key.raw_bytes())
}

fn machine_time(
    shift: impl FnOnce(SystemTime) -> Option<SystemTime>,
) -> Result<OcspGeneralizedTime, SandboxError> {
    let at = shift(SystemTime::now())
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .unwrap_or_default();
    // Whole seconds: the format has no others.
    let at = Duration::from_secs(at.as_secs());
    Ok(OcspGeneralizedTime(GeneralizedTime::from_unix_duration(
        at,
    )?))
}
