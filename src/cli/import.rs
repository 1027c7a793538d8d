//! `scopegate import`: `tooling` makes the files; here they are read, written and reported.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{FINDINGS, Format, UNREADABLE, complain, report, say, wrong};
use crate::system::{clock, files};
use crate::tooling::import::openapi::{self, Drift, Import};
use crate::tooling::import::servicenow::{self, Export};
use crate::tooling::import::{Note, Upstream};

/// Largest original that is read, bytes. The largest known API's document has 14 MB.
const LARGEST: u64 = 64 << 20;

/// What to make files of.
#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// APIs, auth scopes and tests out of an OpenAPI document, 3.0 to 3.2, JSON or YAML, with the
    /// files of its folder that it refers to
    Openapi(OpenapiArguments),
    /// Clients, auth scopes and access policies out of records of ServiceNow: update sets and lists
    /// as XML, answers of the Table API as JSON
    Servicenow(ServicenowArguments),
}

/// An OpenAPI document, and what is to become of it.
#[derive(Args, Debug)]
pub(super) struct OpenapiArguments {
    /// The document; `-` is standard input
    file: PathBuf,
    /// Key of the API; made of the document's title when left out. With --check, the one API that
    /// the document is about
    #[arg(long)]
    api: Option<String>,
    /// Key of the upstream; that of the API when left out
    #[arg(long)]
    upstream: Option<String>,
    /// Base path, in place of that of the document's servers
    #[arg(long, value_name = "PATH")]
    base_path: Option<String>,
    /// What the names of scopes are to begin with, where two APIs use the same words
    #[arg(long, value_name = "TEXT", default_value = "")]
    scope_prefix: String,
    /// Write tests with tokens of this client: each scope of an operation opens it, and no scope
    /// does not
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Where an operation asks for several scopes at once, let each of them be enough
    #[arg(long)]
    any_scope: bool,
    /// Make a scope for reading and one for writing, for operations of which the document asks for
    /// none
    #[arg(long)]
    scopes_by_method: bool,
    /// Where a segment has more than a parameter and a literal behind it, as in /x-{id}, let it be
    /// the whole segment: that names more paths than the document
    #[arg(long)]
    whole_segments: bool,
    /// Open the resources to everybody that the document says are for everybody
    #[arg(long)]
    public: bool,
    /// Write to this file, which must not be there yet; standard output when left out
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    output: Option<PathBuf>,
    /// Make nothing: tell what the document and the policies in force do not agree on, and end with
    /// 1 if there is something
    #[arg(long)]
    check: bool,
    /// gateway.yaml, for --check
    #[arg(long, env = super::CONFIG, default_value = "config/gateway.yaml")]
    config: PathBuf,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Records of ServiceNow, and what is to become of them.
#[derive(Args, Debug)]
pub(super) struct ServicenowArguments {
    /// The files. Of an answer of the Table API the file's name has to be that of the table, as
    /// oauth_entity.json, or TABLE=FILE be given
    #[arg(required = true, value_name = "[TABLE=]FILE")]
    files: Vec<String>,
    /// Key of the upstream that is the instance
    #[arg(long, default_value = "servicenow")]
    upstream: String,
    /// Take clients whose records do not say whether their token restriction is enforced as not
    /// restricted
    #[arg(long)]
    tokens_unrestricted: bool,
    /// Write below this folder: policies/servicenow.yaml, config/clients/servicenow.yaml and
    /// config/users.yaml, none of which may be there yet; standard output when left out
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(command: ImportCommand) -> ExitCode {
    match command {
        ImportCommand::Openapi(arguments) => {
            openapi(&arguments).unwrap_or_else(|fault| wrong(&fault))
        }
        ImportCommand::Servicenow(arguments) => {
            servicenow(&arguments).map_or_else(|fault| wrong(&fault), |()| ExitCode::SUCCESS)
        }
    }
}

fn servicenow(arguments: &ServicenowArguments) -> Result<(), String> {
    let mut exports = Vec::new();
    for file in &arguments.files {
        // A table's name has no dot or slash; a path before an equals sign does.
        let table = file
            .split_once('=')
            .filter(|(table, _)| table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        let (table, name) =
            table.map_or((None, file.as_str()), |(table, name)| (Some(table.to_owned()), name));
        exports.push(Export { table, name: name.to_owned(), text: read(Path::new(name))? });
    }
    let options = servicenow::Options {
        upstream: arguments.upstream.clone(),
        tokens_unrestricted: arguments.tokens_unrestricted,
    };
    let import =
        servicenow::import(&exports, &options, clock::now()).map_err(|fault| fault.to_string())?;
    let files = [
        ("policies/servicenow.yaml", &import.policies),
        ("config/clients/servicenow.yaml", &import.clients),
        ("config/users.yaml", &import.users),
    ];
    let files: Vec<(&str, &String)> =
        files.into_iter().filter(|(_, text)| !text.is_empty()).collect();
    if let Some(folder) = &arguments.output {
        let taken = files.iter().map(|(name, _)| folder.join(name)).find(|path| path.exists());
        if let Some(path) = taken {
            return Err(format!("{} is there already; nothing was written", path.display()));
        }
        for (name, text) in &files {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)
                    .map_err(|fault| format!("{}: {fault}", parent.display()))?;
            }
            write_new(&path, text)?;
        }
    }
    if arguments.format == Format::Json {
        say(&json!(import).to_string());
        return Ok(());
    }
    for (name, text) in &files {
        match &arguments.output {
            Some(folder) => complain(&format!("Wrote {}.", folder.join(name).display())),
            None => say(&format!("# ── {name}\n{text}")),
        }
    }
    let servicenow::Counts { apis, scopes, policies, clients, users } = import.counts;
    complain(&format!(
        "{apis} APIs, {scopes} scopes, {policies} policies, {clients} clients, {users} users"
    ));
    tell_upstreams(&import.upstreams);
    for client in &import.secrets {
        let words = "its secret is not carried over; make one with: scopegate client rotate-secret";
        complain(&format!("secret: {client}: {words} {}", shell(client)));
    }
    tell_notes(&import.notes);
    Ok(())
}

/// Reads a document with the files of its folder that its references name.
pub(super) fn read_document(path: &Path) -> Result<String, String> {
    let text = read(path)?;
    if path == Path::new("-") {
        return Ok(text);
    }
    let said = |fault: &dyn std::fmt::Display| format!("{}: {fault}", path.display());
    let folder = path.canonicalize().map_err(|fault| said(&fault))?;
    let folder = folder.parent().unwrap_or(Path::new("/")).to_owned();
    let mut beside = |name: &str| {
        // A link may lead out of the folder too.
        let path = folder.join(name).canonicalize().map_err(|fault| fault.to_string())?;
        if path.starts_with(&folder) {
            read(&path)
        } else {
            Err("outside of the folder".to_owned())
        }
    };
    openapi::bundle(&text, &mut beside).map_err(|fault| said(&fault))
}

fn openapi(arguments: &OpenapiArguments) -> Result<ExitCode, String> {
    let text = read_document(&arguments.file)?;
    let options = openapi::Options {
        api: arguments.api.clone(),
        upstream: arguments.upstream.clone(),
        base_path: arguments.base_path.clone(),
        scope_prefix: arguments.scope_prefix.clone(),
        client: arguments.client.clone(),
        any_scope: arguments.any_scope,
        scopes_by_method: arguments.scopes_by_method,
        whole_segments: arguments.whole_segments,
        public: arguments.public,
    };
    let said = |fault: &dyn std::fmt::Display| format!("{}: {fault}", arguments.file.display());
    if arguments.check {
        let config = match files::load_untested(&arguments.config) {
            Ok(config) => config,
            Err(fault) => {
                // Not 1, which means drift.
                report(&fault, arguments.format);
                return Ok(ExitCode::from(UNREADABLE));
            }
        };
        let drift =
            openapi::drift(&text, &options, &config, clock::now()).map_err(|fault| said(&fault))?;
        return Ok(tell_drift(&drift, arguments.format));
    }
    let import = openapi::import(&text, &options, clock::now()).map_err(|fault| said(&fault))?;
    if let Some(file) = &arguments.output {
        write_new(file, &import.policies)?;
    }
    match arguments.format {
        Format::Json => say(&json!(import).to_string()),
        Format::Text => tell(&import, arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(import: &Import, arguments: &OpenapiArguments) {
    let Import { policies, upstreams, scopes, notes, operations, tests } = import;
    match &arguments.output {
        None => say(policies.trim_end()),
        Some(file) => complain(&format!("Wrote {}.", file.display())),
    }
    complain(&format!("{operations} operations, {} scopes, {tests} tests", scopes.len()));
    tell_upstreams(upstreams);
    if let Some(client) = &arguments.client {
        let listed = shell(&scopes.join(","));
        let flags = if scopes.is_empty() { String::new() } else { format!(" --scopes {listed}") };
        if scopes.iter().any(|scope| scope.contains(',')) {
            complain(&format!(
                "The tests are about the client {client}: write its file by hand, a scope has a \
                    comma"
            ));
        } else {
            complain(&format!(
                "The tests are about this client:  scopegate client add {}{flags}",
                shell(client)
            ));
        }
    }
    tell_notes(notes);
}

fn tell_drift(drift: &Drift, format: Format) -> ExitCode {
    let Drift { differences, compared, notes } = drift;
    match format {
        Format::Json => say(&json!(drift).to_string()),
        Format::Text => {
            for difference in differences {
                let at = difference.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
                say(&format!(
                    "{at}{}: {} [{}]",
                    difference.operation, difference.message, difference.kind
                ));
            }
            say(&format!("{compared} operations in both, {} differences", differences.len()));
            tell_notes(notes);
        }
    }
    if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
}

/// Prints what gateway.yaml has to name.
fn tell_upstreams(upstreams: &[Upstream]) {
    for upstream in upstreams {
        complain(&format!("gateway.yaml has to name it:  upstreams: {{ {} }}", upstream.line()));
    }
}

/// A word of a command line, quoted: it may contain text of the original.
pub(super) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Prints what is not converted, for people.
pub(super) fn tell_notes(notes: &[Note]) {
    for Note { about, message } in notes {
        complain(&format!("note: {about}: {message}"));
    }
}

/// Reads a whole original.
fn read(path: &Path) -> Result<String, String> {
    let said = |fault: std::io::Error| format!("{}: {fault}", path.display());
    let mut text = String::new();
    let count = if path == Path::new("-") {
        std::io::stdin().lock().take(LARGEST + 1).read_to_string(&mut text).map_err(said)?
    } else {
        let file = std::fs::File::open(path).map_err(said)?;
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(said)?
    };
    if count as u64 > LARGEST {
        return Err(format!("{}: larger than {} MiB", path.display(), LARGEST >> 20));
    }
    Ok(text)
}

/// Writes a new file: existing files are never overwritten.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), String> {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|fault| format!("{}: {fault}", path.display()))
}
