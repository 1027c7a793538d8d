//! Documents that describe us to others, as values.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::client::GrantType;
use crate::policy::Rules;

/// Where protected resources are described (RFC 9728 §3); the path of the resource follows.
pub const RESOURCE: &str = "/.well-known/oauth-protected-resource";

/// Our endpoints for machines, which answer on the further `hosts` too: no page, no sign-in.
pub const MACHINE_PATHS: [&str; 10] = [
    "/oauth_token.do",
    "/oauth2/token",
    "/oauth_revoke_token.do",
    "/oauth2/revoke",
    "/oauth2/introspect",
    "/api/now/oauth/jwks",
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    RESOURCE,
];

/// Whether this is a path of the token endpoint.
#[must_use]
pub fn is_token_path(path: &str) -> bool {
    matches!(path, "/oauth_token.do" | "/oauth2/token")
}

/// The same for those that know OpenID Connect alone: with the members that they insist on (OpenID
/// Connect Discovery §3). There are no ID tokens, so `openid` is no scope.
#[must_use]
pub fn openid_configuration(
    public_url: &str,
    grants: &BTreeSet<GrantType>,
    rules: &Rules,
) -> String {
    let mut document = server_members(public_url, grants, rules);
    let scopes = rules.scopes_in_use().filter(|scope| *scope != "openid");
    document.insert("scopes_supported".into(), json!(scopes.collect::<BTreeSet<_>>()));
    if grants.contains(&GrantType::AuthorizationCode) {
        let prompts = json!(["none", "login", "consent"]);
        document.insert("prompt_values_supported".into(), prompts);
    }
    document.insert("subject_types_supported".into(), json!(["public"]));
    document.insert("id_token_signing_alg_values_supported".into(), json!(["RS256"]));
    Value::Object(document).to_string()
}

/// Our authorization server (RFC 8414 §2), made from what is configured.
#[must_use]
pub fn authorization_server(
    public_url: &str,
    grants: &BTreeSet<GrantType>,
    rules: &Rules,
) -> String {
    Value::Object(server_members(public_url, grants, rules)).to_string()
}

fn server_members(
    public_url: &str,
    grants: &BTreeSet<GrantType>,
    rules: &Rules,
) -> Map<String, Value> {
    let at = |path: &str| format!("{public_url}{path}");
    let methods = json!(["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]);
    let signed =
        json!(["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]);
    let document = json!({
        "issuer": public_url,
        "token_endpoint": at("/oauth2/token"),
        "jwks_uri": at("/.well-known/jwks.json"),
        "revocation_endpoint": at("/oauth2/revoke"),
        "introspection_endpoint": at("/oauth2/introspect"),
        "grant_types_supported": grants.iter().map(|grant| grant.parameter()).collect::<Vec<_>>(),
        "scopes_supported": rules.scopes_in_use().collect::<BTreeSet<_>>(),
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        // Required besides private_key_jwt (RFC 8414 §2).
        "token_endpoint_auth_signing_alg_values_supported": signed,
        "revocation_endpoint_auth_signing_alg_values_supported": signed,
        "introspection_endpoint_auth_signing_alg_values_supported": signed,
        // Required by RFC 8414 §2 even where there is no authorization endpoint.
        "response_types_supported": [],
    });
    let Value::Object(mut members) = document else { return Map::new() };
    if grants.contains(&GrantType::AuthorizationCode) {
        members.insert("authorization_endpoint".into(), at("/oauth2/authorize").into());
        members.insert("response_types_supported".into(), json!(["code"]));
        members.insert("response_modes_supported".into(), json!(["query"]));
        members.insert("code_challenge_methods_supported".into(), json!(["S256"]));
        members.insert("authorization_response_iss_parameter_supported".into(), true.into());
    }
    members
}

/// A protected resource (RFC 9728 §2): all of ours for an empty path, one API for its base path.
/// `None` where no API is.
#[must_use]
pub fn protected_resource(public_url: &str, path: &str, rules: &Rules) -> Option<String> {
    let name = format!("{public_url}{path}");
    let mut titles: Vec<&str> = Vec::new();
    let mut scopes: BTreeSet<&str> = BTreeSet::new();
    for (at, api) in rules.apis().iter().enumerate() {
        if path.is_empty() || api.resource.as_deref() == Some(&name) {
            titles.push(api.name.as_str());
            scopes.extend(rules.scopes_of(at));
        }
    }
    if titles.is_empty() && !path.is_empty() {
        return None;
    }
    // A client finds the metadata of one by its URL: what is none, is of no use to it.
    let is_url = |text: &String| text.starts_with("https://") || text.starts_with("http://");
    let mut servers: Vec<String> =
        rules.issuers().flat_map(|issuer| issuer.rules.issuers()).filter(is_url).collect();
    // Ours first: it knows the scopes of every API here.
    servers.sort_unstable_by(|a, b| (a != public_url, a).cmp(&(b != public_url, b)));
    let mut document = json!({
        "resource": name,
        "authorization_servers": servers,
        "scopes_supported": scopes,
        "bearer_methods_supported": ["header"],
    });
    if !path.is_empty()
        && let Some(members) = document.as_object_mut()
    {
        members.insert("resource_name".into(), titles.join(", ").into());
    }
    Some(document.to_string())
}

/// Where an API is described, for the challenge (RFC 9728 §5.1).
#[must_use]
pub fn resource_url(public_url: &str, base_path: Option<&str>) -> String {
    format!("{public_url}{RESOURCE}{}", base_path.unwrap_or_default())
}

/// A JWK Set (RFC 7517 §5) of public keys.
#[must_use]
pub fn jwk_set<'a>(keys: impl Iterator<Item = &'a Map<String, Value>>) -> String {
    let keys: Vec<Value> = keys.map(|key| Value::Object(public_members(key))).collect();
    json!({ "keys": keys }).to_string()
}

/// Only members that are known to be public: a private one must not slip through (RFC 7517 §4, RFC
/// 7518 §6).
fn public_members(key: &Map<String, Value>) -> Map<String, Value> {
    const PUBLIC: [&str; 9] = ["kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"];
    key.iter()
        .filter(|(name, _)| PUBLIC.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_members_are_left_out() {
        let key =
            json!({"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": "secret", "kid": "k"});
        let set = jwk_set([key.as_object().unwrap()].into_iter());
        assert!(!set.contains("secret") && set.contains("\"kid\":\"k\""));
    }
}
