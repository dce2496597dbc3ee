//! Counters of the flow. No label can be chosen by an agent: connections come from manifests,
//! verdicts and reasons from our own constants.

use chaperone_policy::{Decision, Reason, Verdict};
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// The metrics of one process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    decisions: IntCounterVec,
    sessions: IntGaugeVec,
    sessions_ended: IntCounterVec,
    masked: IntCounterVec,
    rows: IntCounterVec,
    findings: IntCounterVec,
    panics: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When a name is registered twice, which is a fault of the program.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let decisions = counter(
            "chaperone_decisions_total",
            "Commands decided on",
            &["connection", "verdict", "reason"],
        )?;
        let sessions_ended = counter(
            "chaperone_sessions_ended_total",
            "Sessions ended, by why",
            &["connection", "reason"],
        )?;
        let masked = counter(
            "chaperone_masked_values_total",
            "Values masked on their way to the agent",
            &["connection"],
        )?;
        let rows = counter(
            "chaperone_rows_total",
            "Rows passed on to the agent",
            &["connection"],
        )?;
        let findings = counter(
            "chaperone_findings_total",
            "What was out of the ordinary, by kind",
            &["connection", "kind"],
        )?;
        let sessions = IntGaugeVec::new(
            Opts::new("chaperone_sessions", "Sessions open now"),
            &["connection"],
        )?;
        registry.register(Box::new(sessions.clone()))?;
        let panics = IntCounter::new(
            "chaperone_session_panics_total",
            "Sessions ended by a fault of our own",
        )?;
        registry.register(Box::new(panics.clone()))?;
        Ok(Self {
            registry,
            decisions,
            sessions,
            sessions_ended,
            masked,
            rows,
            findings,
            panics,
        })
    }

    /// Where the endpoint gathers from.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn decided(&self, connection: &str, decision: &Decision) {
        let verdict = match decision.verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::Hold => "hold",
            Verdict::Observe => "observe",
        };
        self.decisions
            .with_label_values(&[connection, verdict, decision.reason.as_str()])
            .inc();
    }

    /// One more session.
    pub(crate) fn opened(&self, connection: &str) {
        self.sessions.with_label_values(&[connection]).inc();
    }

    /// One fewer.
    pub(crate) fn closed(&self, connection: &str, reason: Option<Reason>) {
        self.sessions.with_label_values(&[connection]).dec();
        let reason = reason.map_or("Ended", Reason::as_str);
        self.sessions_ended
            .with_label_values(&[connection, reason])
            .inc();
    }

    /// Rows and masked values of one command.
    pub(crate) fn passed(&self, connection: &str, rows: u64, masked: u64) {
        self.rows.with_label_values(&[connection]).inc_by(rows);
        if masked > 0 {
            self.masked.with_label_values(&[connection]).inc_by(masked);
        }
    }

    pub(crate) fn found(&self, connection: &str, kind: &str) {
        self.findings.with_label_values(&[connection, kind]).inc();
    }

    /// A session's task panicked; the panic ended that session only.
    pub fn panicked(&self) {
        self.panics.inc();
    }
}
