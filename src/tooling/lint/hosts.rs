//! Findings about host proxies that ask: what they cannot hold, and where their paths part requests
//! differently than the policies do.

use super::{Finding, Rule};
use crate::config::{Config, ListenAddress};
use crate::names::Origin;
use crate::policy::definition::Api;

pub(super) fn lint(config: &Config) -> Vec<Finding> {
    let listeners = &config.fixed.listeners;
    let mut deciding = listeners.iter().filter(|listener| listener.decide.is_some()).peekable();
    if deciding.peek().is_none() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let over_tcp = |address: &ListenAddress| address.path().is_none();
    if config.trusted_proxies.is_empty() && deciding.any(|listener| over_tcp(&listener.address)) {
        let gateway = Origin { file: config.gateway_file.clone(), line: 1, column: 1 };
        let text = "a listener says `decide`, and no host is named under `trusted_proxies`";
        let on = "trusted_proxies";
        findings.push(Finding::new(Rule::HostUntrusted, &on, &gateway, text.to_owned()));
    }
    let apis = config.rules.apis();
    for api in apis {
        let upstream = config.upstreams.iter().find(|upstream| upstream.name == api.upstream);
        let keys = upstream.map(|upstream| upstream.unheld_by_hosts(api)).unwrap_or_default();
        if !keys.is_empty() {
            let text = format!("API `{}`: {} is held by no host", api.name, keys.join(", "));
            findings.push(Finding::new(Rule::HostUnheld, &api.name, &api.origin, text));
        }
        for other in apis.iter().filter(|other| other.upstream != api.upstream) {
            if let Some(path) = lies_under(api, other) {
                let text = format!(
                    "API `{}`: a host forwards `{path}` to the upstream of `{}`, whose base path \
                     it is under",
                    api.name, other.name
                );
                findings.push(Finding::new(Rule::HostPaths, &api.name, &api.origin, text));
            }
        }
    }
    findings
}

/// A path of an API that lies under the base path of another one, which a host takes for longer.
fn lies_under(api: &Api, other: &Api) -> Option<String> {
    let of_one_host = api.host.is_none() || other.host.is_none() || api.host == other.host;
    if !of_one_host || other.base_path.len() < api.base_path.len() {
        return None;
    }
    let versions = api.versions.iter().map(|version| format!("/{version}"));
    let versions: Vec<String> = std::iter::once(String::new()).chain(versions).collect();
    let paths = api.resources.iter().flat_map(|resource| {
        versions.iter().map(|version| format!("{}{version}{}", api.base_path, resource.template))
    });
    paths.into_iter().find(|path| reaches(path, &other.base_path))
}

/// Whether a path template has a path that begins with these segments.
fn reaches(template: &str, base: &str) -> bool {
    let mut segments = template.split('/').skip(1);
    for wanted in base.split('/').skip(1) {
        match segments.next() {
            Some(rest) if rest.starts_with("{*") => return true,
            Some(parameter) if parameter.starts_with('{') => {
                let behind = parameter.rsplit('}').next().unwrap_or_default();
                if !wanted.ends_with(behind) {
                    return false;
                }
            }
            Some(literal) if literal == wanted => {}
            Some(_) | None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::reaches;

    #[test]
    fn a_template_reaches_what_it_can_match() {
        for (template, base, can) in [
            ("/a/{x}", "/a/b", true),
            ("/a/{x}", "/a/b/c", false),
            ("/a/{*rest}", "/a/b/c", true),
            ("/a/b/c", "/a/b", true),
            ("/a/c", "/a/b", false),
            ("/a", "/a/b", false),
            ("/a/{x}:run", "/a/b", false),
            ("/a/{x}:run", "/a/b:run", true),
            ("/a", "", true),
        ] {
            assert_eq!(reaches(template, base), can, "{template} {base}");
        }
    }
}
