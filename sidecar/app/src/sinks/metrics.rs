//! How sinks fare. Labels are names from the configuration, and our own words.

use std::sync::{Arc, Mutex, PoisonError};

use chaperone_evidence::Exports;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// Counters of all sinks. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct SinkMetrics {
    events: IntCounterVec,
    failures: IntCounterVec,
    unsent: IntGauge,
    exports: Arc<Mutex<Option<Arc<Exports>>>>,
}

impl SinkMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When a name is registered twice, which is a fault of the program.
    pub(crate) fn new(registry: &Registry) -> Result<SinkMetrics, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let events = counter(
            "chaperone_sink_events_total",
            "Events by what became of them: sent, dead_letter where a sink refused one for good, missing where copies were left out",
            &["sink", "outcome"],
        )?;
        let failures = counter(
            "chaperone_sink_failures_total",
            "Attempts that are made again",
            &["sink"],
        )?;
        let unsent = IntGauge::new(
            "chaperone_sink_unsent_bytes",
            "Bytes kept for sinks that have not been told yet",
        )?;
        registry.register(Box::new(unsent.clone()))?;
        Ok(SinkMetrics {
            events,
            failures,
            unsent,
            exports: Arc::default(),
        })
    }

    /// Counters of these begin at zero rather than with the first thing to count.
    pub(super) fn watch(&self, names: &[String], exports: Arc<Exports>) {
        for name in names {
            for outcome in ["sent", "dead_letter", "missing"] {
                self.events.with_label_values(&[name.as_str(), outcome]);
            }
            self.failures.with_label_values(&[name.as_str()]);
        }
        let mut kept = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(exports);
    }

    pub(super) fn count(&self, sink: &str, outcome: &str, events: u64) {
        self.events
            .with_label_values(&[sink, outcome])
            .inc_by(events);
        let exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exports) = exports.as_ref() {
            self.unsent
                .set(i64::try_from(exports.unsent_bytes()).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn failed(&self, sink: &str) {
        self.failures.with_label_values(&[sink]).inc();
        self.count(sink, "sent", 0);
    }
}
