//! What a certificate says of itself. That it may be believed is TLS's to find out, before.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::names::Timestamp;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its DNS names, lower case. A common name is none: no CA vouches for it as one (RFC 9525
    /// §6.3).
    pub dns: Vec<String>,
    /// Its URIs, as SPIFFE ids are.
    pub uris: Vec<String>,
    /// SHA-256 of it, in hex.
    pub sha256: String,
    /// When it expires.
    pub not_after: Timestamp,
}

impl CertificateFacts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is none.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der)
            .map_err(|error| format!("it is no certificate: {error}"))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| format!("its names cannot be read: {error}"))?;
        let names =
            names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let (mut dns, mut uris) = (Vec::new(), Vec::new());
        for name in names {
            if let GeneralName::DNSName(name) = name {
                dns.push(name.to_ascii_lowercase());
            } else if let GeneralName::URI(uri) = name {
                uris.push((*uri).to_owned());
            }
        }
        let sha256 = crate::names::hex(&Sha256::digest(der));
        Ok(Self {
            dns,
            uris,
            sha256,
            not_after: Timestamp(parsed.validity().not_after.timestamp()),
        })
    }

    /// One with these names, as policies write them: DNS names, URIs, `sha256:` and a digest.
    /// Without any there is none.
    #[must_use]
    pub fn named(names: &[String]) -> Option<Arc<Self>> {
        let digest = names.iter().find_map(|name| name.strip_prefix("sha256:"));
        let plain = names.iter().filter(|name| !name.starts_with("sha256:"));
        let (uris, dns) = plain.cloned().partition(|name| name.contains("://"));
        let sha256 = digest.unwrap_or_default().to_owned();
        (!names.is_empty())
            .then(|| Arc::new(Self { dns, uris, sha256, not_after: Timestamp(i64::MAX) }))
    }

    /// Whether a policy's name for a certificate is this one: a DNS name, a URI, or `sha256:` and
    /// the digest.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match name.strip_prefix("sha256:") {
            Some(digest) => digest.eq_ignore_ascii_case(&self.sha256),
            None => {
                self.uris.iter().any(|uri| uri == name)
                    || self.dns.iter().any(|dns| dns.eq_ignore_ascii_case(name))
            }
        }
    }
}
