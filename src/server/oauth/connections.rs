//! The user's own page of what is connected: `/oauth2/connections`. Disconnecting ends every token
//! of the application.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::browser::{Purpose, Visitor, expired, failed, page_response, read};
use super::pages;
use super::token::stored;
use super::{Caller, Server};
use crate::grant::GrantError;
use crate::names::Timestamp;
use crate::system::clock;

/// Where the page is.
pub(super) const PATH: &str = "/oauth2/connections";
/// What a user signs in for here.
const PURPOSE: Purpose<'static> = Purpose {
    application: "Connected applications",
    client: None,
    provider: None,
    logo: None,
    action: PATH,
    target: None,
    again: false,
};

pub(super) async fn show(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    let page = async {
        let visitor = Visitor::of(&server, &caller, &headers).await?;
        list(&server, &caller, visitor, None).await
    };
    page.await.unwrap_or_else(|error| failed(&error, &caller))
}

pub(super) async fn act(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    change(&server, &caller, &headers, body).await.unwrap_or_else(|error| failed(&error, &caller))
}

async fn change(
    server: &Server,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, GrantError> {
    let form = read(headers, body).await?;
    let visitor = Visitor::of(server, caller, headers).await?;
    if form.value("act") == Some("login") {
        return visitor.sign_in(server, caller, &PURPOSE, None, &form).await;
    }
    if visitor.user.is_none() || !visitor.sent(&form, &["connections", visitor.name()]) {
        return Ok(expired(caller));
    }
    match (form.value("act"), form.value("client")) {
        (Some("logout"), _) => visitor.logout(server, caller, PATH).await,
        (Some("disconnect"), Some(client)) => {
            let store = &server.shared.store;
            let ended =
                store.disconnect(visitor.name().to_owned(), client.to_owned(), clock::now()).await;
            ended
                .map_err(|fault| stored(&fault))?
                .iter()
                .for_each(|revocation| server.shared.tokens.revocations.add(revocation));
            let registry = caller.snapshot.rules().registry();
            let name = registry.client(client).map_or(client, |client| client.name.as_str());
            let done = format!("{name} was disconnected.");
            list(server, caller, visitor, Some(&done)).await
        }
        _ => Ok(expired(caller)),
    }
}

async fn list(
    server: &Server,
    caller: &Caller,
    visitor: Visitor,
    done: Option<&str>,
) -> Result<Response, GrantError> {
    let Some(user) = visitor.user.clone() else {
        return visitor.ask(server, caller, &PURPOSE, None);
    };
    let connected = server
        .shared
        .store
        .connected(user.name.to_string())
        .await
        .map_err(|fault| stored(&fault))?;
    let rules = caller.snapshot.rules();
    let connections: Vec<pages::Connection<'_>> = connected
        .iter()
        .map(|connected| {
            let client = rules.registry().client(&connected.client);
            let scopes = connected.scopes.as_slice().iter();
            pages::Connection {
                client: &connected.client,
                name: client.map_or(connected.client.as_str(), |client| client.name.as_str()),
                provider: client.and_then(|client| client.provider.as_deref()),
                logo: client.and_then(|client| client.logo_url.as_deref()),
                scopes: scopes
                    .map(|scope| pages::ScopeLine {
                        name: scope.as_str(),
                        description: rules.description(scope),
                    })
                    .collect(),
                since: day(connected.since),
            }
        })
        .collect();
    let logos: Vec<&str> = connections.iter().filter_map(|connection| connection.logo).collect();
    let page = pages::Connections {
        user: user.display_name.as_deref().unwrap_or(user.name.as_str()),
        action: PATH,
        token: &visitor.form_token(&["connections", visitor.name()]),
        connections: &connections,
        done,
    };
    Ok(page_response(StatusCode::OK, &page, &pages::policy(&logos, None), caller))
}

/// The day in UTC.
fn day(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.0)
        .map(|at| at.strftime("%Y-%m-%d").to_string())
        .unwrap_or_default()
}
