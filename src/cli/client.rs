//! `scopegate client`: the registry of clients. A new client is a new file; existing files are
//! never rewritten: the lines to change are printed. A secret is printed once and not stored.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argon2::{Argon2, PasswordHasher};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::standard_input::read_line;
use super::{Format, report, say, store_access, wrong};
use crate::client::Client;
use crate::client::secret::{MAX, MIN_RANDOM};
use crate::names::hex;
use crate::store::revocations::Subject;
use crate::system::files::{self, Addition};
use crate::system::random;
use crate::tooling::draft::ClientDraft;

/// What to do with clients.
#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Write a file for a new client, and print its secret once
    Add(Box<New>),
    /// List all clients
    List,
    /// Make another secret, and print it with the line to paste next to the old one
    RotateSecret {
        /// `client_id`
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Read a secret that a client has already, and print the line of its digest
    DigestSecret,
    /// End every token of a client now, and print the line that keeps it from getting others
    Disable {
        /// `client_id`
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

/// A new client.
#[derive(Args, Debug)]
pub(super) struct New {
    /// `client_id`
    id: String,
    /// Name for people
    #[arg(long)]
    name: Option<String>,
    /// Whose service is integrated, for the consent page
    #[arg(long)]
    provider_name: Option<String>,
    /// Who answers for it: a mail address or a team
    #[arg(long)]
    owner: Option<String>,
    /// It gets no tokens yet
    #[arg(long)]
    inactive: bool,
    /// Grants it may use
    #[arg(long, value_delimiter = ',', default_value = "client_credentials")]
    grants: Vec<String>,
    /// Auth scopes that it holds
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    /// APIs outside which it reaches nothing
    #[arg(long, value_delimiter = ',')]
    limit_authorization: Vec<String>,
    /// It may reach operations that no scope grants, by policies and ACLs alone
    #[arg(long)]
    allow_unselected_scopes: bool,
    /// It reaches only what a policy that names it admits
    #[arg(long)]
    enforce_token_restriction: bool,
    /// Form of its access tokens
    #[arg(long, value_parser = ["jwt", "opaque"], default_value = "jwt")]
    token_format: String,
    /// Life of its access tokens, for instance 1800s
    #[arg(long, value_name = "DURATION")]
    access_token_lifespan: Option<String>,
    /// Life of its refresh tokens, for instance 100d
    #[arg(long, value_name = "DURATION")]
    refresh_token_lifespan: Option<String>,
    /// Where users may be sent back to; may be given several times
    #[arg(long = "redirect-url")]
    redirect_urls: Vec<String>,
    /// Page outside at which its users sign in
    #[arg(long, value_name = "URL")]
    login_url: Option<String>,
    /// Logo on the consent page
    #[arg(long, value_name = "URL")]
    logo_url: Option<String>,
    /// User that its client-credentials tokens act as
    #[arg(long)]
    application_user: Option<String>,
    /// Day from which its secret is refused, YYYY-MM-DD
    #[arg(long, value_name = "DATE", conflicts_with = "public")]
    expires: Option<String>,
    /// It has no secret: an application on a device or in a browser
    #[arg(long)]
    public: bool,
    /// Keep the secret that it has already, and read it from standard input
    #[arg(long, conflicts_with = "public")]
    own_secret: bool,
}

/// A secret and its line in the file.
struct Made {
    /// The secret that is to be printed: one that the owner brought is not.
    shown: Option<String>,
    /// `sha256: …` or `argon2id: …`.
    digest: String,
}

pub(super) fn run(gateway: &Path, command: ClientCommand, format: Format) -> ExitCode {
    let outcome = match command {
        ClientCommand::Add(new) => return add(gateway, &new, format),
        ClientCommand::List => list(gateway, format),
        ClientCommand::DigestSecret => digest_secret(format),
        ClientCommand::RotateSecret { id } => rotate(gateway, &id, format),
        ClientCommand::Disable { id } => disable(gateway, &id, format),
    };
    outcome.unwrap_or_else(|code| code)
}

/// A secret of 256 bits in characters that need no escaping, with its digest.
///
/// # Errors
/// The system has no randomness.
pub(super) fn new_secret() -> Result<(String, String), String> {
    let mut random = zeroize::Zeroizing::new([0_u8; 32]);
    random::fill(random.as_mut_slice()).map_err(|fault| fault.to_string())?;
    let secret = URL_SAFE_NO_PAD.encode(random.as_slice());
    let digest = format!("sha256: {}", hex(&Sha256::digest(&secret)));
    Ok((secret, digest))
}

/// The digest of a secret read from standard input: SHA-256 where it is long enough for that, else
/// Argon2id, which is slow to guess.
fn digest_of_own() -> Result<String, ExitCode> {
    let secret = read_line("Secret")?;
    if secret.is_empty() || secret.len() > MAX {
        return Err(wrong(&format!("a secret has 1 to {MAX} bytes")));
    }
    if secret.len() >= MIN_RANDOM {
        return Ok(format!("sha256: {}", hex(&Sha256::digest(secret.as_bytes()))));
    }
    let hash = Argon2::default().hash_password(secret.as_bytes());
    let hash = hash.map_err(|fault| wrong(&format!("the secret cannot be hashed: {fault}")))?;
    Ok(format!("argon2id: '{hash}'"))
}

fn digest_secret(format: Format) -> Result<ExitCode, ExitCode> {
    let line = format!("- {{ {} }}", digest_of_own()?);
    said(format, &json!({ "paste": line }), || {
        format!("Add this line to `secrets` of the client:\n\n    {line}")
    });
    Ok(ExitCode::SUCCESS)
}

/// The client, or the fault's exit code.
fn find(gateway: &Path, id: &str, format: Format) -> Result<std::sync::Arc<Client>, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let client = config.rules.registry().client(id).cloned();
    client.ok_or_else(|| {
        wrong(&format!("there is no client `{id}`; `scopegate client list` prints all"))
    })
}

fn add(gateway: &Path, new: &New, format: Format) -> ExitCode {
    let draft = new.draft();
    let folder = files::clients_folder(gateway);
    if let Err((key, fault)) = draft.check(folder.is_some()) {
        return wrong(&format!("{}: {fault}", key.replace('_', "-")));
    }
    // Without it the configuration may have faults: rules that name the client already.
    let before = files::load_untested(gateway).ok();
    if let Some(client) = before.as_ref().and_then(|it| it.rules.registry().client(&new.id)) {
        return wrong(&format!("the client `{}` is there already, at {}", new.id, client.origin));
    }
    let made = match new.secret() {
        Ok(made) => made,
        Err(code) => return code,
    };
    let text = draft.yaml(made.as_ref().map(|made| made.digest.as_str()));
    let config = match files::load_with(gateway, Addition::Client, &text) {
        Ok(config) => config,
        Err(fault) => return report(&fault, format),
    };
    let secret = made.and_then(|made| made.shown);
    let curl = draft.curl(&config.fixed.public_url, secret.as_deref());
    let (key, value, text) = if let Some(folder) = folder {
        let file = match write(&folder, new, &text) {
            Ok(file) => file,
            Err(code) => return code,
        };
        let told = format!("Wrote {}. Tell the gateway with SIGHUP.", file.display());
        ("file", json!(file), told)
    } else {
        let into = gateway.display();
        let told = format!("Paste this into your clients file (`clients` in {into}):\n\n{text}");
        ("paste", json!(text), told)
    };
    let told = json!({ "client": new.id, "secret": secret, "curl": curl, (key): value });
    said(format, &told, || text);
    print_secret(secret.as_deref(), format);
    if let (Some(curl), Format::Text) = (curl, format) {
        say(&format!("\nWith it the client gets a token:\n\n    {curl}"));
    }
    ExitCode::SUCCESS
}

/// Writes the file, with which the configuration is known to load.
///
/// # Errors
/// The exit code of the fault, which is told.
fn write(folder: &Path, new: &New, text: &str) -> Result<PathBuf, ExitCode> {
    let file = folder.join(format!("{}.yaml", new.id));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&file)
        .and_then(|mut out| out.write_all(text.as_bytes()).and_then(|()| out.sync_all()));
    if let Err(fault) = written {
        return Err(wrong(&format!("{}: {fault}", file.display())));
    }
    Ok(file)
}

impl New {
    /// Its secret, unless it has none.
    ///
    /// # Errors
    /// The exit code of the fault, which is told.
    fn secret(&self) -> Result<Option<Made>, ExitCode> {
        if self.public {
            return Ok(None);
        }
        if self.own_secret {
            return Ok(Some(Made { shown: None, digest: digest_of_own()? }));
        }
        let (secret, digest) = new_secret().map_err(|fault| wrong(&fault))?;
        Ok(Some(Made { shown: Some(secret), digest }))
    }

    /// The fields of its form.
    fn draft(&self) -> ClientDraft {
        ClientDraft {
            id: self.id.clone(),
            name: self.name.clone(),
            provider_name: self.provider_name.clone(),
            owner: self.owner.clone(),
            active: !self.inactive,
            grants: self.grants.clone(),
            application_user: self.application_user.clone(),
            auth_scopes: self.scopes.clone(),
            allow_only_selected_scopes: !self.allow_unselected_scopes,
            limit_authorization: self.limit_authorization.clone(),
            enforce_token_restriction: self.enforce_token_restriction,
            token_format: self.token_format.clone(),
            access_token_lifespan: self.access_token_lifespan.clone(),
            refresh_token_lifespan: self.refresh_token_lifespan.clone(),
            redirect_urls: self.redirect_urls.clone(),
            public_client: self.public,
            login_url: self.login_url.clone(),
            logo_url: self.logo_url.clone(),
            expires: self.expires.clone(),
        }
    }
}

fn list(gateway: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let registry = config.rules.registry();
    let used = store_access::store(&config)
        .ok()
        .and_then(|store| store.secret_uses().ok())
        .unwrap_or_default();
    let rows: Vec<serde_json::Value> = registry
        .clients()
        .into_iter()
        .map(|client| {
            let last = used
                .iter()
                .filter(|(id, ..)| *id == client.id.as_str())
                .map(|(_, _, day)| *day)
                .max();
            let mut scopes: Vec<&str> =
                client.scopes.iter().map(crate::names::ScopeName::as_str).collect();
            scopes.sort_unstable();
            json!({
                "client": client.id.as_str(),
                "name": client.name,
                "owner": client.owner,
                "active": client.active,
                "public": client.public,
                "grants": client.grants.iter().map(|grant| grant.as_str()).collect::<Vec<_>>(),
                "scopes": scopes,
                "secrets": client.secrets.len(),
                "secret_last_used": last.map(store_access::day),
                "at": client.origin.to_string(),
            })
        })
        .collect();
    match format {
        Format::Json => say(&json!({ "clients": rows }).to_string()),
        Format::Text => {
            store_access::table(
                &rows,
                &["client", "active", "grants", "scopes", "secrets", "secret_last_used", "at"],
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rotate(gateway: &Path, id: &str, format: Format) -> Result<ExitCode, ExitCode> {
    let client = find(gateway, id, format)?;
    if client.public {
        return Err(wrong(&format!("`{id}` is a public client: it has no secret")));
    }
    let (secret, digest) = new_secret().map_err(|fault| wrong(&fault))?;
    let line = format!("- {{ {digest} }}");
    said(
        format,
        &json!({ "client": id, "secret": secret, "paste": line, "at": client.origin.to_string() }),
        || {
            format!(
                "Add this line to `secrets` of `{id}` ({}). Give the old one an `expires`, and \
                    remove it once it is not used any\n\
             more: `scopegate client list` shows when a secret was last used.\n\n    {line}",
                client.origin
            )
        },
    );
    print_secret(Some(&secret), format);
    Ok(ExitCode::SUCCESS)
}

fn disable(gateway: &Path, id: &str, format: Format) -> Result<ExitCode, ExitCode> {
    let client = find(gateway, id, format)?;
    store_access::revoke(gateway, Subject::Client(id.to_owned()), format)?;
    said(
        format,
        &json!({ "client": id, "paste": "active: false", "at": client.origin.to_string() }),
        || {
            format!(
                "Every token that `{id}` has is refused from now on. It can still get others until \
                    you add this line to it\n\
             ({}) and tell the gateway with SIGHUP:\n\n    active: false",
                client.origin
            )
        },
    );
    Ok(ExitCode::SUCCESS)
}

/// Prints the result, for people or for machines.
pub(super) fn said(format: Format, value: &serde_json::Value, text: impl FnOnce() -> String) {
    match format {
        Format::Json => say(&value.to_string()),
        Format::Text => say(&text()),
    }
}

/// Only for people: machines have it in their object.
fn print_secret(secret: Option<&str>, format: Format) {
    if let (Some(secret), Format::Text) = (secret, format) {
        say(&format!("\nThe secret, printed this once:\n\n    {secret}"));
    }
}
