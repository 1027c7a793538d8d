//! A token client nobody here wrote: the `oauth2` crate gets a token and the API takes it.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;

use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenType};
use oauth2::{
    AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    RequestTokenError, Scope, TokenResponse, TokenUrl,
};

use super::{POLICIES, clients, own_url, permit};
use crate::support::{Gateway, SECRET, Setup};

/// One exchange over a socket of its own, in HTTP/1.0 manner: the answer ends with the connection.
fn http(request: HttpRequest) -> Result<HttpResponse, Error> {
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or(ErrorKind::InvalidInput)?;
    let mut stream = TcpStream::connect(authority.as_str())?;
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {}\r\n",
        parts.method,
        parts.uri.path(),
        body.len()
    );
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().map_err(Error::other)?));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).map_err(Error::other)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let mut lines = head.split("\r\n");
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).ok_or(ErrorKind::InvalidData)?;
    let mut response = http::Response::builder().status(status);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        assert!(!name.eq_ignore_ascii_case("transfer-encoding"), "this client reads no chunks");
        response = response.header(name, value);
    }
    response.body(body.as_bytes().to_vec()).map_err(Error::other)
}

type Client =
    BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

fn client(gateway: &Gateway, path: &str, id: &str, secret: &str, by: AuthType) -> Client {
    BasicClient::new(ClientId::new(id.to_owned()))
        .set_client_secret(ClientSecret::new(secret.to_owned()))
        .set_token_uri(TokenUrl::new(format!("{}{path}", own_url(gateway))).unwrap())
        .set_auth_type(by)
}

#[test]
fn it_gets_a_token_by_either_authentication_and_calls_the_api() {
    let gateway = Gateway::start(&Setup::new(POLICIES, &clients(&[])));
    for path in ["/oauth_token.do", "/oauth2/token"] {
        for by in [AuthType::BasicAuth, AuthType::RequestBody] {
            let client = client(&gateway, path, "own", SECRET, by.clone());
            let all = client.exchange_client_credentials().request(&http).unwrap();
            assert_eq!(all.token_type(), &BasicTokenType::Bearer);
            assert_eq!(all.expires_in().unwrap().as_secs(), 1_800);
            assert!(all.refresh_token().is_none());
            let mut scopes: Vec<&str> =
                all.scopes().unwrap().iter().map(|scope| scope.as_str()).collect();
            scopes.sort_unstable();
            assert_eq!(scopes, ["items_read", "items_write"]);
            permit(&gateway, "its token", all.access_token().secret()).unwrap();

            let narrow =
                client.exchange_client_credentials().add_scope(Scope::new("items_read".to_owned()));
            let narrow = narrow.request(&http).unwrap();
            permit(&gateway, "its narrower token", narrow.access_token().secret()).unwrap();
            let response = gateway.call("POST", "/api/items", Some(narrow.access_token().secret()));
            assert_eq!(response.verdict(), "scope.missing");
        }
    }
}

#[test]
fn it_understands_why_it_gets_none() {
    let gateway = Gateway::start(&Setup::new(POLICIES, &clients(&[])));
    let wrong = "another-secret-of-fifty-characters-aaaaaaaaaaaaaaa";
    for by in [AuthType::BasicAuth, AuthType::RequestBody] {
        for (id, secret, scope, expect) in [
            ("own", wrong, "items_read", BasicErrorResponseType::InvalidClient),
            ("nobody", SECRET, "items_read", BasicErrorResponseType::InvalidClient),
            ("own", SECRET, "items_delete", BasicErrorResponseType::InvalidScope),
        ] {
            let client = client(&gateway, "/oauth2/token", id, secret, by.clone());
            let request =
                client.exchange_client_credentials().add_scope(Scope::new(scope.to_owned()));
            match request.request(&http) {
                Err(RequestTokenError::ServerResponse(answer)) => {
                    assert_eq!(answer.error(), &expect, "{id} {scope}");
                }
                other => panic!("{id} {scope}: {other:?}"),
            }
        }
    }
}
