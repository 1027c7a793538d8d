//! Latencies, counted by each thread for itself and added up when somebody scrapes: a request takes
//! no lock, converts nothing to floating point, and touches no cache line of another thread.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// Threads that count apart; further ones share.
const STRIPES: usize = 8;
/// Buckets that one may have, the last one without a bound included.
const MAX_BUCKETS: usize = 16;

/// What one thread has counted. As long as two cache lines: the processor fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    buckets: [AtomicU64; MAX_BUCKETS],
    nanoseconds: AtomicU64,
}

/// A histogram of durations.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Upper bounds, in nanoseconds.
    bounds: &'static [u64],
    stripes: Arc<[Stripe; STRIPES]>,
}

/// Histograms of durations by the value of one label, or one histogram without a label.
#[derive(Clone, Debug)]
pub struct Latencies {
    desc: Arc<Desc>,
    label: Option<&'static str>,
    bounds: &'static [u64],
    by_value: Arc<Mutex<BTreeMap<String, Latency>>>,
}

/// The stripe of this thread.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        own.get()
    })
}

impl Latency {
    fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, stripes: Arc::default() }
    }

    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|bound| nanoseconds <= *bound);
        let bucket = bucket.unwrap_or(self.bounds.len());
        let Some(stripe) = self.stripes.get(stripe()) else { return };
        if let Some(count) = stripe.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        stripe.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What all threads have counted.
    fn collect(&self) -> Histogram {
        let sum = |of: fn(&Stripe, usize) -> u64, at| {
            self.stripes.iter().map(|stripe| of(stripe, at)).fold(0, u64::wrapping_add)
        };
        let count = |at| {
            let of = |stripe: &Stripe, at: usize| {
                stripe.buckets.get(at).map_or(0, |count| count.load(Ordering::Relaxed))
            };
            sum(of, at)
        };
        let mut so_far = 0;
        let buckets = self.bounds.iter().enumerate().map(|(at, bound)| {
            so_far += count(at);
            let mut bucket = Bucket::default();
            bucket.set_cumulative_count(so_far);
            bucket.set_upper_bound(seconds(*bound));
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(so_far + count(self.bounds.len()));
        let nanoseconds = sum(|stripe, _| stripe.nanoseconds.load(Ordering::Relaxed), 0);
        histogram.set_sample_sum(seconds(nanoseconds));
        histogram
    }
}

impl Latencies {
    /// Histograms with these upper bounds in nanoseconds, [`MAX_BUCKETS`] less one at most.
    ///
    /// # Errors
    /// A name or label that Prometheus does not take.
    pub(super) fn new(
        name: &str,
        help: &str,
        label: Option<&'static str>,
        bounds: &'static [u64],
    ) -> prometheus::Result<Self> {
        let labels = label.map(str::to_owned).into_iter().collect();
        let desc =
            Desc::new(name.to_owned(), help.to_owned(), labels, std::iter::empty().collect())?;
        Ok(Self { desc: Arc::new(desc), label, bounds, by_value: Arc::default() })
    }

    /// The histogram of a value.
    pub(super) fn of(&self, value: &str) -> Latency {
        let mut by_value = self.by_value.lock().unwrap_or_else(PoisonError::into_inner);
        by_value.entry(value.to_owned()).or_insert_with(|| Latency::new(self.bounds)).clone()
    }
}

impl Collector for Latencies {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let by_value = self.by_value.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let metrics = by_value.iter().map(|(value, latency)| {
            let mut metric = Metric::default();
            if let Some(label) = self.label {
                let mut pair = LabelPair::default();
                pair.set_name(label.to_owned());
                pair.set_value(value.clone());
                metric.set_label(vec![pair]);
            }
            metric.set_histogram(latency.collect());
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

/// Nanoseconds as Prometheus writes them.
#[expect(clippy::cast_precision_loss, reason = "a microsecond in a hundred days is lost")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_threads_count_is_added_up_at_the_bound_and_beyond_the_last() {
        let all = Latencies::new("l", "help", Some("api"), &[1_000, 2_000]).unwrap();
        let threads: Vec<_> = (0..STRIPES + 2)
            .map(|_| {
                let latency = all.of("orders");
                std::thread::spawn(move || {
                    for nanoseconds in [0, 1_000, 1_001, 2_000, 2_001] {
                        latency.observe(Duration::from_nanos(nanoseconds));
                    }
                })
            })
            .collect();
        let count = threads.len() as u64;
        for thread in threads {
            thread.join().unwrap();
        }
        let found = all.of("orders").collect();
        let buckets: Vec<u64> = found.get_bucket().iter().map(Bucket::cumulative_count).collect();
        assert_eq!(buckets, [2 * count, 4 * count]);
        assert_eq!(found.get_sample_count(), 5 * count);
        let sum = found.get_sample_sum();
        assert!((sum - 6.002e-6 * f64::from(u32::try_from(count).unwrap())).abs() < 1e-12, "{sum}");
    }
}
