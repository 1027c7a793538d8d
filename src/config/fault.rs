//! A fault in the configuration: where, what is wrong, what would be right.

use std::borrow::Cow;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// One fault. Line and column count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// File as the operator named it.
    pub file: Arc<str>,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// How many characters are marked.
    #[serde(skip)]
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What is marked may be a secret that stands in the open: it is not shown.
    #[serde(skip)]
    pub hidden: bool,
}

impl Fault {
    /// A fault of a whole file, one that could not be read for instance.
    #[must_use]
    pub fn of_file(file: &str, message: impl Into<String>, help: Option<String>) -> Self {
        Self {
            file: file.into(),
            line: 1,
            column: 1,
            width: 1,
            message: message.into(),
            help,
            hidden: false,
        }
    }

    /// `file:line:column: message`, and the help on a second line.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut text = format!("{}:{}:{}: {}", self.file, self.line, self.column, self.message);
        if let Some(help) = &self.help {
            text.push_str("\n  help: ");
            text.push_str(help);
        }
        text
    }

    /// The fault with the line it stands in and a marker, in the style of rustc.
    #[must_use]
    pub fn render(&self, source: &str, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() }
            .decor_style(DecorStyle::Ascii);
        let shown = self.shown(source);
        let source = &*shown;
        let (start, end) = self.span(source);
        let snippet = Snippet::source(source)
            .path(&*self.file)
            .fold(true)
            .annotation(AnnotationKind::Primary.span(start..end));
        let mut report = vec![Level::ERROR.primary_title(self.message.as_str()).element(snippet)];
        if let Some(help) = &self.help {
            report.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
        }
        renderer.render(&report)
    }

    /// The source as it may be shown: without what may be a secret in the open, on the line of the
    /// fault alone.
    fn shown<'a>(&self, source: &'a str) -> Cow<'a, str> {
        let begin: usize =
            source.split_inclusive('\n').take(self.line.saturating_sub(1)).map(str::len).sum();
        let (before, rest) = source.split_at_checked(begin).unwrap_or((source, ""));
        let line = rest.split_inclusive('\n').next().unwrap_or_default();
        let from = if self.hidden { self.column.saturating_sub(1) } else { usize::MAX };
        let masked = mask(line).into_iter().enumerate();
        let hide = |(at, c)| if at >= from && !matches!(c, '\r' | '\n') { '*' } else { c };
        let shown: String = masked.map(hide).collect();
        // Most lines have nothing to hide, and a file with a thousand faults is not copied a
        // thousand times.
        if shown == line {
            Cow::Borrowed(source)
        } else {
            Cow::Owned([before, &shown, rest.get(line.len()..).unwrap_or_default()].concat())
        }
    }

    /// Byte offsets of the marked characters.
    fn span(&self, source: &str) -> (usize, usize) {
        let mut offset = 0;
        for (number, line) in source.split_inclusive('\n').enumerate() {
            if number + 1 == self.line {
                let text = line.trim_end_matches(['\n', '\r']);
                let at = |count: usize| {
                    text.char_indices().nth(count).map_or(text.len(), |(index, _)| index)
                };
                let start = at(self.column.saturating_sub(1));
                let end = at(self.column.saturating_sub(1) + self.width.max(1));
                return (offset + start, (offset + end).max(offset + start));
            }
            offset += line.len();
        }
        (source.len(), source.len())
    }
}

/// Keys whose values may be secrets.
const SECRETS: [&str; 7] =
    ["secret", "secrets", "client_secret", "password", "sha256", "argon2id", "bearer"];

/// Whether a key may have a secret as its value.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// A line with asterisks for what stands behind such keys, references and nested keys aside.
fn mask(line: &str) -> Vec<char> {
    let mut shown: Vec<char> = line.chars().collect();
    let (mut at, mut hide) = (0, false);
    while at < shown.len() {
        let end = shown
            .iter()
            .skip(at)
            .position(|c| matches!(c, ',' | '{' | '}' | '[' | ']' | '\r' | '\n'))
            .map_or(shown.len(), |n| at + n);
        let part: String = shown.get(at..end).unwrap_or_default().iter().collect();
        let (key, value) = part
            .split_once(": ")
            .or_else(|| part.strip_suffix(':').map(|key| (key, "")))
            .unwrap_or(("", &part));
        let key = key.trim_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '"' | '\''));
        if !key.is_empty() {
            hide = is_secret(key);
        }
        let value = value.trim();
        if hide && !value.is_empty() && !value.starts_with("env:") && !value.starts_with("file:") {
            let from = end
                .saturating_sub(part.rsplit(": ").next().map_or(0, |value| value.chars().count()));
            shown
                .iter_mut()
                .take(end)
                .skip(from.max(at))
                .filter(|c| !c.is_whitespace())
                .for_each(|c| *c = '*');
        }
        at = end + 1;
    }
    shown
}

/// The known name nearest to a wrong one, if it is near enough to be meant.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| {
            let shorter = name.chars().count().min(wrong.chars().count());
            *distance <= 1 + shorter / 4 && *distance < shorter
        })
        .min()
        .map(|(_, name)| name)
}

/// Names by which others call what has another name here.
const SYNONYMS: &[(&str, &str)] = &[
    ("scopes", "auth_scopes"),
    ("scope", "auth_scopes"),
    ("client_secret", "secrets"),
    ("client_secrets", "secrets"),
    ("secret", "secrets"),
    ("redirect_uris", "redirect_urls"),
    ("redirect_uri", "redirect_urls"),
    ("callback_urls", "redirect_urls"),
    ("grant_types", "grants"),
    ("allowed_grants", "grants"),
    ("client_name", "name"),
    ("enabled", "active"),
    ("disabled", "active"),
    ("public", "public_client"),
    ("user", "application_user"),
    ("run_as", "application_user"),
    ("logo_uri", "logo_url"),
    ("issuer_url", "public_url"),
    ("base_url", "public_url"),
    ("jwks_uri", "jwks_url"),
    ("aud", "audience"),
    ("groups", "roles"),
    ("context_path", "base_path"),
    ("prefix", "base_path"),
    ("paths", "resources"),
    ("routes", "resources"),
    ("endpoints", "resources"),
    ("backend", "upstream"),
    ("backends", "upstreams"),
    ("hosts", "servers"),
    ("urls", "servers"),
    ("policies", "access_policies"),
    ("rate_limits", "limits"),
];

/// `did you mean …?`, or else what there is to choose from.
#[must_use]
pub fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let meant = || {
        let mut synonyms = SYNONYMS.iter().filter(|(other, _)| *other == wrong);
        synonyms.find_map(|(_, name)| known.clone().into_iter().find(|known| known == name))
    };
    if let Some(name) = meant().or_else(|| nearest(wrong, known.clone())) {
        return format!("did you mean `{name}`?");
    }
    let mut names: Vec<&str> = known.into_iter().collect();
    names.sort_unstable();
    match names.len() {
        0 => "there is none".to_owned(),
        1..=12 => format!("there is {}", list(&names)),
        more => format!(
            "there are {more} of them, among them {}",
            list(names.get(..8).unwrap_or_default())
        ),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(
            suggestion("incident_raed", ["incident_read", "order_read"]),
            "did you mean `incident_read`?"
        );
        assert_eq!(suggestion("zzz", ["b", "a"]), "there is `a`, `b`");
        assert_eq!(suggestion("zzz", []), "there is none");
    }

    #[test]
    fn a_name_that_others_use_leads_to_ours_where_there_is_ours() {
        let known = ["name", "auth_scopes", "secrets", "grants"];
        assert_eq!(suggestion("scopes", known), "did you mean `auth_scopes`?");
        assert_eq!(suggestion("client_secret", known), "did you mean `secrets`?");
        assert_eq!(suggestion("scopes", ["a", "b"]), "there is `a`, `b`");
    }

    #[test]
    fn the_line_is_shown_with_a_marker() {
        let fault = Fault {
            file: "policies/a.yaml".into(),
            line: 2,
            column: 3,
            width: 4,
            message: "unknown key `nmae`".into(),
            help: Some("did you mean `name`?".into()),
            hidden: false,
        };
        let text = fault.render("apis:\n  nmae: 1\n", false);
        assert!(text.contains("--> policies/a.yaml:2:3"), "{text}");
        assert!(text.contains("nmae: 1") && text.contains("^^^^"), "{text}");
        assert!(text.contains("help: did you mean `name`?"), "{text}");
        let text = Fault { column: 9, hidden: true, ..fault }
            .render("apis:\n  nmae: hunter2 # ä\n", false);
        assert!(text.contains("nmae: ***********") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (line, shown) in [
            ("  a: { password: hunter2 }", "  a: { password: ******* }"),
            ("  a: { secrets: [hunter2, hunter3] }", "  a: { secrets: [*******, *******] }"),
            (
                "  - { sha256: \"hunter2\", expires: never }",
                "  - { sha256: *********, expires: never }",
            ),
            ("client_secret: hunter2 # mine", "client_secret: ******* * ****"),
            (
                "  a: { password: \"hunt{er,2\", name: A }",
                "  a: { password: *****{**,**, name: A }",
            ),
            ("  client_secret: env:SECRET", "  client_secret: env:SECRET"),
            ("  bearer: file:secrets/x", "  bearer: file:secrets/x"),
            ("tests: [{ token: { client: app } }]", "tests: [{ token: { client: app } }]"),
        ] {
            assert_eq!(mask(line).into_iter().collect::<String>(), shown);
        }
    }
}
