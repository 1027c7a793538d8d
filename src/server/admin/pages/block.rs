//! The parts that pages are made of.

use askama::Template;
use url::form_urlencoded;

use crate::server::admin::entry::Caller;
use crate::server::admin::view::operations::DayUse;

/// A page.
pub(in crate::server::admin) struct Page {
    /// The heading.
    pub(in crate::server::admin) title: String,
    /// The path of its entry in the navigation.
    pub(in crate::server::admin) path: &'static str,
    /// What the page is for.
    pub(in crate::server::admin) lead: Option<String>,
    /// What the last act said.
    pub(in crate::server::admin) notice: Option<Notice>,
    /// Ways on, beside the heading.
    pub(in crate::server::admin) links: Vec<Link>,
    /// Who reads it.
    pub(in crate::server::admin) caller: Option<Reader>,
    /// Its parts.
    pub(in crate::server::admin) blocks: Vec<Block>,
}

/// Who reads a page.
pub(in crate::server::admin) struct Reader {
    name: String,
    role: &'static str,
    form_token: String,
}

impl From<&Caller> for Reader {
    fn from(caller: &Caller) -> Self {
        Self {
            name: caller.name.to_string(),
            role: caller.role.label(),
            form_token: caller.form_token().to_owned(),
        }
    }
}

/// What an act said.
pub(in crate::server::admin) struct Notice {
    /// It was not done.
    pub(in crate::server::admin) bad: bool,
    /// The text.
    pub(in crate::server::admin) text: String,
}

/// A way on.
pub(in crate::server::admin) struct Link {
    /// Its text.
    pub(in crate::server::admin) text: &'static str,
    /// Its address.
    pub(in crate::server::admin) href: String,
    /// It is what the page is there for.
    pub(in crate::server::admin) primary: bool,
}

/// An entry of the navigation.
struct Entry {
    name: &'static str,
    path: &'static str,
}

const ENTRIES: [Entry; 8] = [
    Entry { name: "Overview", path: "/" },
    Entry { name: "Inbound integrations", path: "/integrations" },
    Entry { name: "API access", path: "/access" },
    Entry { name: "Findings", path: "/findings" },
    Entry { name: "Decisions", path: "/decisions" },
    Entry { name: "Keys and issuers", path: "/operations" },
    Entry { name: "Usage", path: "/usage" },
    Entry { name: "Audit", path: "/audit" },
];

#[derive(Template)]
#[template(path = "page.html")]
pub(in crate::server::admin) struct PageTemplate<'a> {
    page: &'a Page,
}

impl Page {
    pub(super) fn new(title: impl Into<String>, path: &'static str) -> Self {
        Self {
            title: title.into(),
            path,
            lead: None,
            notice: None,
            links: Vec::new(),
            caller: None,
            blocks: Vec::new(),
        }
    }

    pub(super) const fn template(&self) -> PageTemplate<'_> {
        PageTemplate { page: self }
    }

    pub(super) fn lead(mut self, text: &str) -> Self {
        self.lead = Some(text.to_owned());
        self
    }

    pub(super) fn link(
        mut self,
        text: &'static str,
        href: impl Into<String>,
        primary: bool,
    ) -> Self {
        self.links.push(Link { text, href: href.into(), primary });
        self
    }

    pub(super) fn add(&mut self, block: Block) {
        self.blocks.push(block);
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.add(Block::Heading(text.to_owned()));
    }

    #[expect(clippy::unused_self, reason = "templates call methods")]
    const fn entries(&self) -> &'static [Entry] {
        &ENTRIES
    }

    fn form_token(&self) -> &str {
        self.caller.as_ref().map_or("", |caller| &caller.form_token)
    }
}

/// A part of a page.
pub(in crate::server::admin) enum Block {
    Heading(String),
    Text(String),
    Cards(Vec<Card>),
    Facts(Vec<Fact>),
    Table(Table),
    Pager(Pager),
    Chart(Chart),
    Pre(Pre),
    Steps(Vec<Step>),
    Form(Form),
    /// Decisions can be followed at this address.
    Live(String),
}

/// One number with its meaning.
pub(in crate::server::admin) struct Card {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) note: String,
    pub(super) href: Option<String>,
    pub(super) tone: &'static str,
}

impl Card {
    pub(super) fn new(
        label: &'static str,
        value: impl std::fmt::Display,
        note: impl Into<String>,
    ) -> Self {
        Self { label, value: format!("{value}"), note: note.into(), href: None, tone: "" }
    }

    pub(super) fn to(mut self, href: &str) -> Self {
        self.href = Some(href.to_owned());
        self
    }

    pub(super) const fn tone(mut self, tone: &'static str) -> Self {
        self.tone = tone;
        self
    }
}

/// A name and its value.
pub(in crate::server::admin) struct Fact {
    pub(super) name: &'static str,
    pub(super) cell: Cell,
}

impl Fact {
    pub(super) fn new(name: &'static str, cell: impl Into<Cell>) -> Self {
        Self { name, cell: cell.into() }
    }
}

/// A value, as text.
pub(in crate::server::admin) struct Cell {
    text: String,
    href: Option<String>,
    tone: &'static str,
    number: bool,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, href: None, tone: "", number: false }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<Option<&String>> for Cell {
    fn from(text: Option<&String>) -> Self {
        match text {
            Some(text) => text.into(),
            None => Self::from("–").tone("muted"),
        }
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self { number: true, ..number.to_string().into() }
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self { number: true, ..number.to_string().into() }
    }
}

impl From<bool> for Cell {
    fn from(is: bool) -> Self {
        if is { "yes".into() } else { Self::from("no").tone("muted") }
    }
}

impl Cell {
    /// A time or a day, or a dash for none.
    pub(super) fn when(text: Option<&String>) -> Self {
        text.map_or_else(|| None.into(), |text| Self::from(text).tone("when"))
    }

    /// A list, or a dash for none.
    pub(super) fn list(texts: &[String]) -> Self {
        if texts.is_empty() { None.into() } else { texts.join(", ").into() }
    }

    pub(super) fn to(mut self, href: impl Into<String>) -> Self {
        self.href = Some(href.into());
        self
    }

    pub(super) const fn tone(mut self, tone: &'static str) -> Self {
        self.tone = tone;
        self
    }
}

/// A table.
pub(in crate::server::admin) struct Table {
    pub(super) caption: String,
    pub(super) id: Option<&'static str>,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
    pub(super) empty: &'static str,
}

/// A column.
pub(in crate::server::admin) struct Column {
    pub(super) name: &'static str,
    pub(super) number: bool,
    pub(super) href: Option<String>,
}

impl Table {
    /// A table with these columns; one whose name begins with `#` has numbers.
    pub(super) fn new(caption: impl Into<String>, columns: &[&'static str]) -> Self {
        let column = |name: &&'static str| Column {
            name: name.trim_start_matches('#'),
            number: name.starts_with('#'),
            href: None,
        };
        Self {
            caption: caption.into(),
            id: None,
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
            empty: "Nothing to show.",
        }
    }

    pub(super) fn rows(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        self.rows = rows.into_iter().collect();
        self
    }

    pub(super) const fn empty(mut self, text: &'static str) -> Self {
        self.empty = text;
        self
    }
}

/// The way to the pages around one.
pub(in crate::server::admin) struct Pager {
    pub(super) label: &'static str,
    pub(super) text: String,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

/// Requests by day.
pub(in crate::server::admin) struct Chart {
    pub(super) caption: &'static str,
    pub(super) days: Vec<DayUse>,
}

/// A day of a chart.
struct Bar {
    x: usize,
    permitted_y: u64,
    permitted_height: u64,
    refused_y: u64,
    refused_height: u64,
    title: String,
}

impl Chart {
    fn width(&self) -> usize {
        self.days.len().max(1) * 10
    }

    fn most(&self) -> u64 {
        self.days.iter().map(|day| day.permitted + day.refused).max().unwrap_or(0)
    }

    fn summary(&self) -> String {
        let sum = |of: fn(&DayUse) -> u64| self.days.iter().map(of).sum::<u64>();
        format!(
            "{}: {} permitted and {} refused requests in {} days, at most {} on one day",
            self.caption,
            sum(|day| day.permitted),
            sum(|day| day.refused),
            self.days.len(),
            self.most()
        )
    }

    fn bars(&self) -> Vec<Bar> {
        let most = self.most().max(1);
        // What there was is seen, however little beside the most.
        let height = |count: u64| if count == 0 { 0 } else { (count * 98 / most).max(1) };
        let bar = |(at, day): (usize, &DayUse)| {
            let (permitted_height, refused_height) = (height(day.permitted), height(day.refused));
            Bar {
                x: at * 10 + 1,
                permitted_y: 100_u64.saturating_sub(permitted_height),
                permitted_height,
                refused_y: 100_u64.saturating_sub(permitted_height + refused_height),
                refused_height,
                title: format!("{}: {} permitted, {} refused", day.day, day.permitted, day.refused),
            }
        };
        self.days.iter().enumerate().map(bar).collect()
    }
}

/// Text as it is.
pub(in crate::server::admin) struct Pre {
    pub(super) caption: String,
    pub(super) text: String,
}

impl Pre {
    pub(super) fn block(caption: impl Into<String>, text: impl Into<String>) -> Block {
        Block::Pre(Self { caption: caption.into(), text: text.into() })
    }
}

/// A step of a decision.
pub(in crate::server::admin) struct Step {
    pub(super) name: String,
    pub(super) result: String,
    pub(super) tone: &'static str,
    pub(super) facts: Vec<String>,
}

/// A form.
pub(in crate::server::admin) struct Form {
    pub(super) method: &'static str,
    pub(super) action: String,
    pub(super) class: &'static str,
    pub(super) groups: Vec<Group>,
    pub(super) buttons: Vec<Button>,
    /// Faults are shown as one types.
    pub(super) live: bool,
}

/// Fields that belong together.
pub(in crate::server::admin) struct Group {
    pub(super) legend: Option<&'static str>,
    pub(super) fields: Vec<Field>,
}

/// A button.
pub(in crate::server::admin) struct Button {
    pub(super) text: &'static str,
    pub(super) name: &'static str,
    pub(super) value: &'static str,
    pub(super) class: &'static str,
}

/// The kind of a field.
#[derive(Clone, Copy)]
pub(in crate::server::admin) enum Kind {
    Text,
    Lines,
    Check,
    Select,
    Hidden,
}

/// A field.
pub(in crate::server::admin) struct Field {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) help: &'static str,
    pub(super) required: bool,
    pub(super) pattern: &'static str,
    pub(super) options: Vec<(&'static str, &'static str)>,
    pub(super) at_fault: bool,
}

impl Field {
    pub(super) fn new(
        kind: Kind,
        name: &'static str,
        label: &'static str,
        value: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            name,
            label,
            value: value.into(),
            help: "",
            required: false,
            pattern: "",
            options: Vec::new(),
            at_fault: false,
        }
    }

    pub(super) fn hidden(name: &'static str, value: impl Into<String>) -> Self {
        Self::new(Kind::Hidden, name, "", value)
    }

    pub(super) const fn help(mut self, text: &'static str) -> Self {
        self.help = text;
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) fn options(mut self, options: &[(&'static str, &'static str)]) -> Self {
        self.options = options.to_vec();
        self
    }
}

impl Form {
    /// Asks for rows of a list.
    pub(super) fn filter(action: &str, fields: Vec<Field>) -> Block {
        Block::Form(Self {
            method: "get",
            action: action.to_owned(),
            class: "filter",
            groups: vec![Group { legend: None, fields }],
            buttons: vec![Button { text: "Show", name: "", value: "", class: "" }],
            live: false,
        })
    }

    /// Does something, and comes back.
    pub(super) fn act(act: &str, back: &str, text: &'static str, mut fields: Vec<Field>) -> Block {
        fields.insert(0, Field::hidden("act", act));
        fields.insert(1, Field::hidden("back", back));
        Block::Form(Self {
            method: "post",
            action: "/acts".to_owned(),
            class: "inline",
            groups: vec![Group { legend: None, fields }],
            buttons: vec![Button { text, name: "", value: "", class: "danger" }],
            live: false,
        })
    }
}

/// A part of a path.
pub(super) fn part(text: &str) -> String {
    crate::tooling::replay::encode_rest(text).replace('/', "%2F")
}

/// A path with a query of what is not empty.
pub(super) fn address(path: &str, members: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in members.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A client, with the way to its page.
pub(super) fn client_link(id: &str) -> Cell {
    Cell::from(id).to(format!("/integrations/{}", part(id)))
}
