//! `/validate/resources`: says at apply, with the field's path, what would not compile.
//!
//! It is a courtesy and no gate (`failurePolicy: Ignore`): a resource that gets in anyway denies
//! everyone whom it selects.

use std::collections::BTreeMap;

use chaperone_crds::validate::{Resource, parse};
use chaperone_crds::{AccessPolicy, ConditionReason, Connection, IdentityProvider, TlsMode};
use chaperone_policy::{Invalid, NamedConnection, NamedPolicy, check};
use kube::core::admission::Operation;
use serde_json::{Map, Value};

use super::Request;
use super::answer::Answer;
use crate::context::Context;
use crate::target;

/// Most problems named at once.
const MOST_PROBLEMS: usize = 10;

pub(super) fn admit(context: &Context, request: &Request) -> Answer {
    let Some(object) = &request.object else {
        return Answer::admitted();
    };
    let written = [Operation::Create, Operation::Update].contains(&request.operation);
    if !written || request.sub_resource.is_some() || object.metadata.deletion_timestamp.is_some() {
        return Answer::admitted();
    }
    let object = serde_json::to_value(object).unwrap_or_default();
    let object = essence(&object);
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let judged = match request.kind.kind.as_str() {
        "Connection" => {
            parsed(&object).and_then(|it| connection(context, namespace, &request.name, &it))
        }
        "AccessPolicy" => {
            parsed(&object).and_then(|it| access_policy(context, namespace, &request.name, &it))
        }
        "IdentityProvider" => parsed(&object).and_then(|it| identity_provider(&it)),
        _ => Ok(Answer::admitted()),
    };
    match judged {
        Ok(answer) | Err(answer) => answer,
    }
}

/// What a person writes, without what only the server fills in.
fn essence(object: &Value) -> Value {
    let mut kept = Map::new();
    for field in ["apiVersion", "kind", "spec"] {
        if let Some(value) = object.get(field) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    let mut metadata = Map::new();
    for field in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = object.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    // With generateName there is no name yet.
    metadata.entry("name").or_insert_with(|| "generated".into());
    kept.insert("metadata".to_owned(), Value::Object(metadata));
    Value::Object(kept)
}

fn parsed<T: Resource>(object: &Value) -> Result<T, Answer> {
    parse(object).map_err(|violations| {
        let reason = violations
            .first()
            .map_or(ConditionReason::Invalid, |violation| violation.reason);
        let texts = violations
            .iter()
            .map(|violation| format!("{}: {}", violation.path, violation.message));
        Answer::denied(reason, listed(texts))
    })
}

fn connection(
    context: &Context,
    namespace: &str,
    name: &str,
    resource: &Connection,
) -> Result<Answer, Answer> {
    let named = NamedConnection {
        namespace,
        name,
        generation: 0,
        spec: &resource.spec,
        namespaces: &BTreeMap::new(),
    };
    compiled(check(&[named], &[]))?;
    let mut warnings = Vec::new();
    match target::served(&resource.spec, context.config.allow_special_targets) {
        Ok(_) => {
            if let Some((TlsMode::Disable, path)) = resource.spec.tls() {
                warnings.push(format!(
                    "{path}: with Disable, everything crosses the network readable, what the sidecar \
                     proves itself with too"
                ));
            }
        }
        Err(fault) if fault.reason == ConditionReason::Unsupported.as_str() => {
            warnings.push(fault.message);
        }
        Err(fault) => {
            let reason = [
                ConditionReason::TargetNotAllowed,
                ConditionReason::RefNotPermitted,
            ]
            .into_iter()
            .find(|reason| reason.as_str() == fault.reason);
            let reason = reason.unwrap_or(ConditionReason::Invalid);
            return Err(Answer::denied(reason, fault.message));
        }
    }
    if !context.config.may_read_secrets_of(namespace) {
        warnings.push(format!(
            "namespace {namespace} is not among the chart's connectionNamespaces, so its Secrets \
             cannot be read and this Connection stays unusable"
        ));
    }
    Ok(Answer::warned(warnings))
}

fn access_policy(
    context: &Context,
    namespace: &str,
    name: &str,
    resource: &AccessPolicy,
) -> Result<Answer, Answer> {
    let named = NamedPolicy {
        namespace,
        name,
        generation: 0,
        spec: &resource.spec,
    };
    compiled(check(&[], &[named]))?;
    let mut warnings = Vec::new();
    for (position, text) in resource.spec.connections.iter().enumerate() {
        let (of, name) = text.split_once('/').unwrap_or((namespace, text));
        if context.stores.connection(of, name).is_none() {
            warnings.push(format!(
                "spec.connections[{position}]: there is no Connection {of}/{name} yet"
            ));
        }
    }
    Ok(Answer::warned(warnings))
}

fn identity_provider(resource: &IdentityProvider) -> Result<Answer, Answer> {
    let problems = chaperone_identity::problems(&resource.spec);
    if problems.is_empty() {
        return Ok(Answer::admitted());
    }
    let texts = problems
        .iter()
        .map(|(path, message)| format!("{path}: {message}"));
    Err(Answer::denied(ConditionReason::Invalid, listed(texts)))
}

fn compiled(invalid: Vec<Invalid>) -> Result<(), Answer> {
    if invalid.is_empty() {
        return Ok(());
    }
    let texts = invalid
        .iter()
        .map(|invalid| format!("{}: {}", invalid.path, invalid.message));
    Err(Answer::denied(
        ConditionReason::PolicyInvalid,
        listed(texts),
    ))
}

fn listed(problems: impl ExactSizeIterator<Item = String>) -> String {
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    let mut text = problems.take(MOST_PROBLEMS).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}
