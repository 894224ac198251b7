//! The certificate chain of a signed document: leaf, intermediate, pinned root, and nothing else.
//!
//! Any developer's certificate leads to Apple's root; only the two marker extensions say that a
//! leaf may sign for the App Store.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::aws_lc_rs::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384,
};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::{Oid, oid};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::FromDer;

use super::error::{Role, VerifyError};
use super::roots::Roots;
use crate::domain::time::Instant;

const LEAF_MARKER: (Oid<'static>, &str) =
    (oid!(1.2.840.113635.100.6.11.1), "1.2.840.113635.100.6.11.1");
const INTERMEDIATE_MARKER: (Oid<'static>, &str) =
    (oid!(1.2.840.113635.100.6.2.1), "1.2.840.113635.100.6.2.1");
const DER_NULL: [u8; 2] = [5, 0];
/// An uncompressed point of P-256.
const LEAF_KEY_BYTES: usize = 65;

const CERTIFICATE_SIGNATURES: [&dyn SignatureVerificationAlgorithm; 4] = [
    ECDSA_P384_SHA384,
    ECDSA_P384_SHA256,
    ECDSA_P256_SHA256,
    ECDSA_P256_SHA384,
];

/// From the first to the last moment at which a certificate, or a whole chain, holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: Instant,
    pub(crate) not_after: Instant,
}

impl Validity {
    pub(super) fn of_certificate(role: Role, der: &[u8]) -> Result<Self, VerifyError> {
        let certificate = parse(role, der)?;
        let at = |time: i64| Instant::from_timestamp(time, 0).ok_or(VerifyError::Certificate(role));
        Ok(Self {
            not_before: at(certificate.validity().not_before.timestamp())?,
            not_after: at(certificate.validity().not_after.timestamp())?,
        })
    }

    fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    pub(super) fn covers(self, at: Instant) -> bool {
        self.not_before <= at && at <= self.not_after
    }
}

/// Leaf and intermediate as a document names them: decoded, not trusted.
pub(super) struct Candidate {
    pub(super) leaf: CertificateDer<'static>,
    pub(super) intermediate: CertificateDer<'static>,
}

/// A chain that leads to a pinned root and may sign for the App Store while it is valid.
pub(crate) struct Chain {
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) intermediate: CertificateDer<'static>,
    pub(crate) root: CertificateDer<'static>,
    validity: Validity,
    key: ParsedPublicKey,
}

impl Candidate {
    pub(super) fn decode([leaf, intermediate]: [&str; 2]) -> Result<Self, VerifyError> {
        let decode = |role, text: &str| {
            STANDARD
                .decode(text)
                .map(CertificateDer::from)
                .map_err(|_| VerifyError::Certificate(role))
        };
        Ok(Self {
            leaf: decode(Role::Leaf, leaf)?,
            intermediate: decode(Role::Intermediate, intermediate)?,
        })
    }

    /// The leaf is an end entity with the App Store's marker and a P-256 key for signatures.
    pub(super) fn check_leaf(&self) -> Result<ParsedPublicKey, VerifyError> {
        let leaf = parse(Role::Leaf, &self.leaf)?;
        check_marker(Role::Leaf, &leaf, &LEAF_MARKER)?;
        if leaf.is_ca() {
            return Err(VerifyError::LeafIsCa);
        }
        let usage = leaf
            .key_usage()
            .map_err(|_| VerifyError::Certificate(Role::Leaf))?;
        if usage.is_some_and(|usage| !usage.value.digital_signature()) {
            return Err(VerifyError::KeyUsage(Role::Leaf));
        }
        es256_key(&leaf)
    }

    /// The intermediate is Apple's authority for this: marker, CA, may sign certificates.
    pub(super) fn check_intermediate(&self) -> Result<(), VerifyError> {
        let intermediate = parse(Role::Intermediate, &self.intermediate)?;
        check_marker(Role::Intermediate, &intermediate, &INTERMEDIATE_MARKER)?;
        if !intermediate.is_ca() {
            return Err(VerifyError::IntermediateNotCa);
        }
        let usage = intermediate
            .key_usage()
            .map_err(|_| VerifyError::Certificate(Role::Intermediate))?;
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(VerifyError::KeyUsage(Role::Intermediate));
        }
        Ok(())
    }

    /// Signatures, names, constraints and validity of leaf → intermediate → pinned root at `at`.
    pub(super) fn check_path(
        &self,
        roots: &Roots,
        at: Instant,
    ) -> Result<(CertificateDer<'static>, Validity), VerifyError> {
        let leaf = EndEntityCert::try_from(&self.leaf)
            .map_err(|_| VerifyError::Certificate(Role::Leaf))?;
        let seconds = u64::try_from(at.timestamp()).map_err(|_| VerifyError::NotValidThen)?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let intermediates = [self.intermediate.clone()];
        let path = leaf
            .verify_for_usage(
                &CERTIFICATE_SIGNATURES,
                roots.anchors(),
                &intermediates,
                time,
                AnyPurpose,
                None,
                None,
            )
            .map_err(path_error)?;
        if path.intermediate_certificates().count() != 1 {
            return Err(VerifyError::Path(
                "the intermediate is not part of the path".to_owned(),
            ));
        }
        let (root, root_validity) = roots
            .behind(path.anchor())
            .ok_or_else(|| VerifyError::Path("no pinned root".to_owned()))?;
        let validity = Validity::of_certificate(Role::Leaf, &self.leaf)?
            .and(Validity::of_certificate(
                Role::Intermediate,
                &self.intermediate,
            )?)
            .and(root_validity);
        Ok((root.clone(), validity))
    }

    /// Everything at once.
    pub(super) fn verify(self, roots: &Roots, at: Instant) -> Result<Chain, VerifyError> {
        let key = self.check_leaf()?;
        self.check_intermediate()?;
        let (root, validity) = self.check_path(roots, at)?;
        let Self { leaf, intermediate } = self;
        let chain = Chain {
            leaf,
            intermediate,
            root,
            validity,
            key,
        };
        chain.check_time(at)?;
        Ok(chain)
    }
}

impl Chain {
    /// A certificate that somebody pinned by hand: it stands for itself, as Xcode's does.
    pub(super) fn alone(certificate: CertificateDer<'static>) -> Result<Self, VerifyError> {
        Ok(Self {
            key: es256_key(&parse(Role::Leaf, &certificate)?)?,
            validity: Validity::of_certificate(Role::Leaf, &certificate)?,
            leaf: certificate.clone(),
            intermediate: certificate.clone(),
            root: certificate,
        })
    }

    pub(super) fn check_time(&self, at: Instant) -> Result<(), VerifyError> {
        if self.validity.covers(at) {
            Ok(())
        } else {
            Err(VerifyError::NotValidThen)
        }
    }

    /// ES256 by the leaf's key over what was signed.
    pub(super) fn check_signature(
        &self,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), VerifyError> {
        self.key
            .verify_sig(signed, signature)
            .map_err(|_| VerifyError::Signature)
    }
}

/// Apple's leaf names no extended purposes; the markers take their place.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn parse(role: Role, der: &[u8]) -> Result<X509Certificate<'_>, VerifyError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(VerifyError::Certificate(role)),
    }
}

/// The certificate's key, if it can have signed by ES256.
fn es256_key(certificate: &X509Certificate<'_>) -> Result<ParsedPublicKey, VerifyError> {
    let key = certificate.public_key();
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.as_oid().ok());
    let on_p256 = key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve == Some(OID_EC_P256)
        && key.subject_public_key.data.len() == LEAF_KEY_BYTES;
    if !on_p256 {
        return Err(VerifyError::LeafKey);
    }
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.subject_public_key.data)
        .map_err(|_| VerifyError::LeafKey)
}

fn check_marker(
    role: Role,
    certificate: &X509Certificate<'_>,
    (oid, name): &(Oid<'static>, &'static str),
) -> Result<(), VerifyError> {
    match certificate.get_extension_unique(oid) {
        Ok(Some(extension)) if extension.value == DER_NULL => Ok(()),
        Ok(_) | Err(_) => Err(VerifyError::Marker { role, oid: name }),
    }
}

fn path_error(error: webpki::Error) -> VerifyError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the errors of another crate"
    )]
    match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            VerifyError::NotValidThen
        }
        other => VerifyError::Path(other.to_string()),
    }
}
