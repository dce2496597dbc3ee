//! A subject on a connection, with the policies of a folder, and what they say to a statement.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chaperone_crds::ConditionReason;
use chaperone_http::api::{Api, Plain};
use chaperone_kube::KubernetesApi;
use chaperone_manifests::{Located, Manifests, policies};
use chaperone_policy::{
    Access, Action, ConditionOutcome, Decision, Durability, Effect, Explanation, NamespaceLabels,
    Policy, PolicySet, Reason, Subject, Verdict, Workload,
};
use chaperone_sql::{Catalog, Classification, catalog_of_schema, parse};

use super::AccessView;
use super::meaning::{classified, operation};
use super::request::Asked;
use crate::cli::PolicyTestArgs;
use crate::commands::why::{Explained, Question, explain};
use crate::error::CliError;
use crate::output::note;

/// Largest dump of a schema that is read.
const MAX_SCHEMA: u64 = 16 << 20;
/// Every namespace has it (Kubernetes, Well-Known Labels).
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What decisions are tried in.
pub(super) struct Lab {
    subject: Subject,
    connection: String,
    /// What requests mean there.
    api: Box<dyn Api>,
    /// Of an HTTP target.
    host: String,
    set: PolicySet,
    /// Whether the user gave a schema: then what is not in it is not there.
    schema: bool,
    catalog: Catalog,
}

/// A decision and how it came about.
pub(super) struct Judged {
    pub(super) decision: Decision,
    pub(super) accesses: Vec<AccessView>,
    pub(super) explained: Explained,
    /// Relations that were taken to be there.
    pub(super) assumed: Vec<String>,
}

impl Judged {
    /// Whether it would run without asking anybody.
    pub(super) fn runs(&self) -> bool {
        matches!(self.decision.verdict, Verdict::Allow | Verdict::Observe)
    }
}

impl Lab {
    /// Reads and compiles everything, as a sidecar does.
    pub(super) fn open(args: &PolicyTestArgs) -> Result<Lab, CliError> {
        let manifests = Manifests::load(&args.manifests);
        say_problems(&manifests);
        let (namespace, name) = qualified(&args.connection, "--connection")?;
        let connection = manifests
            .connections
            .iter()
            .find(|found| found.namespace == namespace && found.name == name)
            .ok_or_else(|| no_connection(&manifests, &args.connection))?;
        let (namespace, account) = qualified(&args.subject, "--subject")?;
        let mut labels: BTreeMap<String, String> = args.namespace_labels.iter().cloned().collect();
        labels.insert(NAMESPACE_NAME.to_owned(), namespace.to_owned());
        let namespaces = NamespaceLabels::from([(namespace.to_owned(), labels)]);
        let catalog = match &args.schema {
            Some(path) => read_schema(path)?,
            None => Catalog::default(),
        };
        Ok(Lab {
            subject: Subject {
                workload: Workload {
                    namespace: namespace.to_owned(),
                    service_account: account.to_owned(),
                    pod: None,
                    labels: args.pod_labels.iter().cloned().collect(),
                },
                delegate: None,
                purpose: args.purpose.clone(),
            },
            connection: connection.qualified_name(),
            api: match connection.value.spec.kubernetes {
                Some(_) => Box::new(KubernetesApi::default()),
                None => Box::new(Plain),
            },
            host: host_of(&connection.value.spec),
            set: policies::compile(connection, &manifests, &namespaces),
            schema: args.schema.is_some(),
            catalog,
        })
    }

    /// Who acts.
    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// `namespace/name` of the Connection.
    pub(super) fn connection(&self) -> &str {
        &self.connection
    }

    /// The decision on one text, which may hold several statements.
    pub(super) fn judge(&self, sql: &str) -> Result<Judged, CliError> {
        let Some(policy) = self.set.select(&self.subject) else {
            let said =
                parse(sql).map(|script| classified(&script, &self.catalog, self.schema, None));
            let (classes, assumed) = said.unwrap_or_default();
            let accesses = operation(sql, &classes).accesses;
            return self.judged(denied(Reason::NoPolicy, None), &accesses, None, assumed);
        };
        let script = match parse(sql) {
            Ok(script) => script,
            Err(error) => {
                let decision = denied(error.reason(), Some(error.to_string()));
                return self.judged(decision, &[], None, Vec::new());
            }
        };
        let (classes, assumed) = classified(&script, &self.catalog, self.schema, Some(&policy));
        let operation = operation(sql, &classes);
        let mut explanation = policy.explain(&self.subject, &operation);
        if explanation.decision.verdict != Verdict::Deny
            && let Some((reason, message)) = masking_refusal(&classes, &policy)
        {
            explanation.decision = denied(reason, Some(message));
        }
        let decision = explanation.decision.clone();
        self.judged(decision, &operation.accesses, Some(&explanation), assumed)
    }

    /// The decision on one request.
    pub(super) fn judge_request(&self, asked: &Asked) -> Result<Judged, CliError> {
        let operation = match asked.operation(&*self.api, &self.host)? {
            Ok(operation) => operation,
            Err(why) => {
                let decision = denied(Reason::ProtocolViolation, Some(why));
                return self.judged(decision, &[], None, Vec::new());
            }
        };
        let Some(policy) = self.set.select(&self.subject) else {
            let decision = denied(Reason::NoPolicy, None);
            return self.judged(decision, &operation.accesses, None, Vec::new());
        };
        let explanation = policy.explain(&self.subject, &operation);
        let decision = explanation.decision.clone();
        self.judged(
            decision,
            &operation.accesses,
            Some(&explanation),
            Vec::new(),
        )
    }

    fn judged(
        &self,
        decision: Decision,
        accesses: &[Access],
        explanation: Option<&Explanation>,
        assumed: Vec<String>,
    ) -> Result<Judged, CliError> {
        let told = explanation.map(|explanation| explanation.accesses.as_slice());
        let told = told.unwrap_or_default();
        // Without the policy's own word on each access, none is covered.
        let uncovered: Vec<String> = if told.is_empty() {
            accesses.iter().map(ToString::to_string).collect()
        } else {
            let uncovered = told.iter().filter(|access| !is_covered(access));
            uncovered.map(|access| access.access.to_string()).collect()
        };
        let question = Question {
            subject: &self.subject.workload.qualified_name(),
            connection: &self.connection,
            reason: decision.reason,
            accesses: &uncovered,
            settled_by: decision.access.as_ref().map(ToString::to_string),
        };
        let mut explained = explain(&question)?;
        if decision.reason == Reason::NoPolicy && explained.note.is_none() {
            explained.note = Some(
                "or the Connection's `consumers` does not admit its namespace: give the namespace's labels with --namespace-label"
                    .to_owned(),
            );
        }
        let rules = |access: &Access| -> Vec<String> {
            let told = told.iter().find(|told| told.access == *access);
            told.map(rule_names).unwrap_or_default()
        };
        Ok(Judged {
            accesses: accesses
                .iter()
                .map(|access| AccessView {
                    effect: effect_of(access),
                    object: access.object.to_string(),
                    baseline: access.baseline,
                    rules: rules(access),
                })
                .collect(),
            decision,
            explained,
            assumed,
        })
    }
}

/// As the access itself is written: `Read`, or `GET`.
fn effect_of(access: &Access) -> String {
    let text = access.to_string();
    let effect = text.split_once(" on ").map(|(effect, _)| effect.to_owned());
    effect.unwrap_or(text)
}

/// The host of an HTTP target's URL; empty for other targets.
fn host_of(spec: &chaperone_crds::ConnectionSpec) -> String {
    let url = spec.http.as_ref().map(|http| http.url.as_str());
    let rest = url.and_then(|url| Some(url.split_once("://")?.1));
    let authority = rest.and_then(|rest| rest.split('/').next());
    let host = authority.and_then(|text| chaperone_http::normal::authority(text).ok());
    host.map_or_else(String::new, |(host, _)| host)
}

/// What masking forbids, in the order in which a session asks.
fn masking_refusal(classes: &[Classification], policy: &Policy) -> Option<(Reason, String)> {
    let masked = !policy.masking().is_empty();
    let writes = masked
        && classes.iter().any(|class| {
            class.masking.writes
                || class.accesses.iter().any(|access| {
                    matches!(
                        access.effect,
                        Effect::Write | Effect::Modify | Effect::BulkLoad
                    )
                })
        });
    classes.iter().find_map(|class| {
        if let Some(what) = &class.masking.flow {
            let message =
                format!("{what} is masked, and this statement would write it where it is not");
            return Some((Reason::MaskedFlow, message));
        }
        if let Some(what) = &class.masking.predicate {
            let message = format!(
                "{what} is masked; it may be read and compared by equality with constants, nothing else"
            );
            return Some((Reason::MaskedPredicate, message));
        }
        let carried = writes && class.strings.iter().any(|s| chaperone_mask::carries_mark(s));
        carried.then(|| {
            let message = "a value in it carries a mask, and writing it would destroy the real one";
            (Reason::MaskedWriteBack, message.to_owned())
        })
    })
}

fn denied(reason: Reason, message: Option<String>) -> Decision {
    Decision {
        verdict: Verdict::Deny,
        reason,
        rule: None,
        access: None,
        message,
        approvals: Vec::new(),
        durability: Durability::Written,
        dry_run: None,
    }
}

fn is_covered(access: &chaperone_policy::AccessExplanation) -> bool {
    access.baseline
        || access.rules.iter().any(|rule| {
            let applies = matches!(
                rule.condition,
                ConditionOutcome::Absent | ConditionOutcome::Holds
            );
            applies && !rule.guardrail && rule.action != Action::Deny
        })
}

/// Each rule that matches, with what it does, and why it does not if its condition keeps it.
fn rule_names(access: &chaperone_policy::AccessExplanation) -> Vec<String> {
    let named = access.rules.iter().map(|rule| {
        let condition = match &rule.condition {
            ConditionOutcome::Absent | ConditionOutcome::Holds => String::new(),
            ConditionOutcome::DoesNotHold => ", its condition does not hold".to_owned(),
            ConditionOutcome::Failed(why) => format!(", its condition failed: {why}"),
        };
        let action = match rule.action {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
            Action::RequireApproval => "RequireApproval",
        };
        format!(
            "{action} {}/{}{condition}",
            rule.rule.policy, rule.rule.rule
        )
    });
    named.collect()
}

/// Everything that is wrong and counts for a decision, on standard error: the decision is made
/// all the same, as a sidecar makes it. Secrets and certificates do not count.
fn say_problems(manifests: &Manifests) {
    let mut problems = manifests.problems.clone();
    problems.extend(policies::problems(manifests));
    problems.retain(|problem| {
        let reference = problem.reason == ConditionReason::RefNotFound
            && (problem.field.starts_with("spec.postgres")
                || problem.field.starts_with("spec.http"));
        let port = problem.reason == ConditionReason::ConnectionsCollide;
        !reference && !port
    });
    problems.sort();
    problems.dedup();
    for problem in &problems {
        note(&crate::output::escape_line(&format!(
            "{problem} [{}]",
            problem.reason
        )));
    }
}

fn no_connection(manifests: &Manifests, wanted: &str) -> CliError {
    let known: Vec<String> = manifests
        .connections
        .iter()
        .map(Located::qualified_name)
        .collect();
    CliError::Usage(if known.is_empty() {
        format!("there is no Connection in the manifests, so none is named {wanted}")
    } else {
        format!(
            "no Connection of the manifests is named {wanted}; there are {}",
            known.join(", ")
        )
    })
}

fn qualified<'a>(text: &'a str, option: &str) -> Result<(&'a str, &'a str), CliError> {
    text.split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        .ok_or_else(|| CliError::Usage(format!("{option} {text} is no NAMESPACE/NAME; write both")))
}

fn read_schema(path: &Path) -> Result<Catalog, CliError> {
    let text = read_bounded(path, MAX_SCHEMA)?;
    catalog_of_schema(&text).map_err(|error| {
        CliError::Usage(format!(
            "{} is no schema that PostgreSQL's grammar takes: {error}; give what `pg_dump --schema-only` writes",
            path.display()
        ))
    })
}

/// A text file, refused where it is larger than makes sense.
pub(super) fn read_bounded(path: &Path, most: u64) -> Result<String, CliError> {
    let failed = |why: String| CliError::Usage(format!("cannot read {}: {why}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if metadata.len() > most {
        return Err(failed(format!("it is larger than {} MiB", most >> 20)));
    }
    fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}
