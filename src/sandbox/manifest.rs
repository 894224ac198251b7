//! What a server under test has to be told to take the simulator for the stores.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::disk;
use super::error::SandboxError;
use super::google_play::{PUSH_SUBSCRIPTION, oauth};
use super::identity::{AUDIENCE, PUSH_AUDIENCE, PUSH_EMAIL, PUSH_ISSUER};
use super::inner::Inner;
use super::jws;
use super::setup::Environment;

const FILE: &str = "manifest.json";

/// Addresses, trust roots and credentials of a simulator. Holds private keys: keep it private.
#[derive(Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Base URL of the App Store Server API.
    pub app_store_api_url: String,
    /// Root certificate that the App Store's documents chain to: DER in base64.
    pub apple_root_cert_der: String,
    /// The same in PEM.
    pub apple_root_cert_pem: String,
    /// Where the OCSP responders of that chain stand; its certificates name them too.
    pub apple_ocsp_url: String,
    /// Key id of the App Store Server API key.
    pub apple_key_id: String,
    /// Issuer id of the App Store Server API key.
    pub apple_issuer_id: String,
    /// The App Store Server API key, as in a `.p8` file.
    pub apple_private_key_pem: String,
    /// Bundle id of the app.
    pub bundle_id: String,
    /// Apple's numeric app id.
    pub app_apple_id: i64,
    /// Environment that Apple's documents state.
    pub environment: Environment,
    /// Base URL of the Google Play Developer API.
    pub google_api_url: String,
    /// Package name of the app.
    pub package_name: String,
    /// Service account key file (JSON); its `token_uri` leads here.
    pub google_service_account_json: String,
    /// How Google's pushes identify themselves.
    pub push: PushManifest,
    /// How Superwall's webhooks are signed and shaped.
    pub superwall: SuperwallManifest,
    /// Identity provider of the app's users.
    pub identity: IdentityManifest,
    /// Base URL of the control API.
    pub control_url: String,
}

/// How Google's pushes identify themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PushManifest {
    /// Key set that verifies the bearer tokens.
    pub jwks_url: String,
    /// Their `iss`.
    pub issuer: String,
    /// Their `aud`.
    pub audience: String,
    /// Their `email`.
    pub email: String,
    /// The `subscription` in the body.
    pub subscription: String,
}

/// Superwall's webhooks.
#[derive(Clone, Serialize, Deserialize)]
pub struct SuperwallManifest {
    /// What Svix signs them with: `whsec_` and base64.
    pub secret: String,
    /// 1 for the legacy shape, 2 for the present one.
    pub version: u8,
}

/// The identity provider of the app's users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentityManifest {
    /// `iss` of its tokens; its discovery document lies below.
    pub issuer: String,
    /// Key set that verifies them.
    pub jwks_url: String,
    /// Their `aud`.
    pub audience: String,
}

impl Inner {
    pub(super) fn manifest(&self) -> Manifest {
        let base = &self.base_url;
        let issuer = self.issuer();
        Manifest {
            app_store_api_url: format!("{base}/apple"),
            apple_root_cert_der: STANDARD.encode(&self.keys.apple.root.der),
            apple_root_cert_pem: jws::pem("CERTIFICATE", &self.keys.apple.root.der),
            apple_ocsp_url: self.keys.apple.ocsp_url().to_owned(),
            apple_key_id: self.keys.apple_api.kid.clone(),
            apple_issuer_id: self.keys.apple_issuer_id.clone(),
            apple_private_key_pem: self.keys.apple_api.private_pem(),
            bundle_id: self.setup.bundle_id.clone(),
            app_apple_id: self.setup.app_apple_id,
            environment: self.setup.environment,
            google_api_url: format!("{base}/google"),
            package_name: self.setup.package_name.clone(),
            google_service_account_json: self.service_account_json(),
            superwall: SuperwallManifest {
                secret: self.superwall_secret(),
                version: self.setup.superwall.version.number(),
            },
            push: PushManifest {
                jwks_url: format!("{base}/google/oauth2/v3/certs"),
                issuer: PUSH_ISSUER.to_owned(),
                audience: PUSH_AUDIENCE.to_owned(),
                email: PUSH_EMAIL.to_owned(),
                subscription: PUSH_SUBSCRIPTION.to_owned(),
            },
            identity: IdentityManifest {
                jwks_url: format!("{issuer}/.well-known/jwks.json"),
                issuer,
                audience: AUDIENCE.to_owned(),
            },
            control_url: format!("{base}/control"),
        }
    }

    /// Keeps the manifest in the state directory, if there is one.
    pub(super) fn write_manifest(&self) -> Result<(), SandboxError> {
        let dir = self.dir.as_ref();
        dir.map_or(Ok(()), |dir| disk::write(&dir.join(FILE), &self.manifest()))
    }

    fn service_account_json(&self) -> String {
        let base = &self.base_url;
        json!({
            "type": "service_account",
            "project_id": "entitled-sandbox",
            "private_key_id": self.keys.service_account.kid,
            "private_key": self.keys.service_account.private_pem(),
            "client_email": oauth::EMAIL,
            "client_id": "104219386177213901231",
            "auth_uri": format!("{base}/google/auth"),
            "token_uri": format!("{base}/google/token"),
            "auth_provider_x509_cert_url": format!("{base}/google/oauth2/v1/certs"),
            "universe_domain": "googleapis.com",
        })
        .to_string()
    }
}
