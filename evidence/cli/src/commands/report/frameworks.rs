//! Which checks speak for which control. Titles are ours, in few words; the text of a control is
//! its publisher's. A control that no record can speak for is here too, with the reason.
//!
//! Sources: AICPA TSP section 100 (2017, points of focus 2022); PCI DSS 4.0.1 (June 2024); ISO/IEC
//! 27001:2022, Annex A; 45 CFR 164.312; NIST SP 800-53 revision 5; Regulation (EU) 2024/1689.

use crate::cli::Framework;

/// A control and the checks that speak for it, or why none does.
#[derive(Debug)]
pub(super) struct Control {
    /// A token as OSCAL has it: begins with a letter.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) checks: &'static [&'static str],
    /// Why it cannot be seen, where there are no checks.
    pub(super) unseen: &'static str,
}

const fn seen(id: &'static str, title: &'static str, checks: &'static [&'static str]) -> Control {
    Control {
        id,
        title,
        checks,
        unseen: "",
    }
}

const fn unseen(id: &'static str, title: &'static str, why: &'static str) -> Control {
    Control {
        id,
        title,
        checks: &[],
        unseen: why,
    }
}

const CLOCK: &str = "records carry the clock of the machine; what it is set by is not in them";
const PEOPLE: &str = "what people do with the records is not in them";
const TRANSPORT: &str = "TLS of either side is not in the records; see the Connection's tls";
const ELSEWHERE: &str = "it is about systems that the records do not tell of";

/// The framework's name, and its controls.
pub(super) fn of(framework: Framework) -> (&'static str, &'static [Control]) {
    match framework {
        Framework::Soc2 => ("SOC 2: Trust Services Criteria (2017, rev. 2022)", &SOC2),
        Framework::Pci => ("PCI DSS 4.0.1", &PCI),
        Framework::Iso27001 => ("ISO/IEC 27001:2022, Annex A", &ISO27001),
        Framework::Hipaa => ("HIPAA Security Rule, 45 CFR 164.312", &HIPAA),
        Framework::Nist80053 => ("NIST SP 800-53 revision 5", &NIST),
        Framework::EuAiAct => ("EU AI Act, Regulation (EU) 2024/1689", &EU_AI_ACT),
    }
}

static SOC2: [Control; 10] = [
    seen(
        "CC6.1",
        "Logical access to protected assets is restricted",
        &["identity", "ruled", "enforced", "decided-first"],
    ),
    unseen(
        "CC6.2",
        "Users are registered and authorized before credentials are issued",
        ELSEWHERE,
    ),
    seen(
        "CC6.3",
        "Access follows roles, least privilege and segregation of duties",
        &["ruled", "enforced", "refusals", "approvals"],
    ),
    unseen(
        "CC6.6",
        "Boundaries are protected against threats from outside",
        ELSEWHERE,
    ),
    seen(
        "CC6.7",
        "Information is restricted when it is handed on",
        &["masking"],
    ),
    seen(
        "CC7.2",
        "Components are monitored for anomalies",
        &["monitoring", "completeness"],
    ),
    unseen("CC7.3", "Security events are evaluated", PEOPLE),
    unseen("CC7.4", "Security incidents are responded to", PEOPLE),
    seen(
        "CC8.1",
        "Changes are authorized before they are made",
        &["approvals"],
    ),
    seen(
        "PI1.5",
        "Records of processing are kept complete and unchanged",
        &["integrity", "completeness"],
    ),
];

static PCI: [Control; 18] = [
    seen("pci-3.4.1", "PAN is masked when displayed", &["masking"]),
    unseen(
        "pci-4.2.1",
        "PAN is protected by strong cryptography in transmission",
        TRANSPORT,
    ),
    seen(
        "pci-7.2.1",
        "Access is by a defined access control model",
        &["ruled", "enforced"],
    ),
    seen(
        "pci-7.2.5",
        "Application and system accounts have least privilege",
        &["ruled", "enforced", "refusals"],
    ),
    seen(
        "pci-7.2.6",
        "Queries of stored cardholder data are restricted",
        &["ruled", "enforced", "masking"],
    ),
    seen(
        "pci-7.3.3",
        "The access control system denies by default",
        &["refusals", "enforced"],
    ),
    seen(
        "pci-8.2.1",
        "Accounts are uniquely identified",
        &["identity"],
    ),
    seen(
        "pci-10.2.1",
        "Audit logs are enabled and active",
        &["decided-first", "completeness"],
    ),
    seen(
        "pci-10.2.1.1",
        "Individual access to cardholder data is logged",
        &["identity", "decided-first"],
    ),
    seen(
        "pci-10.2.1.4",
        "Invalid access attempts are logged",
        &["refusals"],
    ),
    seen(
        "pci-10.2.2",
        "Each event has user, type, time, result, origin and affected data",
        &["identity", "ruled", "time"],
    ),
    seen(
        "pci-10.3.2",
        "Audit logs are protected from modification",
        &["integrity"],
    ),
    seen(
        "pci-10.3.3",
        "Audit logs are promptly backed up to where they are hard to change",
        &["durability"],
    ),
    seen(
        "pci-10.3.4",
        "Changes of audit logs are detected",
        &["integrity", "completeness"],
    ),
    unseen("pci-10.4.1", "Audit logs are reviewed daily", PEOPLE),
    seen(
        "pci-10.5.1",
        "Audit logs are kept for twelve months",
        &["kept-a-year", "completeness"],
    ),
    unseen("pci-10.6.1", "Clocks are synchronized", CLOCK),
    seen(
        "pci-10.7.2",
        "Failures of logging are detected",
        &["completeness"],
    ),
];

static ISO27001: [Control; 15] = [
    seen("A.5.15", "Access control", &["ruled", "enforced"]),
    seen("A.5.16", "Identity management", &["identity"]),
    unseen("A.5.17", "Authentication information", ELSEWHERE),
    seen("A.5.18", "Access rights", &["ruled", "refusals"]),
    unseen("A.5.25", "Assessment of security events", PEOPLE),
    seen(
        "A.5.28",
        "Collection of evidence",
        &["integrity", "completeness", "identity"],
    ),
    seen(
        "A.5.33",
        "Protection of records",
        &["integrity", "completeness", "durability"],
    ),
    seen("A.8.2", "Privileged access rights", &["approvals"]),
    seen(
        "A.8.3",
        "Information access restriction",
        &["ruled", "enforced", "refusals"],
    ),
    seen("A.8.11", "Data masking", &["masking"]),
    seen(
        "A.8.12",
        "Data leakage prevention",
        &["masking", "monitoring"],
    ),
    seen(
        "A.8.15",
        "Logging",
        &["decided-first", "integrity", "completeness"],
    ),
    seen("A.8.16", "Monitoring activities", &["monitoring"]),
    unseen("A.8.17", "Clock synchronization", CLOCK),
    unseen("A.8.24", "Use of cryptography", TRANSPORT),
];

static HIPAA: [Control; 10] = [
    seen(
        "hipaa-164.312.a.1",
        "Access control",
        &["ruled", "enforced", "refusals"],
    ),
    seen(
        "hipaa-164.312.a.2.i",
        "Unique user identification",
        &["identity"],
    ),
    unseen("hipaa-164.312.a.2.ii", "Emergency access procedure", PEOPLE),
    unseen(
        "hipaa-164.312.a.2.iii",
        "Automatic logoff",
        "that nobody stayed too long does not show that he would have been logged off",
    ),
    unseen(
        "hipaa-164.312.a.2.iv",
        "Encryption and decryption",
        "encryption at rest is not in the records",
    ),
    seen(
        "hipaa-164.312.b",
        "Audit controls",
        &["decided-first", "completeness"],
    ),
    seen(
        "hipaa-164.312.c.1",
        "Integrity",
        &["refusals", "enforced", "approvals"],
    ),
    seen(
        "hipaa-164.312.c.2",
        "Mechanism to authenticate electronic protected health information",
        &["integrity"],
    ),
    seen(
        "hipaa-164.312.d",
        "Person or entity authentication",
        &["identity", "delegation"],
    ),
    unseen("hipaa-164.312.e.1", "Transmission security", TRANSPORT),
];

static NIST: [Control; 21] = [
    unseen("ac-2", "Account management", ELSEWHERE),
    seen(
        "ac-3",
        "Access enforcement",
        &["ruled", "enforced", "refusals", "decided-first"],
    ),
    seen("ac-5", "Separation of duties", &["approvals"]),
    seen(
        "ac-6",
        "Least privilege",
        &["ruled", "enforced", "refusals"],
    ),
    seen(
        "ac-6.9",
        "Log use of privileged functions",
        &["decided-first", "ruled"],
    ),
    seen("au-2", "Event logging", &["decided-first"]),
    seen(
        "au-3",
        "Content of audit records",
        &["identity", "ruled", "time"],
    ),
    seen(
        "au-3.3",
        "Limit personally identifiable information in audit records",
        &["masking"],
    ),
    seen(
        "au-5",
        "Response to audit logging process failures",
        &["completeness", "durability"],
    ),
    unseen(
        "au-6",
        "Audit record review, analysis, and reporting",
        PEOPLE,
    ),
    seen("au-8", "Time stamps", &["time"]),
    seen(
        "au-9",
        "Protection of audit information",
        &["integrity", "completeness"],
    ),
    seen("au-9.3", "Cryptographic protection", &["integrity"]),
    seen(
        "au-10",
        "Non-repudiation",
        &["identity", "integrity", "decided-first"],
    ),
    seen(
        "au-11",
        "Audit record retention",
        &["kept-a-year", "completeness"],
    ),
    seen(
        "au-12",
        "Audit record generation",
        &["decided-first", "identity"],
    ),
    seen("au-14", "Session audit", &["decided-first", "completeness"]),
    seen("cm-3", "Configuration change control", &["approvals"]),
    seen(
        "ia-9",
        "Service identification and authentication",
        &["identity"],
    ),
    unseen(
        "sc-8",
        "Transmission confidentiality and integrity",
        TRANSPORT,
    ),
    seen("si-4", "System monitoring", &["monitoring"]),
];

static EU_AI_ACT: [Control; 11] = [
    seen(
        "art-12.1",
        "Events are recorded automatically over the lifetime",
        &["decided-first", "completeness"],
    ),
    seen(
        "art-12.2.a",
        "Situations that may present a risk can be identified",
        &["monitoring", "refusals"],
    ),
    seen(
        "art-12.2.c",
        "The operation can be monitored",
        &["identity", "purpose", "time"],
    ),
    seen(
        "art-14.1",
        "People can oversee the system while it is in use",
        &["approvals"],
    ),
    unseen(
        "art-14.4.a",
        "Overseers understand capacities and limitations",
        PEOPLE,
    ),
    seen(
        "art-14.4.d",
        "Overseers can decide against a use, or disregard its output",
        &["approvals", "refusals"],
    ),
    seen(
        "art-14.4.e",
        "Overseers can intervene or interrupt",
        &["refusals", "enforced"],
    ),
    seen(
        "art-19.1",
        "Providers keep logs for six months",
        &["kept-half-a-year", "integrity", "completeness"],
    ),
    unseen(
        "art-26.2",
        "Oversight is assigned to competent people",
        PEOPLE,
    ),
    seen(
        "art-26.5",
        "Deployers monitor the operation",
        &["monitoring"],
    ),
    seen(
        "art-26.6",
        "Deployers keep logs for six months",
        &["kept-half-a-year", "integrity", "completeness"],
    ),
];
