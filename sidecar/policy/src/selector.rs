//! Whom an AccessPolicy is for. Every subject lies in the policy's own namespace.

use std::collections::BTreeMap;

use chaperone_crds as crds;
use serde_json::Value;

use crate::Subject;
use crate::compile::Compiler;

/// Whom one AccessPolicy selects.
#[derive(Debug)]
pub(crate) enum Selector {
    /// Its subjects cannot be understood, so that nobody may be left out: it denies them all.
    Everyone,
    /// Any of these, in this namespace.
    Any {
        namespace: String,
        subjects: Vec<SubjectSelector>,
    },
}

#[derive(Debug)]
pub(crate) enum SubjectSelector {
    ServiceAccount(String),
    Pods(crds::LabelSelector),
    /// A verified token of this provider having one of the values for each claim.
    Identity {
        provider: String,
        claims: BTreeMap<String, Vec<String>>,
    },
}

impl Selector {
    pub(crate) fn compile(
        compiler: &mut Compiler,
        namespace: &str,
        subjects: &[crds::Subject],
    ) -> Selector {
        let mut compiled = Vec::with_capacity(subjects.len());
        let mut understood = !subjects.is_empty();
        if subjects.is_empty() {
            compiler.refuse("spec.subjects", "name at least one subject");
        }
        for (position, subject) in subjects.iter().enumerate() {
            match SubjectSelector::compile(subject) {
                Ok(selector) => compiled.push(selector),
                Err((field, message)) => {
                    understood = false;
                    compiler.refuse(format!("spec.subjects[{position}]{field}"), message);
                }
            }
        }
        match understood {
            true => Selector::Any {
                namespace: namespace.to_owned(),
                subjects: compiled,
            },
            false => Selector::Everyone,
        }
    }

    pub(crate) fn selects(&self, subject: &Subject) -> bool {
        match self {
            Selector::Everyone => true,
            Selector::Any {
                namespace,
                subjects,
            } => {
                subject.workload.namespace == *namespace
                    && subjects.iter().any(|selector| selector.selects(subject))
            }
        }
    }
}

impl Selector {
    /// The IdentityProviders by whose tokens workloads of this namespace are selected.
    pub(crate) fn providers(&self, of: &str) -> impl Iterator<Item = &str> {
        let subjects = match self {
            Selector::Any {
                namespace,
                subjects,
            } if namespace == of => subjects.as_slice(),
            _ => &[],
        };
        subjects.iter().filter_map(|subject| match subject {
            SubjectSelector::Identity { provider, .. } => Some(provider.as_str()),
            SubjectSelector::ServiceAccount(_) | SubjectSelector::Pods(_) => None,
        })
    }
}

impl SubjectSelector {
    fn compile(subject: &crds::Subject) -> Result<SubjectSelector, (&'static str, &'static str)> {
        match (
            &subject.service_account,
            &subject.pod_selector,
            &subject.identity,
        ) {
            (Some(name), None, None) if name.is_empty() => {
                Err((".serviceAccount", "the name is empty"))
            }
            (Some(name), None, None) => Ok(SubjectSelector::ServiceAccount(name.clone())),
            (None, Some(selector), None) => {
                let meaningful = selector.match_expressions.iter().all(|requirement| {
                    let takes_values = matches!(
                        requirement.operator,
                        crds::LabelOperator::In | crds::LabelOperator::NotIn
                    );
                    takes_values != requirement.values.is_empty()
                });
                match meaningful {
                    true => Ok(SubjectSelector::Pods(selector.clone())),
                    false => Err((
                        ".podSelector",
                        "In and NotIn need values; Exists and DoesNotExist take none",
                    )),
                }
            }
            (None, None, Some(identity)) if identity.provider.is_empty() => {
                Err((".identity.provider", "the provider's name is empty"))
            }
            (None, None, Some(identity)) if identity.claims.values().any(Vec::is_empty) => {
                Err((".identity.claims", "a claim without values can never match"))
            }
            (None, None, Some(identity)) => Ok(SubjectSelector::Identity {
                provider: identity.provider.clone(),
                claims: identity.claims.clone(),
            }),
            _ => Err((
                "",
                "a subject names exactly one of serviceAccount, podSelector, identity",
            )),
        }
    }

    fn selects(&self, subject: &Subject) -> bool {
        match self {
            SubjectSelector::ServiceAccount(name) => subject.workload.service_account == *name,
            SubjectSelector::Pods(selector) => selector.matches(&subject.workload.labels),
            SubjectSelector::Identity { provider, claims } => {
                subject.delegate.as_ref().is_some_and(|delegate| {
                    delegate.provider == *provider
                        && claims.iter().all(|(claim, wanted)| {
                            delegate
                                .claims
                                .get(claim)
                                .is_some_and(|found| has_value(found, wanted))
                        })
                })
            }
        }
    }
}

/// A claim is a value or a list of values; one of them must be wanted.
fn has_value(claim: &Value, wanted: &[String]) -> bool {
    match claim {
        Value::Array(values) => values.iter().any(|value| is_wanted(value, wanted)),
        value => is_wanted(value, wanted),
    }
}

fn is_wanted(value: &Value, wanted: &[String]) -> bool {
    match value {
        Value::String(text) => wanted.contains(text),
        Value::Bool(_) | Value::Number(_) => wanted.contains(&value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}
