//! What a stand-alone simulator leaves in its directory for the server under test.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::stack::{make_dir, write_private};
use crate::sandbox::Manifest;

/// The manifest, written by the simulator itself.
const MANIFEST: &str = "manifest.json";
/// Characters of base64 in one line of a PEM file.
const PEM_LINE: usize = 64;

/// A file that was written, and what it is for.
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) purpose: &'static str,
}

/// Writes each credential as the file that a server takes it from.
pub(super) fn write(dir: &Path, manifest: &Manifest) -> anyhow::Result<Vec<Written>> {
    make_dir(dir)?;
    let root = &manifest.apple_root_cert_der;
    let der = STANDARD
        .decode(root)
        .context("the simulator's root certificate is no base64")?;
    let place = |name: &str, purpose| Written {
        path: dir.join(name),
        purpose,
    };
    let written = vec![
        place(MANIFEST, "everything below, and all addresses, as JSON"),
        place("apple-root.der", "Apple's root certificate, DER"),
        place("apple-root.pem", "the same, PEM"),
        place("apple-key.p8", "App Store Server API key"),
        place("service-account.json", "Google service account"),
        place("superwall-webhook-secret", "signs Superwall's webhooks"),
    ];
    std::fs::write(&written[1].path, der)?;
    std::fs::write(&written[2].path, pem(root))?;
    write_private(&written[3].path, &manifest.apple_private_key_pem)?;
    write_private(&written[4].path, &manifest.google_service_account_json)?;
    write_private(&written[5].path, &manifest.superwall.secret)?;
    Ok(written)
}

fn pem(base64: &str) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in base64.as_bytes().chunks(PEM_LINE) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
