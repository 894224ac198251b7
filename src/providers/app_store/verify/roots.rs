//! The roots that a chain may end in. Pinned by configuration, never taken from a document.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::chain::Validity;
use super::error::{Role, VerifyError};

/// Apple Root CA - G3, P-384, valid 2014-04-30 to 2039-04-30.
/// SHA-256 63:34:3A:BF:B8:9A:6A:03:EB:B5:7E:9B:3F:5F:A7:BE:7C:4F:5C:75:6F:30:17:B3:A8:C4:88:C3:65:3E:91:79
pub(super) const APPLE_ROOT_CA_G3: &[u8] = include_bytes!("../apple_root_ca_g3.cer");

/// A certificate from a file, DER or PEM.
pub(super) fn certificate(file: Vec<u8>) -> Result<CertificateDer<'static>, VerifyError> {
    if file.starts_with(b"-----BEGIN") {
        CertificateDer::from_pem_slice(&file).map_err(|_| VerifyError::Certificate(Role::Root))
    } else {
        Ok(CertificateDer::from(file))
    }
}

/// All pinned roots.
pub(crate) struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    validities: Vec<Validity>,
}

impl Roots {
    /// The one root of genuine App Store documents.
    pub(crate) fn apple() -> Result<Self, VerifyError> {
        Self::pinned(vec![APPLE_ROOT_CA_G3.to_vec()])
    }

    /// Roots from files, each DER or PEM.
    pub(crate) fn pinned(files: Vec<Vec<u8>>) -> Result<Self, VerifyError> {
        let mut roots = Self {
            certificates: Vec::new(),
            anchors: Vec::new(),
            validities: Vec::new(),
        };
        for file in files {
            let certificate = certificate(file)?;
            let anchor = webpki::anchor_from_trusted_cert(&certificate)
                .map_err(|_| VerifyError::Certificate(Role::Root))?
                .to_owned();
            roots
                .validities
                .push(Validity::of_certificate(Role::Root, &certificate)?);
            roots.anchors.push(anchor);
            roots.certificates.push(certificate);
        }
        Ok(roots)
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The certificate behind an anchor that a path ended in, and when it is valid.
    pub(super) fn behind(
        &self,
        anchor: &TrustAnchor<'_>,
    ) -> Option<(&CertificateDer<'static>, Validity)> {
        let n = self.anchors.iter().position(|own| own == anchor)?;
        Some((self.certificates.get(n)?, *self.validities.get(n)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_root_is_apple_root_ca_g3() {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, APPLE_ROOT_CA_G3);
        let hex: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        assert_eq!(
            hex.join(":"),
            "63:34:3A:BF:B8:9A:6A:03:EB:B5:7E:9B:3F:5F:A7:BE:7C:4F:5C:75:6F:30:17:B3:A8:C4:88:C3:65:3E:91:79"
        );
        assert!(Roots::apple().is_ok());
    }
}
