//! Copies a workload's annotations to its pod template, so that annotating a Deployment is enough.
//!
//! A marker on the template says what was copied. The copy follows or leaves with the original
//! only while the marker equals it: what a user wrote into the template himself is never touched.

use serde_json::{Map, Value};

use crate::names::{
    CONNECTIONS_ANNOTATION, COPIED_ANNOTATION, COPIED_PURPOSE_ANNOTATION, PURPOSE_ANNOTATION,
};
use crate::{Refusal, Wanted, tree};

/// A kind with a pod template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// apps/v1.
    Deployment,
    /// apps/v1.
    StatefulSet,
    /// apps/v1.
    DaemonSet,
    /// batch/v1; its template cannot change once it exists.
    Job,
    /// batch/v1.
    CronJob,
}

/// A workload whose template has what it should.
#[derive(Debug, Clone, PartialEq)]
pub struct Copied {
    /// The workload.
    pub object: Value,
    /// What its template asks for now.
    pub wanted: Wanted,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// An annotation, and the marker that says what was copied of it.
const PAIRS: [(&str, &str); 2] = [
    (CONNECTIONS_ANNOTATION, COPIED_ANNOTATION),
    (PURPOSE_ANNOTATION, COPIED_PURPOSE_ANNOTATION),
];

impl WorkloadKind {
    /// The kind of that name.
    pub fn parse(kind: &str) -> Option<WorkloadKind> {
        Some(match kind {
            "Deployment" => WorkloadKind::Deployment,
            "StatefulSet" => WorkloadKind::StatefulSet,
            "DaemonSet" => WorkloadKind::DaemonSet,
            "Job" => WorkloadKind::Job,
            "CronJob" => WorkloadKind::CronJob,
            _ => return None,
        })
    }

    /// Fields that lead from the object to its pod template.
    fn template(self) -> &'static [&'static str] {
        match self {
            WorkloadKind::CronJob => &["spec", "jobTemplate", "spec", "template"],
            _ => &["spec", "template"],
        }
    }
}

/// Copies the annotations of `object`, a workload in `namespace`; `old` is what it was before an
/// update, `None` when it is created.
///
/// # Errors
/// [`Refusal::Annotation`] for an annotation that is not understood, [`Refusal::JobImmutable`]
/// where a Job's were changed.
pub fn copy(
    kind: WorkloadKind,
    namespace: &str,
    old: Option<&Value>,
    object: &Value,
) -> Result<Copied, Refusal> {
    if kind == WorkloadKind::Job
        && let Some(old) = old
    {
        return unchanged_job(namespace, old, object);
    }
    let mut changed = object.clone();
    let mut warnings = Vec::new();
    let wants = annotation(object, CONNECTIONS_ANNOTATION).is_some();
    let had = old.is_some_and(|old| annotation(old, CONNECTIONS_ANNOTATION).is_some());
    let template = template(&mut changed, kind)?;
    let metadata = tree::object(template, "metadata")?;
    for (name, marker) in PAIRS {
        let original = annotation(object, name).filter(|_| wants);
        // What a CronJob's Jobs and a restored manifest come with is theirs, not a copy that lost
        // its original: only an update can take a copy away.
        if original.is_none() && !had {
            continue;
        }
        follow(metadata, name, marker, original, &mut warnings)?;
    }
    let own = string_map(metadata.get("annotations"));
    let wanted = Wanted::read(&own, namespace)?;
    // Where nothing was to be done, an empty mapping is not added either.
    if wants || had {
        tidy(metadata);
        Ok(Copied {
            object: changed,
            wanted,
            warnings,
        })
    } else {
        Ok(Copied {
            object: object.clone(),
            wanted,
            warnings,
        })
    }
}

fn unchanged_job(namespace: &str, old: &Value, object: &Value) -> Result<Copied, Refusal> {
    let same =
        annotation(old, CONNECTIONS_ANNOTATION) == annotation(object, CONNECTIONS_ANNOTATION);
    let governed = annotation(object, CONNECTIONS_ANNOTATION).is_some();
    let purpose = annotation(old, PURPOSE_ANNOTATION) == annotation(object, PURPOSE_ANNOTATION);
    if !same || (governed && !purpose) {
        return Err(Refusal::JobImmutable);
    }
    let own = object.pointer("/spec/template/metadata/annotations");
    Ok(Copied {
        object: object.clone(),
        // A Job that stands is not judged again: its controller must be able to finish it.
        wanted: Wanted::read(&string_map(own), namespace).unwrap_or_default(),
        warnings: Vec::new(),
    })
}

/// Brings one annotation of the template in line with the workload's.
fn follow(
    metadata: &mut Map<String, Value>,
    name: &str,
    marker: &str,
    original: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let annotations = tree::object(metadata, "annotations")?;
    let copy = annotations.get(name).and_then(Value::as_str);
    let marked = annotations.get(marker).and_then(Value::as_str);
    let ours = copy.is_none() || (marked.is_some() && marked == copy);
    if !ours {
        if original.is_some() && original != copy {
            warnings.push(format!(
                "the pod template has its own {name}, which counts; the workload's is not copied"
            ));
        }
        // A marker beside what the user wrote would make it look like a copy one day.
        annotations.remove(marker);
        return Ok(());
    }
    match original {
        Some(original) => {
            annotations.insert(name.to_owned(), original.into());
            annotations.insert(marker.to_owned(), original.into());
        }
        None => {
            annotations.remove(name);
            annotations.remove(marker);
        }
    }
    Ok(())
}

fn template(object: &mut Value, kind: WorkloadKind) -> Result<&mut Map<String, Value>, Refusal> {
    let mut at = object
        .as_object_mut()
        .ok_or_else(|| Refusal::Malformed("not a mapping".to_owned()))?;
    for field in kind.template() {
        at = tree::object(at, field)?;
    }
    Ok(at)
}

/// Drops an `annotations` that is empty now.
fn tidy(metadata: &mut Map<String, Value>) {
    let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    if metadata.get("annotations").is_some_and(empty) {
        metadata.remove("annotations");
    }
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object
        .pointer("/metadata/annotations")?
        .get(name)
        .and_then(Value::as_str)
}

fn string_map(value: Option<&Value>) -> std::collections::BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
