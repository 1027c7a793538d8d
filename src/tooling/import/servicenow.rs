//! Makes clients, auth scopes and access policies from records of ServiceNow's inbound OAuth.
//! Unclear records are listed, and closed rather than left open: a scope record that cannot be read
//! requires a scope that nobody holds, a policy that cannot be read closes its API.

mod apis;
mod client;
mod clients;
mod policies;
mod records;
mod scopes;
mod selection;
mod xml;

use serde::Serialize;

pub use records::Export;

use super::{ImportFault, Note, Trial, Upstream, usable_name, yaml};
use crate::names::Timestamp;
use apis::Apis;
use clients::Clients;
use records::Records;

/// Options of an import, in addition to the records.
#[derive(Clone, Debug)]
pub struct Options {
    /// Key of the upstream.
    pub upstream: String,
    /// Clients whose records do not say whether their tokens are restricted become unrestricted.
    pub tokens_unrestricted: bool,
}

/// The result of an import.
#[derive(Debug, Serialize)]
pub struct Import {
    /// A file of policies; empty without APIs.
    pub policies: String,
    /// A file of clients; empty without clients.
    pub clients: String,
    /// The users that clients act as; empty without them.
    pub users: String,
    /// Servers that gateway.yaml has to name.
    pub upstreams: Vec<Upstream>,
    /// Clients that had a secret in ServiceNow and have none here.
    pub secrets: Vec<String>,
    /// Content that is left out or that differs from what one might expect.
    pub notes: Vec<Note>,
    /// Numbers of definitions made.
    pub counts: Counts,
}

/// Numbers of definitions made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// APIs.
    pub apis: usize,
    /// Auth scopes.
    pub scopes: usize,
    /// Access policies.
    pub policies: usize,
    /// Clients.
    pub clients: usize,
    /// Users.
    pub users: usize,
}

/// Makes configuration from records.
///
/// # Errors
/// A file is not an export, or the exports hold no records that are read.
pub fn import(
    exports: &[Export],
    options: &Options,
    now: Timestamp,
) -> Result<Import, ImportFault> {
    let upstream = &options.upstream;
    usable_name(upstream)
        .map_err(|fault| ImportFault::Unreadable(format!("--upstream {fault}")))?;
    let records = Records::read(exports).map_err(ImportFault::Unreadable)?;
    let mut notes: Vec<Note> = records
        .others
        .iter()
        .map(|(table, count)| {
            Note::new(table, format!("{count} records of a table that is not read"))
        })
        .collect();
    let clients = Clients::of(&records, !options.tokens_unrestricted, &mut notes);
    let mut apis = Apis::default();
    let scopes = scopes::of(&records, &mut apis, &mut notes);
    let policies = policies::of(&records, &mut apis, &clients, &mut notes);
    let (clients_text, scopes) = clients.yaml(scopes, &mut notes);
    for path in apis.versioned() {
        let message = "records name single versions of it: paths without a version are judged as \
            `latest`, to which rules of single versions \
                       do not apply; other versions are not served";
        notes.push(Note::new(format!("API {path}"), message));
    }
    let policies_text = format!(
        "{}{}{}",
        apis.yaml(upstream),
        scopes::yaml(&scopes, &apis),
        policies::yaml(&policies, &apis)
    );
    let counts = Counts {
        apis: apis.len(),
        scopes: scopes.len(),
        policies: policies.len(),
        clients: clients.len(),
        users: clients.users.len(),
    };
    if counts == Counts::default() {
        let tables = records::TABLES.join(", ");
        return Err(ImportFault::Unreadable(format!(
            "nothing in the files can be carried over; these tables are read: {tables}"
        )));
    }
    let head = yaml::comment("Made by `scopegate import servicenow`");
    let headed = |text: String| if text.is_empty() { text } else { format!("{head}{text}") };
    let made = Import {
        policies: headed(policies_text),
        clients: headed(clients_text),
        users: headed(clients.users_yaml()),
        upstreams: if counts.apis > 0 {
            vec![Upstream { name: upstream.clone(), server: None, path: String::new() }]
        } else {
            Vec::new()
        },
        secrets: clients.secrets(),
        notes: tidy(notes),
        counts,
    };
    let trial = Trial {
        policies: &made.policies,
        clients: &made.clients,
        users: &made.users,
        upstreams: &made.upstreams,
    };
    trial.load(now)?;
    Ok(made)
}

fn tidy(mut notes: Vec<Note>) -> Vec<Note> {
    notes.sort();
    notes.dedup();
    notes
}
