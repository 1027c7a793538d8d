//! A new integration: its effect before there is one, and the file, where the console may write it.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Extension, Json, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::console::Console;
use super::entry::{Caller, problem};
use crate::config::Config;
use crate::names::hex;
use crate::policy::Rules;
use crate::system::files::{self, Addition, LoadFault};
use crate::system::{clock, random};
use crate::tooling::Workers;
use crate::tooling::access::access;
use crate::tooling::draft::ClientDraft;
use crate::tooling::testing;

/// Operations that are listed of an effect.
const MAX_LISTED: usize = 200;

/// A new integration before it is one.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Prepared {
    /// The name of its file.
    pub(super) file: String,
    /// The text of its file. The digest in it is of `secret`.
    pub(super) yaml: String,
    /// The command that adds it, with a secret of its own.
    pub(super) command: String,
    /// Its secret, shown this one time; none of a public client.
    pub(super) secret: Option<String>,
    /// The request by which it gets a token.
    pub(super) curl: Option<String>,
    /// Operations that it opens to this client, with the conditions that hold.
    pub(super) opens: Vec<Opened>,
    /// How many operations it opens.
    pub(super) opens_operations: usize,
    /// Of how many APIs.
    pub(super) opens_apis: usize,
    /// Tests that hold it, for a policies file.
    pub(super) tests: String,
    /// The text of a request to merge it.
    pub(super) merge_request: String,
}

/// An operation that is opened.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Opened {
    /// The API.
    pub(super) api: String,
    /// Method and resource.
    pub(super) operation: String,
    /// The rules that permit it.
    pub(super) by: Vec<String>,
    /// Further conditions.
    pub(super) only: Vec<String>,
}

/// A fault in what was asked for.
#[derive(Clone, Debug)]
pub(super) struct DraftFault {
    /// The field, where one is at fault.
    pub(super) field: Option<&'static str>,
    /// What is wrong, a line each.
    pub(super) lines: Vec<String>,
}

impl DraftFault {
    fn of(text: &str) -> Self {
        Self { field: None, lines: vec![text.to_owned()] }
    }

    fn response(&self, status: StatusCode) -> Response {
        let field = self.field.map_or_else(String::new, |field| format!("{field}: "));
        let text = format!("{field}{}", self.lines.join("; "));
        problem(status, &text)
    }
}

/// A prepared integration, as the API answers it.
pub(super) async fn prepare(
    State(console): State<Arc<Console>>,
    Json(draft): Json<ClientDraft>,
) -> Response {
    match prepared(&console, draft).await {
        Ok(prepared) => Json(prepared).into_response(),
        Err(fault) => fault.response(StatusCode::UNPROCESSABLE_ENTITY),
    }
}

/// Writes the file of a new integration, as an editor.
pub(super) async fn create(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Json(draft): Json<ClientDraft>,
) -> Response {
    match created(&console, &caller, draft).await {
        Ok(prepared) => (StatusCode::CREATED, Json(prepared)).into_response(),
        Err((status, fault)) => fault.response(status),
    }
}

/// Makes everything of a new integration, and writes nothing.
pub(super) async fn prepared(
    console: &Arc<Console>,
    draft: ClientDraft,
) -> Result<Prepared, DraftFault> {
    let (gateway, snapshot) = (console.gateway_file.clone(), console.shared.snapshot());
    let made = tokio::task::spawn_blocking(move || make(&gateway, &snapshot.config, &draft));
    made.await.unwrap_or_else(|_| Err(DraftFault::of("it could not be prepared")))
}

fn make(gateway: &Path, config: &Config, draft: &ClientDraft) -> Result<Prepared, DraftFault> {
    draft
        .check(true)
        .map_err(|(field, text)| DraftFault { field: Some(field), lines: vec![text] })?;
    if let Some(known) = config.rules.registry().client(&draft.id) {
        let text = format!("the client `{}` is there already, at {}", draft.id, known.origin);
        return Err(DraftFault { field: Some("id"), lines: vec![text] });
    }
    let secret = if draft.public_client { None } else { Some(new_secret()?) };
    let digest = secret
        .as_ref()
        .map(|secret| format!("sha256: {}", hex(&Sha256::digest(secret.as_bytes()))));
    let yaml = draft.yaml(digest.as_deref());
    let new = files::load_with(gateway, Addition::Client, &yaml).map_err(|fault| match fault {
        LoadFault::Unreadable(text) => DraftFault::of(&text),
        LoadFault::Faults(_, faults) => DraftFault {
            field: None,
            lines: faults.iter().map(|fault| fault.message.clone()).collect(),
        },
    })?;
    let opens = opens(&new.rules, &draft.id);
    let apis: std::collections::BTreeSet<&str> =
        opens.iter().map(|opened| opened.api.as_str()).collect();
    let (opens_operations, opens_apis) = (opens.len(), apis.len());
    let tests = tests(&draft.id, &opens);
    let merge_request = merge_request(draft, &opens, opens_apis);
    Ok(Prepared {
        file: format!("{}.yaml", draft.id),
        command: draft.command(),
        curl: draft.curl(&new.fixed.public_url, secret.as_deref().map(String::as_str)),
        secret: secret.map(|secret| secret.to_string()),
        yaml,
        opens: opens.into_iter().take(MAX_LISTED).collect(),
        opens_operations,
        opens_apis,
        tests,
        merge_request,
    })
}

fn new_secret() -> Result<Zeroizing<String>, DraftFault> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    random::fill(bytes.as_mut_slice()).map_err(|fault| DraftFault::of(&fault.to_string()))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

/// The operations that a client can reach.
fn opens(rules: &Rules, id: &str) -> Vec<Opened> {
    let reach = access(rules, clock::now(), Workers::caller()).reach;
    let mut opens: Vec<Opened> = Vec::new();
    for reach in reach.into_iter().filter(|reach| reach.client.as_deref() == Some(id)) {
        let version = reach.version.as_deref().map_or_else(String::new, |v| format!(" ({v})"));
        let operation = format!("{} {}{version}", reach.method, reach.resource);
        let opened = Opened { api: reach.api, operation, by: reach.by, only: reach.only };
        if opens
            .last()
            .is_none_or(|last| (&last.api, &last.operation) != (&opened.api, &opened.operation))
        {
            opens.push(opened);
        }
    }
    opens
}

/// Tests that say what the client reaches, with a value in the place of each parameter left to the
/// author.
fn tests(id: &str, opens: &[Opened]) -> String {
    let mut text = format!(
        "# {} operations are open to {id}; paths are below the API's base path.\n",
        opens.len()
    );
    text.push_str("tests:\n");
    for opened in opens.iter().take(10) {
        text.push_str(&format!("  # {}: {}\n", opened.api, opened.operation));
    }
    text
}

fn merge_request(draft: &ClientDraft, opens: &[Opened], apis: usize) -> String {
    let name = draft.name.as_deref().unwrap_or(&draft.id);
    let owner = draft.owner.as_deref().unwrap_or("nobody yet");
    let provider = draft.provider_name.as_deref().unwrap_or("not named");
    let mut text = format!(
        "Add the client {} ({name})\n\nProvider: {provider}. Owner: {owner}. Grants: {}.\nIt opens \
            {} operations of {apis} APIs to this client:\n\n",
        draft.id,
        draft.grants.join(", "),
        opens.len()
    );
    for opened in opens.iter().take(MAX_LISTED) {
        let only = if opened.only.is_empty() {
            String::new()
        } else {
            format!(", only {}", opened.only.join("; "))
        };
        text.push_str(&format!("- {} {}{only}\n", opened.api, opened.operation));
    }
    text
}

/// Writes the file, where that is configured and everything holds with it.
pub(super) async fn created(
    console: &Arc<Console>,
    caller: &Caller,
    draft: ClientDraft,
) -> Result<Prepared, (StatusCode, DraftFault)> {
    let refuse = |status, text: &str| Err((status, DraftFault::of(text)));
    let snapshot = console.shared.snapshot();
    if !caller.role.writes() {
        return refuse(StatusCode::FORBIDDEN, "client files are written for an `editor` alone");
    }
    let Some(folder) = snapshot.config.console.write.clone() else {
        let text = "the console writes nothing: `console: { write: clients/ }` lets it";
        return refuse(StatusCode::FORBIDDEN, text);
    };
    let master = snapshot.rules().master_scope();
    if draft.auth_scopes.iter().any(|scope| scope == master.as_str()) {
        let text = "the master scope is given in the YAML by hand, never here";
        return refuse(StatusCode::FORBIDDEN, text);
    }
    let prepared = prepared(console, draft)
        .await
        .map_err(|fault| (StatusCode::UNPROCESSABLE_ENTITY, fault))?;
    let (gateway, version) = (console.gateway_file.clone(), snapshot.config.version.clone());
    let (file, yaml) = (folder.join(&prepared.file), prepared.yaml.clone());
    let path = file.clone();
    // Nothing is created without its record: this may not take effect unrecorded.
    let mut record = caller.record("create-client", prepared.file.clone());
    record.after = Some(format!("opens {} operations", prepared.opens_operations));
    let noted = console.shared.store.note_audit(record).await;
    if let Err(fault) = noted {
        let text = format!("the audit record cannot be written, nothing was done: {fault}");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &text);
    }
    let written = tokio::task::spawn_blocking(move || write(&gateway, &version, &path, &yaml));
    match written.await {
        Ok(Ok(())) => {
            console.shared.reload_due.notify_one();
            Ok(prepared)
        }
        outcome => {
            let text = match outcome {
                Ok(Err(text)) => text,
                _ => "the file could not be written".to_owned(),
            };
            let mut record = caller.record("create-client", prepared.file.clone());
            record.outcome.clone_from(&text);
            super::entry::note(console, record).await;
            refuse(StatusCode::CONFLICT, &text)
        }
    }
}

/// Creates the file: whole or not at all, and never in the place of one.
fn write(gateway: &Path, version: &str, file: &Path, yaml: &str) -> Result<(), String> {
    let now = files::load_untested(gateway)
        .map_err(|_| "the files on disk have faults: see `scopegate check`".to_owned())?;
    if *now.version != *version {
        return Err("the files on disk are not the set in force: reload first".to_owned());
    }
    let new = files::load_with(gateway, Addition::Client, yaml)
        .map_err(|_| "with the client the configuration has faults".to_owned())?;
    if !testing::faults(&new, clock::now()).is_empty() {
        return Err("with the client the tests of the policies fail".to_owned());
    }
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // A name that is no configuration file's, until the whole text is on the disk; and a file of
    // its own for each writer, for one that two shared would be linked with the text of the other.
    let (prefix, permissions) = (format!(".{name}."), Permissions::from_mode(0o644));
    let mut options = tempfile::Builder::new();
    let options = options.prefix(&prefix).suffix(".new").permissions(permissions);
    let io = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut out = options.tempfile_in(folder).map_err(io)?;
    let written = out.write_all(yaml.as_bytes()).and_then(|()| out.as_file().sync_all());
    // It fails where the name exists.
    written.and_then(|()| Ok(out.persist_noclobber(file).map(drop)?)).map_err(io)
}
