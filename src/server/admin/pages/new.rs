//! New integration: both forms, and their result as a file, a command and a request to merge it.

use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use url::form_urlencoded;

use super::block::{Block, Button, Cell, Field, Form, Group, Kind, Notice, Page, Pre, Table};
use super::{Asking, answer, html};
use crate::server::admin::draft::{DraftFault, Prepared, created, prepared};
use crate::tooling::draft::ClientDraft;

/// Which of the two forms.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    form: String,
}

const CREDENTIALS: &str = "client_credentials";
const CODE: &str = "authorization_code";
const PATH: &str = "/integrations/new";

/// The empty form.
pub(super) async fn form(
    (State(console), Extension(caller)): Asking,
    Query(asked): Query<Asked>,
) -> Response {
    let is_code = asked.form == CODE;
    let mut draft = ClientDraft::default();
    if is_code {
        draft.grants = vec![CODE.to_owned(), "refresh_token".to_owned()];
    }
    let writes = caller.role.writes() && console.shared.snapshot().config.console.write.is_some();
    answer(&caller, Ok(page(&draft, is_code, writes, None)), super::Said::default())
}

/// A form that was sent: prepared, or written where that is asked for.
pub(super) async fn submit((State(console), Extension(caller)): Asking, body: Bytes) -> Response {
    let (draft, is_code, wants_file) = read(&body);
    let writes = caller.role.writes() && console.shared.snapshot().config.console.write.is_some();
    let made = if wants_file {
        created(&console, &caller, draft.clone()).await
    } else {
        prepared(&console, draft.clone())
            .await
            .map_err(|fault| (StatusCode::UNPROCESSABLE_ENTITY, fault))
    };
    match made {
        Ok(prepared) => {
            answer(&caller, Ok(result(&draft, &prepared, wants_file)), super::Said::default())
        }
        Err((status, fault)) => {
            let mut page = page(&draft, is_code, writes, Some(&fault));
            page.caller = Some((&caller).into());
            html(status, &page.template())
        }
    }
}

/// The draft, whether it is the second form, and whether its file is to be written.
fn read(body: &[u8]) -> (ClientDraft, bool, bool) {
    // A box that is not checked is not sent.
    let mut draft =
        ClientDraft { active: false, allow_only_selected_scopes: false, ..ClientDraft::default() };
    let (mut is_code, mut wants_file, mut refresh) = (false, false, false);
    for (name, value) in form_urlencoded::parse(body) {
        let value = value.trim().to_owned();
        let optional = Some(value.clone()).filter(|value| !value.is_empty());
        let list = || -> Vec<String> {
            let words = value.split([' ', ',', '\n', '\r']);
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        match &*name {
            "id" => draft.id = value,
            "name" => draft.name = optional,
            "provider_name" => draft.provider_name = optional,
            "owner" => draft.owner = optional,
            "active" => draft.active = true,
            "application_user" => draft.application_user = optional,
            "auth_scopes" => draft.auth_scopes = list(),
            "limit_authorization" => draft.limit_authorization = list(),
            "allow_only_selected_scopes" => draft.allow_only_selected_scopes = true,
            "enforce_token_restriction" => draft.enforce_token_restriction = true,
            "token_format" => draft.token_format = value,
            "access_token_lifespan" => draft.access_token_lifespan = seconds(optional),
            "refresh_token_lifespan" => draft.refresh_token_lifespan = seconds(optional),
            "redirect_urls" => draft.redirect_urls = list(),
            "public_client" => draft.public_client = true,
            "login_url" => draft.login_url = optional,
            "logo_url" => draft.logo_url = optional,
            "expires" => draft.expires = optional,
            "refresh" => refresh = true,
            "form" => is_code = value == CODE,
            "do" => wants_file = value == "write",
            _ => {}
        }
    }
    draft.grants = if is_code { vec![CODE.to_owned()] } else { vec![CREDENTIALS.to_owned()] };
    if is_code && refresh {
        draft.grants.push("refresh_token".to_owned());
    }
    (draft, is_code, wants_file)
}

/// A number of seconds, as the forms have it, or a duration.
fn seconds(text: Option<String>) -> Option<String> {
    text.map(
        |text| {
            if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("{text}s") } else { text }
        },
    )
}

fn page(draft: &ClientDraft, is_code: bool, writes: bool, fault: Option<&DraftFault>) -> Page {
    let title = if is_code {
        "New integration: authorization code"
    } else {
        "New integration: client credentials"
    };
    let (other, other_text) = if is_code {
        ("/integrations/new", "For a machine instead")
    } else {
        ("/integrations/new?form=authorization_code", "For users instead")
    };
    let mut page = Page::new(title, "/integrations")
        .lead("Nothing is written by this: it shows the effect, the file and the command.")
        .link(other_text, other, false);
    if let Some(fault) = fault {
        let field = fault.field.map_or_else(String::new, |field| format!("{field}: "));
        page.notice =
            Some(Notice { bad: true, text: format!("{field}{}", fault.lines.join("; ")) });
    }
    let at_fault = fault.and_then(|fault| fault.field);
    let mut groups = groups(draft, is_code);
    for field in groups.iter_mut().flat_map(|group| &mut group.fields) {
        field.at_fault = at_fault == Some(field.name);
    }
    let mut buttons =
        vec![Button { text: "Show its effect", name: "do", value: "show", class: "primary" }];
    if writes {
        buttons.push(Button { text: "Write its file", name: "do", value: "write", class: "" });
    }
    page.add(Block::Form(Form {
        method: "post",
        action: PATH.to_owned(),
        class: "form",
        groups,
        buttons,
        live: true,
    }));
    page
}

fn groups(draft: &ClientDraft, is_code: bool) -> Vec<Group> {
    let text = |name, label, value: &Option<String>| {
        Field::new(Kind::Text, name, label, value.clone().unwrap_or_default())
    };
    let check = |name, label, value: bool| Field::new(Kind::Check, name, label, value.to_string());
    let mut id = Field::new(Kind::Text, "id", "Client ID", &*draft.id)
        .required()
        .help("Letters, digits, dots, hyphens and underscores: it names the file too.");
    id.pattern = "[A-Za-z0-9_][A-Za-z0-9_.\\-]*";
    let mut provider = text("provider_name", "Provider name", &draft.provider_name)
        .help("Whose service is integrated, for instance Microsoft, Google, Zoom, SAP.");
    provider.required = is_code;
    let mut details = vec![
        Field::hidden("form", if is_code { CODE } else { CREDENTIALS }),
        text("name", "Name", &draft.name).required(),
        provider,
        id,
        text("owner", "Owner", &draft.owner).help("Who answers for it: a mail address or a team."),
        check("active", "Active", draft.active),
    ];
    if is_code {
        details.push(
            Field::new(
                Kind::Lines,
                "redirect_urls",
                "Redirect URLs",
                draft.redirect_urls.join("\n"),
            )
            .required()
            .help("Where the code is sent, one a line. Compared exactly."),
        );
        details.push(check("public_client", "This is a public client", draft.public_client).help(
            "It has no secret to prove itself with: an application on a device or in a \
                    browser.",
        ));
        details.push(
            text("login_url", "Login URL", &draft.login_url)
                .help("Page outside at which its users sign in; our own by default."),
        );
        details.push(
            text("logo_url", "Logo URL", &draft.logo_url).help("Picture on the consent page."),
        );
    } else {
        details.push(
            text("application_user", "OAuth application user", &draft.application_user)
                .help("The user whose roles its calls have. Without one, every ACL refuses them."),
        );
    }
    let scope = vec![
        Field::new(Kind::Text, "auth_scopes", "Auth scopes", draft.auth_scopes.join(" "))
            .help("What it may do, by the names of auth scopes; several with spaces between."),
        Field::new(
            Kind::Text,
            "limit_authorization",
            "Limit authorization",
            draft.limit_authorization.join(" "),
        )
        .help("Names of the APIs outside which it reaches nothing; all when empty."),
        check(
            "allow_only_selected_scopes",
            "Allow access only to APIs in selected scope",
            draft.allow_only_selected_scopes,
        ),
    ];
    let mut advanced = vec![
        check(
            "enforce_token_restriction",
            "Enforce token restriction",
            draft.enforce_token_restriction,
        )
        .help("It reaches only what a policy that names it admits."),
        Field::new(Kind::Select, "token_format", "Token format", &*draft.token_format)
            .options(&[("jwt", "JWT"), ("opaque", "Opaque")]),
        text("access_token_lifespan", "Access token lifespan", &draft.access_token_lifespan)
            .help("Seconds, or a duration such as 30m; 1800 by default."),
    ];
    if is_code {
        let has_refresh = draft.grants.iter().any(|grant| grant == "refresh_token");
        advanced.push(check("refresh", "Refresh tokens", has_refresh));
        advanced.push(
            text("refresh_token_lifespan", "Refresh token lifespan", &draft.refresh_token_lifespan)
                .help("Seconds, or a duration such as 100d; 8640000 by default."),
        );
    }
    advanced.push(
        text("expires", "Secret expires", &draft.expires)
            .help("The day from which it is refused, YYYY-MM-DD."),
    );
    vec![
        Group { legend: Some("Details"), fields: details },
        Group { legend: Some("Auth scope"), fields: scope },
        Group { legend: Some("Advanced options"), fields: advanced },
    ]
}

fn result(draft: &ClientDraft, prepared: &Prepared, is_written: bool) -> Page {
    let mut page = Page::new(format!("New integration: {}", draft.id), "/integrations").link(
        "Another one",
        PATH,
        false,
    );
    let text = if is_written {
        format!("{} was written, and the files are being read again.", prepared.file)
    } else {
        "Nothing was written. Take the file, or the command.".to_owned()
    };
    page.notice = Some(Notice { bad: false, text });
    page.heading("Effect");
    page.add(Block::Text(format!(
        "Opens {} operations of {} APIs to this client.",
        prepared.opens_operations, prepared.opens_apis
    )));
    let rows = prepared.opens.iter().map(|opened| {
        vec![
            Cell::from(&opened.api),
            Cell::from(&opened.operation).tone("mono"),
            Cell::list(&opened.by),
            Cell::list(&opened.only),
        ]
    });
    page.add(Block::Table(
        Table::new("Operations that it opens", &["API", "Operation", "By", "Only"])
            .rows(rows)
            .empty("It opens nothing: give it a scope, or name it in a policy."),
    ));
    if let Some(secret) = &prepared.secret {
        page.heading("Secret");
        page.add(Block::Text("Shown this one time; the file has its digest alone.".to_owned()));
        page.add(Pre::block("Client secret", &**secret));
    }
    page.heading("File");
    page.add(Pre::block(&*prepared.file, &*prepared.yaml));
    page.heading("Command");
    page.add(Pre::block("Adds it with a secret of its own", &*prepared.command));
    if let Some(curl) = &prepared.curl {
        page.heading("Its first token");
        page.add(Pre::block("Once the file is in force", &**curl));
    }
    page.heading("Merge request");
    page.add(Pre::block("Text of a merge request", &*prepared.merge_request));
    page.heading("Tests");
    page.add(Pre::block("Begin of tests for a policies file", &*prepared.tests));
    page
}
