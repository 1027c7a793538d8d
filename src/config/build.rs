//! From raw files to domain types: references, duplicates and everything that a shape cannot say.

mod api;
mod authorization_server;
mod console;
mod creation;
mod gateway;
mod issuer;
mod policy;
mod registry;
mod store;
mod telemetry;
mod test;
mod tls;
mod upstream;

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::document::{Document, Path, Step, Value};
use super::fault::{Fault, suggestion};
use super::schema::{Kind, schema};
use super::{Config, Fixed, Lookup, SourceFile, Sources, shape};
use crate::client::Registry;
use crate::names::{Origin, Timestamp};
use crate::policy::definition::Api;
use crate::policy::{Definitions, Issuer, compile};
use crate::token::claims::Audience;

/// A place in a document.
#[derive(Clone)]
struct Place<'a> {
    document: &'a Document,
    path: Path,
}

impl<'a> Place<'a> {
    const fn root(document: &'a Document) -> Self {
        Self { document, path: Vec::new() }
    }

    fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    fn at(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self { document: self.document, path }
    }

    fn origin(&self) -> Origin {
        let fault = self.document.fault_at_key(&self.path, String::new(), None);
        Origin { file: fault.file, line: fault.line, column: fault.column }
    }
}

/// One entry of a section: its name, its place and its value, not yet read.
struct Entry<'a> {
    name: String,
    place: Place<'a>,
    value: &'a Value,
}

/// What a rule may refer to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Named {
    Api,
    Scope,
    Client,
    User,
    Issuer,
    Upstream,
}

impl Named {
    const ALL: [Self; 6] =
        [Self::Api, Self::Scope, Self::Client, Self::User, Self::Issuer, Self::Upstream];

    /// What it is called in messages, the kind of file and the section that define it.
    const fn place(self) -> (&'static str, Kind, &'static str) {
        match self {
            Self::Api => ("API", Kind::Policies, "apis"),
            Self::Scope => ("auth scope", Kind::Policies, "auth_scopes"),
            Self::Client => ("client", Kind::Clients, "clients"),
            Self::User => ("user", Kind::Users, "users"),
            Self::Issuer => ("issuer", Kind::Gateway, "issuers"),
            Self::Upstream => ("upstream", Kind::Gateway, "upstreams"),
        }
    }
}

/// The names that rules may refer to. Taken from the keys, so that an entry with a fault of its own
/// still counts as there. Nothing is known of a kind of which a file could not be parsed: then no
/// name is called unknown.
struct Known(HashMap<Named, BTreeSet<String>>);

impl Known {
    fn new<'d>(documents: impl Fn(Kind) -> Option<&'d [Document]>) -> Self {
        let mut known = HashMap::new();
        for named in Named::ALL {
            let (_, kind, section) = named.place();
            if let Some(documents) = documents(kind) {
                known.insert(named, names(documents, section));
            }
        }
        known.entry(Named::Issuer).and_modify(|names| {
            names.insert(crate::names::IssuerName::OWN.to_owned());
        });
        Self(known)
    }

    fn has(&self, named: Named, name: &str) -> bool {
        self.0.get(&named).is_none_or(|names| names.contains(name))
    }

    /// Whether a name is defined; of a kind that could not be read, none is.
    fn names(&self, named: Named, name: &str) -> bool {
        self.0.get(&named).is_some_and(|names| names.contains(name))
    }

    fn suggestion(&self, named: Named, wrong: &str) -> String {
        let names = self.0.get(&named);
        suggestion(wrong, names.into_iter().flatten().map(String::as_str).collect::<Vec<_>>())
    }
}

/// All documents, and the faults found so far.
struct Builder<'a> {
    gateway: &'a Document,
    policies: &'a [Document],
    clients: &'a [Document],
    users: &'a [Document],
    known: Known,
    lookup: &'a dyn Lookup,
    now: Timestamp,
    faults: Vec<Fault>,
    /// Files with faults of shape: what cannot be read in them is not reported twice.
    misshapen: HashSet<String>,
}

impl<'a> Builder<'a> {
    fn fault(&mut self, place: &Place<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(place.document.fault_at_value(
            &place.path,
            message.into(),
            Some(help.into()),
        ));
    }

    fn fault_at_key(
        &mut self,
        place: &Place<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.faults.push(place.document.fault_at_key(
            &place.path,
            message.into(),
            Some(help.into()),
        ));
    }

    /// A value as its type. `None` when it does not read, which the shape check has then reported.
    fn read<T: DeserializeOwned>(&mut self, place: &Place<'_>, value: &Value) -> Option<T> {
        // By way of JSON: serde_yaml reads an enum with a value only from a YAML tag, and the YAML
        // here writes a one-key mapping.
        match serde_json::to_value(value).and_then(serde_json::from_value) {
            Ok(read) => Some(read),
            Err(error) => {
                if !self.misshapen.contains(&*place.document.file) {
                    self.fault(place, error.to_string(), "see docs/configuration.md");
                }
                None
            }
        }
    }

    /// The entries of a section over several files; a name defined twice is a fault.
    fn entries(&mut self, documents: &'a [Document], section: &str) -> Vec<Entry<'a>> {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        let mut seen: HashMap<String, Origin> = HashMap::new();
        for document in documents {
            let Some(Value::Mapping(map)) = document.value.get(section) else { continue };
            for (key, value) in map {
                let Some(name) = key.as_str() else { continue };
                let place = Place::root(document).key(section).key(name);
                if let Some(first) = seen.get(name) {
                    let message = format!("`{name}` is defined twice; the first time at {first}");
                    self.fault_at_key(&place, message, "remove or rename one of them");
                    continue;
                }
                seen.insert(name.to_owned(), place.origin());
                entries.push(Entry { name: name.to_owned(), place, value });
            }
        }
        entries
    }

    /// The items of a list section over several files.
    fn items(documents: &'a [Document], section: &str) -> Vec<(Place<'a>, &'a Value)> {
        let mut items = Vec::new();
        for document in documents {
            let Some(Value::Sequence(list)) = document.value.get(section) else { continue };
            for (at, value) in list.iter().enumerate() {
                items.push((Place::root(document).key(section).at(at), value));
            }
        }
        items
    }

    /// A reference to a name that must be known.
    fn refer(&mut self, place: &Place<'_>, named: Named, name: &str) -> bool {
        let known = self.known.has(named, name);
        if !known {
            let help = self.known.suggestion(named, name);
            self.fault(place, format!("there is no {} `{name}`", named.place().0), help);
        }
        known
    }

    /// A reference that is itself a key.
    fn refer_key(&mut self, place: &Place<'_>, named: Named, name: &str) -> bool {
        let known = self.known.has(named, name);
        if !known {
            let help = self.known.suggestion(named, name);
            self.fault_at_key(place, format!("there is no {} `{name}`", named.place().0), help);
        }
        known
    }
}

fn names(documents: &[Document], section: &str) -> BTreeSet<String> {
    let maps = documents.iter().filter_map(|document| document.value.get(section)?.as_mapping());
    maps.flat_map(|map| map.keys()).filter_map(|key| key.as_str().map(str::to_owned)).collect()
}

/// Parses one kind of files and holds them against their schema.
fn parse(
    files: &[SourceFile],
    kind: Kind,
    lookup: &dyn Lookup,
    faults: &mut Vec<Fault>,
    misshapen: &mut HashSet<String>,
) -> Vec<Document> {
    let schema = schema(kind);
    let mut documents = Vec::new();
    for file in files {
        match Document::parse(&file.name, &file.text) {
            Err(fault) => {
                misshapen.insert(file.name.clone());
                faults.push(*fault);
            }
            Ok(mut document) => {
                let found = shape::check(&mut document, &schema, lookup);
                if !found.is_empty() {
                    misshapen.insert(file.name.clone());
                }
                faults.extend(found);
                documents.push(document);
            }
        }
    }
    documents
}

pub(super) fn load(
    sources: &Sources,
    lookup: &dyn Lookup,
    now: Timestamp,
) -> Result<Config, Vec<Fault>> {
    let Some(gateway_file) = &sources.gateway else {
        return Err(vec![Fault::of_file("gateway.yaml", "there is no gateway.yaml", None)]);
    };
    let mut faults = Vec::new();
    let mut misshapen = HashSet::new();
    let mut parse =
        |files: &[SourceFile], kind| parse(files, kind, lookup, &mut faults, &mut misshapen);
    let gateway = parse(std::slice::from_ref(gateway_file), Kind::Gateway);
    let policies = parse(&sources.policies, Kind::Policies);
    let clients = parse(&sources.clients, Kind::Clients);
    let users = parse(&sources.users, Kind::Users);
    let Some(gateway) = gateway.first() else { return Err(faults) };

    // A file that could not be parsed is missing from its documents.
    let known = Known::new(|kind| {
        let (documents, files): (&[Document], usize) = match kind {
            Kind::Gateway => (std::slice::from_ref(gateway), 1),
            Kind::Policies => (&policies, sources.policies.len()),
            Kind::Clients => (&clients, sources.clients.len()),
            Kind::Users => (&users, sources.users.len()),
        };
        // Nor is anything known of files that gateway.yaml does not lead to.
        let led_to = matches!(kind, Kind::Gateway | Kind::Users)
            || gateway.value.get(kind.as_str()).is_some();
        (documents.len() == files && led_to).then_some(documents)
    });
    let mut builder = Builder {
        gateway,
        policies: &policies,
        clients: &clients,
        users: &users,
        known,
        lookup,
        now,
        faults,
        misshapen,
    };
    let built = builder.build();
    let mut faults = builder.faults;
    match built {
        Some((unfinished, definitions)) if faults.is_empty() => match compile(definitions) {
            Ok(rules) => {
                let config = unfinished(rules, digest(sources));
                let clashes = clashes(&config);
                if clashes.is_empty() { Ok(config) } else { Err(clashes) }
            }
            Err(found) => Err(found.into_iter().map(located).collect()),
        },
        other => {
            // Ties and overlaps are worth knowing in the same run, unless parts are missing that
            // would make them up.
            if let Some((_, definitions)) = other
                && let Err(found) = compile(definitions)
            {
                faults.extend(found.into_iter().map(located));
            }
            faults.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
            faults.dedup();
            Err(faults)
        }
    }
}

fn located(fault: crate::policy::CompileFault) -> Fault {
    let origin = fault.origin;
    Fault {
        file: origin.file,
        line: origin.line,
        column: origin.column,
        width: 1,
        hidden: false,
        message: fault.message,
        help: Some(fault.help),
    }
}

/// What a configuration lacks until its rules are compiled.
type Unfinished = Box<dyn FnOnce(crate::policy::Rules, String) -> Config>;

impl Builder<'_> {
    /// Everything that can be read; `None` when gateway.yaml itself cannot.
    fn build(&mut self) -> Option<(Unfinished, Definitions)> {
        let settings = self.settings();
        let server = settings.as_ref().map(|settings| &settings.server);
        let users = self.users();
        let clients = self.clients(server.map(|server| server.lifespans).unwrap_or_default());
        let mut issuers =
            self.issuers(settings.as_ref().map(|settings| settings.fixed.public_url.as_str()));
        let upstreams = self.upstreams();
        let mut policies = self.policies();
        let tests = self.tests();
        let waivers = self.waivers();
        let gateway_file = self.gateway.file.clone();
        let settings = settings?;
        self.check_kept_keys(settings.fixed.signing, &clients);
        self.check_login(&settings, &clients);
        let only_decides =
            settings.fixed.listeners.iter().all(|listener| listener.decide.is_some());
        self.check_apis(&policies.apis, &upstreams, settings.fixed.edge, only_decides);
        self.check_claims_of_upstreams(&upstreams, settings.fixed.request_id_header.as_ref());
        name_resources(&mut policies.apis, &mut issuers.rules, &settings.fixed);
        let definitions = Definitions {
            apis: policies.apis,
            scopes: policies.scopes,
            policies: policies.access,
            acls: policies.acls,
            blocks: policies.blocks,
            address_limits: policies.address_limits,
            limits: policies.limits,
            registry: Registry::new(clients, users, issuers.defaults)
                .making(settings.server.login.creation())
                .ignoring(settings.server.ignored_scopes.iter().cloned()),
            issuers: issuers.rules,
            master_scope: settings.server.master_scope,
        };
        let said = upstreams.iter().flat_map(|upstream| &upstream.claims);
        let said: Vec<String> = said.map(|(_, claim)| claim.clone()).collect();
        let unfinished: Unfinished = Box::new(move |mut rules, version| {
            rules.keep_claims(&said);
            Config {
                fixed: settings.fixed,
                rules: rules.into(),
                key_sources: issuers.sources,
                introspections: issuers.introspections,
                upstreams,
                hosts: settings.hosts,
                tls: settings.tls,
                admin_tls: settings.admin_tls,
                trusted_proxies: settings.trusted_proxies,
                grants: settings.server.grants,
                refresh_grace: settings.server.refresh_grace,
                admin_token: settings.admin_token,
                console: settings.console,
                otlp: settings.otlp,
                tests,
                waivers,
                gateway_file,
                run_tests_at_load: settings.run_tests_at_load,
                login: settings.server.login,
                max_revocation_staleness: settings.max_revocation_staleness,
                version: version.into(),
            }
        });
        Some((unfinished, definitions))
    }
}

/// APIs that name one of our further hosts and have one of our paths there.
fn clashes(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (host, path) in config
        .hosts
        .iter()
        .flat_map(|host| crate::metadata::MACHINE_PATHS.map(|path| (host.as_str(), path)))
    {
        let Some(found) = config.rules.template_at(host, path) else { continue };
        let mut on_host =
            config.rules.paths().filter(|(of, segments)| *of == Some(host) && *segments == found);
        let apis = config.rules.apis().iter();
        let api = apis.filter(|api| api.host.as_deref() == Some(host)).find(|api| {
            path.strip_prefix(api.base_path.as_str()).is_some_and(|rest| rest.starts_with('/'))
        });
        if let (Some(_), Some(api)) = (on_host.next(), api) {
            let message = format!("`{path}` on `{host}` is an endpoint of ours (`hosts`)");
            faults.push(located(crate::policy::CompileFault {
                origin: api.origin.clone(),
                message,
                help: "give the API another host or path, or take the host out of `hosts`".into(),
            }));
        }
    }
    faults.dedup();
    faults
}

/// Gives each API below `public_url` its name as a resource (RFC 8707), and lets our own tokens be
/// for it.
fn name_resources(apis: &mut [Api], issuers: &mut [Issuer], fixed: &Fixed) {
    let mut names = Vec::new();
    for api in apis
        .iter_mut()
        .filter(|api| api.host.as_ref().is_none_or(|host| *host == fixed.public_host))
    {
        if !api.base_path.is_empty() {
            let name = format!("{}{}", fixed.public_url, api.base_path);
            names.push(name.clone());
            api.resource = Some(name);
        }
    }
    for issuer in issuers.iter_mut().filter(|issuer| issuer.rules.name.is_own()) {
        if let Audience::OneOf(audience) = &mut issuer.rules.audience {
            audience.extend(names.iter().cloned());
        }
    }
}

fn digest(sources: &Sources) -> String {
    let mut hash = Sha256::new();
    for file in sources
        .gateway
        .iter()
        .chain(&sources.policies)
        .chain(&sources.clients)
        .chain(&sources.users)
    {
        for part in [&file.name, &file.text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    crate::names::hex(hash.finalize().get(..6).unwrap_or_default())
}
