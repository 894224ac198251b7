//! What is asked, and whom.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use der::asn1::{Null, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use reqwest::Url;
use x509_cert::Certificate;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{CertId, OcspRequest, Request, TbsRequest, Version};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::OcspError;

const ID_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const ID_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// Where the certificate says that its status is told. It leads to a pinned root, so this is
/// Apple's word.
pub(super) fn responder(certificate: &[u8]) -> Result<Url, OcspError> {
    let nobody = OcspError::Refused("it names no OCSP responder");
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| nobody.clone())?;
    certificate
        .extensions()
        .iter()
        .filter_map(|extension| {
            let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else {
                return None;
            };
            Some(access)
        })
        .flat_map(|access| &access.accessdescs)
        .filter(|access| access.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP)
        .find_map(|access| {
            let GeneralName::URI(uri) = access.access_location else {
                return None;
            };
            Url::parse(uri).ok()
        })
        .ok_or(nobody)
}

/// One question about one certificate, by SHA-256.
pub(super) fn body(certificate: &[u8], issuer: &[u8]) -> Result<Vec<u8>, OcspError> {
    let broken = |_| OcspError::Refused("it cannot be asked about");
    let id = cert_id(ID_SHA256, &parse(certificate)?, &parse(issuer)?)
        .ok_or(OcspError::Refused("it cannot be asked about"))?;
    let request = OcspRequest {
        tbs_request: TbsRequest {
            version: Version::V1,
            requestor_name: None,
            request_list: vec![Request {
                req_cert: id,
                single_request_extensions: None,
            }],
            request_extensions: None,
        },
        optional_signature: None,
    };
    request.to_der().map_err(broken)
}

pub(super) fn parse(certificate: &[u8]) -> Result<Certificate, OcspError> {
    Certificate::from_der(certificate).map_err(|_| OcspError::Refused("it cannot be read"))
}

/// How OCSP names a certificate; `None` for a hash that nobody uses for it.
pub(super) fn cert_id(
    hash: ObjectIdentifier,
    certificate: &Certificate,
    issuer: &Certificate,
) -> Option<CertId> {
    let algorithm = match hash {
        ID_SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
        ID_SHA256 => &SHA256,
        _ => return None,
    };
    let hashed = |bytes: &[u8]| OctetString::new(digest::digest(algorithm, bytes).as_ref()).ok();
    let issuer = &issuer.tbs_certificate;
    Some(CertId {
        hash_algorithm: AlgorithmIdentifierOwned {
            oid: hash,
            parameters: Some(Null.into()),
        },
        issuer_name_hash: hashed(&issuer.subject.to_der().ok()?)?,
        issuer_key_hash: hashed(
            issuer
                .subject_public_key_info
                .subject_public_key
                .raw_bytes(),
        )?,
        serial_number: certificate.tbs_certificate.serial_number.clone(),
    })
}
