//! Why a signed document is not believed. Says what is wrong, never what the document holds.

use super::jws::JWS_BYTES_MAX;

/// Which certificate of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Leaf,
    Intermediate,
    Root,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate",
            Self::Root => "root",
        })
    }
}

/// The first thing found wrong with a signed document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("the document is larger than {JWS_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is not three parts joined by dots")]
    NotCompact,
    #[error("the {0} is not base64url without padding")]
    NotBase64Url(&'static str),
    #[error("the header is not a JSON object with `alg` and `x5c` of the right types")]
    Header,
    #[error("`alg` is not ES256")]
    Algorithm,
    #[error("the header has `{0}`, which the App Store never sends")]
    ForbiddenHeader(&'static str),
    #[error("`x5c` has {0} certificates instead of 3")]
    ChainLength(usize),
    #[error("it is not signed by the pinned certificate")]
    NotPinned,
    #[error("the {0} certificate is not standard base64 of one X.509 certificate in DER")]
    Certificate(Role),
    #[error("the {role} certificate lacks the App Store's marker extension {oid}")]
    Marker { role: Role, oid: &'static str },
    #[error("the intermediate certificate is no certificate authority")]
    IntermediateNotCa,
    #[error("the leaf certificate is a certificate authority")]
    LeafIsCa,
    #[error("the {0} certificate's key usage does not allow this use")]
    KeyUsage(Role),
    #[error("the leaf certificate's key is not an EC key on P-256")]
    LeafKey,
    #[error("the certificates do not lead to a trusted root: {0}")]
    Path(String),
    #[error("the certificates were not all valid at signedDate")]
    NotValidThen,
    #[error("the signature is not 64 bytes")]
    SignatureLength,
    #[error("the signature does not match")]
    Signature,
    #[error("signedDate is missing or not integer milliseconds")]
    SignedDate,
    #[error("signedDate lies in the future")]
    SignedInFuture,
    #[error("the payload is not a {0} of the App Store")]
    Payload(&'static str),
}
