//! Whether Chaperone itself is there as it was installed.

use chaperone_crds::API_VERSION;
use chaperone_crds::generate;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;

use super::gather::{Facts, seen};
use super::{Checked, Finding};
use crate::output::counted;

/// The chart's webhooks, and whether what they would have seen is refused while they do not answer.
const WEBHOOKS: [(&str, bool); 7] = [
    ("governed.pods.chaperone.dev", true),
    ("annotated.pods.chaperone.dev", true),
    ("governed.workloads.chaperone.dev", false),
    ("annotated.workloads.chaperone.dev", true),
    ("approvalrequests.chaperone.dev", true),
    ("resources.chaperone.dev", false),
    ("unsealrequests.chaperone.dev", true),
];

/// The chart's ValidatingAdmissionPolicies, each with a binding of its name.
pub(super) const ADMISSION: [&str; 21] = [
    "chaperone-access-policies",
    "chaperone-access-policy-removal",
    "chaperone-approval-requests",
    "chaperone-connections",
    "chaperone-csi-tokens",
    "chaperone-ephemeral-containers",
    "chaperone-evidence",
    "chaperone-evidence-stays",
    "chaperone-exec",
    "chaperone-governed-namespaces",
    "chaperone-governed-pods",
    "chaperone-log-key",
    "chaperone-operator-patches",
    "chaperone-pod-bindings",
    "chaperone-pod-changes",
    "chaperone-reviews",
    "chaperone-seal-key",
    "chaperone-sessions",
    "chaperone-sidecar",
    "chaperone-tokens",
    "chaperone-unseal-requests",
];

/// What helps against most of what is missing here.
const UPGRADE: &str = "run `helm upgrade` of the chart";

/// The operator's replicas are ready.
pub(super) fn operator(facts: &Facts) -> Checked {
    let operators = seen(&facts.operators)?;
    let mut findings = Vec::new();
    let mut fine = String::new();
    if operators.is_empty() {
        findings.push(Finding::fail(
            "",
            "no Deployment of the operator is there; install the chart",
        ));
    }
    for deployment in operators {
        let about = about(deployment);
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let wanted = wanted.unwrap_or(1);
        let status = deployment.status.as_ref();
        let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
        let namespace = deployment.namespace().unwrap_or_default();
        if ready == 0 {
            findings.push(Finding::fail(
                about,
                format!("none of {wanted} replicas is ready, so no pod with a Connection starts and no sidecar hears of changes; see `kubectl -n {namespace} describe pods`"),
            ));
        } else if ready < wanted {
            findings.push(Finding::warn(
                about,
                format!("{ready} of {wanted} replicas are ready; see `kubectl -n {namespace} describe pods`"),
            ));
        } else {
            fine = format!("{ready} of {wanted} replicas are ready");
        }
    }
    if operators.len() > 1 {
        findings.push(Finding::fail(
            "",
            format!(
                "{} installations of Chaperone get into each other's way; uninstall all but one",
                operators.len()
            ),
        ));
    }
    Ok((fine, findings))
}

fn about(deployment: &Deployment) -> String {
    let namespace = deployment.namespace().unwrap_or_default();
    format!("{namespace}/{}", deployment.name_any())
}

/// The webhooks are there, trusted, and what must not slip through is refused without them.
pub(super) fn webhooks(facts: &Facts) -> Checked {
    let mut there: Vec<(&str, &WebhookClientConfig, Option<&str>)> = Vec::new();
    for configuration in seen(&facts.mutating)? {
        for hook in configuration.webhooks.iter().flatten() {
            let policy = hook.failure_policy.as_deref();
            there.push((&hook.name, &hook.client_config, policy));
        }
    }
    for configuration in seen(&facts.validating)? {
        for hook in configuration.webhooks.iter().flatten() {
            let policy = hook.failure_policy.as_deref();
            there.push((&hook.name, &hook.client_config, policy));
        }
    }
    let mut findings = Vec::new();
    for (name, closed) in WEBHOOKS {
        let Some((_, client, policy)) = there.iter().find(|(found, ..)| *found == name) else {
            findings.push(if closed {
                Finding::fail(
                    name,
                    format!("is not there; {UPGRADE} with webhooks.enabled"),
                )
            } else {
                Finding::warn(
                    name,
                    format!("is not there; {UPGRADE} with webhooks.enabled"),
                )
            });
            continue;
        };
        if client
            .ca_bundle
            .as_ref()
            .is_none_or(|bundle| bundle.0.is_empty())
        {
            findings.push(Finding::fail(
                name,
                "has no CA bundle, so the API server trusts no answer; the operator writes it within seconds of its start, see its log",
            ));
        }
        if closed && *policy != Some("Fail") {
            findings.push(Finding::fail(
                name,
                format!("has failurePolicy {}, so it is passed over when the operator is away; {UPGRADE}", policy.unwrap_or("unset")),
            ));
        }
    }
    let fine = format!("all {} are there and trusted", WEBHOOKS.len());
    Ok((fine, findings))
}

/// The admission policies are there and in effect everywhere.
pub(super) fn admission(facts: &Facts) -> Checked {
    let policies = seen(&facts.admission)?;
    let bindings = seen(&facts.bindings)?;
    let mut findings = Vec::new();
    for name in ADMISSION {
        let Some(policy) = policies.iter().find(|policy| policy.name_any() == name) else {
            findings.push(Finding::fail(
                name,
                format!("is not there, and nothing refuses what it would; {UPGRADE}"),
            ));
            continue;
        };
        let spec = policy.spec.as_ref();
        if spec.and_then(|spec| spec.failure_policy.as_deref()) == Some("Ignore") {
            findings.push(Finding::fail(
                name,
                format!("has failurePolicy Ignore, so an error lets everything through; {UPGRADE}"),
            ));
        }
        let in_effect = bindings.iter().any(|binding| {
            binding.spec.as_ref().is_some_and(|spec| {
                let actions = spec.validation_actions.iter().flatten();
                spec.policy_name.as_deref() == Some(name)
                    && spec.match_resources.is_none()
                    && actions.into_iter().any(|action| action == "Deny")
            })
        });
        if !in_effect {
            findings.push(Finding::fail(
                name,
                format!("has no binding that denies everywhere; {UPGRADE}"),
            ));
        }
    }
    let fine = format!("all {} policies are in effect", ADMISSION.len());
    Ok((fine, findings))
}

/// The resources are served as this version knows them.
pub(super) fn resources(facts: &Facts) -> Checked {
    let there = seen(&facts.definitions)?;
    let expected = generate::all();
    let mut findings = Vec::new();
    for definition in &expected {
        let name = definition.name_any();
        match there.iter().find(|found| found.name_any() == name) {
            None => findings.push(Finding::fail(name, format!("is not defined; {UPGRADE}"))),
            Some(found) => {
                if let Some(difference) = difference(definition, found) {
                    findings.push(Finding::fail(name, difference));
                }
            }
        }
    }
    let kinds = counted(expected.len() as u64, "kind is", "kinds are");
    Ok((format!("{kinds} served as {API_VERSION}"), findings))
}

fn difference(
    expected: &CustomResourceDefinition,
    found: &CustomResourceDefinition,
) -> Option<String> {
    let version = expected.spec.versions.first()?;
    let served = found
        .spec
        .versions
        .iter()
        .find(|served| served.served && served.name == version.name);
    let Some(served) = served else {
        return Some(format!("is not served as {}; {UPGRADE}", version.name));
    };
    let conditions = found
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut established = conditions.filter(|condition| condition.type_ == "Established");
    if !established.any(|condition| condition.status == "True") {
        return Some("is not established; see `kubectl describe crd`".to_owned());
    }
    let (wanted, there) = (fields(version), fields(served));
    let missing: Vec<String> = wanted
        .into_iter()
        .filter(|field| !there.contains(field))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "is of another version than this plugin: it has no {}; {UPGRADE}, whose CRDs are upgraded with it",
            missing.join(", ")
        )
    })
}

/// The fields of a version's spec.
fn fields(
    version: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion,
) -> Vec<String> {
    let schema = version
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref());
    let spec = schema.and_then(|schema| schema.properties.as_ref()?.get("spec"));
    let properties = spec.and_then(|spec| spec.properties.as_ref());
    properties
        .into_iter()
        .flatten()
        .map(|(field, _)| format!("spec.{field}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn chart(folder: &str) -> String {
        let templates =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/chaperone/templates");
        let mut text = String::new();
        for file in fs::read_dir(templates.join(folder)).unwrap() {
            text.push_str(&fs::read_to_string(file.unwrap().path()).unwrap());
        }
        text
    }

    #[test]
    fn every_webhook_of_the_chart_is_looked_for() {
        let text = chart("operator");
        let hooks = text.split("\n- name: ").skip(1).filter_map(|hook| {
            let name = hook.lines().next()?.trim();
            name.ends_with(".chaperone.dev")
                .then(|| (name, hook.contains("failurePolicy: Fail")))
        });
        assert_eq!(hooks.collect::<BTreeSet<_>>(), BTreeSet::from(WEBHOOKS));
    }

    #[test]
    fn every_admission_policy_of_the_chart_is_looked_for() {
        let text = chart("admission");
        let policies = text.split("kind: ValidatingAdmissionPolicy\n").skip(1);
        let names: BTreeSet<&str> = policies
            .filter_map(|policy| policy.split_once("  name: ")?.1.lines().next())
            .collect();
        assert_eq!(names, BTreeSet::from(ADMISSION));
    }
}
