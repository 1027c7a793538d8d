//! Our own access tokens: JWTs of the profile of RFC 9068, signed with the current key.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde::Serialize;

use super::jws::Algorithm;
use super::keyset::{Key, KeyId};
use crate::names::Timestamp;

/// How we sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The algorithm of new keys.
    pub algorithm: Algorithm,
    /// Seconds from one key to the next.
    pub rotate_every: i64,
    /// Seconds that a retired key stays published.
    pub keep_inactive: i64,
}

/// A private signing key, ready to sign with.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
    /// What the header says besides `typ`.
    header: String,
    public: Key,
    jwk: serde_json::Map<String, serde_json::Value>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

/// A private key, parsed once.
enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Pair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Self::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

/// Why a private key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the private key is not a usable {0} key")]
pub struct SigningKeyFault(&'static str);

/// The claims of an access token (RFC 9068 §2.2).
#[derive(Debug, Serialize)]
pub struct AccessClaims<'a> {
    /// Issuer: `public_url`.
    pub iss: &'a str,
    /// Subject: the client itself for client credentials.
    pub sub: &'a str,
    /// Audience.
    pub aud: &'a str,
    /// Expiry, seconds since the epoch.
    pub exp: i64,
    /// Time of issue.
    pub iat: i64,
    /// Unique id.
    pub jti: &'a str,
    /// The client.
    pub client_id: &'a str,
    /// The authorization it is issued for: what ends it ends the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_id: Option<&'a str>,
    /// Granted scopes; left out when there are none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub scope: &'a str,
}

impl SigningKey {
    /// Reads a private key: PKCS#8 DER for ES256 and EdDSA, PKCS#1 DER for RS256.
    ///
    /// # Errors
    /// A key that is not one of the algorithm.
    pub fn from_der(algorithm: Algorithm, der: &[u8]) -> Result<Self, SigningKeyFault> {
        let fault = SigningKeyFault(algorithm.as_str());
        let unusable = |_| fault;
        let (encoding, pair) = match algorithm {
            Algorithm::Es256 => (
                EncodingKey::from_ec_der(der),
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::Ec),
            ),
            Algorithm::EdDsa => {
                (EncodingKey::from_ed_der(der), Ed25519KeyPair::from_pkcs8(der).map(Pair::Ed))
            }
            Algorithm::Rs256 => {
                (EncodingKey::from_rsa_der(der), RsaKeyPair::from_der(der).map(Pair::Rsa))
            }
            Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512
            | Algorithm::Es384 => return Err(fault),
        };
        let pair = pair.map_err(unusable)?;
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&encoding, algorithm.to_library())
            .map_err(|_| fault)?;
        let Ok(serde_json::Value::Object(mut jwk)) = serde_json::to_value(&jwk) else {
            return Err(fault);
        };
        jwk.retain(|_, value| !value.is_null());
        let id = Key::parse(&jwk).map_err(|_| fault)?.id;
        jwk.insert("kid".into(), id.to_text().into());
        jwk.insert("use".into(), "sig".into());
        jwk.insert("alg".into(), algorithm.as_str().into());
        let public = Key::parse(&jwk).map_err(|_| fault)?;
        let kid = public.id.to_text();
        let header = format!(r#"{{"alg":"{}","kid":"{kid}","#, algorithm.as_str());
        Ok(Self { algorithm, pair, header, public, jwk })
    }

    /// The thumbprint, which is also the `kid`.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.public.id
    }

    /// The public half, to verify with.
    #[must_use]
    pub const fn public(&self) -> &Key {
        &self.public
    }

    /// The public half as a JWK (RFC 7517 §4), without any private member.
    #[must_use]
    pub const fn jwk(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.jwk
    }

    /// Signs an access token.
    ///
    /// # Errors
    /// Only if the library fails to sign, which a key that was read does not make it do.
    pub fn sign(&self, claims: &AccessClaims<'_>) -> Result<String, SigningKeyFault> {
        self.sign_as("at+jwt", claims)
    }

    /// Signs something else, whose type keeps it from being taken for an access token (RFC 8725
    /// §3.11).
    ///
    /// # Errors
    /// As for [`SigningKey::sign`].
    pub fn sign_as(&self, kind: &str, claims: &impl Serialize) -> Result<String, SigningKeyFault> {
        let fault = SigningKeyFault(self.algorithm.as_str());
        let header = format!(r#"{}"typ":"{kind}"}}"#, self.header);
        let payload = serde_json::to_vec(claims).map_err(|_| fault)?;
        // A third longer in base64; the longest signature is one of RSA.
        let mut token = String::with_capacity((header.len() + payload.len()) * 4 / 3 + 400);
        URL_SAFE_NO_PAD.encode_string(header, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.pair.sign(token.as_bytes()).map_err(|_| fault)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// When a token issued at `now` with this lifespan in seconds expires.
#[must_use]
pub const fn expiry(now: Timestamp, lifespan: u32) -> Timestamp {
    now.plus(lifespan as i64)
}
