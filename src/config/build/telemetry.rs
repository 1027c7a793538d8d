//! The collector of OpenTelemetry in gateway.yaml.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::{Builder, Place};
use crate::config::format::{SecretRef, is_loopback};
use crate::config::raw::telemetry::{RawOtlp, RawOtlpProtocol, RawTelemetry};
use crate::config::telemetry::{Collector, Otlp, OtlpProtocol, Sampling};
use crate::policy::definition::RateLimit;
use crate::request::headers::is_hop;
use crate::request::trace::Share;

/// The share of traces that is recorded by default.
const SHARE: f64 = 0.01;
/// How many refused requests are recorded by default.
const REFUSALS: RateLimit = RateLimit { count: 10, period: 1, burst: 10 };
/// Fields that say how a request to the collector is framed and read, which is ours to say.
const OUR_FIELDS: [&str; 5] = ["content-length", "content-type", "grpc-timeout", "host", "te"];

impl Builder<'_> {
    /// The collector, where one is declared.
    pub(super) fn telemetry(
        &mut self,
        raw: Option<&RawTelemetry>,
        place: &Place<'_>,
    ) -> Option<Otlp> {
        let raw = raw?.otlp.as_ref()?;
        let place = place.key("otlp");
        self.check_collector(raw, &place);
        let headers = self.collector_headers(&raw.headers, &place.key("headers"));
        Some(Otlp {
            collector: Collector {
                endpoint: raw.endpoint.text().trim_end_matches('/').to_owned(),
                protocol: match raw.protocol {
                    RawOtlpProtocol::Grpc => OtlpProtocol::Grpc,
                    RawOtlpProtocol::Http => OtlpProtocol::Http,
                },
                headers,
                outbound: self.outbound(raw.ca.as_deref(), raw.proxy.as_ref(), &place),
            },
            sampling: Sampling {
                share: Share::of(raw.sample.unwrap_or(SHARE)),
                refusals: raw.refusals.as_ref().map_or(REFUSALS, |rate| rate.limit(None)),
            },
        })
    }

    fn check_collector(&mut self, raw: &RawOtlp, place: &Place<'_>) {
        let url = &raw.endpoint.value;
        let place_of_url = place.key("endpoint");
        if matches!(raw.protocol, RawOtlpProtocol::Grpc) && url.path() != "/" {
            let help = "write scheme, host and port alone, or `protocol: http`";
            self.fault(&place_of_url, "an endpoint for gRPC has no path", help);
        }
        if url.path().trim_end_matches('/').ends_with("/v1/traces") {
            let help = "write what is before `/v1/traces`: logs go to `/v1/logs` there";
            self.fault(&place_of_url, "this is the endpoint of traces alone", help);
        }
        if !raw.headers.is_empty() && url.scheme() != "https" && !is_loopback(url) {
            let help = "write an https endpoint, or leave `headers` out";
            self.fault(&place_of_url, "`headers` are secrets, and http shows them to all", help);
        }
        if let (Some(_), RawOtlpProtocol::Grpc, "http") = (&raw.proxy, raw.protocol, url.scheme()) {
            let help = "write an https endpoint, or `protocol: http`, or leave `proxy` out";
            self.fault(&place.key("proxy"), "a proxy takes gRPC over https alone", help);
        }
        if raw.ca.is_some() && url.scheme() != "https" {
            let help = "write an https endpoint, or leave `ca` out";
            self.fault(&place.key("ca"), "nothing is verified over http", help);
        }
    }

    fn collector_headers(
        &mut self,
        raw: &BTreeMap<String, SecretRef>,
        place: &Place<'_>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for (name, source) in raw {
            let place = place.key(name);
            let Ok(read) = HeaderName::from_bytes(name.as_bytes()) else {
                let help = "for instance Authorization";
                self.fault_at_key(&place, format!("`{name}` is no header name"), help);
                continue;
            };
            if is_hop(read.as_str()) || OUR_FIELDS.contains(&read.as_str()) {
                let help = "leave it out; a collector's key has a field of its own";
                self.fault_at_key(&place, format!("`{name}` is the gateway's to say"), help);
                continue;
            }
            let Some(secret) = self.secret(&source.value, &place) else { continue };
            if let Ok(mut value) = HeaderValue::from_str(secret.expose()) {
                value.set_sensitive(true);
                headers.push((read, value));
            } else {
                let help = "put one line of visible text there";
                self.fault(&place, "this secret is no value of a header", help);
            }
        }
        headers
    }
}
