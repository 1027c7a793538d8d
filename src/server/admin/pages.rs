//! The pages of the console, made of what the JSON API answers with. Rendered here, so that they
//! can be read without a script; askama escapes every value.

mod activity;
mod block;
mod identities;
mod new;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderValue, StatusCode, header};
use url::form_urlencoded;

use super::acts::{self, Act};
use super::api::{self, AuditQuery, ListQuery, NotShown, UseQuery};
use super::console::Console;
use super::entry::{self, Caller, own_path, see_other};
use super::view::decisions::DecisionFilter;
use block::{Notice, Page};

/// The style of all pages.
const STYLE: &str = include_str!("pages/console.css");
/// Their script.
const SCRIPT: &str = include_str!("pages/console.js");

/// The sign-in page.
#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    next: &'a str,
    username: &'a str,
    problem: Option<&'a str>,
}

/// The routes of the pages.
pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/", get(overview))
        .route("/integrations", get(integrations))
        .route("/integrations.csv", get(integrations_csv))
        .route("/integrations/new", get(new::form).post(new::submit))
        .route("/integrations/{id}", get(integration))
        .route("/access", get(access))
        .route("/findings", get(findings))
        .route("/findings/{rule}/{on}", get(finding))
        .route("/decisions", get(decisions))
        .route("/decisions/{id}", get(decision))
        .route("/operations", get(operations))
        .route("/usage", get(usage))
        .route("/audit", get(audit))
        .route("/acts", post(act))
        .route("/sign-in", get(entry::sign_in_page).post(entry::sign_in))
        .route("/sign-out", post(entry::sign_out))
        .route("/console.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route("/console.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .fallback(missing)
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    let mut response = (status, page.render().unwrap_or_default()).into_response();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

/// The address of the sign-in page, from which the browser goes on to a path.
pub(super) fn sign_in_address(next: &str) -> String {
    match own_path(next) {
        "/" => "/sign-in".to_owned(),
        next => {
            let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            format!("/sign-in?next={next}")
        }
    }
}

/// The sign-in page.
pub(super) fn sign_in(
    status: StatusCode,
    next: &str,
    username: &str,
    problem: Option<&str>,
) -> Response {
    html(status, &SignInPage { next, username, problem })
}

/// What the last act said, in the query of the page that it goes back to.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Said {
    done: String,
    failed: String,
}

impl Said {
    fn notice(self) -> Option<Notice> {
        match (self.done.is_empty(), self.failed.is_empty()) {
            (_, false) => Some(Notice { bad: true, text: self.failed }),
            (false, true) => Some(Notice { bad: false, text: self.done }),
            (true, true) => None,
        }
    }
}

type Shown = Result<Page, NotShown>;

/// The page, or the page that says why it is not shown.
fn answer(caller: &Caller, shown: Shown, said: Said) -> Response {
    match shown {
        Ok(mut page) => {
            page.caller = Some(caller.into());
            page.notice = said.notice().or(page.notice);
            html(StatusCode::OK, &page.template())
        }
        Err(not_shown) => {
            let mut page = Page::new("Not shown", "");
            page.caller = Some(caller.into());
            page.notice = Some(Notice { bad: true, text: not_shown.text() });
            html(not_shown.status(), &page.template())
        }
    }
}

async fn missing(caller: Option<Extension<Caller>>) -> Response {
    match caller {
        Some(Extension(caller)) => {
            let text = "There is no such page.".to_owned();
            answer(&caller, Err(NotShown::Missing(text)), Said::default())
        }
        None => entry::said(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

type Asking = (State<Arc<Console>>, Extension<Caller>);

async fn overview(
    (State(console), Extension(caller)): Asking,
    Query(said): Query<Said>,
) -> Response {
    let shown =
        api::overview(&console).await.map(|overview| identities::overview(&overview, &caller));
    answer(&caller, shown, said)
}

async fn integrations(
    (State(console), Extension(caller)): Asking,
    Query(query): Query<ListQuery>,
) -> Response {
    let shown = api::integrations(&console, &query).await;
    answer(&caller, shown.map(|list| identities::integrations(&list, &query)), Said::default())
}

async fn integrations_csv(
    (State(console), Extension(caller)): Asking,
    Query(mut query): Query<ListQuery>,
) -> Response {
    query.page = None;
    let mut text = String::new();
    let mut page = 1;
    loop {
        query.page = Some(page);
        query.per_page = Some(super::view::MAX_ROWS);
        match api::integrations(&console, &query).await {
            Ok(list) => {
                identities::csv(&list, page == 1, &mut text);
                if !list.has_more() {
                    break;
                }
                page += 1;
            }
            Err(not_shown) => return answer(&caller, Err(not_shown), Said::default()),
        }
    }
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    let name = HeaderValue::from_static("attachment; filename=\"integrations.csv\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    response
}

async fn integration(
    (State(console), Extension(caller)): Asking,
    Path(id): Path<String>,
    Query(said): Query<Said>,
) -> Response {
    let detail = api::integration(&console, &caller, &id, api::patience()).await;
    answer(&caller, detail.map(|detail| identities::integration(&detail, &caller)), said)
}

async fn access(
    (State(console), Extension(caller)): Asking,
    Query(query): Query<ListQuery>,
) -> Response {
    let shown = if query.client.is_empty() && query.api.is_empty() {
        let list = api::apis(&console, &query, api::patience()).await;
        list.map(|list| identities::apis(&list, &query))
    } else {
        let list = api::access(&console, &query, api::patience()).await;
        list.map(|list| identities::access(&list, &query))
    };
    answer(&caller, shown, Said::default())
}

async fn findings(
    (State(console), Extension(caller)): Asking,
    Query(query): Query<ListQuery>,
) -> Response {
    let list = api::findings_page(&console, &query).await;
    answer(&caller, list.map(|list| identities::findings(&list, &query)), Said::default())
}

async fn finding(
    (State(console), Extension(caller)): Asking,
    Path((rule, on)): Path<(String, String)>,
) -> Response {
    let detail = api::finding(&console, &rule, &on).await;
    answer(&caller, detail.map(|detail| identities::finding(&detail)), Said::default())
}

async fn decisions(
    (State(console), Extension(caller)): Asking,
    Query(filter): Query<DecisionFilter>,
) -> Response {
    let (asked, by) = (filter.clone(), caller.clone());
    let listed =
        tokio::task::spawn_blocking(move || api::decision_list(&console, &by, &asked)).await;
    let shown = listed.map_err(|_| NotShown::NotYet);
    answer(&caller, shown.map(|list| activity::decisions(&list, &filter)), Said::default())
}

async fn decision((State(console), Extension(caller)): Asking, Path(id): Path<String>) -> Response {
    let explained = api::decision(&console, &caller, &id).await;
    answer(&caller, explained.map(|explained| activity::decision(&id, &explained)), Said::default())
}

async fn operations(
    (State(console), Extension(caller)): Asking,
    Query(said): Query<Said>,
) -> Response {
    let found = api::operations(&console).await;
    answer(&caller, found.map(|found| activity::operations(&found, &caller)), said)
}

async fn usage(
    (State(console), Extension(caller)): Asking,
    Query(query): Query<UseQuery>,
) -> Response {
    let report = api::usage_report(&console, &query).await;
    answer(&caller, report.map(|report| activity::usage(&report, &query)), Said::default())
}

async fn audit(
    (State(console), Extension(caller)): Asking,
    Query(query): Query<AuditQuery>,
) -> Response {
    let list = api::audit(&console, &caller, &query).await;
    answer(&caller, list.map(|list| activity::audit(&list)), Said::default())
}

/// An act from a form; the browser goes back to the page that the form was on.
async fn act((State(console), Extension(caller)): Asking, body: Bytes) -> Response {
    let mut back = "/".to_owned();
    let mut members = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(&body) {
        match &*name {
            "form_token" => {}
            "back" => own_path(&value).clone_into(&mut back),
            _ => drop(members.insert(name.into_owned(), value.into_owned().into())),
        }
    }
    let (key, text) = match serde_json::from_value::<Act>(members.into()) {
        Err(fault) => ("failed", format!("The form was not understood: {fault}.")),
        Ok(act) => match acts::perform(&console, &caller, act).await {
            Ok(done) if done.recorded => ("done", done.done),
            Ok(done) => (
                "done",
                format!("{} Its audit record could not be written: the log has it.", done.done),
            ),
            Err(not_done) => ("failed", not_done.text()),
        },
    };
    let query: String =
        form_urlencoded::Serializer::new(String::new()).append_pair(key, &text).finish();
    let path = back.split(['?', '#']).next().unwrap_or("/");
    see_other(&format!("{path}?{query}"))
}
