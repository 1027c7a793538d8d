//! `scopegate explain`.

mod decision;

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Format, report, say, store_access, token_facts, wrong};
use crate::config::Config;
use crate::names::{IssuerName, Timestamp};
use crate::policy::block::Blocks;
use crate::policy::decide::Moment;
use crate::policy::sample::{
    Presented, Sample, TokenSample, check_override, parse_line, scope_set,
};
use crate::reason::{Refusal, TokenFault};
use crate::request::credential::BearerToken;
use crate::server::tokens::revocations::Revocations;
use crate::store::Store;
use crate::system::{clock, files};
use crate::token::Facts;
use crate::tooling::explain::{Explanation, Outcome, Question, explain};

/// What `explain` is asked.
#[derive(clap::Args, Debug)]
pub(super) struct ExplainArguments {
    /// Method and path, for instance "GET /api/now/table/incident"
    #[arg(required_unless_present = "decision", conflicts_with = "decision")]
    request: Option<String>,
    /// The method that an X-HTTP-Method-Override header names
    #[arg(long, value_name = "METHOD", conflicts_with = "decision")]
    method_override: Option<String>,
    /// Host that is asked; that of `public_url` when left out
    #[arg(long)]
    host: Option<String>,
    /// Address of the caller
    #[arg(long)]
    from: Option<IpAddr>,
    /// A name of the client certificate: a DNS name, a URI, or `sha256:` and a digest
    #[arg(long, value_name = "NAME")]
    certificate: Vec<String>,
    /// When: RFC 3339; now when left out
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// The client claim of the token: of our own tokens the client id
    #[arg(long, allow_hyphen_values = true)]
    client: Option<String>,
    /// Scopes of the token, separated by spaces; all that the client holds when left out
    #[arg(long, requires = "client")]
    scopes: Option<String>,
    /// `sub` of the token: the user, where it acts for one
    #[arg(long)]
    subject: Option<String>,
    /// Who minted the token
    #[arg(long, default_value = IssuerName::OWN)]
    issuer: String,
    /// A value of the role claim of another issuer's token
    #[arg(long, value_name = "VALUE")]
    role: Vec<String>,
    /// A claim that profiles look at
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Vec<String>,
    /// Read a real token from standard input; it is neither kept nor printed
    #[arg(long, conflicts_with_all = ["client", "subject", "role", "claim"])]
    token: bool,
    /// The id of a decision in the log
    #[arg(long, value_name = "ID")]
    decision: Option<String>,
    /// The decision log, `-` for standard input; that of the configuration when left out
    #[arg(long, requires = "decision")]
    log: Option<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(gateway: &Path, arguments: &ExplainArguments) -> ExitCode {
    let config = match files::load_untested(gateway) {
        Ok(config) => config,
        Err(fault) => return report(&fault, arguments.format),
    };
    store_access::follow_made_users(&config);
    if let Some(id) = &arguments.decision {
        return decision::run(&config, id, arguments.log.as_deref(), arguments.format);
    }
    if arguments.log.is_some() {
        return wrong("--log goes with --decision");
    }
    let state = State::of(&config);
    let (question, at) = match written(&config, &state, arguments) {
        Ok(asked) => asked,
        Err(text) => return wrong(&text),
    };
    let moment = Moment { now: at, blocks: &state.blocks };
    let explanation = explain(&config.rules, &question, moment);
    match arguments.format {
        Format::Json => {
            let answer = serde_json::json!({ "set": &*config.version, "note": null,
                "explanation": explanation });
            say(&answer.to_string());
        }
        Format::Text => lines(&explanation).iter().for_each(|line| say(line)),
    }
    ExitCode::SUCCESS
}

/// State set by commands, where the store can be read.
struct State {
    store: Option<Store>,
    revocations: Option<Revocations>,
    blocks: Arc<Blocks>,
}

impl State {
    fn of(config: &Config) -> Self {
        let store = token_facts::store(config);
        let revocations =
            store.as_ref().and_then(|store| Revocations::load(store, clock::now()).ok());
        let blocks = revocations.as_ref().map(|state| state.blocks().clone()).unwrap_or_default();
        Self { store, revocations, blocks }
    }

    fn check_revoked(&self, config: &Config, facts: Arc<Facts>) -> Result<Arc<Facts>, Refusal> {
        let revoked = |revocations: &Revocations| revocations.has(&facts, config.rules.registry());
        if self.revocations.as_ref().is_some_and(revoked) {
            Err(Refusal::token(TokenFault::Revoked))
        } else {
            Ok(facts)
        }
    }
}

type Asked = (Question, Timestamp);

/// The request that the arguments describe.
fn written(config: &Config, state: &State, arguments: &ExplainArguments) -> Result<Asked, String> {
    let at = arguments.at.map_or_else(clock::now, |at| Timestamp(at.as_second()));
    let (method, target) = parse_line(arguments.request.as_deref().unwrap_or_default())?;
    arguments.method_override.as_deref().map_or(Ok(()), check_override)?;
    let mut case = Sample {
        method,
        target,
        method_override: arguments.method_override.clone(),
        host: arguments.host.clone(),
        from: arguments.from,
        certificate: arguments.certificate.clone(),
        token: None,
    };
    let facts = if arguments.token {
        let token = presented()?;
        let facts = token_facts::facts(config, state.store.as_ref(), token.expose());
        let facts = facts.and_then(|facts| state.check_revoked(config, facts));
        case.token = Some(Presented::Token(token));
        Some(facts)
    } else if arguments.client.is_some()
        || arguments.issuer != IssuerName::OWN
        || arguments.subject.is_some()
    {
        let words = words(config, arguments)?;
        let facts = Ok(Arc::new(words.facts(&config.rules, at)));
        case.token = Some(Presented::Sample(Box::new(words)));
        Some(facts)
    } else {
        None
    };
    Ok((Question { request: case.request(&config.fixed.public_host), facts }, at))
}

fn words(config: &Config, arguments: &ExplainArguments) -> Result<TokenSample, String> {
    let issuer = IssuerName::new(&arguments.issuer);
    if config.rules.issuer(issuer.as_str()).is_none() {
        return Err(format!("there is no issuer `{issuer}`"));
    }
    let scopes = arguments
        .scopes
        .as_deref()
        .map(|scopes| scope_set(&scopes.split_whitespace().map(str::to_owned).collect::<Vec<_>>()));
    let claims = arguments.claim.iter().map(|claim| {
        let (name, value) =
            claim.split_once('=').ok_or_else(|| format!("--claim {claim}: write NAME=VALUE"))?;
        Ok::<_, String>((name.to_owned(), serde_json::Value::String(value.to_owned())))
    });
    Ok(TokenSample {
        subject: arguments.subject.clone(),
        scopes: scopes.transpose()?,
        roles: arguments.role.clone(),
        claims: claims.collect::<Result<_, _>>()?,
        ..TokenSample::of(issuer, arguments.client.clone())
    })
}

fn presented() -> Result<BearerToken, String> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .take(16 * 1024)
        .read_to_string(&mut text)
        .map_err(|fault| format!("standard input: {fault}"))?;
    BearerToken::parse(text.trim())
        .map_err(|refusal| format!("standard input: no token: {}", refusal.fault.text()))
}

/// An explanation as lines for people.
pub(super) fn lines(explanation: &Explanation) -> Vec<String> {
    let fault = if explanation.fault.is_empty() {
        String::new()
    } else {
        format!(" ({})", explanation.fault)
    };
    let mut lines = vec![format!("{}{fault}", explanation.verdict)];
    lines.extend(explanation.rules.iter().map(|rule| format!("by {rule}")));
    if let Some(shadow) = explanation.shadow {
        lines.push(format!("with the shadow rules: {shadow}"));
    }
    lines.push(String::new());
    lines.extend(steps(explanation));
    if !explanation.nearest.is_empty() {
        lines.push(String::new());
        lines.push("would be permitted with:".to_owned());
        lines.extend(explanation.nearest.iter().map(|change| format!("  - {change}")));
    }
    lines
}

/// The steps of an explanation, one per line with the facts below.
pub(super) fn steps(explanation: &Explanation) -> Vec<String> {
    let mut lines = Vec::new();
    for stage in &explanation.steps {
        let mark = match stage.result {
            Outcome::Passed => "ok     ",
            Outcome::Refused => "REFUSED",
            Outcome::NotReached => "-      ",
        };
        let mut facts = stage.facts.iter();
        let first = facts.next().map_or("", String::as_str);
        lines.push(format!("{mark} {:<13} {first}", stage.step).trim_end().to_owned());
        lines.extend(facts.map(|fact| format!("{:21} {fact}", "")));
    }
    lines
}
