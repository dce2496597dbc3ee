//! Metrics of the operator: one registry, to which each part adds its own.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::audit::AuditMetrics;

/// The registry, and what the parts of this crate count.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Admission answers by `webhook` and `reason`; allowed ones have the reason `Admitted`.
    pub admissions: IntCounterVec,
    /// 1 on the replica that leads.
    pub leading: IntGauge,
    /// When the serving certificate ends, in seconds since 1970.
    pub certificate_end: IntGauge,
    /// Of the audit log.
    pub audit: AuditMetrics,
}

impl Metrics {
    /// A registry with everything at zero.
    ///
    /// # Errors
    /// Never in practice: only if two metrics had one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            audit: AuditMetrics::new(&registry)?,
            registry,
            admissions: IntCounterVec::new(
                Opts::new(
                    "chaperone_admissions_total",
                    "Admission answers by webhook and reason",
                ),
                &["webhook", "reason"],
            )?,
            leading: IntGauge::new("chaperone_leader", "1 on the replica that leads")?,
            certificate_end: IntGauge::new(
                "chaperone_serving_certificate_end_seconds",
                "When the serving certificate ends, in seconds since 1970",
            )?,
        };
        metrics
            .registry
            .register(Box::new(metrics.admissions.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.leading.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.certificate_end.clone()))?;
        Ok(metrics)
    }

    /// Where a part registers its own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
