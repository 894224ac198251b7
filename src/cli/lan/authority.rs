//! The certificate of `dev --lan --tls`. An authority of the directory's own, which devices are told
//! to trust once; below it a certificate for the addresses of today. Both are kept while they fit.
//!
//! Whoever holds the authority's key could pass for other servers to the devices that trust it, so
//! its certificate says for which names it may speak: those of a network at home or at work.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use ipnet::Ipv4Net;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::cli::stack::{ServedCertificate, make_dir, write_private};
use crate::edge::Tls;

/// Where it is kept in the stack's directory.
const DIR: &str = "tls";
const AUTHORITY: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority.key";
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";

/// Addresses that no server on the internet has: private (RFC 1918), link-local, this machine, and
/// those of overlay networks (RFC 6598).
const NETWORKS: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
];
/// Names that are resolved on this machine or on its network alone.
const DOMAINS: [&str; 2] = ["localhost", "local"];

const AUTHORITY_DAYS: i64 = 10 * 365;
/// Apple's platforms refuse a server's certificate that is valid for more than 825 days.
const CERTIFICATE_DAYS: i64 = 397;
/// Not valid from this moment on alone: clocks of devices differ.
const BACKDATED_DAYS: i64 = 2;
/// A certificate with less left is made anew at a start.
const LEFT_MIN: TimeDelta = TimeDelta::days(30);

/// What the API is served with, and what devices are told to trust.
#[derive(Debug)]
pub(in crate::cli) struct Kept {
    pub(in crate::cli) files: ServedCertificate,
    /// The authority's certificate, for devices.
    pub(super) pem: String,
    /// How devices show it in their lists.
    pub(super) name: String,
    /// SHA-256 of its certificate, as devices show it.
    pub(super) fingerprint: String,
}

/// The certificate that is kept in `dir`, if it is good for all of `names` and for a while; a new
/// one otherwise, of the same authority if that one may speak for the names.
///
/// # Errors
/// The directory cannot be written, or a name is none.
pub(in crate::cli) fn keep(
    dir: &Path,
    names: &[String],
    now: DateTime<Utc>,
) -> anyhow::Result<Kept> {
    let dir = dir.join(DIR);
    make_dir(&dir)?;
    let known = Authority::read(&dir);
    if let Some(authority) = &known {
        let read = |name| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        if authority.stands_behind(&read(CERTIFICATE), &read(KEY), names, now) {
            return Ok(authority.kept(&dir));
        }
    }
    let made = std::iter::once_with(|| Authority::make(names, now));
    for authority in known.map(Ok).into_iter().chain(made) {
        let authority = authority?;
        let (certificate, key) = authority.issue(names, now)?;
        if authority.stands_behind(&certificate, &key, names, now) {
            authority.write(&dir)?;
            write_private(&dir.join(KEY), &key)?;
            write_private(&dir.join(CERTIFICATE), &certificate)?;
            return Ok(authority.kept(&dir));
        }
    }
    bail!("no certificate can be made for {}", names.join(", "))
}

/// Who issues the certificates of one directory.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    name: String,
    der: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// None if none was kept, or not whole.
    fn read(dir: &Path) -> Option<Self> {
        let pem = std::fs::read_to_string(dir.join(AUTHORITY)).ok()?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let key = std::fs::read_to_string(dir.join(AUTHORITY_KEY)).ok()?;
        let key = KeyPair::from_pem(&key).ok()?;
        let name = name_of(&key);
        Some(Self {
            issuer: Issuer::new(Self::params(&name), key),
            name,
            der,
            pem,
        })
    }

    /// A new one that may speak for names of networks like this one, and for `names`.
    fn make(names: &[String], now: DateTime<Utc>) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let name = name_of(&key);
        let mut params = Self::params(&name);
        valid(&mut params, now, AUTHORITY_DAYS);
        let networks = NETWORKS.map(|(address, bits)| subtree(IpAddr::V4(address), bits));
        let domains = DOMAINS.map(|domain| GeneralSubtree::DnsName(domain.to_owned()));
        let others = names.iter().filter(|name| !is_near(name)).map(|name| {
            let address: Result<IpAddr, _> = name.parse();
            match address {
                Ok(address @ IpAddr::V4(_)) => subtree(address, 32),
                Ok(address @ IpAddr::V6(_)) => subtree(address, 128),
                Err(_) => GeneralSubtree::DnsName(name.clone()),
            }
        });
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: networks.into_iter().chain(domains).chain(others).collect(),
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            der: certificate.into(),
            issuer: Issuer::new(params, key),
            name,
        })
    }

    /// What its certificate and all that it issues have in common.
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    /// A certificate for `names`, and its key, in PEM.
    fn issue(&self, names: &[String], now: DateTime<Utc>) -> anyhow::Result<(String, String)> {
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "entitled dev");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, CERTIFICATE_DAYS);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Whether a device that trusts this authority alone takes the certificate for all of `names`,
    /// now and for a while, and the key is the certificate's.
    fn stands_behind(
        &self,
        certificate: &str,
        key: &str,
        names: &[String],
        now: DateTime<Utc>,
    ) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(certificate.as_bytes()) else {
            return false;
        };
        let (Ok(anchor), Ok(end)) = (
            anchor_from_trusted_cert(&self.der),
            EndEntityCert::try_from(&der),
        ) else {
            return false;
        };
        let is_valid = |at: DateTime<Utc>| {
            let at = Duration::from_secs(at.timestamp().try_into().unwrap_or_default());
            let verified = end.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                std::slice::from_ref(&anchor),
                &[],
                UnixTime::since_unix_epoch(at),
                KeyUsage::server_auth(),
                None,
                None,
            );
            verified.is_ok()
        };
        let names_it = |name: &String| {
            ServerName::try_from(name.as_str())
                .is_ok_and(|name| end.verify_is_valid_for_subject_name(&name).is_ok())
        };
        is_valid(now)
            && is_valid(now + LEFT_MIN)
            && names.iter().all(names_it)
            && Tls::serves(certificate.as_bytes(), key.as_bytes())
    }

    fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let key = self.issuer.key().serialize_pem();
        write_private(&dir.join(AUTHORITY_KEY), &key)?;
        write_private(&dir.join(AUTHORITY), &self.pem)
    }

    fn kept(&self, dir: &Path) -> Kept {
        let at = |name: &str| -> PathBuf { dir.join(name) };
        let hash = digest(&SHA256, &self.der);
        let pairs: Vec<String> = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        Kept {
            files: ServedCertificate {
                authority: at(AUTHORITY),
                certificate: at(CERTIFICATE),
                key: at(KEY),
            },
            pem: self.pem.clone(),
            name: self.name.clone(),
            fingerprint: pairs.join(":"),
        }
    }
}

/// A name that tells two directories' authorities apart in a device's list, and that is known from
/// the key alone.
fn name_of(key: &KeyPair) -> String {
    let hash = digest(&SHA256, &key.subject_public_key_info());
    let start: String = hash
        .as_ref()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("entitled dev {start}")
}

/// Whether every authority may speak for it.
fn is_near(name: &str) -> bool {
    match name.parse() {
        Ok(IpAddr::V4(address)) => NETWORKS.iter().any(|(network, bits)| {
            Ipv4Net::new(*network, *bits).is_ok_and(|network| network.contains(&address))
        }),
        Ok(IpAddr::V6(_)) => false,
        Err(_) => DOMAINS.iter().any(|domain| {
            name.strip_suffix(domain)
                .is_some_and(|host| host.is_empty() || host.ends_with('.'))
        }),
    }
}

fn subtree(address: IpAddr, bits: u8) -> GeneralSubtree {
    GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
}

fn valid(params: &mut CertificateParams, now: DateTime<Utc>, days: i64) {
    let day = |at: DateTime<Utc>| {
        let (month, day) = (at.month() as u8, at.day() as u8);
        date_time_ymd(at.year(), month, day)
    };
    params.not_before = day(now - TimeDelta::days(BACKDATED_DAYS));
    params.not_after = day(now + TimeDelta::days(days));
}

/// A name or an address that a certificate can be made for, for arguments.
pub(in crate::cli) fn sound_name(word: &str) -> Result<String, String> {
    match ServerName::try_from(word) {
        Ok(_) => Ok(word.to_ascii_lowercase()),
        Err(_) => Err("give a host name (studio.local) or an address, without port".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            let name = format!("entitled-authority-{}", uuid::Uuid::new_v4());
            Self(std::env::temp_dir().join(name))
        }

        /// The authority's and the server's certificate after a start with these names.
        fn started(&self, names: &[&str], now: &str) -> (String, String) {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            let kept = keep(&self.0, &names, at(now)).expect("kept");
            let read = |file: &Path| std::fs::read_to_string(file).expect("written");
            assert_eq!(kept.pem, read(&kept.files.authority));
            (kept.pem, read(&kept.files.certificate))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn at(day: &str) -> DateTime<Utc> {
        format!("{day}T12:00:00Z").parse().expect("a day")
    }

    const HOME: [&str; 3] = ["127.0.0.1", "10.0.2.2", "192.168.1.23"];

    #[test]
    fn what_fits_is_kept_and_devices_trust_the_next_certificate_too() {
        let dir = Dir::new();
        let first = dir.started(&HOME, "2027-01-10");
        assert_eq!(dir.started(&HOME, "2027-01-11"), first);
        assert_eq!(dir.started(&HOME[..2], "2027-01-11"), first, "fewer names");

        let moved = dir.started(&["127.0.0.1", "172.20.0.5", "studio.local"], "2027-02-01");
        assert_eq!(moved.0, first.0, "the authority stays");
        assert_ne!(moved.1, first.1);
        let later = dir.started(&["127.0.0.1", "172.20.0.5"], "2028-02-20");
        assert_eq!(later.0, first.0);
        assert_ne!(later.1, moved.1, "it would have ended soon");
    }

    #[test]
    fn an_authority_speaks_for_this_network_and_nobody_else() {
        let dir = Dir::new();
        dir.started(&HOME, "2027-01-10");
        let authority = Authority::read(&dir.0.join(DIR)).expect("kept");
        let now = at("2027-01-10");
        let stands = |name: &str| {
            let names = [name.to_owned()];
            let (certificate, key) = authority.issue(&names, now).expect("signs");
            authority.stands_behind(&certificate, &key, &names, now)
        };
        for near in ["localhost", "studio.local", "10.9.8.7", "100.100.1.1"] {
            assert!(stands(near), "{near}");
            assert!(is_near(near), "{near}");
        }
        for far in [
            "bank.example.com",
            "notlocal",
            "203.0.113.7",
            "172.32.0.1",
            "fd00::1",
        ] {
            assert!(!stands(far), "{far}");
            assert!(!is_near(far), "{far}");
        }

        // Unless it is asked for: then another one is made, for that name.
        let (before, _) = dir.started(&HOME, "2027-01-10");
        let (asked, _) = dir.started(&["127.0.0.1", "dev.example.com"], "2027-01-10");
        assert_ne!(asked, before);
        assert_eq!(dir.started(&HOME, "2027-01-11").0, asked);
    }

    #[test]
    fn what_is_kept_is_the_owners_and_what_is_broken_is_made_anew() {
        let dir = Dir::new();
        let (authority, _) = dir.started(&HOME, "2027-01-10");
        for name in [AUTHORITY_KEY, KEY] {
            let file = dir.0.join(DIR).join(name);
            let mode = std::fs::metadata(&file)
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        for name in [KEY, CERTIFICATE] {
            std::fs::write(dir.0.join(DIR).join(name), "-----BEGIN").expect("writes");
            assert_eq!(dir.started(&HOME, "2027-01-10").0, authority, "{name}");
        }
        for name in [AUTHORITY_KEY, AUTHORITY] {
            let before = dir.started(&HOME, "2027-01-10").0;
            std::fs::write(dir.0.join(DIR).join(name), "-----BEGIN").expect("writes");
            assert_ne!(dir.started(&HOME, "2027-01-10").0, before, "{name}");
        }
    }
}
