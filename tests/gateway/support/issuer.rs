//! An issuer nobody here wrote the cryptography of: keys and signatures by the RustCrypto crates,
//! which the gateway does not use.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};

/// A key pair with its `kid`.
#[derive(Clone)]
pub enum Key {
    P256(String, SigningKey),
    Ed25519(String, ed25519_dalek::SigningKey),
}

impl Key {
    pub fn p256(kid: &str) -> Self {
        Self::P256(kid.to_owned(), SigningKey::random(&mut rand_core::OsRng))
    }

    pub fn ed25519(kid: &str) -> Self {
        let mut seed = [0; 32];
        rand_core::RngCore::fill_bytes(&mut rand_core::OsRng, &mut seed);
        Self::Ed25519(kid.to_owned(), ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    pub fn jwk(&self) -> Value {
        match self {
            Self::P256(kid, key) => {
                let point = key.verifying_key().to_encoded_point(false);
                let (x, y) = (
                    URL_SAFE_NO_PAD.encode(point.x().unwrap()),
                    URL_SAFE_NO_PAD.encode(point.y().unwrap()),
                );
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig"})
            }
            Self::Ed25519(kid, key) => {
                json!({"kty": "OKP", "crv": "Ed25519",
                    "x": URL_SAFE_NO_PAD.encode(key.verifying_key()), "kid": kid})
            }
        }
    }

    pub fn header(&self) -> Value {
        match self {
            Self::P256(kid, _) => json!({"alg": "ES256", "kid": kid, "typ": "JWT"}),
            Self::Ed25519(kid, _) => json!({"alg": "EdDSA", "kid": kid, "typ": "JWT"}),
        }
    }

    /// The raw signature of a signing input.
    pub fn signature(&self, input: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(_, key) => {
                let signature: Signature = key.sign(input);
                signature.to_bytes().to_vec()
            }
            Self::Ed25519(_, key) => key.sign(input).to_bytes().to_vec(),
        }
    }

    /// A token with these claims under the key's own header.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    /// A token with any header.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let input = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = URL_SAFE_NO_PAD.encode(self.signature(input.as_bytes()));
        format!("{input}.{signature}")
    }
}

/// How the issuer answers a request for its keys or metadata.
#[derive(Clone, Debug)]
pub enum Mode {
    /// As it should.
    Good,
    /// This status and body.
    Answer(u16, Vec<u8>),
    /// Accepts and never answers.
    Hang,
    /// Closes at once.
    Close,
    /// These bytes for a target that begins so, else as it should.
    Script(Vec<(&'static str, Vec<u8>)>),
}

/// An issuer with discovery and a JWK Set.
#[derive(Clone)]
pub struct Issuer {
    pub url: String,
    state: Arc<State>,
}

struct State {
    keys: Mutex<Vec<Key>>,
    mode: Mutex<Mode>,
    fetches: Mutex<usize>,
    hanging: Mutex<Vec<std::net::TcpStream>>,
}

impl Issuer {
    pub fn start(keys: &[Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let state = Arc::new(State {
            keys: Mutex::new(keys.to_vec()),
            mode: Mutex::new(Mode::Good),
            fetches: Mutex::new(0),
            hanging: Mutex::default(),
        });
        let issuer = Self { url, state };
        let shared = issuer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.serve(stream);
            }
        });
        issuer
    }

    pub fn set_keys(&self, keys: &[Key]) {
        *self.state.keys.lock().unwrap() = keys.to_vec();
    }

    pub fn set_mode(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    /// How often its JWK Set was asked for.
    pub fn fetches(&self) -> usize {
        *self.state.fetches.lock().unwrap()
    }

    /// Claims that this issuer would give, good for five minutes.
    pub fn claims(&self, now: i64) -> Value {
        json!({"iss": self.url, "sub": "subject", "aud": "https://api.example", "exp": now + 300,
            "iat": now, "azp": "app", "scp": ["items_read"]})
    }

    fn serve(&self, mut stream: std::net::TcpStream) {
        let mut head = Vec::new();
        let mut space = [0; 4096];
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut space) {
                Ok(count) if count > 0 => head.extend_from_slice(&space[..count]),
                _ => return,
            }
        }
        let is_jwks = head.starts_with(b"GET /jwks");
        if is_jwks {
            *self.state.fetches.lock().unwrap() += 1;
        }
        let mut mode = self.state.mode.lock().unwrap().clone();
        if let Mode::Script(script) = &mode {
            let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().to_owned();
            let found = script.iter().find(|(begin, _)| target.starts_with(begin));
            if let Some((_, bytes)) = found {
                let _ = stream.write_all(bytes);
                return;
            }
            mode = Mode::Good;
        }
        let (status, body) = match mode {
            Mode::Script(_) => unreachable!("read above"),
            Mode::Close => return,
            Mode::Hang => return self.state.hanging.lock().unwrap().push(stream),
            Mode::Answer(status, body) => (status, body),
            Mode::Good if is_jwks => {
                let keys: Vec<Value> =
                    self.state.keys.lock().unwrap().iter().map(Key::jwk).collect();
                (200, json!({"keys": keys}).to_string().into_bytes())
            }
            Mode::Good => (
                200,
                json!({"issuer": self.url, "jwks_uri": format!("{}/jwks", self.url)})
                    .to_string()
                    .into_bytes(),
            ),
        };
        let location = if (300..400).contains(&status) {
            format!("Location: {}/jwks\r\n", self.url)
        } else {
            String::new()
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\n{location}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    scopegate::system::clock::now().0
}
