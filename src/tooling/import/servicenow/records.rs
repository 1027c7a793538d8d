//! Reads exported ServiceNow records: update sets and lists as XML, Table API answers as JSON. Does
//! not know what a record means.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::xml::{self, Element};
use crate::config::document;

/// Most nested update sets: a payload holds records, not payloads.
const MAX_PAYLOADS: usize = 2;

/// Tables that are read, and their content.
pub(super) const TABLES: &[&str] = &[
    "auth_policy_mapping",
    "inbound_auth_profile",
    "oauth_entity",
    "oauth_entity_auth_scope_mapping",
    "oauth_entity_profile",
    "oauth_entity_scope",
    "oauth_jwt",
    "oauth_oidc_entity",
    "std_http_auth",
    "sys_api_access_policy",
    "sys_api_access_scope",
    "sys_auth_profile_mapping",
    "sys_auth_scope",
    "sys_user",
    "sys_user_has_role",
    "sys_user_role",
];

/// A file to import.
#[derive(Clone, Debug)]
pub struct Export {
    /// The table, if given.
    pub table: Option<String>,
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A field: its value, and its display text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Field {
    value: String,
    display: String,
}

/// A record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The table and the record's name there, for messages.
    pub(super) about: String,
    fields: BTreeMap<String, Field>,
}

impl Record {
    /// The value of a field; `None` if empty or absent.
    pub(super) fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(|field| field.value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether the files have the field, even if it is empty.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// The display text of a field.
    pub(super) fn shown(&self, field: &str) -> Option<&str> {
        self.fields
            .get(field)
            .map(|field| field.display.trim())
            .filter(|display| !display.is_empty())
    }

    /// A switch; `None` where it is absent or neither on nor off.
    pub(super) fn is(&self, field: &str) -> Option<bool> {
        match self.get(field)?.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// `sys_id`.
    pub(super) fn id(&self) -> &str {
        self.get("sys_id").unwrap_or_default()
    }

    /// Fields with a value, and their values.
    pub(super) fn filled(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.keys().filter_map(|key| Some((key.as_str(), self.get(key)?)))
    }
}

/// Records by their tables and `sys_id`s.
#[derive(Debug, Default)]
pub(super) struct Records {
    tables: BTreeMap<String, BTreeMap<String, Record>>,
    /// Tables whose records are all in the files.
    whole: BTreeSet<String>,
    /// Tables in the files that are not read, with their number of records.
    pub(super) others: BTreeMap<String, usize>,
}

impl Records {
    /// Reads files.
    ///
    /// # Errors
    /// Returns the file, and what is wrong with it.
    pub(super) fn read(exports: &[Export]) -> Result<Self, String> {
        let mut records = Self::default();
        for export in exports {
            let text = export.text.trim_start_matches('\u{feff}').trim_start();
            let read = match text.chars().next() {
                Some('<') => records.xml(
                    text,
                    export.table.as_deref().or_else(|| table_of(&export.name)),
                    Place::default(),
                ),
                Some('{' | '[') => records.json(text, export),
                _ => Err("neither XML nor JSON".to_owned()),
            };
            read.map_err(|fault| format!("{}: {fault}", export.name))?;
        }
        Ok(records)
    }

    /// The records of a table, in the order of their `sys_id`s.
    pub(super) fn all(&self, table: &str) -> impl Iterator<Item = &Record> {
        self.tables.get(table).into_iter().flat_map(BTreeMap::values)
    }

    /// One record.
    pub(super) fn find(&self, table: &str, id: &str) -> Option<&Record> {
        self.tables.get(table)?.get(id)
    }

    /// Whether the files have all records of a table, even if there are none.
    pub(super) fn has_whole(&self, table: &str) -> bool {
        self.whole.contains(table)
    }

    fn add(
        &mut self,
        table: &str,
        mut fields: BTreeMap<String, Field>,
        deleted: bool,
    ) -> Result<(), String> {
        if !TABLES.contains(&table) {
            *self.others.entry(table.to_owned()).or_default() += 1;
            return Ok(());
        }
        let id =
            fields.get("sys_id").map(|field| field.value.trim().to_owned()).unwrap_or_default();
        if id.is_empty() {
            return Err(format!("a record of `{table}` without `sys_id`: export all fields"));
        }
        let named = ["name", "client_id", "user_name"]
            .iter()
            .find_map(|key| fields.get(*key))
            .filter(|field| !field.value.is_empty());
        let about = format!("{table} {}", named.map_or(id.as_str(), |field| field.value.trim()));
        // Passwords and secrets are not kept, whatever their form.
        for secret in ["client_secret", "user_password"] {
            if let Some(field) = fields.get_mut(secret).filter(|field| !field.value.is_empty()) {
                *field = Field { value: "…".to_owned(), display: String::new() };
            }
        }
        let table = self.tables.entry(table.to_owned()).or_default();
        if deleted {
            table.remove(&id);
        } else {
            table.insert(id, Record { about, fields });
        }
        Ok(())
    }

    fn json(&mut self, text: &str, export: &Export) -> Result<(), String> {
        let value = document::json(text)?;
        if let Some(fault) = value.get("error") {
            let message = fault.get("message").and_then(Value::as_str).unwrap_or_default();
            return Err(format!("an error of the Table API, no records: {message}"));
        }
        let rows = value.get("result").or_else(|| value.get("records"));
        if let Some(rows) = rows.or_else(|| Some(&value).filter(|value| value.is_array())) {
            let table = export.table.as_deref().or_else(|| table_of(&export.name)).ok_or_else(|| {
                "of which table the records are, an answer of the Table API does not say: give it \
                    as TABLE=FILE, or name the file \
                 for its table, as oauth_entity.json"
                    .to_owned()
            })?;
            return self.rows(table, rows);
        }
        let tables =
            value.as_object().ok_or("a JSON object, with `result` or with tables, is expected")?;
        for (table, rows) in tables {
            self.rows(table, rows)?;
        }
        Ok(())
    }

    fn rows(&mut self, table: &str, rows: &Value) -> Result<(), String> {
        let rows = match rows {
            Value::Array(rows) => rows.as_slice(),
            Value::Object(_) => std::slice::from_ref(rows),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(format!("`{table}`: a list of records is expected"));
            }
        };
        // A Table API answer is complete, an update set has only changes.
        self.whole.insert(table.to_owned());
        for row in rows {
            let row = row.as_object().ok_or_else(|| format!("`{table}`: a record is an object"))?;
            self.add(
                table,
                row.iter().map(|(key, value)| (key.clone(), field(value))).collect(),
                false,
            )?;
        }
        Ok(())
    }

    fn xml(&mut self, text: &str, table: Option<&str>, place: Place) -> Result<(), String> {
        let root = xml::root(text)?;
        // Lists and Table API answers are complete, update sets have only changes.
        let place = Place { whole: matches!(root.name.as_str(), "xml" | "response"), ..place };
        root.children.iter().try_for_each(|child| self.element(child, table, place))
    }

    fn element(
        &mut self,
        element: &Element,
        table: Option<&str>,
        place: Place,
    ) -> Result<(), String> {
        let Element { name, children, .. } = element;
        let deleted = place.deleted || is_deletion(element);
        if name == "sys_update_xml" {
            let payload =
                element.child("payload").map(|child| child.text.trim()).unwrap_or_default();
            if place.payloads >= MAX_PAYLOADS {
                return Err("update sets inside of update sets".to_owned());
            }
            // A payload is the text of a document whose root holds the record.
            let inside = Place { payloads: place.payloads + 1, deleted, whole: false };
            return if payload.is_empty() { Ok(()) } else { self.xml(payload, None, inside) };
        }
        if name == "record_update" {
            return children.iter().try_for_each(|child| self.element(child, table, place));
        }
        if children.is_empty() || name == "sys_remote_update_set" || name == "sys_update_set" {
            return Ok(());
        }
        let fields = children.iter().map(|child| Ok((child.name.clone(), xml_field(child)?)));
        let fields = fields.collect::<Result<BTreeMap<String, Field>, String>>()?;
        // The Table API's XML calls every record `result`.
        let unnamed =
            || table.ok_or("of which table these records are is not said: give it as TABLE=FILE");
        let table = if name == "result" { unnamed()? } else { name };
        if place.whole {
            self.whole.insert(table.to_owned());
        }
        self.add(table, fields, deleted)
    }
}

/// The position of an element in an export.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Number of enclosing payloads.
    payloads: usize,
    /// Inside a deleted record.
    deleted: bool,
    /// Inside a file that has all records of a table.
    whole: bool,
}

/// Whether an element is about a deleted record.
fn is_deletion(element: &Element) -> bool {
    let attribute = element.attributes.get("action").map(String::as_str);
    let child = element
        .child("action")
        .filter(|_| element.name == "sys_update_xml")
        .map(|child| child.text.trim());
    attribute.into_iter().chain(child).any(|action| action.eq_ignore_ascii_case("DELETE"))
}

/// The table that a file is named for: `sys_user.json`, `sys_user (2).xml`.
fn table_of(file: &str) -> Option<&str> {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    name.get(..end).filter(|stem| TABLES.contains(stem))
}

/// A field in XML: its text, with the display text as an attribute; or value, display text and link
/// as elements.
fn xml_field(element: &Element) -> Result<Field, String> {
    if element.children.is_empty() {
        let display = element.attributes.get("display_value").cloned().unwrap_or_default();
        return Ok(Field { value: element.text.clone(), display });
    }
    if let Some(odd) = element
        .children
        .iter()
        .find(|child| !["value", "display_value", "link"].contains(&child.name.as_str()))
    {
        return Err(format!(
            "the field `{}` holds `{}`, which no field does",
            element.name, odd.name
        ));
    }
    let part = |name: &str| {
        element
            .children
            .iter()
            .find(|child| child.name == name)
            .map(|child| child.text.trim().to_owned())
    };
    Ok(of_parts(part("value"), part("display_value"), part("link").as_deref()))
}

/// A field with separate parts. A link ends with the id of its record.
fn of_parts(value: Option<String>, display: Option<String>, link: Option<&str>) -> Field {
    let display = display.unwrap_or_default();
    let linked = link
        .and_then(|link| link.rsplit('/').next())
        .filter(|id| !id.is_empty())
        .map(str::to_owned);
    Field { value: value.or(linked).unwrap_or_else(|| display.clone()), display }
}

/// A value of the Table API: a text, or an object of value, display text and link.
fn field(value: &Value) -> Field {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    };
    let Value::Object(parts) = value else {
        return Field { value: text(value), display: String::new() };
    };
    let part = |name: &str| parts.get(name).filter(|part| !part.is_null()).map(text);
    of_parts(part("value"), part("display_value"), part("link").as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Records, String> {
        Records::read(&[Export { table: None, name: name.to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn an_update_set_holds_its_records_as_text() {
        let inner = "<?xml version=\"1.0\"?><record_update \
            table=\"sys_auth_scope\"><sys_auth_scope action=\"INSERT_OR_UPDATE\">\
                     <name>a&amp;b</name><sys_id>1</sys_id></sys_auth_scope></record_update>";
        let escaped = inner.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        for payload in [format!("<![CDATA[{inner}]]>"), escaped] {
            let set = format!(
                "<?xml version=\"1.0\"?>\n<unload unload_date=\"x\"><sys_remote_update_set \
                    action=\"INSERT_OR_UPDATE\"><sys_id>0</sys_id>\
                 </sys_remote_update_set><sys_update_xml \
                 action=\"INSERT_OR_UPDATE\"><name>n</name><payload>{payload}</payload>\
                 </sys_update_xml></unload>"
            );
            let records = read("set.xml", &set).unwrap();
            assert_eq!(
                records.find("sys_auth_scope", "1").unwrap().get("name"),
                Some("a&b"),
                "{set}"
            );
            assert!(records.others.is_empty());
        }
    }

    #[test]
    fn a_deleted_record_is_none() {
        let set = "<unload><sys_auth_scope \
            action=\"INSERT_OR_UPDATE\"><sys_id>1</sys_id></sys_auth_scope>\
                   <sys_auth_scope action=\"DELETE\"><sys_id>1</sys_id></sys_auth_scope></unload>";
        assert_eq!(read("x.xml", set).unwrap().all("sys_auth_scope").count(), 0);
    }

    #[test]
    fn answers_of_the_table_api_are_read_in_every_form() {
        let link = "https://i.example/api/now/table/sys_user/7";
        for user in [
            "\"7\"".to_owned(),
            format!("{{\"link\":\"{link}\",\"value\":\"7\"}}"),
            format!("{{\"link\":\"{link}\",\"display_value\":\"Bob\"}}"),
            format!("{{\"link\":\"{link}\",\"display_value\":\"Bob\",\"value\":\"7\"}}"),
        ] {
            let text = format!(
                "{{\"result\":[{{\"sys_id\":\"1\",\"active\":\"true\",\"user\":{user}}}]}}"
            );
            let records = read("a/oauth_entity.json", &text).unwrap();
            assert_eq!(records.find("oauth_entity", "1").unwrap().get("user"), Some("7"), "{text}");
        }
        let keyed =
            read("all.json", "{\"oauth_entity\":[{\"sys_id\":1}],\"sys_auth_scope\":[]}").unwrap();
        assert!(keyed.has_whole("sys_auth_scope") && keyed.find("oauth_entity", "1").is_some());
    }

    #[test]
    fn answers_of_the_table_api_as_xml_have_their_references_inside() {
        let text = "<response><result><sys_id>1</sys_id><inbound_auth_profile><link>https://i.example/api/now/table/x/9</link>\
                    <value>9</value></inbound_auth_profile><a><display_value>B</display_value><link>https://i.example/x/8</link></a><b/>\
                    </result></response>";
        let export = Export {
            table: Some("auth_policy_mapping".into()),
            name: "x.xml".into(),
            text: text.into(),
        };
        let records = Records::read(&[export]).unwrap();
        let record = records.find("auth_policy_mapping", "1").unwrap();
        assert_eq!(
            (record.get("inbound_auth_profile"), record.get("a"), record.shown("a")),
            (Some("9"), Some("8"), Some("B"))
        );
        assert!(record.has("b") && !record.has("c") && record.get("b").is_none());
        assert!(
            read(
                "oauth_entity.xml",
                "<xml><oauth_entity><sys_id>1</sys_id><user><evil>1</evil></user></oauth_entity></xml>"
            )
            .is_err()
        );
    }

    #[test]
    fn a_secret_is_not_kept() {
        let text = "{\"result\":[{\"sys_id\":\"1\",\"client_secret\":\"hunter2\"}]}";
        let records = read("oauth_entity.json", text).unwrap();
        assert!(!format!("{records:?}").contains("hunter2"));
        assert_eq!(records.find("oauth_entity", "1").unwrap().get("client_secret"), Some("…"));
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(40), "</a>".repeat(40));
        let nested = (0..4).fold("<a/>".to_owned(), |inner, _| {
            format!(
                "<unload><sys_update_xml><payload><![CDATA[{}]]></payload></sys_update_xml></unload>",
                inner.replace("]]>", "]]]]><![CDATA[>")
            )
        });
        for (name, text, why) in [
            ("x.json", "{\"result\":[]}", "TABLE=FILE"),
            ("oauth_entity.json", "{\"result\":[1]}", "a record is an object"),
            ("oauth_entity.json", "{\"result\":3}", "a list of records"),
            ("oauth_entity.json", "{\"result\":[{\"name\":\"a\"}]}", "without `sys_id`"),
            ("oauth_entity.json", "{\"result\":", "EOF"),
            ("x.xml", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "document type"),
            ("x.xml", "<a>\n<b>&x;</b></a>", "line 2: `&x;`"),
            ("x.xml", "<a><b></a>", "line 1"),
            ("x.xml", "<a>", "in the middle"),
            ("x.xml", &deep, "nested deeper"),
            ("x.xml", &nested, "update sets inside"),
            ("x.xml", "<response><result><sys_id>1</sys_id></result></response>", "TABLE=FILE"),
            ("x.csv", "a,b", "neither XML nor JSON"),
        ] {
            let fault = read(name, text).unwrap_err();
            assert!(fault.starts_with(name) && fault.contains(why), "{text}: {fault}");
        }
    }
}
