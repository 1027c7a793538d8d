//! `apis:` of the policies: paths, resources, and what an API says to browsers and of its own end.

use super::policy::method_set;
use super::{Builder, Named, Place};
use crate::config::format;
use crate::config::raw::policy::{
    RawAllowance, RawApi, RawCors, RawErrorFormat, RawQueryAllowance, RawResource, RawWebSocket,
};
use crate::config::{Edge, Upstream};
use crate::names::{ApiName, UpstreamName, Version};
use crate::policy::definition::{Api, Cors, Deprecated, ErrorFormat, Resource};
use crate::request::target::{Allowances, QueryAllowances};

/// Headers of ours that a page may read: those that explain a refusal.
const EXPOSED: [&str; 5] =
    ["x-decision-id", "www-authenticate", "retry-after", "ratelimit", "ratelimit-policy"];

impl Builder<'_> {
    pub(super) fn api(&mut self, name: &str, raw: &RawApi, place: &Place<'_>) -> Api {
        self.refer(&place.key("upstream"), Named::Upstream, &raw.upstream);
        let versions: Vec<Version> =
            raw.versions.iter().map(|version| Version::new(version.text())).collect();
        let default_version =
            raw.default_version.as_ref().map(|version| Version::new(version.text()));
        if let Some(default) =
            default_version.as_ref().filter(|default| !versions.contains(default))
        {
            let help = super::suggestion(default.as_str(), versions.iter().map(Version::as_str));
            self.fault(
                &place.key("default_version"),
                format!("`{default}` is not among the versions"),
                help,
            );
        }
        if raw.resources.is_empty() {
            self.fault(
                &place.key("resources"),
                "an API without resources: no request would match",
                "write for instance `/items: [GET]`",
            );
        }
        let mut resources = Vec::new();
        for (template, resource) in &raw.resources {
            resources.push(self.resource(
                template,
                resource,
                &place.key("resources").key(template),
            ));
        }
        let mut allow = Allowances::default();
        for allowance in &raw.path.allow {
            match allowance {
                RawAllowance::Semicolon => allow.semicolon = true,
                RawAllowance::EncodedSlash => allow.encoded_slash = true,
                RawAllowance::EncodedPercent => allow.encoded_percent = true,
                RawAllowance::NonUtf8 => allow.non_utf8 = true,
            }
        }
        let mut query = QueryAllowances::default();
        for allowance in &raw.query.allow {
            match allowance {
                RawQueryAllowance::Quotes => query.quotes = true,
                RawQueryAllowance::Utf8 => query.utf8 = true,
            }
        }
        Api {
            name: ApiName::new(name),
            host: raw.host.as_ref().map(|host| host.value.clone()),
            base_path: raw.base_path.value.clone(),
            versions,
            default_version,
            resources,
            upstream: UpstreamName::new(&raw.upstream),
            public: raw.public,
            maintenance: raw.maintenance,
            error_format: match raw.error_format {
                RawErrorFormat::Problem => ErrorFormat::Problem,
                RawErrorFormat::ServiceNow => ErrorFormat::ServiceNow,
            },
            allow,
            query,
            cors: raw.cors.as_ref().map(|cors| self.cors(cors, &place.key("cors"))),
            strip_prefix: self.strip_prefix(raw, &place.key("strip_prefix")),
            deprecated: raw.deprecated.as_ref().map(|deprecated| Deprecated {
                since: deprecated.since.value,
                sunset: deprecated.sunset.as_ref().map(|sunset| sunset.value),
                link: deprecated.link.as_ref().map(|link| link.text().to_owned()),
            }),
            websocket: !matches!(raw.websocket, RawWebSocket::Switch(false)),
            token_in_protocol: match raw.websocket {
                RawWebSocket::Switch(_) => false,
                RawWebSocket::Way(way) => way.token_in_protocol,
            },
            method_override: raw.method_override,
            max_body: raw.max_body_size.as_ref().map(|size| size.value),
            // Known once public_url is: see `name_resources`.
            resource: None,
            origin: place.origin(),
        }
    }

    /// What APIs say that depends on gateway.yaml: a WebSocket is a tunnel of HTTP/1.1, and no body
    /// is larger than the edge lets in.
    pub(super) fn check_apis(
        &mut self,
        apis: &[Api],
        upstreams: &[Upstream],
        edge: Edge,
        only_decides: bool,
    ) {
        for (document, api) in
            self.policies.iter().flat_map(|document| apis.iter().map(move |api| (document, api)))
        {
            let upstream = upstreams.iter().find(|upstream| upstream.name == api.upstream);
            let http2 = upstream.is_some_and(|upstream| upstream.http2);
            let place = Place::root(document).key("apis").key(api.name.as_str());
            if place.origin().file != api.origin.file {
                continue;
            }
            if only_decides {
                self.check_decided(api, upstream, &place);
            }
            if api.host.is_none() && upstream.is_some_and(|upstream| upstream.keeps_host) {
                let help = "give the API a `host`, or leave `host: keep` out at the upstream";
                self.fault(
                    &place.key("upstream"),
                    "the upstream says `host: keep`, and this API has no `host`",
                    help,
                );
            }
            if api.max_body.is_some_and(|most| most > edge.limits.body_bytes) {
                let help = "raise `edge.max_body_size` in gateway.yaml, or write less";
                self.fault(&place.key("max_body_size"), "larger than `edge.max_body_size`", help);
            }
            if api.query.quotes && http2 {
                let help = "leave `quotes` or `http2` out, or give this API an upstream without it";
                self.fault(
                    &place.key("query"),
                    "raw quotes need HTTP/1.1, and the upstream says `http2`",
                    help,
                );
            }
            if api.websocket && http2 {
                let help = "leave `http2` out at the upstream, or give this API one without it";
                self.fault(
                    &place.key("websocket"),
                    "a WebSocket needs HTTP/1.1, and the upstream says `http2`",
                    help,
                );
            }
        }
    }

    /// What only a gateway that forwards can hold, where every listener says `decide`.
    fn check_decided(&mut self, api: &Api, upstream: Option<&Upstream>, place: &Place<'_>) {
        let keys = upstream.map(|upstream| upstream.unheld_by_hosts(api)).unwrap_or_default();
        for key in keys {
            let message = format!("{key}, and every listener says `decide`: no host holds it");
            let help = "leave it out, or serve the API on a listener without `decide`";
            self.fault(place, message, help);
        }
    }

    /// The part of the base path that is taken off. It ends where a segment ends, so that what is
    /// left is as canonical as the whole.
    fn strip_prefix(&mut self, raw: &RawApi, place: &Place<'_>) -> String {
        let Some(prefix) = &raw.strip_prefix else { return String::new() };
        let (prefix, base) = (&prefix.value, &raw.base_path.value);
        let rest = base.strip_prefix(prefix.as_str());
        if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            let help = format!("whole segments that the base path begins with, as `{base}`");
            self.fault(place, format!("`{prefix}` is not what `{base}` begins with"), help);
        }
        prefix.clone()
    }

    fn cors(&mut self, raw: &RawCors, place: &Place<'_>) -> Cors {
        for (at, origin) in raw.origins.iter().enumerate() {
            let place = place.key("origins").at(at);
            if origin.contains('*') && origin != "*" {
                let message = format!("`{origin}` matches no origin: there are no patterns");
                self.fault(&place, message, "write each origin out, or \"*\" alone for all");
            } else if !is_web_origin(origin) && origin != "*" {
                let help = "scheme, host and port in lower case, without a slash at the end: \
                    https://portal.example";
                self.fault(&place, format!("`{origin}` is no origin"), help);
            }
        }
        let every = raw.origins.iter().any(|origin| origin == "*");
        Cors {
            origins: (!every).then(|| raw.origins.iter().cloned().collect()),
            headers: self.header_names(
                &["authorization", "content-type"],
                &raw.headers,
                &place.key("headers"),
            ),
            expose: self.header_names(&EXPOSED, &raw.expose, &place.key("expose")),
            max_age: raw.max_age.as_ref().map_or(600, |age| age.value.as_secs()),
        }
    }

    fn header_names(&mut self, own: &[&str], names: &[String], place: &Place<'_>) -> String {
        let mut all: Vec<String> = own.iter().map(|name| (*name).to_owned()).collect();
        for (at, name) in names.iter().enumerate() {
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                self.fault(
                    &place.at(at),
                    format!("`{name}` is no header name"),
                    "letters, digits and dashes",
                );
            }
            all.push(name.to_ascii_lowercase());
        }
        all.dedup();
        all.join(", ")
    }

    fn resource(&mut self, template: &str, raw: &RawResource, place: &Place<'_>) -> Resource {
        if let Err(message) = format::check("template", template) {
            self.fault_at_key(
                place,
                message,
                "literals, {name} for one segment, {name}:literal, {*rest} at the end",
            );
        }
        let (methods, public) = match raw {
            RawResource::Methods(methods) => (methods.as_slice(), false),
            RawResource::Full(full) => (full.methods.as_slice(), full.public),
        };
        if methods.is_empty() {
            self.fault(place, "a resource without methods", "write for instance [GET]");
        }
        Resource {
            template: template.into(),
            methods: method_set(methods),
            public,
            origin: place.origin(),
        }
    }
}

/// Whether it is an origin as browsers write that of a page on the web (RFC 6454 §6.2).
fn is_web_origin(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == *text
    })
}
