//! `tls:` of listeners: certificates, keys and CAs, read and checked.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::gateway::relative_to;
use super::{Builder, Place};
use crate::config::raw::gateway::{
    RawClientCertificate, RawDialect, RawListener, RawListenerTls, RawTlsVersion,
};
use crate::config::tls::{Certificate, Certificates, HttpVersions, ListenerTls, read_roots};

impl Builder<'_> {
    /// TLS of each listener, in their order.
    pub(super) fn listeners_tls(
        &mut self,
        raw: &[RawListener],
        place: &Place<'_>,
    ) -> Vec<Option<ListenerTls>> {
        let each = raw.iter().enumerate();
        each.map(|(at, listener)| {
            let versions = match listener.decide {
                None => HttpVersions::Both,
                Some(RawDialect::EnvoyGrpc) => HttpVersions::Http2,
                Some(_) => HttpVersions::Http1,
            };
            self.listener_tls(listener.tls.as_ref()?, versions, &place.at(at).key("tls"))
        })
        .collect()
    }

    pub(super) fn listener_tls(
        &mut self,
        raw: &RawListenerTls,
        versions: HttpVersions,
        place: &Place<'_>,
    ) -> Option<ListenerTls> {
        let mut digest = Sha256::new();
        let mut certificates =
            vec![self.certificate(&raw.certificate, &raw.key, place, &mut digest)];
        for (at, more) in raw.more.iter().enumerate() {
            let place = place.key("more").at(at);
            certificates.push(self.certificate(&more.certificate, &more.key, &place, &mut digest));
        }
        if raw.client_ca.is_none() && raw.client_certificate.is_some() {
            let help = "name the CAs that issue them under `client_ca`";
            self.fault(
                &place.key("client_certificate"),
                "client certificates are verified with `client_ca`",
                help,
            );
        }
        let mut client_ca = None;
        if let Some(path) = &raw.client_ca {
            let place = place.key("client_ca");
            let pem = self.pem(path, &place, &mut digest)?;
            client_ca = Some(Arc::new(self.usable(read_roots(&pem), path, &place)?));
        }
        let client_required =
            client_ca.is_some() && raw.client_certificate != Some(RawClientCertificate::Optional);
        let only_13 = raw.min_version == RawTlsVersion::V13;
        digest.update([u8::from(client_required), u8::from(only_13)]);
        let certificates =
            certificates.into_iter().collect::<Option<Vec<_>>>().and_then(Certificates::new)?;
        Some(ListenerTls {
            certificates: Arc::new(certificates),
            client_ca,
            client_required,
            only_13,
            versions,
            digest: digest.finalize().into(),
        })
    }

    /// A chain and its key; `place` is where `certificate` and `key` stand.
    fn certificate(
        &mut self,
        chain: &str,
        key: &str,
        place: &Place<'_>,
        digest: &mut Sha256,
    ) -> Option<Certificate> {
        let pem = (
            self.pem(chain, &place.key("certificate"), digest),
            self.pem(key, &place.key("key"), digest),
        );
        let read = Certificate::read(&pem.0?, &pem.1?);
        self.usable(read, chain, &place.key("certificate"))
    }

    /// A file relative to gateway.yaml, added to the digest of all that something was read from.
    pub(super) fn pem(
        &mut self,
        path: &str,
        place: &Place<'_>,
        digest: &mut Sha256,
    ) -> Option<Vec<u8>> {
        let file = relative_to(&self.gateway.file, path);
        match self.lookup.file(&file) {
            Ok(bytes) => {
                digest.update((bytes.len() as u64).to_be_bytes());
                digest.update(&bytes);
                Some(bytes)
            }
            Err(error) => {
                let help = "paths are relative to the file they stand in";
                self.fault(place, format!("{}: {error}", file.display()), help);
                None
            }
        }
    }

    pub(super) fn usable<T>(
        &mut self,
        read: Result<T, String>,
        path: &str,
        place: &Place<'_>,
    ) -> Option<T> {
        read.map_err(|fault| {
            let help =
                "a PEM file: the certificate first, then what is between it and the CA; the key in \
                    a file of its own";
            self.fault(place, format!("{path}: {fault}"), help);
        })
        .ok()
    }
}
