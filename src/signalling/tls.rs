//! TLS by the server itself, for those that have no proxy in front.
//!
//! In here: the certificate and its key, read again when their files change, and the handshake. Not in here: connections
//! (`http_connection`), DTLS of viewers (`media`). Runs on: the task of the connection; one task of the server reads files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(5);
/// Of a file; a chain of certificates has some 6 kB.
const MOST_BYTES: u64 = 256 * 1024;

/// Where the certificate and its key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's own first, then those that signed it.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or does not hold what it should.
    #[error("{field} {path}: {problem}")]
    File {
        /// The setting, as the file names it.
        field: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it; nothing of what is in it.
        problem: String,
    },
    /// Certificate and key are no pair, or of a kind that is not known.
    #[error("tls_certificate and tls_key cannot be used together: {0}")]
    Pair(#[source] rustls::Error),
    /// It cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// Answers handshakes.
pub struct Tls {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    certificate: Arc<Certificate>,
    acceptor: TlsAcceptor,
}

/// The certificate as it was when it could last be read, which every handshake is answered with.
#[derive(Debug)]
struct Certificate(RwLock<Arc<CertifiedKey>>);

/// What both files hold.
#[derive(PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads both files.
    pub async fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let pair = Pem::read(&files).await?.pair(&files, &provider)?;
        let certificate = Arc::new(Certificate(RwLock::new(Arc::new(pair))));
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files, provider, certificate, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads the files again when they change, for ever. Until both belong together, the pair from before stays.
    pub async fn keep(&self) {
        let mut seen = Pem::read(&self.files).await.ok();
        loop {
            sleep(EVERY).await;
            let read = Pem::read(&self.files).await;
            if read.as_ref().ok() == seen.as_ref() {
                continue;
            }
            let taken = match read {
                Ok(pem) => {
                    let taken = pem.pair(&self.files, &self.provider).map(|pair| self.take(pair));
                    seen = Some(pem);
                    taken
                }
                Err(error) => {
                    seen = None;
                    Err(error)
                }
            };
            match taken {
                Ok(()) => tracing::info!("another certificate is used from now on"),
                Err(error) => tracing::warn!(%error, "the certificate from before is kept"),
            }
        }
    }

    /// Takes the files as they are by now; if they cannot be used, those from before stay.
    pub async fn read_again(&self) -> Result<(), TlsError> {
        let pair = Pem::read(&self.files).await?.pair(&self.files, &self.provider)?;
        self.take(pair);
        Ok(())
    }

    fn take(&self, pair: CertifiedKey) {
        *self.certificate.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
    }

    /// The handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

impl Pem {
    async fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let certificate = content("tls_certificate", &files.certificate).await?;
        Ok(Self { certificate, key: content("tls_key", &files.key).await? })
    }

    fn pair(&self, files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>().ok();
        let chain = chain.filter(|chain| !chain.is_empty()).ok_or_else(|| {
            fault("tls_certificate", &files.certificate, "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
        })?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| fault("tls_key", &files.key, "holds no private key in PEM, without a password"))?;
        CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Pair)
    }
}

fn fault(field: &'static str, path: &Path, problem: &str) -> TlsError {
    TlsError::File { field, path: path.display().to_string(), problem: problem.to_owned() }
}

async fn content(field: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let wrong = |error: io::Error| fault(field, path, &error.to_string());
    let file = tokio::fs::File::open(path).await.map_err(wrong)?;
    let mut content = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut content).await.map_err(wrong)?;
    Ok(content)
}
