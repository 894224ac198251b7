//! The certificate that is served, replaced while connections live on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// What is spoken behind TLS: gRPC needs the first; JSON and gRPC-Web come by either, and many
/// clients without gRPC know the second alone.
const SPOKEN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Where certificates are mounted by symbolic links, their replacement wakes no watcher of files:
/// they are read again instead.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(10);

/// Serves TLS with one certificate chain, which is read again when its files change.
#[derive(Clone)]
pub(crate) struct Tls {
    served: Arc<ArcSwap<Served>>,
    files: Arc<Files>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

struct Served {
    config: Arc<ServerConfig>,
    /// What it was made of.
    pems: Pems,
}

#[derive(PartialEq, Eq)]
struct Pems {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// A PEM certificate chain, the server's own first, and its PEM private key.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub(crate) fn load(certificate: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        let files = Files { certificate, key };
        let served = files.read().and_then(|pems| files.serve(pems))?;
        Ok(Self {
            served: Arc::new(ArcSwap::from_pointee(served)),
            files: Arc::new(files),
        })
    }

    /// Whether a certificate chain and a key, as PEM, can be served together.
    pub(crate) fn serves(certificate: &[u8], key: &[u8]) -> bool {
        config(certificate, key).is_ok()
    }

    /// For one handshake: a connection keeps what it began with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.served.load().config))
    }

    /// Takes up changed files, on SIGHUP at once. What cannot be served changes nothing.
    pub(crate) async fn keep_current(self, stop: CancellationToken) {
        let mut hangups = signal(SignalKind::hangup()).ok();
        let mut told = String::new();
        loop {
            let hung_up = async {
                match &mut hangups {
                    Some(hangups) => hangups.recv().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOKED_AT_EVERY) => {}
                asked = hung_up => if asked { told.clear() },
            }
            match self.look() {
                Ok(false) => told.clear(),
                Ok(true) => info!("TLS is served with a new certificate"),
                // Once for each trouble: a file may be gone for days.
                Err(cause) if told == format!("{cause:#}") => {}
                Err(cause) => {
                    told = format!("{cause:#}");
                    error!(cause = told, "TLS goes on with the certificate that it has");
                }
            }
            let failed = if told.is_empty() { 0.0 } else { 1.0 };
            metrics::gauge!("entitled_tls_reload_failed").set(failed);
        }
    }

    /// Whether there was something new, which is served from now on.
    fn look(&self) -> anyhow::Result<bool> {
        let pems = self.files.read()?;
        if self.served.load().pems == pems {
            return Ok(false);
        }
        self.served.store(Arc::new(self.files.serve(pems)?));
        Ok(true)
    }
}

impl Files {
    fn read(&self) -> anyhow::Result<Pems> {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        Ok(Pems {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }

    fn serve(&self, pems: Pems) -> anyhow::Result<Served> {
        let config = config(&pems.certificate, &pems.key).with_context(|| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            format!("{certificate} and {key} are no certificate and its key")
        })?;
        Ok(Served { config, pems })
    }
}

fn config(certificate: &[u8], key: &[u8]) -> anyhow::Result<Arc<ServerConfig>> {
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = SPOKEN.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A certificate and its key, as PEM.
    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_new_certificate_is_taken_up_whole_and_half_of_one_is_not() {
        let dir = Dir(std::env::temp_dir().join(format!("entitled-tls-{}", uuid::Uuid::new_v4())));
        std::fs::create_dir(&dir.0).unwrap();
        let (certificate, key) = (dir.0.join("tls.crt"), dir.0.join("tls.key"));
        let ((first, first_key), (second, second_key)) = (made(), made());
        std::fs::write(&certificate, &first).unwrap();
        std::fs::write(&key, &first_key).unwrap();
        let tls = Tls::load(certificate.clone(), key.clone()).unwrap();
        let served = || tls.served.load().pems.certificate.clone();
        assert!(!tls.look().unwrap(), "nothing has changed");

        // Its key is not there yet.
        std::fs::write(&certificate, &second).unwrap();
        assert!(tls.look().is_err());
        assert_eq!(served(), first.as_bytes());
        std::fs::write(&key, &second_key).unwrap();
        assert!(tls.look().unwrap());
        assert_eq!(served(), second.as_bytes());

        std::fs::remove_file(&certificate).unwrap();
        assert!(tls.look().is_err());
        assert_eq!(served(), second.as_bytes());
    }
}
