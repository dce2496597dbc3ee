//! What is counted of the audit log.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters of the ingest and gauges of the leader.
#[derive(Debug, Clone)]
pub struct AuditMetrics {
    /// Entries handed in, by `reason`; those taken in have the reason `Served`.
    pub appends: IntCounterVec,
    /// AuditSegments that were made.
    pub segments: IntCounter,
    /// Bytes of their data.
    pub bytes: IntCounter,
    /// Number of the newest checkpoint, on the replica that leads.
    pub checkpoint: IntGauge,
    /// Segments that wait for a checkpoint, on the replica that leads.
    pub pending: IntGauge,
    /// Bytes of all segments and checkpoints, on the replica that leads.
    pub used: IntGauge,
    /// Bytes that they may take up, on the replica that leads.
    pub quota: IntGauge,
    /// Tombstones that this replica wrote.
    pub tombstones: IntCounter,
    /// AuditSegments that this replica removed.
    pub removed: IntCounter,
    /// Packs that this replica wrote, and tries that failed, by `reason`.
    pub packs: IntCounterVec,
    /// Requests for keys that this replica answered, by `reason`.
    pub unseals: IntCounterVec,
}

impl AuditMetrics {
    /// Everything at zero, in `registry`.
    ///
    /// # Errors
    /// Only if a metric of its names is there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            appends: IntCounterVec::new(
                Opts::new(
                    "chaperone_audit_appends_total",
                    "Entries that sidecars handed in, by reason of the answer",
                ),
                &["reason"],
            )?,
            segments: IntCounter::new(
                "chaperone_audit_segments_total",
                "AuditSegments that this replica made",
            )?,
            bytes: IntCounter::new(
                "chaperone_audit_bytes_total",
                "Bytes of evidence that this replica took in",
            )?,
            checkpoint: IntGauge::new(
                "chaperone_audit_checkpoint",
                "Number of the newest checkpoint, on the replica that leads",
            )?,
            pending: IntGauge::new(
                "chaperone_audit_pending",
                "AuditSegments that wait for a checkpoint, on the replica that leads",
            )?,
            used: IntGauge::new(
                "chaperone_audit_used_bytes",
                "Bytes of all AuditSegments and AuditCheckpoints, on the replica that leads",
            )?,
            quota: IntGauge::new(
                "chaperone_audit_quota_bytes",
                "Bytes that AuditSegments and AuditCheckpoints may take up, on the replica that leads",
            )?,
            tombstones: IntCounter::new(
                "chaperone_audit_tombstones_total",
                "Tombstones that this replica wrote, each for evidence that is removed",
            )?,
            removed: IntCounter::new(
                "chaperone_audit_removed_segments_total",
                "AuditSegments that this replica removed under a tombstone",
            )?,
            packs: IntCounterVec::new(
                Opts::new(
                    "chaperone_audit_packs_total",
                    "Packs of old evidence that this replica stored, and tries that failed, by reason",
                ),
                &["reason"],
            )?,
            unseals: IntCounterVec::new(
                Opts::new(
                    "chaperone_audit_unseals_total",
                    "Answers to UnsealRequests, by reason",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.appends.clone()))?;
        registry.register(Box::new(metrics.segments.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.checkpoint.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.used.clone()))?;
        registry.register(Box::new(metrics.quota.clone()))?;
        registry.register(Box::new(metrics.tombstones.clone()))?;
        registry.register(Box::new(metrics.removed.clone()))?;
        registry.register(Box::new(metrics.packs.clone()))?;
        registry.register(Box::new(metrics.unseals.clone()))?;
        Ok(metrics)
    }
}
