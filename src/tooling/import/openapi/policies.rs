//! APIs, auth scopes and tests as YAML.

use std::collections::BTreeMap;

use super::apis::{Api, Scopes};
use super::{Imported, Options};
use crate::request::method::{Method, MethodSet};
use crate::tooling::import::{Upstream, yaml};

/// The comment at the beginning of a file.
pub(super) fn head(title: &str, upstreams: &[Upstream]) -> String {
    let mut head = yaml::comment(&format!("Made by `scopegate import openapi` of: {title}"));
    head.push_str("# gateway.yaml has to name, under `upstreams`:\n");
    for upstream in upstreams {
        head.push_str(&yaml::comment(&upstream.line()));
    }
    head
}

/// `apis:`.
pub(super) fn apis(apis: &[Api]) -> String {
    let mut text = "apis:\n".to_owned();
    for api in apis {
        text.push_str(&format!("  {}:\n", yaml::text(&api.key)));
        if !api.name.trim().is_empty() {
            text.push_str(&format!("    name: {}\n", yaml::prose(&api.name)));
        }
        let base_path = yaml::text(&api.server.base_path);
        text.push_str(&format!(
            "    base_path: {base_path}\n{}    upstream: {}\n    resources:\n",
            strip_prefix(api),
            yaml::text(&api.upstream)
        ));
        let mut resources: BTreeMap<&str, (MethodSet, bool)> = BTreeMap::new();
        for offered in &api.operations {
            let (methods, public) = resources.entry(&offered.template).or_default();
            *methods = methods.with(offered.operation.method);
            *public = offered.public;
        }
        for (template, (methods, public)) in resources {
            let methods = yaml::list(methods.iter().map(Method::as_str));
            let resource =
                if public { format!("{{ methods: {methods}, public: true }}") } else { methods };
            text.push_str(&format!("      {}: {resource}\n", yaml::text(template)));
        }
    }
    text
}

/// `strip_prefix:` where the server has its operations below another path than the gateway.
fn strip_prefix(api: &Api) -> String {
    let base_path = &api.server.base_path;
    if api.server.moved().is_none() || base_path == "/" {
        return String::new();
    }
    format!("    strip_prefix: {}\n", yaml::text(base_path))
}

/// `auth_scopes:`.
pub(super) fn scopes(
    scopes: &Scopes,
    descriptions: &BTreeMap<String, String>,
    options: &Options,
) -> String {
    if scopes.is_empty() {
        return String::new();
    }
    let mut text = "\nauth_scopes:\n".to_owned();
    for (scope, granted) in scopes {
        text.push_str(&format!("  {}:\n", yaml::text(scope)));
        let words =
            scope.strip_prefix(&options.scope_prefix).and_then(|scope| descriptions.get(scope));
        if let Some(words) = words.filter(|words| !words.trim().is_empty()) {
            text.push_str(&format!("    description: {}\n", yaml::prose(words)));
        }
        text.push_str("    grants:\n");
        // One grant for all resources of an API on which a scope grants the same methods.
        let mut grants: BTreeMap<(&str, Vec<Method>), Vec<String>> = BTreeMap::new();
        for ((api, template), methods) in granted {
            grants.entry((api, methods.iter().collect())).or_default().push(template.clone());
        }
        for ((api, methods), resources) in grants {
            let methods = yaml::list(methods.into_iter().map(Method::as_str));
            text.push_str(&format!(
                "      - api: {}\n        methods: {methods}\n",
                yaml::text(api)
            ));
            text.push_str(&yaml::lines(8, "resources", &resources));
        }
    }
    text
}

/// `tests:`, and their number: each operation is closed without a token, and, with a client, its
/// scopes open it and no others do.
pub(super) fn tests(imported: &[Imported], options: &Options) -> (String, usize) {
    let mut lines: Vec<String> = Vec::new();
    for Imported { method, test, scopes, public, .. } in imported {
        let Some(target) = test else { continue };
        let request = yaml::text(&format!("{method} {target}"));
        let mut add = |token: &str, expect: &str| {
            lines.push(format!("  - {{ request: {request}{token}, expect: {expect} }}\n"));
        };
        if *public {
            add("", "permit");
            continue;
        }
        add("", "token.missing");
        let Some(client) = options.client.as_deref().map(yaml::text) else { continue };
        for scope in scopes {
            add(
                &format!(
                    ", token: {{ client: {client}, scopes: {} }}",
                    yaml::list([scope.as_str()])
                ),
                "permit",
            );
        }
        let without = if scopes.is_empty() { "scope.unscoped" } else { "scope.missing" };
        add(&format!(", token: {{ client: {client}, scopes: [] }}"), without);
    }
    let text =
        if lines.is_empty() { String::new() } else { format!("\ntests:\n{}", lines.concat()) };
    (text, lines.len())
}
