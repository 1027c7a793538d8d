//! Writes YAML. All foreign text goes through here: it cannot end a line, begin a key, or be read
//! as `env:NAME`.

/// Longest text that is copied, in characters.
const LONGEST: usize = 200;

/// A text as a value or a key.
pub(super) fn text(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_'))
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'.'));
    // Words that YAML 1.1 and 1.2 do not read as text.
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    if plain && !word { text.to_owned() } else { quoted(text) }
}

/// Whether a character is not valid in YAML, or could make text look different from what it is.
fn is_unprintable(c: char) -> bool {
    let direction =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || direction || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Double-quoted (YAML 1.2.2 §7.3.1), with invalid characters escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_unprintable(c) => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A list on one line.
pub(super) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(text).collect();
    format!("[{}]", items.join(", "))
}

/// A list: on one line if it has one item, otherwise one line per item.
pub(super) fn lines(indent: usize, key: &str, items: &[String]) -> String {
    let space = " ".repeat(indent);
    match items {
        [one] => format!("{space}{key}: [{}]\n", text(one)),
        items => {
            let lines: Vec<String> =
                items.iter().map(|item| format!("{space}  - {}\n", text(item))).collect();
            format!("{space}{key}:\n{}", lines.concat())
        }
    }
}

/// A comment of one line.
pub(super) fn comment(words: &str) -> String {
    format!("# {}\n", short(words))
}

/// Text for people as a value: one line, shortened, and never a reference to the environment.
pub(super) fn prose(words: &str) -> String {
    let line = short(words);
    quoted(&if line.starts_with("env:") { format!("({line})") } else { line })
}

/// Text on one line, of any length.
pub(super) fn line(words: &str) -> String {
    let words = words
        .split(|c: char| is_unprintable(c) || c.is_whitespace())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// A line of at most `LONGEST` characters.
fn short(words: &str) -> String {
    let line = line(words);
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::{Document, Value};

    /// The text that the configuration's own parser reads back.
    fn read(written: &str) -> String {
        let document = Document::parse("t.yaml", &format!("key: {written}\n")).unwrap();
        document
            .value
            .get("key")
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{written}"))
            .to_owned()
    }

    #[test]
    fn every_text_is_read_as_it_was() {
        for words in [
            "plain",
            "/a/{b}",
            "true",
            "No",
            "~",
            "1",
            "1e3",
            "0x1f",
            "2026-01-01",
            "",
            " a",
            "a: b",
            "a #b",
            "- a",
            "{a}",
            "[a",
            "*a",
            "&a",
            "!a",
            "'",
            "\"",
            "\\",
            "a\nb",
            "a\r\n  b: c",
            "\u{85}",
            "\u{2028}x",
            "\u{feff}",
            "\u{7f}\u{9f}\u{0}",
            "ä😀",
            "%",
            "@",
            "`",
            "|",
            ">",
        ] {
            assert_eq!(read(&text(words)), words, "{words:?} as {}", text(words));
        }
    }

    #[test]
    fn words_stay_on_their_line() {
        assert_eq!(comment("\u{feff}a\nb: c\u{2028}d\u{0}e\u{202e}f"), "# a b: c d e f\n");
        assert_eq!(read(&prose("a\n\nb")), "a b");
        assert_eq!(read(&prose("env:HOME")), "(env:HOME)");
        assert_eq!(read(&prose(" env:HOME")), "(env:HOME)");
        assert_eq!(read(&prose(&"x".repeat(300))).chars().count(), LONGEST + 1);
    }
}
