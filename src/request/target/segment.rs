//! How servers may read a segment that is not plain ASCII: some trim it, some normalise it, some decode it loosely. A segment
//! that any of them could take for a dot segment or for two segments is refused.

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

use super::ambiguous;
use crate::reason::Refusal;

/// The encoding of a segment's decoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Valid UTF-8.
    Utf8,
    /// Anything else; only an API that allows `non_utf8` takes it.
    Other,
}

/// Checks one segment, or one piece of a segment between separators that an API may allow.
///
/// # Errors
/// `path.ambiguous`: an overlong or surrogate sequence, a separator or control character that appears by normalisation
/// (NFKC, UAX #15), or a dot segment once what some servers trim or ignore is left out.
pub(super) fn check(segment: &str) -> Result<Encoding, Refusal> {
    if !segment.contains('%') {
        return refuse_dots(segment.chars()).map(|()| Encoding::Utf8);
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(segment).collect();
    if decoded.is_ascii() {
        return refuse_dots(decoded.into_iter().map(char::from)).map(|()| Encoding::Utf8);
    }
    if is_forged(&decoded) {
        return Err(ambiguous("an escape that is an overlong form or a surrogate of UTF-8"));
    }
    let mut encoding = Encoding::Utf8;
    let mut read = String::with_capacity(decoded.len());
    for chunk in decoded.utf8_chunks() {
        let normal = ComposingNormalizerBorrowed::new_nfkc().normalize(chunk.valid());
        // What stands there as an escape of its own is judged as that escape.
        let appeared =
            |c: char| matches!(c, '/' | '\\' | ';' | '%' | '?' | '#') && !chunk.valid().contains(c);
        if normal.chars().any(|c| c.is_control() || appeared(c)) {
            return Err(ambiguous(
                "a character that normalisation turns into a separator or a control character",
            ));
        }
        read.push_str(&normal);
        if !chunk.invalid().is_empty() {
            encoding = Encoding::Other;
        }
    }
    // Bytes that are no UTF-8 are dropped by some decoders: they hide no dots.
    refuse_dots(read.chars()).map(|()| encoding)
}

/// Whether bytes hold a form of a character that only a loose decoder of UTF-8 reads: overlong, or a surrogate (RFC 3629 §3).
fn is_forged(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, 0xc0 | 0xc1))
        || bytes.windows(2).any(|two| {
            matches!(
                two,
                [0xe0, 0x80..=0x9f]
                    | [0xf0, 0x80..=0x8f]
                    | [0xf8, 0x80..=0x87]
                    | [0xfc, 0x80..=0x83]
                    | [0xed, 0xa0..=0xbf]
            )
        })
}

/// Refuses what is a dot segment once characters that servers trim or ignore are left out: `..`, `.. `, `. .`, `...`.
fn refuse_dots(characters: impl Iterator<Item = char>) -> Result<(), Refusal> {
    let mut dots = false;
    for character in characters {
        if character == '.' {
            dots = true;
        } else if !is_dropped(character) {
            return Ok(());
        }
    }
    if dots { Err(ambiguous("a dot segment")) } else { Ok(()) }
}

/// Whether some server trims or ignores the character: white space, control and format characters, those without a width.
fn is_dropped(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_whitespace() || character.is_ascii_control();
    }
    character.is_whitespace()
        || character.is_control()
        || CodePointMapData::<GeneralCategory>::new().get(character) == GeneralCategory::Format
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}
