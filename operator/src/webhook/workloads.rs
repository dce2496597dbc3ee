//! `/mutate/workloads`: annotating a Deployment is enough.
//!
//! The annotation is copied to the pod template. What its pods would be refused for is said here
//! as a warning already, where somebody reads it; the pods' own webhook refuses.

use chaperone_inject::{Copied, WorkloadKind, copy, inject};
use kube::core::admission::Operation;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::{Request, resolve};
use crate::context::Context;

pub(super) async fn admit(context: &Context, request: &Request) -> Answer {
    match admitted(context, request).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn admitted(context: &Context, request: &Request) -> Result<Answer, Answer> {
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let kind = WorkloadKind::parse(&request.kind.kind);
    let (Some(kind), Some(object)) = (kind, &request.object) else {
        return Ok(Answer::admitted());
    };
    let written = [Operation::Create, Operation::Update].contains(&request.operation);
    if !written || request.sub_resource.is_some() || resolve::is_left_out(context, namespace) {
        return Ok(Answer::admitted());
    }
    let before = serde_json::to_value(object).unwrap_or_default();
    let old = request
        .old_object
        .as_ref()
        .and_then(|old| serde_json::to_value(old).ok());
    // What is being deleted only loses its finalizers; nothing may stand in the way.
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Answer::admitted());
    }
    let copied = copy(kind, namespace, old.as_ref(), &before)?;
    let mut warnings = copied.warnings.clone();
    let unchanged = old.is_some_and(|old| template(kind, &old) == template(kind, &copied.object));
    if !unchanged {
        warnings.extend(foresee(context, kind, namespace, &copied).await?);
    }
    Ok(Answer::changed(before, copied.object, warnings))
}

/// What its pods would be told.
async fn foresee(
    context: &Context,
    kind: WorkloadKind,
    namespace: &str,
    copied: &Copied,
) -> Result<Vec<String>, Answer> {
    let labels = resolve::namespace_labels(context, namespace).await?;
    let wanted = copied.wanted.clone();
    if wanted.connections.is_empty() && !resolve::is_governed(&labels) {
        return Ok(Vec::new());
    }
    let answer = match resolve::plan(context, namespace, &labels, wanted).await {
        Ok(plan) => match inject(&pod_of(template(kind, &copied.object)), &plan) {
            Ok(injected) => return Ok(injected.warnings),
            Err(refusal) => Answer::from(refusal),
        },
        Err(answer) => answer,
    };
    let said = answer.denial();
    let warning = said.map(|(reason, message)| {
        let reason = reason.as_str();
        format!("its pods will be refused: {reason}: {message}")
    });
    Ok(warning.into_iter().collect())
}

fn template(kind: WorkloadKind, object: &Value) -> Option<&Value> {
    object.pointer(match kind {
        WorkloadKind::CronJob => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    })
}

/// A pod template is a pod without a name.
fn pod_of(template: Option<&Value>) -> Value {
    let fields = template.and_then(Value::as_object);
    let part = |name: &str| {
        let part = fields.and_then(|fields| fields.get(name)).cloned();
        part.unwrap_or_else(|| Value::Object(Map::new()))
    };
    let parts = ["metadata", "spec"].map(|name| (name.to_owned(), part(name)));
    Value::Object(parts.into_iter().collect())
}
