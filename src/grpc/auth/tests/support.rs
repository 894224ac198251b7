//! Keys, tokens and a key set server for the tests.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{encoding::AsDer, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Authenticator, Caller, Cause, Moment};
use crate::config::issuers::Issuers;
use crate::http::HttpClient;

pub(super) const SECRET: &str = "a secret of at least thirty-two bytes";

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A private key and the algorithm that it signs with.
pub(super) enum Signer {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Hmac(Box<hmac::Key>),
    /// Whatever is signed, these are the bytes.
    Fixed(Vec<u8>),
}

impl Signer {
    pub(super) fn rsa(size: KeySize, encoding: &'static dyn RsaEncoding) -> Self {
        let key = aws_lc_rs::rsa::KeyPair::generate(size).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(der.as_ref()).unwrap(), encoding)
    }

    pub(super) fn es256() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(super) fn es384() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub(super) fn ed25519() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub(super) fn hs256(secret: impl AsRef<[u8]>) -> Self {
        Self::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref())))
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Self::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Self::Fixed(bytes) => bytes.clone(),
        }
    }

    /// The public key as the issuer would publish it, without `alg` and `use`.
    pub(super) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(key, _) => {
                let (n, e) = rsa_components(key.public_key().as_ref());
                json!({ "kty": "RSA", "kid": id, "n": base64(n), "e": base64(e) })
            }
            Self::Ec(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "kid": id, "crv": curve, "x": base64(x), "y": base64(y) })
            }
            Self::Ed(key) => {
                let x = base64(key.public_key().as_ref());
                json!({ "kty": "OKP", "kid": id, "crv": "Ed25519", "x": x })
            }
            Self::Hmac(_) | Self::Fixed(_) => panic!("nothing to publish"),
        }
    }

    /// The bytes an attacker would try as an HMAC secret.
    pub(super) fn public_bytes(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key, _) => key.public_key().as_ref().to_vec(),
            Self::Ec(key) => key.public_key().as_ref().to_vec(),
            Self::Ed(key) => key.public_key().as_ref().to_vec(),
            Self::Hmac(_) | Self::Fixed(_) => panic!("nothing public"),
        }
    }
}

/// `SEQUENCE { INTEGER n, INTEGER e }` (RFC 8017).
fn rsa_components(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    fn value(input: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match input[1] {
            short @ 0..=127 => (usize::from(short), 2),
            0x81 => (usize::from(input[2]), 3),
            _ => (usize::from(input[2]) << 8 | usize::from(input[3]), 4),
        };
        input[start..].split_at(length)
    }
    let (sequence, _) = value(der);
    let (n, rest) = value(sequence);
    let (e, _) = value(rest);
    let plain = |integer: &[u8]| integer.strip_prefix(&[0]).unwrap_or(integer).to_vec();
    (plain(n), plain(e))
}

/// The keys of the tests' issuer; RSA keys are slow to make, so there is one set for all.
pub(super) struct Keyring {
    pub(super) rs256: Signer,
    pub(super) rs384: Signer,
    pub(super) ps256: Signer,
    pub(super) es256: Signer,
    pub(super) es384: Signer,
    pub(super) eddsa: Signer,
    pub(super) stranger: Signer,
    pub(super) hs256: Signer,
}

pub(super) static KEYS: LazyLock<Keyring> = LazyLock::new(|| Keyring {
    rs256: Signer::rsa(KeySize::Rsa2048, &RSA_PKCS1_SHA256),
    rs384: Signer::rsa(KeySize::Rsa2048, &RSA_PKCS1_SHA384),
    ps256: Signer::rsa(KeySize::Rsa2048, &RSA_PSS_SHA256),
    es256: Signer::es256(),
    es384: Signer::es384(),
    eddsa: Signer::ed25519(),
    stranger: Signer::es256(),
    hs256: Signer::hs256(SECRET),
});

/// `header.claims.signature` from JSON text as it stands, so that it may be wrong.
pub(super) fn raw(header: &str, claims: &str, signer: &Signer) -> String {
    let signed = format!("{}.{}", base64(header), base64(claims));
    let signature = base64(signer.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

pub(super) fn token(header: &Value, claims: &Value, signer: &Signer) -> String {
    raw(&header.to_string(), &claims.to_string(), signer)
}

/// `object` with some members replaced, or removed where `null` is given.
pub(super) fn with(object: &Value, changes: Value) -> Value {
    let mut object = object.clone();
    let members = object.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap().clone() {
        if value.is_null() {
            members.remove(&name);
        } else {
            members.insert(name, value);
        }
    }
    object
}

/// A moment of the tests' own, so that ages and expiries need no waiting.
#[derive(Clone, Copy)]
pub(super) struct Time(pub(super) Moment);

impl Time {
    /// The second that the tests call now.
    pub(super) const NOW: u64 = 1_790_000_000;

    pub(super) fn start() -> Self {
        Self(Moment {
            wall: UNIX_EPOCH + Duration::from_secs(Self::NOW),
            steady: std::time::Instant::now(),
        })
    }

    pub(super) fn later(self, seconds: u64) -> Self {
        let by = Duration::from_secs(seconds);
        Self(Moment {
            wall: self.0.wall + by,
            steady: self.0.steady + by,
        })
    }
}

pub(super) fn authenticator(toml: &str) -> Authenticator {
    #[derive(serde::Deserialize)]
    struct File {
        issuers: Issuers,
    }
    let file: File = toml::from_str(toml).expect("a readable configuration");
    assert_eq!(file.issuers.validate(false), Vec::<String>::new());
    let http = HttpClient::new(Duration::from_secs(2)).unwrap();
    Authenticator::new(file.issuers.0, http).unwrap()
}

pub(super) async fn present(
    authenticator: &Authenticator,
    token: &str,
    time: Time,
) -> Result<Arc<Caller>, Cause> {
    let header = format!("Bearer {token}");
    authenticator.authenticate_at(Some(&header), time.0).await
}

/// An issuer's web server on loopback: documents that may change, and a count of requests.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) base: String,
    state: Arc<Mutex<SiteState>>,
}

#[derive(Default)]
struct SiteState {
    documents: HashMap<String, Vec<u8>>,
    requests: usize,
    delay: Duration,
}

impl Site {
    pub(super) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::default(),
        };
        let serving = site.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().answer(stream));
            }
        });
        site
    }

    /// With this key set at `/keys`.
    pub(super) async fn with_keys(keys: Vec<Value>) -> Self {
        let site = Self::open().await;
        site.publish(keys);
        site
    }

    pub(super) fn publish(&self, keys: Vec<Value>) {
        self.put("/keys", json!({ "keys": keys }).to_string());
    }

    pub(super) fn put(&self, path: &str, document: impl Into<Vec<u8>>) {
        let mut state = self.state.lock().unwrap();
        state.documents.insert(path.to_owned(), document.into());
    }

    /// Answers 404 from now on.
    pub(super) fn fail(&self) {
        self.state.lock().unwrap().documents.clear();
    }

    pub(super) fn slow(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    pub(super) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    async fn answer(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split(' ').nth(1).unwrap();
        let (document, delay) = {
            let mut state = self.state.lock().unwrap();
            state.requests += 1;
            (state.documents.get(path).cloned(), state.delay)
        };
        tokio::time::sleep(delay).await;
        let status = if document.is_some() {
            "200 OK"
        } else {
            "404 Not Found"
        };
        let body = document.unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await
    }
}
