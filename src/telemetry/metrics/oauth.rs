//! What the authorization server counts: tokens issued and refused, sign-ins.

use prometheus::{IntCounter, IntCounterVec, Result};

use super::Registrar;
use crate::client::GrantType;
use crate::grant::ErrorCode;

/// The metrics of the authorization server.
#[derive(Debug)]
pub struct OauthMetrics {
    tokens_issued: IntCounterVec,
    token_errors: IntCounterVec,
    /// Codes and refresh tokens used twice: each ended all that was given for it.
    pub reuse: IntCounter,
    provider_logins: IntCounterVec,
}

impl OauthMetrics {
    pub(super) fn register(to: &Registrar<'_>) -> Result<Self> {
        let metrics = Self {
            tokens_issued: to.counters(
                "scopegate_tokens_issued_total",
                "Access tokens issued",
                &["grant"],
            )?,
            token_errors: to.counters(
                "scopegate_token_errors_total",
                "Token requests refused",
                &["error"],
            )?,
            reuse: to.counter(
                "scopegate_token_reuse_total",
                "Codes and refresh tokens used a second time",
            )?,
            provider_logins: to.counters(
                "scopegate_provider_logins_total",
                "Browsers back from the login provider, by what became of them",
                &["outcome"],
            )?,
        };
        for grant in GrantType::ALL {
            metrics.tokens_issued.with_label_values(&[grant.as_str()]);
        }
        for code in ErrorCode::ALL {
            metrics.token_errors.with_label_values(&[code.label()]);
        }
        Ok(metrics)
    }

    /// Counts a token.
    pub fn issued(&self, grant: GrantType) {
        self.tokens_issued.with_label_values(&[grant.as_str()]).inc();
    }

    /// Counts a refused token request.
    pub fn token_error(&self, code: ErrorCode) {
        self.token_errors.with_label_values(&[code.label()]).inc();
    }

    /// Counts a browser that is back from the login provider.
    pub fn provider_login(&self, outcome: &str) {
        self.provider_logins.with_label_values(&[outcome]).inc();
    }
}
