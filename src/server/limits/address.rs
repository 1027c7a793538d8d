//! Limits per address (step 1): GCRA, exact on this gateway.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::policy::definition::RateLimit;
use crate::reason::{Reason, Refusal, Remedy};
use crate::request::address::site;

/// After so many requests, addresses whose limit is full again are forgotten.
const SWEEP: u32 = 8_192;

/// The limits per address of one configuration.
#[derive(Debug)]
pub struct AddressLimits {
    limits: Vec<(RateLimit, DefaultKeyedRateLimiter<IpAddr>)>,
    clock: DefaultClock,
    count: AtomicU32,
}

impl AddressLimits {
    /// Builds the limits. A reload that changes nothing about them should keep the old ones: see
    /// [`AddressLimits::same`].
    #[must_use]
    pub fn new(limits: &[RateLimit]) -> Self {
        let limits = limits
            .iter()
            .filter_map(|limit| Some((*limit, RateLimiter::keyed(quota(*limit)?))))
            .collect();
        Self { limits, clock: DefaultClock::default(), count: AtomicU32::new(0) }
    }

    /// Whether these are those limits.
    #[must_use]
    pub fn same(&self, limits: &[RateLimit]) -> bool {
        self.limits.iter().map(|(limit, _)| limit).eq(limits)
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `limit.address` with the seconds to wait.
    pub fn take(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        let (Some(address), false) = (address.map(site), self.limits.is_empty()) else {
            return Ok(());
        };
        if self.count.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limits.iter().for_each(|(_, limiter)| limiter.retain_recent());
        }
        for (_, limiter) in &self.limits {
            if let Err(not_yet) = limiter.check_key(&address) {
                let wait = not_yet.wait_time_from(self.clock.now()).as_secs_f64().ceil();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "clamped to a day"
                )]
                let seconds = wait.clamp(1.0, 86_400.0) as u32;
                return Err(Refusal::new(Reason::LimitAddress).with(Remedy::RetryAfter(seconds)));
            }
        }
        Ok(())
    }
}

/// The quota of a limit; none where it would never be full again.
pub(super) fn quota(limit: RateLimit) -> Option<Quota> {
    let each = Duration::from_secs(u64::from(limit.period)).checked_div(limit.count)?;
    Some(Quota::with_period(each)?.allow_burst(NonZeroU32::new(limit.burst)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_site_is_one_address() {
        let limits = AddressLimits::new(&[RateLimit { count: 1, period: 3_600, burst: 1 }]);
        limits.take(Some("2001:db8::1".parse().unwrap())).unwrap();
        assert!(limits.take(Some("2001:db8::ffff:2".parse().unwrap())).is_err());
        limits.take(Some("2001:db8:0:1::1".parse().unwrap())).unwrap();
    }

    #[test]
    fn an_address_has_its_burst_and_then_waits_while_others_go_on() {
        let limits = AddressLimits::new(&[RateLimit { count: 1, period: 3_600, burst: 3 }]);
        let one = Some("10.0.0.1".parse().unwrap());
        for _ in 0..3 {
            limits.take(one).unwrap();
        }
        let refusal = limits.take(one).unwrap_err();
        assert_eq!(refusal.reason, Reason::LimitAddress);
        assert!(matches!(refusal.remedy,
                Remedy::RetryAfter(seconds) if seconds > 3_000 && seconds <= 3_600));
        limits.take(Some("10.0.0.2".parse().unwrap())).unwrap();
        assert!(limits.same(&[RateLimit { count: 1, period: 3_600, burst: 3 }]));
    }
}
