//! A new client before it is one: the fields of its form, as a file, as a command, and as the
//! request by which it gets its first token. `client add` and the console make the same of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The grant without a user.
const CLIENT_CREDENTIALS: &str = "client_credentials";

/// The fields of the two forms: client credentials, and authorization code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientDraft {
    /// `client_id`.
    pub id: String,
    /// Name for people.
    pub name: Option<String>,
    /// Whose service is integrated.
    pub provider_name: Option<String>,
    /// Who answers for it: a mail address or a team.
    pub owner: Option<String>,
    /// Whether it gets tokens.
    pub active: bool,
    /// Grants it may use.
    pub grants: Vec<String>,
    /// The user that its client-credentials tokens act as.
    pub application_user: Option<String>,
    /// Auth scopes it holds.
    pub auth_scopes: Vec<String>,
    /// It reaches only what scopes grant.
    pub allow_only_selected_scopes: bool,
    /// APIs outside which it reaches nothing; all when empty.
    pub limit_authorization: Vec<String>,
    /// It reaches only what a policy that names it admits.
    pub enforce_token_restriction: bool,
    /// `jwt` or `opaque`.
    pub token_format: String,
    /// Life of its access tokens, for instance `1800s`.
    pub access_token_lifespan: Option<String>,
    /// Life of its refresh tokens, for instance `100d`.
    pub refresh_token_lifespan: Option<String>,
    /// Where the authorization endpoint may send the user back to.
    pub redirect_urls: Vec<String>,
    /// It has no secret.
    pub public_client: bool,
    /// External login page of this client.
    pub login_url: Option<String>,
    /// Logo on the consent page.
    pub logo_url: Option<String>,
    /// The day from which its secret is refused, `YYYY-MM-DD`.
    pub expires: Option<String>,
}

impl Default for ClientDraft {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: None,
            provider_name: None,
            owner: None,
            active: true,
            grants: vec![CLIENT_CREDENTIALS.to_owned()],
            application_user: None,
            auth_scopes: Vec::new(),
            allow_only_selected_scopes: true,
            limit_authorization: Vec::new(),
            enforce_token_restriction: false,
            token_format: "jwt".to_owned(),
            access_token_lifespan: None,
            refresh_token_lifespan: None,
            redirect_urls: Vec::new(),
            public_client: false,
            login_url: None,
            logo_url: None,
            expires: None,
        }
    }
}

impl ClientDraft {
    /// Checks what its file, which is written from it, could not say.
    ///
    /// # Errors
    /// The key, and what is wrong with its value.
    pub fn check(&self, needs_file_name: bool) -> Result<(), (&'static str, String)> {
        let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.id.is_empty() && !needs_file_name {
            return Err(("id", "a client needs an id".to_owned()));
        }
        let is_file_name = !self.id.is_empty() && self.id.chars().all(is_safe);
        if needs_file_name && (!is_file_name || self.id.starts_with('.')) {
            let text = "a client id that is to be a file's name has letters, digits, dots, \
                hyphens and underscores";
            return Err(("id", text.to_owned()));
        }
        let texts = [
            ("name", &self.name),
            ("provider_name", &self.provider_name),
            ("owner", &self.owner),
            ("application_user", &self.application_user),
            ("access_token_lifespan", &self.access_token_lifespan),
            ("refresh_token_lifespan", &self.refresh_token_lifespan),
            ("login_url", &self.login_url),
            ("logo_url", &self.logo_url),
            ("expires", &self.expires),
        ];
        let texts = texts.iter().filter_map(|(key, text)| Some((*key, text.as_deref()?)));
        let lists = [
            ("grants", &self.grants),
            ("auth_scopes", &self.auth_scopes),
            ("limit_authorization", &self.limit_authorization),
            ("redirect_urls", &self.redirect_urls),
        ];
        let lists =
            lists.iter().flat_map(|(key, list)| list.iter().map(|text| (*key, text.as_str())));
        let own = [("id", self.id.as_str()), ("token_format", self.token_format.as_str())];
        for (key, text) in own.into_iter().chain(texts).chain(lists) {
            if text.starts_with("env:") {
                let text = "a value that begins with env: would be read from the environment";
                return Err((key, text.to_owned()));
            }
            if text.chars().any(char::is_control) {
                return Err((key, "a value has no line ends or other control characters".into()));
            }
        }
        Ok(())
    }

    /// The text of its file. `digest` is the line of its secret: `sha256: …` or `argon2id: …`.
    /// Values are quoted as JSON strings, which YAML reads as they are; defaults are left out.
    #[must_use]
    pub fn yaml(&self, digest: Option<&str>) -> String {
        let default = Self::default();
        let mut text = format!("clients:\n  {}:\n", json!(self.id));
        let mut line = |key: &str, value: String| text.push_str(&format!("    {key}: {value}\n"));
        let quoted = |text: &str| json!(text).to_string();
        let optional = |text: &Option<String>| text.as_deref().map(quoted);
        let switch = |value: bool, default: bool| (value != default).then(|| value.to_string());
        let listed = |values: &[String]| (!values.is_empty()).then(|| list(values));
        let secret = digest.map(|digest| match &self.expires {
            Some(day) => format!("[{{ {digest}, expires: {} }}]", quoted(day)),
            None => format!("[{{ {digest} }}]"),
        });
        let format =
            (self.token_format != default.token_format).then(|| quoted(&self.token_format));
        let lines = [
            ("name", optional(&self.name)),
            ("provider_name", optional(&self.provider_name)),
            ("owner", optional(&self.owner)),
            ("active", switch(self.active, default.active)),
            ("grants", Some(list(&self.grants))),
            ("public_client", switch(self.public_client, default.public_client)),
            ("secrets", secret),
            ("application_user", optional(&self.application_user)),
            ("redirect_urls", listed(&self.redirect_urls)),
            ("auth_scopes", Some(list(&self.auth_scopes))),
            ("limit_authorization", listed(&self.limit_authorization)),
            (
                "allow_only_selected_scopes",
                switch(self.allow_only_selected_scopes, default.allow_only_selected_scopes),
            ),
            (
                "enforce_token_restriction",
                switch(self.enforce_token_restriction, default.enforce_token_restriction),
            ),
            ("token_format", format),
            ("access_token_lifespan", optional(&self.access_token_lifespan)),
            ("refresh_token_lifespan", optional(&self.refresh_token_lifespan)),
            ("login_url", optional(&self.login_url)),
            ("logo_url", optional(&self.logo_url)),
        ];
        for (key, value) in lines {
            if let Some(value) = value {
                line(key, value);
            }
        }
        text
    }

    /// The command that adds it.
    #[must_use]
    pub fn command(&self) -> String {
        let default = Self::default();
        let mut words = vec!["scopegate client add".to_owned(), word_of(&self.id)];
        let mut option = |name: &str, value: &str| {
            words.push(format!("--{name}"));
            words.push(word_of(value));
        };
        let texts = [
            ("name", &self.name),
            ("provider-name", &self.provider_name),
            ("owner", &self.owner),
            ("application-user", &self.application_user),
            ("access-token-lifespan", &self.access_token_lifespan),
            ("refresh-token-lifespan", &self.refresh_token_lifespan),
            ("login-url", &self.login_url),
            ("logo-url", &self.logo_url),
            ("expires", &self.expires),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                option(name, text);
            }
        }
        if self.grants != default.grants {
            option("grants", &self.grants.join(","));
        }
        if !self.auth_scopes.is_empty() {
            option("scopes", &self.auth_scopes.join(","));
        }
        if !self.limit_authorization.is_empty() {
            option("limit-authorization", &self.limit_authorization.join(","));
        }
        if self.token_format != default.token_format {
            option("token-format", &self.token_format);
        }
        for url in &self.redirect_urls {
            option("redirect-url", url);
        }
        let flags = [
            ("--public", self.public_client),
            ("--inactive", !self.active),
            ("--allow-unselected-scopes", !self.allow_only_selected_scopes),
            ("--enforce-token-restriction", self.enforce_token_restriction),
        ];
        words
            .extend(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| (*flag).to_owned()));
        words.join(" ")
    }

    /// The command by which the client gets a token, if it can have one without a user. `-u` makes
    /// a header of ids and secrets of any length, which `base64` would break into lines.
    #[must_use]
    pub fn curl(&self, public_url: &str, secret: Option<&str>) -> Option<String> {
        if self.public_client || !self.grants.iter().any(|grant| grant == CLIENT_CREDENTIALS) {
            return None;
        }
        let credentials = format!("{}:{}", self.id, secret.unwrap_or("CLIENT_SECRET"));
        Some(format!(
            "curl -X POST {} -u {} -d grant_type=client_credentials",
            quoted(&format!("{public_url}/oauth_token.do")),
            quoted(&credentials)
        ))
    }
}

fn list(values: &[String]) -> String {
    serde_json::to_string(values).unwrap_or_default().replace("\",\"", "\", \"")
}

/// A word for a shell, quoted.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A word for a shell, quoted if it needs to be.
fn word_of(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { quoted(word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_left_out_of_the_file_and_of_the_command() {
        let draft = ClientDraft { id: "crm".into(), ..ClientDraft::default() };
        let file = "clients:\n  \"crm\":\n    grants: [\"client_credentials\"]\n    \
            auth_scopes: []\n";
        assert_eq!(draft.yaml(None), file);
        assert_eq!(draft.command(), "scopegate client add crm");
    }

    #[test]
    fn every_field_is_in_the_file_and_in_the_command() {
        let full = ClientDraft {
            id: "it's".into(),
            name: Some("A: \"name\"".into()),
            provider_name: Some("Pro Vider".into()),
            owner: Some("team@example.com".into()),
            active: false,
            grants: vec!["authorization_code".into(), "refresh_token".into()],
            application_user: Some("svc".into()),
            auth_scopes: vec!["read".into(), "write".into()],
            allow_only_selected_scopes: false,
            limit_authorization: vec!["incident".into()],
            enforce_token_restriction: true,
            token_format: "opaque".into(),
            access_token_lifespan: Some("600s".into()),
            refresh_token_lifespan: Some("10d".into()),
            redirect_urls: vec!["https://a.example/cb".into(), "https://b.example/cb".into()],
            public_client: true,
            login_url: Some("https://login.example/".into()),
            logo_url: Some("https://logo.example/l.svg".into()),
            expires: Some("2027-01-31".into()),
        };
        let file = full.yaml(Some("sha256: ab"));
        let value: serde_json::Value = serde_json::to_value(&full).unwrap();
        for (key, value) in value.as_object().unwrap() {
            assert!(key == "id" || file.contains(&format!("{key}: ")), "{key}: {value} in {file}");
        }
        let command = full.command();
        for word in [
            "'it'\\''s'",
            "--name 'A: \"name\"'",
            "--redirect-url https://a.example/cb --redirect-url https://b.example/cb",
            "--public --inactive --allow-unselected-scopes --enforce-token-restriction",
            "--expires 2027-01-31",
        ] {
            assert!(command.contains(word), "{word} in {command}");
        }
    }

    #[test]
    fn values_that_would_be_read_as_something_else_are_refused() {
        let draft = |change: fn(&mut ClientDraft)| {
            let mut draft = ClientDraft { id: "crm".into(), ..ClientDraft::default() };
            change(&mut draft);
            draft.check(true).map_err(|(key, _)| key)
        };
        assert_eq!(draft(|_| {}), Ok(()));
        assert_eq!(draft(|draft| draft.id = "../crm".into()), Err("id"));
        assert_eq!(draft(|draft| draft.id = ".crm".into()), Err("id"));
        assert_eq!(draft(|draft| draft.id.clear()), Err("id"));
        assert_eq!(draft(|draft| draft.name = Some("env:HOME".into())), Err("name"));
        assert_eq!(draft(|draft| draft.owner = Some("a\nb".into())), Err("owner"));
        assert_eq!(draft(|draft| draft.auth_scopes = vec!["env:X".into()]), Err("auth_scopes"));
    }
}
