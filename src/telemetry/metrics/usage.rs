//! What the process uses of the machine, under the names that all programs have (`process_*`), the
//! start apart. The kernel is asked when somebody scrapes.

use std::sync::Arc;

use prometheus::Result;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

use crate::system::process::{Usage, usage};

/// One metric: its name, its meaning, and where its value is.
type Member = (&'static str, &'static str, fn(&Usage) -> Option<f64>);

/// The only one that counts up.
const CPU: &str = "process_cpu_seconds_total";

const MEMBERS: [Member; 6] = [
    (CPU, "Processor time in user and kernel mode", |usage| usage.cpu_seconds),
    ("process_resident_memory_bytes", "Memory in use", |usage| usage.resident_bytes),
    ("process_virtual_memory_bytes", "Address space", |usage| usage.virtual_bytes),
    ("process_threads", "Threads", |usage| usage.threads),
    ("process_open_fds", "Open file descriptors", |usage| usage.open_fds),
    ("process_max_fds", "The most file descriptors that may be open", |usage| usage.max_fds),
];

/// Reads them when they are collected.
#[derive(Clone, Debug)]
pub(super) struct UsageCollector(Arc<[Desc]>);

impl UsageCollector {
    pub(super) fn new() -> Result<Self> {
        let desc = |(name, help, _): Member| {
            Desc::new(name.to_owned(), help.to_owned(), Vec::new(), std::iter::empty().collect())
        };
        MEMBERS.into_iter().map(desc).collect::<Result<Vec<_>>>().map(|descs| Self(descs.into()))
    }
}

impl Collector for UsageCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.0.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let usage = usage();
        MEMBERS.into_iter().map(|(name, help, value)| family(name, help, value(&usage))).collect()
    }
}

/// A family with one series, or with none where there is no value.
fn family(name: &str, help: &str, value: Option<f64>) -> MetricFamily {
    let counts = name == CPU;
    let metric = value.map(|value| {
        let mut metric = Metric::default();
        if counts {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(if counts { MetricType::COUNTER } else { MetricType::GAUGE });
    family.set_metric(metric.into_iter().collect());
    family
}
