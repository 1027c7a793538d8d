//! Certificates, keys and CAs out of PEM files, checked where the configuration is read: a listener
//! never finds out during a handshake.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::names::Timestamp;
use crate::request::certificate::CertificateFacts;

/// Versions of HTTP that a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersions {
    /// HTTP/2 and HTTP/1.1.
    Both,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

/// TLS of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// What it shows to clients.
    pub certificates: Arc<Certificates>,
    /// Whose client certificates are verified; without one none is asked for.
    pub client_ca: Option<Arc<RootCertStore>>,
    /// Without a client certificate there is no connection.
    pub client_required: bool,
    /// TLS 1.3 alone.
    pub only_13: bool,
    /// The versions of HTTP that are offered by ALPN.
    pub versions: HttpVersions,
    /// SHA-256 over everything it was read from: the same digest is the same TLS.
    pub digest: [u8; 32],
}

/// TLS to the servers of an upstream. Their certificates are always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that certificates must have; each server's host without.
    pub server_name: Option<String>,
    /// The CAs (DER); the system's without.
    pub ca: Option<Vec<Vec<u8>>>,
    /// What we show to a server that asks.
    pub shown: Option<Shown>,
}

/// A certificate that we show, with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    /// The chain (DER).
    pub chain: Vec<Vec<u8>>,
    /// The key (DER).
    pub key: zeroize::Zeroizing<Vec<u8>>,
}

impl Shown {
    /// Reads a chain and its key.
    ///
    /// # Errors
    /// As [`Certificate::read`].
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        Certificate::read(chain, key)?;
        let key = read_key(key)?;
        let chain =
            read_chain(chain)?.into_iter().map(|certificate| certificate.to_vec()).collect();
        Ok(Self { chain, key: key.secret_der().to_vec().into() })
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

/// The TLS library's provider, the same everywhere.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Certificates by the names they are for.
#[derive(Debug)]
pub struct Certificates {
    default: Arc<CertifiedKey>,
    named: HashMap<String, Arc<CertifiedKey>>,
    /// When the first of them expires.
    pub not_after: Timestamp,
}

impl Certificates {
    /// Certificates, of which the first is also for clients that name no host, or one that no
    /// certificate is for. Where two are for one name, the first is.
    #[must_use]
    pub fn new(certificates: Vec<Certificate>) -> Option<Self> {
        let default = certificates.first()?.key.clone();
        let not_after = certificates.iter().map(|certificate| certificate.facts.not_after).min()?;
        let mut named = HashMap::new();
        for certificate in certificates {
            for name in certificate.facts.dns {
                named.entry(name).or_insert_with(|| certificate.key.clone());
            }
        }
        Some(Self { default, named, not_after })
    }

    /// The certificate for a host, lower case: by its name, by a wildcard for its first label (RFC
    /// 6125 §6.4.3), or the first.
    #[must_use]
    pub fn find(&self, host: Option<&str>) -> Arc<CertifiedKey> {
        let found = host.and_then(|host| {
            let wildcard = host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.named.get(host).or_else(|| self.named.get(&wildcard?))
        });
        found.unwrap_or(&self.default).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().map(str::to_ascii_lowercase);
        Some(self.find(host.as_deref()))
    }
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Certificate {
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// What stands in the first of the chain.
    pub facts: CertificateFacts,
}

impl Certificate {
    /// Reads a chain and its key.
    ///
    /// # Errors
    /// In words: it is no PEM, holds none, or the key is another one's.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let (chain, key) = (read_chain(chain)?, read_key(key)?);
        let facts = CertificateFacts::read(chain.first().ok_or("it holds no certificate")?)?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            if matches!(error, rustls::Error::InconsistentKeys(_)) {
                return "the key is not the certificate's".to_owned();
            }
            format!("the key cannot be used: {error}")
        })?;
        Ok(Self { key: Arc::new(key), facts })
    }
}

/// The certificates of a PEM file.
///
/// # Errors
/// It is no PEM, or holds none.
pub fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| format!("it is no PEM file: {error}"))?;
    if chain.is_empty() {
        return Err("it holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(chain)
}

/// The private key of a PEM file: PKCS#8, PKCS#1 or SEC1, not encrypted.
///
/// # Errors
/// It holds none.
pub fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "it holds no private key in clear (-----BEGIN PRIVATE KEY-----)".to_owned())
}

/// The CAs of a PEM file.
///
/// # Errors
/// It holds none that can be used.
pub fn read_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in it cannot be used: {error}"))?;
    }
    Ok(roots)
}
