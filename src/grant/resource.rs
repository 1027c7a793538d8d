//! Resource indicators (RFC 8707): the one API that a token is for.
//!
//! `public_url` names all of them; an API below it is named by its base path, and a token for it is
//! valid only there (decisions.md, "Audience of our tokens").

use crate::policy::Rules;

/// The audience that `resource` requests; `None` for all our APIs.
///
/// # Errors
/// Says what is wrong, and what would be right.
pub fn find(rules: &Rules, public_url: &str, resource: &str) -> Result<Option<String>, String> {
    let asked = resource.trim_end_matches('/');
    if asked == public_url {
        return Ok(None);
    }
    let known =
        rules.apis().iter().find_map(|api| api.resource.as_deref().filter(|url| *url == asked));
    known.map(|url| Some(url.to_owned())).ok_or_else(|| {
        format!(
            "no API here is called {}; leave resource out, or name {public_url} or an API below it",
            printable(asked)
        )
    })
}

/// The text that was sent, shortened to fit into an answer.
fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(100).collect()
}
