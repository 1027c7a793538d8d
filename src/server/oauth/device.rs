//! A browser that a user has signed in with: it carries word of that, signed by us, and what others
//! guess at the name from its address does not count against it (decisions.md, "Guessing"). It
//! proves nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::Caller;
use super::browser::cookie_line;
use crate::names::Timestamp;
use crate::server::limits::guessing::Origin;
use crate::server::state::Shared;
use crate::store::attempts::{KNOWN_SECONDS, digest_of};
use crate::system::{clock, random};
use crate::token::jws::Decoded;

/// What its cookie's name ends in.
pub(super) const SUFFIX: &str = "-device";
/// `typ` of what the cookie holds (RFC 8725 §3.11).
const KIND: &str = "device+jwt";

#[derive(Debug, Serialize, Deserialize)]
struct Device {
    iss: String,
    exp: i64,
    /// Its id: 128 random bits.
    jti: String,
    /// A digest of the name that has signed in.
    sub: String,
}

/// Where an attempt on a name comes from: a browser that the name has signed in with, or an
/// address.
pub(super) fn origin(
    shared: &Shared,
    caller: &Caller,
    cookie: Option<&str>,
    username: &str,
) -> Origin {
    match cookie
        .and_then(|cookie| read(shared, cookie))
        .filter(|device| device.sub == digest_of(username))
    {
        Some(device) => Origin::Browser(device.jti, caller.address),
        None => Origin::Address(caller.address),
    }
}

fn read(shared: &Shared, cookie: &str) -> Option<Device> {
    let decoded = Decoded::of(cookie).ok()?;
    let parsed = decoded.read().ok()?;
    let ours =
        parsed.kind.as_deref() == Some(KIND) && shared.own_keys.now().set().verify(&parsed).is_ok();
    let device: Device =
        serde_json::from_value(serde_json::Value::Object(parsed.claims.to_map())).ok()?;
    (ours && device.iss == shared.fixed.public_url && clock::now() < Timestamp(device.exp))
        .then_some(device)
}

/// The cookie for a browser that has just signed in. Without one the user is only not known the
/// next time.
pub(super) fn remember(shared: &Shared, username: &str) -> Option<HeaderValue> {
    let mut id = [0_u8; 16];
    random::fill(&mut id).ok()?;
    let device = Device {
        iss: shared.fixed.public_url.clone(),
        exp: clock::now().plus(KNOWN_SECONDS).0,
        jti: URL_SAFE_NO_PAD.encode(id),
        sub: digest_of(username),
    };
    let text = shared.own_keys.now().current().sign_as(KIND, &device).ok()?;
    cookie_line(shared, SUFFIX, &text, Some(KNOWN_SECONDS))
}
