//! Which requests are recorded for a collector: a share of traces, and of refusals as many as there
//! is a budget for.

use governor::{DefaultDirectRateLimiter, RateLimiter};

use super::address::quota;
use crate::config::telemetry::Sampling;
use crate::request::trace::Share;

/// The sampling of one configuration.
#[derive(Debug)]
pub struct Sampler {
    declared: Sampling,
    refusals: Option<DefaultDirectRateLimiter>,
}

impl Sampler {
    /// A full budget. A reload that changes nothing about it should keep the old one: see
    /// [`Sampler::is_of`].
    #[must_use]
    pub fn new(declared: Sampling) -> Self {
        Self { declared, refusals: quota(declared.refusals).map(RateLimiter::direct) }
    }

    /// Whether it is the sampling of this configuration.
    #[must_use]
    pub fn is_of(&self, declared: Sampling) -> bool {
        self.declared == declared
    }

    /// The share of traces that begin here.
    #[must_use]
    pub const fn share(&self) -> Share {
        self.declared.share
    }

    /// Takes one refusal out of the budget; false where none is left.
    #[must_use]
    pub fn take_refusal(&self) -> bool {
        self.refusals.as_ref().is_some_and(|refusals| refusals.check().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::definition::RateLimit;

    #[test]
    fn the_budget_of_refusals_is_used_up_and_belongs_to_its_configuration() {
        let declared = |count| Sampling {
            share: Share::of(0.0),
            refusals: RateLimit { count, period: 86_400, burst: count },
        };
        let sampler = Sampler::new(declared(3));
        let taken: Vec<bool> = (0..5).map(|_| sampler.take_refusal()).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        assert!(sampler.is_of(declared(3)) && !sampler.is_of(declared(4)));
    }
}
