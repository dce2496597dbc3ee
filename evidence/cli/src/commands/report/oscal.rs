//! The report as OSCAL assessment results, 1.1.3, JSON.
//! <https://pages.nist.gov/OSCAL-Reference/models/v1.1.3/assessment-results/json-reference/>
//!
//! A check is an observation, a control that was assessed a finding. One that was not is among the
//! `exclude-controls`, with the reason in the remarks.

use serde::Serialize;
use uuid::Uuid;

use super::checks::{Checked, State};
use super::{Assessed, Assessment};
use crate::error::CliError;
use crate::time::{from_ns, rfc3339};

const VERSION: &str = "1.1.3";
const NAMESPACE: &str = "https://chaperone.dev/ns/oscal";

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    assessment_results: Results,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Results {
    uuid: String,
    metadata: Metadata,
    import_ap: Import,
    results: [AssessmentResult; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    title: String,
    last_modified: String,
    version: &'static str,
    oscal_version: &'static str,
}

#[derive(Debug, Serialize)]
struct Import {
    href: &'static str,
    remarks: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct AssessmentResult {
    uuid: String,
    title: String,
    description: String,
    start: String,
    end: String,
    props: Vec<Prop>,
    reviewed_controls: Reviewed,
    observations: Vec<Observation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Prop {
    name: &'static str,
    ns: &'static str,
    value: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Reviewed {
    control_selections: [Selected; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Selected {
    description: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include_controls: Vec<ControlId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exclude_controls: Vec<ControlId>,
    #[serde(skip_serializing_if = "String::is_empty")]
    remarks: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ControlId {
    control_id: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Observation {
    uuid: String,
    title: &'static str,
    description: String,
    props: Vec<Prop>,
    methods: [&'static str; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relevant_evidence: Vec<Evidence>,
    collected: String,
    remarks: String,
}

#[derive(Debug, Serialize)]
struct Evidence {
    href: String,
    description: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Finding {
    uuid: String,
    title: String,
    description: String,
    target: Target,
    related_observations: Vec<Related>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Target {
    r#type: &'static str,
    target_id: &'static str,
    status: Status,
}

#[derive(Debug, Serialize)]
struct Status {
    state: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Related {
    observation_uuid: String,
}

/// The whole document.
pub(super) fn document(assessment: &Assessment) -> Result<String, CliError> {
    let Assessment {
        framework,
        made_at,
        facts,
        verification,
        checks,
        controls,
    } = assessment;
    let at = rfc3339(*made_at);
    let ids = Ids(format!("{framework} {at} {verification}"));
    let period = (
        rfc3339(from_ns(facts.first_ns)),
        rfc3339(from_ns(facts.last_ns)),
    );
    let (unassessed, assessed): (Vec<&Assessed>, Vec<&Assessed>) = controls
        .iter()
        .partition(|found| found.state == State::NotAssessed);
    let reasons: Vec<String> = unassessed
        .iter()
        .map(|found| format!("{}: {}", found.control.id, found.why))
        .collect();
    let named = |found: &[&Assessed]| {
        let ids = found.iter().map(|found| ControlId {
            control_id: found.control.id,
        });
        ids.collect::<Vec<_>>()
    };
    let prop = |name, value: String| Prop {
        name,
        ns: NAMESPACE,
        value,
    };
    let document = Document {
        assessment_results: Results {
            uuid: ids.of("document"),
            metadata: Metadata {
                title: format!("What recorded evidence shows for {framework}"),
                last_modified: at.clone(),
                version: env!("CARGO_PKG_VERSION"),
                oscal_version: VERSION,
            },
            import_ap: Import {
                href: "#",
                remarks: "There is no assessment plan: what is checked is what each observation says.",
            },
            results: [AssessmentResult {
                uuid: ids.of("result"),
                title: (*framework).to_owned(),
                description: format!("Computed from recorded evidence. {verification}"),
                start: period.0,
                end: period.1,
                props: vec![
                    prop("sessions", facts.sessions.to_string()),
                    prop("decisions", facts.decisions.to_string()),
                ],
                reviewed_controls: Reviewed {
                    control_selections: [Selected {
                        description: "Controls that the evidence speaks for; excluded are those that were not assessed.",
                        include_controls: named(&assessed),
                        exclude_controls: named(&unassessed),
                        remarks: reasons.join("\n\n"),
                    }],
                },
                observations: checks
                    .iter()
                    .map(|check| observation(check, assessment, &ids, &at))
                    .collect(),
                findings: assessed.iter().map(|found| finding(found, &ids)).collect(),
            }],
        },
    };
    serde_json::to_string_pretty(&document).map_err(|error| CliError::Encode {
        format: "OSCAL",
        why: error.to_string(),
    })
}

fn observation(check: &Checked, assessment: &Assessment, ids: &Ids, at: &str) -> Observation {
    Observation {
        uuid: ids.of(check.id),
        title: check.title,
        description: check.said.clone(),
        props: vec![
            Prop {
                name: "check",
                ns: NAMESPACE,
                value: check.id.to_owned(),
            },
            Prop {
                name: "result",
                ns: NAMESPACE,
                value: check.state.name().to_owned(),
            },
        ],
        methods: ["TEST"],
        relevant_evidence: check
            .places
            .iter()
            .map(|place| Evidence {
                href: format!("chaperone:{place}"),
                description: format!(
                    "kubectl chaperone show {}",
                    place.split('/').next().unwrap_or(place)
                ),
            })
            .collect(),
        collected: at.to_owned(),
        remarks: format!(
            "Checked: {}. Over {} sessions. Verification: {}",
            check.method, assessment.facts.sessions, assessment.verification
        ),
    }
}

fn finding(found: &Assessed, ids: &Ids) -> Finding {
    let control = found.control;
    Finding {
        uuid: ids.of(control.id),
        title: format!("{} {}", control.id, control.title),
        description: found.why.clone(),
        target: Target {
            r#type: "objective-id",
            target_id: control.id,
            status: Status {
                state: found.state.name(),
            },
        },
        related_observations: control
            .checks
            .iter()
            .map(|check| Related {
                observation_uuid: ids.of(check),
            })
            .collect(),
    }
}

/// Names that follow from what they name (RFC 9562, section 5.5).
struct Ids(String);

impl Ids {
    fn of(&self, what: &str) -> String {
        let name = format!("{NAMESPACE} {} {what}", self.0);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
    }
}
