//! What came back, believed only as far as the issuer's signature reaches. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY};
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::aws_lc_rs::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384,
};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_ocsp::{
    BasicOcspResponse, CertStatus, OcspResponse, OcspResponseStatus, ResponderId, SingleResponse,
};

use super::OcspError;
use super::request::{cert_id, parse};

const BASIC_RESPONSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
/// `id-kp-OCSPSigning`, 1.3.6.1.5.5.7.3.9, as DER content.
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];
const CERTIFICATE_SIGNATURES: [&dyn SignatureVerificationAlgorithm; 4] = [
    ECDSA_P384_SHA384,
    ECDSA_P384_SHA256,
    ECDSA_P256_SHA256,
    ECDSA_P256_SHA384,
];
/// How far the responder's clock may be from ours.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// Good, or why not.
pub(super) fn judge(
    body: &[u8],
    certificate: &CertificateDer<'_>,
    issuer: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<(), OcspError> {
    let response = basic(body)?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let signer = signer(&response, issuer, now)
        .ok_or_else(|| OcspError::unavailable("the answer is not by the issuer"))?;
    check_signature(&response, &signer)
        .ok_or_else(|| OcspError::unavailable("the answer's signature does not match"))?;
    let (certificate, issuer) = (parse(certificate)?, parse(issuer)?);
    let single = response
        .tbs_response_data
        .responses
        .iter()
        .find(|single| names(single, &certificate, &issuer) && is_current(single, now))
        .ok_or_else(|| OcspError::unavailable("no current answer about the certificate"))?;
    match single.cert_status {
        CertStatus::Good(_) => Ok(()),
        CertStatus::Revoked(_) => Err(OcspError::Refused("it is revoked")),
        CertStatus::Unknown(_) => Err(OcspError::Refused("its issuer does not know it")),
    }
}

fn basic(body: &[u8]) -> Result<BasicOcspResponse, OcspError> {
    let broken = || OcspError::unavailable("the answer is not an OCSP response");
    let response = OcspResponse::from_der(body).map_err(|_| broken())?;
    if response.response_status != OcspResponseStatus::Successful {
        let status = response.response_status as u32;
        return Err(OcspError::unavailable(format!(
            "the responder says {status}"
        )));
    }
    let bytes = response.response_bytes.ok_or_else(broken)?;
    if bytes.response_type != BASIC_RESPONSE {
        return Err(broken());
    }
    BasicOcspResponse::from_der(bytes.response.as_bytes()).map_err(|_| broken())
}

/// The issuer itself, or whom it lets answer: a certificate of its own for OCSP signing.
fn signer(
    response: &BasicOcspResponse,
    issuer: &CertificateDer<'_>,
    now: Duration,
) -> Option<CertificateDer<'static>> {
    let responder = &response.tbs_response_data.responder_id;
    if is_responder(responder, &parse(issuer).ok()?) {
        return Some(issuer.clone().into_owned());
    }
    let delegates = response.certs.iter().flatten();
    let delegate = delegates.filter(|delegate| is_responder(responder, delegate));
    delegate
        .filter_map(|delegate| delegate.to_der().ok().map(CertificateDer::from))
        .find(|delegate| is_delegated(delegate, issuer, now).is_some())
}

fn is_responder(responder: &ResponderId, candidate: &Certificate) -> bool {
    let candidate = &candidate.tbs_certificate;
    match responder {
        ResponderId::ByName(name) => *name == candidate.subject,
        ResponderId::ByKey(hash) => {
            let key = candidate
                .subject_public_key_info
                .subject_public_key
                .raw_bytes();
            let own = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, key);
            own.as_ref() == hash.as_bytes()
        }
    }
}

fn is_delegated(
    delegate: &CertificateDer<'_>,
    issuer: &CertificateDer<'_>,
    now: Duration,
) -> Option<()> {
    let anchors = [webpki::anchor_from_trusted_cert(issuer).ok()?];
    let delegate = EndEntityCert::try_from(delegate).ok()?;
    delegate
        .verify_for_usage(
            &CERTIFICATE_SIGNATURES,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(now),
            KeyUsage::required(OCSP_SIGNING),
            None,
            None,
        )
        .ok()
        .map(drop)
}

fn check_signature(response: &BasicOcspResponse, signer: &CertificateDer<'_>) -> Option<()> {
    let algorithms = match response.signature_algorithm.oid {
        ECDSA_WITH_SHA256 => [ECDSA_P256_SHA256, ECDSA_P384_SHA256],
        ECDSA_WITH_SHA384 => [ECDSA_P256_SHA384, ECDSA_P384_SHA384],
        _ => return None,
    };
    let signed = response.tbs_response_data.to_der().ok()?;
    let signature = response.signature.as_bytes()?;
    let signer = EndEntityCert::try_from(signer).ok()?;
    algorithms
        .into_iter()
        .any(|algorithm| {
            signer
                .verify_signature(algorithm, &signed, signature)
                .is_ok()
        })
        .then_some(())
}

fn names(single: &SingleResponse, certificate: &Certificate, issuer: &Certificate) -> bool {
    let said = &single.cert_id;
    cert_id(said.hash_algorithm.oid, certificate, issuer).is_some_and(|own| {
        own.issuer_name_hash == said.issuer_name_hash
            && own.issuer_key_hash == said.issuer_key_hash
            && own.serial_number == said.serial_number
    })
}

fn is_current(single: &SingleResponse, now: Duration) -> bool {
    let from = single.this_update.0.to_unix_duration();
    let until = single.next_update.map(|next| next.0.to_unix_duration());
    from <= now + SKEW_MAX && until.is_some_and(|until| until + SKEW_MAX >= now)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
