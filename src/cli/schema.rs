//! `scopegate schema`.

use std::process::ExitCode;

use clap::ValueEnum;

use super::say;
use crate::config::schema::{Kind, schema};
use crate::telemetry::record::Record;

/// Kinds of files, as arguments.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum KindArgument {
    /// gateway.yaml
    Gateway,
    /// clients/*.yaml
    Clients,
    /// users.yaml
    Users,
    /// policies/*.yaml
    Policies,
    /// A line of the decision log
    DecisionRecord,
}

pub(super) fn run(kind: Option<KindArgument>) -> ExitCode {
    let value = match kind {
        Some(KindArgument::Gateway) => schema(Kind::Gateway),
        Some(KindArgument::Clients) => schema(Kind::Clients),
        Some(KindArgument::Users) => schema(Kind::Users),
        Some(KindArgument::Policies) => schema(Kind::Policies),
        Some(KindArgument::DecisionRecord) => Record::schema(),
        None => {
            Kind::ALL.into_iter().map(|kind| (kind.as_str().to_owned(), schema(kind))).collect()
        }
    };
    say(&serde_json::to_string_pretty(&value).unwrap_or_default());
    ExitCode::SUCCESS
}
