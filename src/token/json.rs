//! JSON read strictly and once: a member name twice is an error at any depth, so that no two
//! readers see different claims (RFC 7515 §4, RFC 7519 §4). Strings are slices of the text wherever
//! they have no escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Object<'a>),
}

/// The members of an object in their order; no name is there twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Json<'a> {
    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// What kind of value it is, in words.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The whole number, if it is one of 64 bits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Number(number) = self { number.as_i64() } else { None }
    }

    /// The members, if it is an object.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Object<'a>> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The items, if it is an array.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// A copy that owns its strings.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => Value::Number(value.clone()),
            Self::Text(value) => Value::String(value.to_string()),
            Self::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Self::Object(object) => Value::Object(object.to_map()),
        }
    }
}

impl<'a> Object<'a> {
    /// Parses an object; anything else, or anything after it, is an error.
    ///
    /// # Errors
    /// What serde_json says, in its own words: they name positions, never contents.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        match serde_json::from_slice(bytes)? {
            Json::Object(object) => Ok(object),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => {
                Err(serde_json::Error::custom("not an object"))
            }
        }
    }

    /// The names of its members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The member of this name, if it is not `null`.
    #[must_use]
    pub fn present(&self, name: &str) -> Option<&Json<'a>> {
        self.get(name).filter(|value| **value != Json::Null)
    }

    /// The member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Whether there is a member of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Adds a member where there is none of its name, or one that is `null`.
    pub fn insert_if_absent(&mut self, name: &'static str, value: Json<'a>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if *known == Json::Null => *known = value,
            Some(_) => {}
            None => self.0.push((Cow::Borrowed(name), value)),
        }
    }

    /// A copy that owns its strings.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        self.0.iter().map(|(name, value)| (name.to_string(), value.to_value())).collect()
    }

    /// Whether a name is there twice. Few members are compared with each other, many are sorted: an
    /// object of thousands costs no more for each.
    fn has_duplicate(&self) -> bool {
        const FEW: usize = 24;
        if self.0.len() <= FEW {
            return self
                .0
                .iter()
                .enumerate()
                .any(|(at, (name, _))| self.0.iter().take(at).any(|(before, _)| before == name));
        }
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair.first() == pair.last())
    }
}

impl<'a> IntoIterator for Object<'a> {
    type Item = (Cow<'a, str>, Json<'a>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A string, borrowed where it can be.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(value.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate member names")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = items.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        // As many as a token has by and large: one allocation.
        let mut object = Object(Vec::with_capacity(16));
        while let Some((Text(name), value)) = members.next_entry()? {
            object.0.push((name, value));
        }
        if object.has_duplicate() {
            return Err(A::Error::custom("a member name twice"));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_overflow_and_trailing_bytes_are_errors() {
        assert!(Object::parse(br#"{"a":1,"b":{"c":[true,null,"x",1.5]}}"#).is_ok());
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":1e400}"#,
            r#"{"a":1}x"#,
            "[]",
            "1",
            "",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert!(Object::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Object::parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn a_duplicate_is_found_wherever_it_is_among_however_many() {
        for count in [1, 2, 23, 24, 25, 26, 300] {
            let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
            let text = |names: &[String]| {
                let members: Vec<String> = names.iter().map(|n| format!("\"{n}\":0")).collect();
                format!("{{{}}}", members.join(","))
            };
            assert!(Object::parse(text(&names).as_bytes()).is_ok(), "{count}");
            for (from, to) in [(0, count), (count / 2, count), (count - 1, 0)] {
                let mut twice = names.clone();
                twice.insert(to, names[from].clone());
                assert!(Object::parse(text(&twice).as_bytes()).is_err(), "{count} {from} {to}");
            }
        }
    }

    #[test]
    fn strings_without_escapes_are_slices_of_the_text() {
        let text = br#"{"a":"plain","b":"esc\u0061ped"}"#;
        let object = Object::parse(text).unwrap();
        assert!(matches!(object.get("a"), Some(Json::Text(Cow::Borrowed("plain")))));
        assert!(matches!(object.get("b"), Some(Json::Text(Cow::Owned(b))) if b == "escaped"));
    }
}
