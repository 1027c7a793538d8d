//! An OpenID provider that can lie. The real one is `oidc-provider`, in `clients.rs`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::http;
use super::issuer::{Key, now};

pub const CLIENT_ID: &str = "scope gate";
pub const CLIENT_SECRET: &str = "provider:secret/+ of ours";

/// How the provider departs from what it should answer.
#[derive(Clone, Default)]
pub struct Lie {
    /// The metadata, changed.
    pub metadata: Option<fn(&mut Value)>,
    /// Header and claims of the ID token, changed.
    pub token: Option<fn(&mut Value, &mut Value)>,
    /// Claims of the ID token besides.
    pub claims: Option<fn(&mut Value)>,
    /// Another answer of the token endpoint.
    pub answer: Option<(u16, String)>,
    /// The ID token is signed with a key that is not published.
    pub other_key: bool,
    /// Accepts no connection's request.
    pub closed: bool,
}

#[derive(Clone)]
pub struct Provider {
    pub url: String,
    state: Arc<State>,
}

struct State {
    key: Key,
    lie: Mutex<Lie>,
    codes: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    forms: Mutex<Vec<String>>,
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            key: Key::p256("p-1"),
            lie: Mutex::default(),
            codes: Mutex::default(),
            forms: Mutex::default(),
        };
        let provider = Self { url, state: Arc::new(state) };
        let shared = provider.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.serve(stream);
            }
        });
        provider
    }

    pub fn lie(&self, lie: Lie) {
        *self.state.lie.lock().unwrap() = lie;
    }

    /// Forms that the token endpoint has got.
    pub fn forms(&self) -> Vec<String> {
        self.state.forms.lock().unwrap().clone()
    }

    /// Somebody signs in at the URL that the browser was sent to: the answer's parameters.
    pub fn sign_in(&self, url: &str, subject: &str) -> BTreeMap<String, String> {
        let url = url::Url::parse(url).unwrap();
        let mut asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(url.path(), "/authorize");
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("scope", "openid"),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
        }
        let state = asked["state"].clone();
        asked.insert("sub".into(), subject.into());
        let mut codes = self.state.codes.lock().unwrap();
        let code = format!("code/{}+", codes.len());
        codes.insert(code.clone(), asked);
        [("code".to_owned(), code), ("state".to_owned(), state)].into()
    }

    fn serve(&self, mut stream: TcpStream) {
        let lie = self.state.lie.lock().unwrap().clone();
        if lie.closed {
            return;
        }
        let Some((head, body)) = http::read_request(&mut stream) else { return };
        let (status, body) = match head.split(' ').nth(1).unwrap() {
            "/.well-known/openid-configuration" => {
                let mut metadata = json!({
                    "issuer": self.url, "authorization_endpoint": format!("{}/authorize", self.url),
                    "token_endpoint": format!("{}/token", self.url), "jwks_uri": format!("{}/jwks",
                        self.url),
                });
                if let Some(change) = lie.metadata {
                    change(&mut metadata);
                }
                (200, metadata.to_string())
            }
            "/jwks" => (200, json!({ "keys": [self.state.key.jwk()] }).to_string()),
            _ => self.token(&lie, &head, &body),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes());
    }

    fn token(&self, lie: &Lie, head: &str, body: &str) -> (u16, String) {
        self.state.forms.lock().unwrap().push(body.to_owned());
        if let Some(answer) = &lie.answer {
            return answer.clone();
        }
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let encode =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let basic = STANDARD.encode(format!("{}:{}", encode(CLIENT_ID), encode(CLIENT_SECRET)));
        let in_head = head
            .lines()
            .any(|line| line.eq_ignore_ascii_case(&format!("authorization: Basic {basic}")));
        let in_body = form.get("client_id").is_some_and(|id| id == CLIENT_ID)
            && form.get("client_secret").is_some_and(|secret| secret == CLIENT_SECRET);
        if in_head == in_body {
            return (401, json!({ "error": "invalid_client" }).to_string());
        }
        let Some(asked) =
            form.get("code").and_then(|code| self.state.codes.lock().unwrap().remove(code))
        else {
            return (400, json!({ "error": "invalid_grant" }).to_string());
        };
        let proven = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]))
            == asked["code_challenge"];
        if !proven || form["redirect_uri"] != asked["redirect_uri"] {
            return (400, json!({ "error": "invalid_grant" }).to_string());
        }
        let mut header = self.state.key.header();
        let mut claims = json!({
            "iss": self.url, "sub": asked["sub"], "aud": CLIENT_ID, "nonce": asked["nonce"],
                "iat": now(), "exp": now() + 60,
            "at_hash": "x",
        });
        if let Some(change) = lie.claims {
            change(&mut claims);
        }
        if let Some(change) = lie.token {
            change(&mut header, &mut claims);
        }
        let token = if lie.other_key {
            Key::p256("p-1").token_with(&header, &claims)
        } else {
            self.state.key.token_with(&header, &claims)
        };
        (200, json!({ "id_token": token, "access_token": "a", "token_type": "Bearer" }).to_string())
    }
}
