//! The certificate chain behind signed App Store documents: a root of our own with the names'
//! shape, curves, extensions and marker OIDs of Apple's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, SerialNumber, date_time_ymd,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::SandboxError;
use super::jws::{self, Algorithm, SigningKey, StoredKey};

/// Marks a leaf that may sign App Store receipts.
pub(super) const RECEIPT_SIGNING_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 11, 1];
/// Marks Apple's worldwide developer relations intermediate.
pub(super) const INTERMEDIATE_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 2, 1];
/// Marks a developer's own signing certificate: the same chain, but no right to sign receipts.
pub(super) const DEVELOPER_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 1, 2];
const DER_NULL: [u8; 2] = [5, 0];

/// What is written into one certificate.
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) ca: IsCa,
    pub(super) markers: Vec<&'static [u64]>,
    /// First and last year of validity, each from 1 January.
    pub(super) years: (i32, i32),
    pub(super) usages: Vec<KeyUsagePurpose>,
    pub(super) extended: Vec<ExtendedKeyUsagePurpose>,
}

impl Profile {
    pub(super) fn root() -> Self {
        Self {
            name: "Sandbox Root CA - G3",
            ca: IsCa::Ca(BasicConstraints::Unconstrained),
            markers: Vec::new(),
            years: (2020, 2045),
            usages: vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
            extended: Vec::new(),
        }
    }

    pub(super) fn intermediate() -> Self {
        Self {
            name: "Sandbox Worldwide Developer Relations Certification Authority",
            ca: IsCa::Ca(BasicConstraints::Constrained(0)),
            markers: vec![INTERMEDIATE_OID],
            ..Self::root()
        }
    }

    pub(super) fn leaf() -> Self {
        Self {
            name: "Sandbox Mac App Store and iTunes Store Receipt Signing",
            // Not plain `NoCa`: only this writes the subject key identifier strict verifiers ask for.
            ca: IsCa::ExplicitNoCa,
            markers: vec![RECEIPT_SIGNING_OID],
            usages: vec![KeyUsagePurpose::DigitalSignature],
            ..Self::root()
        }
    }

    fn params(&self) -> CertificateParams {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, self.name);
        name.push(
            DnType::OrganizationalUnitName,
            "Sandbox Certification Authority",
        );
        name.push(DnType::OrganizationName, "Entitled Sandbox");
        name.push(DnType::CountryName, "US");
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.is_ca = self.ca;
        params.not_before = date_time_ymd(self.years.0, 1, 1);
        params.not_after = date_time_ymd(self.years.1, 1, 1);
        params.key_usages = self.usages.clone();
        params.extended_key_usages = self.extended.clone();
        params.use_authority_key_identifier_extension = true;
        // Random, as a certificate authority's are; the top bit clear keeps it positive.
        params.serial_number = Some(SerialNumber::from(rand::random::<u64>() >> 1));
        params.custom_extensions = self
            .markers
            .iter()
            .map(|oid| CustomExtension::from_oid_content(oid, DER_NULL.to_vec()))
            .collect();
        params
    }
}

/// A certificate that may issue others.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) der: Vec<u8>,
}

/// The certificate at the end of a chain, with the key that signs documents.
pub(super) struct Leaf {
    pub(super) der: Vec<u8>,
    pub(super) key: SigningKey,
}

#[derive(Serialize, Deserialize)]
struct StoredAuthority {
    der: String,
    pkcs8: String,
}

impl Authority {
    pub(super) fn root() -> Result<Self, SandboxError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let params = Profile::root().params();
        let der = params.self_signed(&key)?.der().to_vec();
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, der })
    }

    pub(super) fn issue_authority(&self, profile: &Profile) -> Result<Self, SandboxError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let params = profile.params();
        let der = params.signed_by(&key, &self.issuer)?.der().to_vec();
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, der })
    }

    pub(super) fn issue_leaf(&self, profile: &Profile) -> Result<Leaf, SandboxError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = profile
            .params()
            .signed_by(&key, &self.issuer)?
            .der()
            .to_vec();
        let key = SigningKey::from_pkcs8(Algorithm::Es256, String::new(), key.serialize_der())?;
        Ok(Leaf { der, key })
    }

    fn store(&self) -> StoredAuthority {
        StoredAuthority {
            der: STANDARD.encode(&self.der),
            pkcs8: STANDARD.encode(self.issuer.key().serialized_der()),
        }
    }

    fn load(stored: &StoredAuthority, profile: &Profile) -> Result<Self, SandboxError> {
        let pkcs8 = PrivatePkcs8KeyDer::from(decode(&stored.pkcs8)?);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P384_SHA384)?;
        Ok(Self {
            issuer: Issuer::new(profile.params(), key),
            der: decode(&stored.der)?,
        })
    }
}

/// Root, intermediate and leaf, ready to sign.
pub(super) struct AppleChain {
    pub(super) root: Authority,
    pub(super) intermediate: Authority,
    pub(super) leaf: Leaf,
}

/// How the chain is kept on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredChain {
    root: StoredAuthority,
    intermediate: StoredAuthority,
    leaf_der: String,
    leaf_key: StoredKey,
}

impl AppleChain {
    pub(super) fn generate() -> Result<Self, SandboxError> {
        let root = Authority::root()?;
        let intermediate = root.issue_authority(&Profile::intermediate())?;
        let leaf = intermediate.issue_leaf(&Profile::leaf())?;
        Ok(Self {
            root,
            intermediate,
            leaf,
        })
    }

    pub(super) fn store(&self) -> StoredChain {
        StoredChain {
            root: self.root.store(),
            intermediate: self.intermediate.store(),
            leaf_der: STANDARD.encode(&self.leaf.der),
            leaf_key: self.leaf.key.store(),
        }
    }

    pub(super) fn load(stored: StoredChain) -> Result<Self, SandboxError> {
        Ok(Self {
            root: Authority::load(&stored.root, &Profile::root())?,
            intermediate: Authority::load(&stored.intermediate, &Profile::intermediate())?,
            leaf: Leaf {
                der: decode(&stored.leaf_der)?,
                key: SigningKey::load(stored.leaf_key)?,
            },
        })
    }

    /// The certificates as they stand in a header: leaf, intermediate, root.
    pub(super) fn x5c(&self) -> [&[u8]; 3] {
        [&self.leaf.der, &self.intermediate.der, &self.root.der]
    }

    /// A genuine signed document around `payload`.
    pub(super) fn sign(&self, payload: &Value) -> Result<String, SandboxError> {
        jws::compact(&header("ES256", &self.x5c()), payload, |message| {
            self.leaf.key.sign(message)
        })
    }
}

/// A JWS header with a certificate chain; `x5c` is standard base64, unlike the rest of a JWS.
pub(super) fn header(algorithm: &str, chain: &[&[u8]]) -> Value {
    let x5c: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
    json!({"alg": algorithm, "x5c": x5c})
}

fn decode(text: &str) -> Result<Vec<u8>, SandboxError> {
    STANDARD
        .decode(text)
        .map_err(|error| SandboxError::Key(error.to_string()))
}
