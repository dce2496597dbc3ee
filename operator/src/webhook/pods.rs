//! `/mutate/pods`: puts the sidecar into pods that ask for it, and into all of governed namespaces.

use chaperone_inject::{Wanted, inject, names};
use kube::ResourceExt;
use kube::core::admission::Operation;
use serde_json::Value;

use super::answer::Answer;
use super::{Request, resolve};
use crate::context::Context;

/// The kubelet's annotation on its picture of a static pod, which no admission can change.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

pub(super) async fn admit(context: &Context, request: &Request) -> Answer {
    match admitted(context, request).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn admitted(context: &Context, request: &Request) -> Result<Answer, Answer> {
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let Some(object) = &request.object else {
        return Ok(Answer::admitted());
    };
    if request.operation != Operation::Create || request.sub_resource.is_some() {
        return Ok(Answer::admitted());
    }
    let annotations = object.annotations();
    let asked = annotations.contains_key(names::CONNECTIONS_ANNOTATION);
    if resolve::is_left_out(context, namespace) {
        let warning = format!("pods of namespace {namespace} never get a sidecar");
        return Ok(Answer::warned(
            asked.then_some(warning).into_iter().collect(),
        ));
    }
    if annotations.contains_key(MIRROR_ANNOTATION) {
        let warning = "a static pod cannot get a sidecar".to_owned();
        return Ok(Answer::warned(vec![warning]));
    }
    let labels = resolve::namespace_labels(context, namespace).await?;
    if !asked && !resolve::is_governed(&labels) {
        return Ok(Answer::admitted());
    }
    let wanted = Wanted::read(annotations, namespace)?;
    let plan = resolve::plan(context, namespace, &labels, wanted).await?;
    let before: Value = serde_json::to_value(object).unwrap_or_default();
    let injected = inject(&before, &plan)?;
    Ok(Answer::changed(before, injected.pod, injected.warnings))
}
