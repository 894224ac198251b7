//! The certificate chain behind signed App Store documents: a root of our own with the names'
//! shape, curves, extensions and marker OIDs of Apple's.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{Ia5String, ObjectIdentifier};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AccessDescription, AuthorityInfoAccessSyntax};

use super::ecdsa::{Curve, EcKey};
use super::error::SandboxError;
use super::jws::{self, SigningKey};

/// Marks a leaf that may sign App Store receipts.
pub(super) const RECEIPT_SIGNING_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 11, 1];
/// Marks Apple's worldwide developer relations intermediate.
pub(super) const INTERMEDIATE_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 2, 1];
/// Marks a developer's own signing certificate: the same chain, but no right to sign receipts.
pub(super) const DEVELOPER_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 1, 2];
/// `id-pkix-ocsp-nocheck`: nobody needs to ask whether this responder still stands.
const NO_CHECK_OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 5];
/// `id-pe-authorityInfoAccess`.
const AUTHORITY_INFO_ACCESS_OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
/// `id-ad-ocsp`: an access description that leads to a responder.
const OCSP_ACCESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const DER_NULL: [u8; 2] = [5, 0];
/// Length of a serial number, as Apple's leaves have it.
const SERIAL_BYTES: usize = 16;

/// Where the responder for what the root has issued is found, below the App Store's base URL.
pub(super) const OCSP_ROOT: &str = "ocsp03-rootcag3";
/// Where the responder for what the intermediate has issued is found.
pub(super) const OCSP_INTERMEDIATE: &str = "ocsp03-wwdrg6";

/// What is written into one certificate.
#[derive(Clone)]
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) ca: IsCa,
    pub(super) markers: Vec<&'static [u64]>,
    /// First and last year of validity, each from 1 January. Long, because business time may be
    /// years away from the machine's, by which online verifiers judge.
    pub(super) years: (i32, i32),
    pub(super) usages: Vec<KeyUsagePurpose>,
    pub(super) extended: Vec<ExtendedKeyUsagePurpose>,
    /// Whom to ask whether the certificate still stands.
    pub(super) ocsp: Option<String>,
}

impl Profile {
    fn root() -> Self {
        Self {
            name: "Sandbox Root CA - G3",
            ca: IsCa::Ca(BasicConstraints::Unconstrained),
            markers: Vec::new(),
            years: (2020, 2045),
            usages: vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
            extended: Vec::new(),
            ocsp: None,
        }
    }

    fn intermediate(base: &str) -> Self {
        Self {
            name: "Sandbox Worldwide Developer Relations Certification Authority",
            ca: IsCa::Ca(BasicConstraints::Constrained(0)),
            markers: vec![INTERMEDIATE_OID],
            ocsp: Some(format!("{base}/{OCSP_ROOT}")),
            ..Self::root()
        }
    }

    fn leaf(base: &str) -> Self {
        Self {
            name: "Sandbox Mac App Store and iTunes Store Receipt Signing",
            // Not plain `NoCa`: only this writes the subject key identifier strict verifiers ask for.
            ca: IsCa::ExplicitNoCa,
            markers: vec![RECEIPT_SIGNING_OID],
            usages: vec![KeyUsagePurpose::DigitalSignature],
            ocsp: Some(format!("{base}/{OCSP_INTERMEDIATE}")),
            ..Self::root()
        }
    }

    /// Whom an authority lets answer for it.
    fn responder() -> Self {
        Self {
            name: "Sandbox OCSP Responder",
            ca: IsCa::ExplicitNoCa,
            markers: vec![NO_CHECK_OID],
            usages: vec![KeyUsagePurpose::DigitalSignature],
            extended: vec![ExtendedKeyUsagePurpose::OcspSigning],
            ..Self::root()
        }
    }

    fn params(&self, key: &EcKey) -> Result<CertificateParams, SandboxError> {
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
        params.serial_number = Some(self.serial(key));
        params.custom_extensions = self
            .markers
            .iter()
            .map(|oid| CustomExtension::from_oid_content(oid, DER_NULL.to_vec()))
            .collect();
        if let Some(url) = &self.ocsp {
            let access = authority_info_access(url)?;
            params.custom_extensions.push(access);
        }
        Ok(params)
    }

    /// Unique without chance: what tells certificates apart is in it.
    fn serial(&self, key: &EcKey) -> SerialNumber {
        let url = self.ocsp.as_deref().unwrap_or_default();
        let mut seed = format!("{} {:?} {url} ", self.name, self.years).into_bytes();
        seed.extend_from_slice(key.public());
        let mut serial = digest(&SHA256, &seed).as_ref().to_vec();
        serial.truncate(SERIAL_BYTES);
        if let Some(first) = serial.first_mut() {
            // Positive, and of full length.
            *first = *first & 0x7f | 0x40;
        }
        SerialNumber::from(serial)
    }
}

fn authority_info_access(url: &str) -> Result<CustomExtension, SandboxError> {
    let access = AuthorityInfoAccessSyntax(vec![AccessDescription {
        access_method: OCSP_ACCESS,
        access_location: GeneralName::UniformResourceIdentifier(Ia5String::new(url)?),
    }]);
    let content = der::Encode::to_der(&access)?;
    Ok(CustomExtension::from_oid_content(
        AUTHORITY_INFO_ACCESS_OID,
        content,
    ))
}

/// A certificate that may issue others.
pub(super) struct Authority {
    issuer: Issuer<'static, EcKey>,
    pub(super) der: Vec<u8>,
}

/// The certificate at the end of a chain, with the key that signs documents.
pub(super) struct Leaf {
    pub(super) der: Vec<u8>,
    pub(super) key: SigningKey,
}

impl Authority {
    /// A root that nobody knows.
    pub(super) fn stranger() -> Result<Self, SandboxError> {
        Self::root(EcKey::random(Curve::P384)?, None)
    }

    /// A root with this key; `der` is its certificate, if it has one.
    fn root(key: EcKey, der: Option<Vec<u8>>) -> Result<Self, SandboxError> {
        let params = Profile::root().params(&key)?;
        let der = match der {
            Some(der) => der,
            None => params.self_signed(&key)?.der().to_vec(),
        };
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, der })
    }

    pub(super) fn issue_authority(
        &self,
        profile: &Profile,
        key: EcKey,
    ) -> Result<Self, SandboxError> {
        let params = profile.params(&key)?;
        let der = params.signed_by(&key, &self.issuer)?.der().to_vec();
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, der })
    }

    pub(super) fn issue_leaf(&self, profile: &Profile, key: EcKey) -> Result<Leaf, SandboxError> {
        let der = self.issue(profile, &key)?;
        let key = SigningKey::es256(String::new(), key);
        Ok(Leaf { der, key })
    }

    fn issue(&self, profile: &Profile, key: &EcKey) -> Result<Vec<u8>, SandboxError> {
        let params = profile.params(key)?;
        Ok(params.signed_by(key, &self.issuer)?.der().to_vec())
    }
}

/// The private keys of a chain.
struct ChainKeys {
    root: EcKey,
    intermediate: EcKey,
    leaf: EcKey,
    /// Signs what the OCSP responders of both authorities say.
    responder: EcKey,
}

/// How the chain is kept on disk. All certificates but the root's are issued anew at each start:
/// they name the address at which their status is told.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredChain {
    root_der: String,
    root: String,
    intermediate: String,
    leaf: String,
    responder: String,
}

/// Root, intermediate and leaf, ready to sign.
pub(super) struct AppleChain {
    pub(super) root: Authority,
    pub(super) intermediate: Authority,
    pub(super) leaf: Leaf,
    /// Certificates of whom root and intermediate let answer for them.
    pub(super) responders: [Vec<u8>; 2],
    pub(super) responder: EcKey,
    /// Base URL of the OCSP responders.
    ocsp: String,
    /// The header of every document, encoded.
    header: String,
}

impl AppleChain {
    /// The chain that belongs to a secret. Its certificates name OCSP responders below `ocsp`.
    pub(super) fn derive(secret: &str, ocsp: String) -> Result<Self, SandboxError> {
        let key = |curve, name| EcKey::derive(curve, format!("{secret} {name}").as_bytes());
        let keys = ChainKeys {
            root: key(Curve::P384, "root")?,
            intermediate: key(Curve::P384, "intermediate")?,
            leaf: key(Curve::P256, "leaf")?,
            responder: key(Curve::P256, "responder")?,
        };
        Self::issue(keys, None, ocsp)
    }

    /// A chain with the same names and other keys.
    pub(super) fn stranger(&self) -> Result<Self, SandboxError> {
        let keys = ChainKeys {
            root: EcKey::random(Curve::P384)?,
            intermediate: EcKey::random(Curve::P384)?,
            leaf: EcKey::random(Curve::P256)?,
            responder: EcKey::random(Curve::P256)?,
        };
        Self::issue(keys, None, self.ocsp.clone())
    }

    fn issue(keys: ChainKeys, root: Option<Vec<u8>>, ocsp: String) -> Result<Self, SandboxError> {
        let root = Authority::root(keys.root, root)?;
        let profile = Profile::intermediate(&ocsp);
        let intermediate = root.issue_authority(&profile, keys.intermediate)?;
        let leaf = intermediate.issue_leaf(&Profile::leaf(&ocsp), keys.leaf)?;
        let responders = [
            root.issue(&Profile::responder(), &keys.responder)?,
            intermediate.issue(&Profile::responder(), &keys.responder)?,
        ];
        let x5c: [&[u8]; 3] = [&leaf.der, &intermediate.der, &root.der];
        let header = jws::encode(header("ES256", &x5c).to_string());
        Ok(Self {
            root,
            intermediate,
            leaf,
            responders,
            responder: keys.responder,
            ocsp,
            header,
        })
    }

    pub(super) fn store(&self) -> StoredChain {
        StoredChain {
            root_der: STANDARD.encode(&self.root.der),
            root: STANDARD.encode(self.root.issuer.key().pkcs8()),
            intermediate: STANDARD.encode(self.intermediate.issuer.key().pkcs8()),
            leaf: STANDARD.encode(self.leaf.key.pkcs8()),
            responder: STANDARD.encode(self.responder.pkcs8()),
        }
    }

    pub(super) fn load(stored: &StoredChain, ocsp: String) -> Result<Self, SandboxError> {
        let key = |curve, text: &str| EcKey::from_pkcs8(curve, decode(text)?);
        let keys = ChainKeys {
            root: key(Curve::P384, &stored.root)?,
            intermediate: key(Curve::P384, &stored.intermediate)?,
            leaf: key(Curve::P256, &stored.leaf)?,
            responder: key(Curve::P256, &stored.responder)?,
        };
        Self::issue(keys, Some(decode(&stored.root_der)?), ocsp)
    }

    /// What a genuine intermediate says.
    pub(super) fn intermediate_profile(&self) -> Profile {
        Profile::intermediate(&self.ocsp)
    }

    /// What a genuine leaf says.
    pub(super) fn leaf_profile(&self) -> Profile {
        Profile::leaf(&self.ocsp)
    }

    /// Where the status of leaf and intermediate is told.
    pub(super) fn ocsp_url(&self) -> &str {
        &self.ocsp
    }

    /// The certificates as they stand in a header: leaf, intermediate, root.
    pub(super) fn x5c(&self) -> [&[u8]; 3] {
        [&self.leaf.der, &self.intermediate.der, &self.root.der]
    }

    /// A genuine signed document around `payload`.
    pub(super) fn sign(&self, payload: &Value) -> Result<String, SandboxError> {
        jws::under(&self.header, payload, |message| self.leaf.key.sign(message))
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
