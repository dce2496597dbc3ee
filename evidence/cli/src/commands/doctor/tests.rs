//! Judgement on facts that are written down.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use chaperone_crds::generate;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionCondition, CustomResourceDefinitionStatus,
};
use serde::de::DeserializeOwned;

use super::*;

fn read<T: DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap()
}

const OPERATOR: &str = "
metadata: {name: chaperone-operator, namespace: chaperone-system}
spec:
  replicas: 2
  selector: {}
  template: {spec: {containers: [{name: operator, args: [run, --sidecar-image=sidecar:2, '--accepted-images=sidecar:1,sidecar:0']}]}}
status: {readyReplicas: 2}
";

/// A cluster as it should be, with two agents.
fn healthy() -> Facts {
    let webhook = |name: &str, policy: &str| {
        format!(
            "{{name: {name}, failurePolicy: {policy}, admissionReviewVersions: [v1], sideEffects: None, clientConfig: {{caBundle: Q0E=}}}}"
        )
    };
    let hooks: Vec<String> = [
        ("governed.pods.chaperone.dev", "Fail"),
        ("annotated.pods.chaperone.dev", "Fail"),
        ("governed.workloads.chaperone.dev", "Ignore"),
        ("annotated.workloads.chaperone.dev", "Fail"),
        ("approvalrequests.chaperone.dev", "Fail"),
        ("unsealrequests.chaperone.dev", "Fail"),
    ]
    .iter()
    .map(|(name, policy)| webhook(name, policy))
    .collect();
    let mut definitions = generate::all();
    for definition in &mut definitions {
        definition.status = Some(CustomResourceDefinitionStatus {
            conditions: Some(vec![CustomResourceDefinitionCondition {
                type_: "Established".to_owned(),
                status: "True".to_owned(),
                ..CustomResourceDefinitionCondition::default()
            }]),
            ..CustomResourceDefinitionStatus::default()
        });
    }
    let policies = installation::ADMISSION;
    let binding = |name: &&str| {
        read(&format!(
            "{{metadata: {{name: {name}}}, spec: {{policyName: {name}, validationActions: [Deny]}}}}"
        ))
    };
    Facts {
        now: "2026-01-01T01:00:00Z".parse().unwrap(),
        operators: Ok(vec![read(OPERATOR)]),
        mutating: Ok(vec![read(&format!(
            "{{metadata: {{name: m}}, webhooks: [{}]}}",
            hooks.join(", ")
        ))]),
        validating: Ok(vec![read(&format!(
            "{{metadata: {{name: v}}, webhooks: [{}]}}",
            webhook("resources.chaperone.dev", "Ignore")
        ))]),
        admission: Ok(policies
            .iter()
            .map(|name| {
                read(&format!(
                    "{{metadata: {{name: {name}}}, spec: {{failurePolicy: Fail}}}}"
                ))
            })
            .collect()),
        bindings: Ok(policies.iter().map(binding).collect()),
        definitions: Ok(definitions),
        stores: Ok(vec![read(
            "{apiVersion: chaperone.dev/v1alpha1, kind: AuditStore, metadata: {name: default}, spec: {quota: 100Ki}, \
             status: {usedBytes: 1024, conditions: [{type: Ready, status: 'True', reason: Ready, message: m, lastTransitionTime: '2026-01-01T00:00:00Z'}]}}",
        )]),
        segments: Ok(vec![segment("s1", "00:10:00"), segment("s2", "00:59:30")]),
        checkpoints: Ok(vec![read(
            "{apiVersion: chaperone.dev/v1alpha1, kind: AuditCheckpoint, metadata: {name: cp-1}, spec: {number: 1, previous: '', \
             segments: [{name: s1, leaves: []}], size: 1, root: '', subtrees: [], note: signed}}",
        )]),
        namespaces: Ok(vec![
            read("{metadata: {name: shop, labels: {chaperone.dev/governed: 'true'}}}"),
            read("{metadata: {name: other}}"),
        ]),
        pods: Ok(vec![
            pod("shop", "a", "sidecar:2", "{running: {}}"),
            pod("other", "b", "sidecar:2", "{running: {}}"),
        ]),
        deployments: Ok(vec![read(
            "{metadata: {name: b, namespace: other, annotations: {chaperone.dev/connections: x/y}}, \
             spec: {selector: {matchLabels: {app: b}}, template: {}}}",
        )]),
        stateful_sets: Ok(vec![]),
        daemon_sets: Ok(vec![]),
        jobs: Ok(vec![]),
        cron_jobs: Ok(vec![]),
        connections: Ok(vec![connection("databases", "VerifyFull", "True")]),
        policies: Ok(vec![policy("Enforce")]),
    }
}

fn segment<T: DeserializeOwned>(name: &str, at: &str) -> T {
    read(&format!(
        "{{apiVersion: chaperone.dev/v1alpha1, kind: AuditSegment, metadata: {{name: {name}, creationTimestamp: '2026-01-01T{at}Z'}}}}"
    ))
}

fn pod<T: DeserializeOwned>(namespace: &str, name: &str, image: &str, state: &str) -> T {
    read(&format!(
        "{{metadata: {{name: {name}, namespace: {namespace}, uid: {name}, creationTimestamp: '2026-01-01T00:00:00Z', labels: {{app: {name}}}, \
         annotations: {{chaperone.dev/injected: d}}}}, \
         spec: {{containers: [], initContainers: [{{name: chaperone, image: '{image}'}}]}}, \
         status: {{phase: Running, initContainerStatuses: [{{name: chaperone, image: i, imageID: i, ready: true, restartCount: 0, state: {state}}}]}}}}"
    ))
}

fn connection<T: DeserializeOwned>(namespace: &str, tls: &str, ready: &str) -> T {
    read(&format!(
        "{{apiVersion: chaperone.dev/v1alpha1, kind: Connection, metadata: {{name: db, namespace: {namespace}, generation: 1}}, \
         spec: {{postgres: {{host: h, tls: {{mode: {tls}}}, credential: {{secret: {{name: s}}}}}}}}, \
         status: {{conditions: [{{type: Ready, status: '{ready}', reason: TargetUnreachable, message: no route, lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}}}"
    ))
}

fn policy<T: DeserializeOwned>(enforcement: &str) -> T {
    read(&format!(
        "{{apiVersion: chaperone.dev/v1alpha1, kind: AccessPolicy, metadata: {{name: p, namespace: shop, generation: 1}}, \
         spec: {{subjects: [{{serviceAccount: a}}], connections: [databases/db], enforcement: {enforcement}, rules: []}}, \
         status: {{conditions: [{{type: Ready, status: 'True', reason: Ready, message: m, lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}}}"
    ))
}

/// What is found that is not OK: check, result, about.
fn found(facts: &Facts) -> Vec<(&'static str, Level, String)> {
    judge(facts)
        .into_iter()
        .filter(|line| line.result != Level::Ok)
        .map(|line| (line.check, line.result, line.about))
        .collect()
}

/// Each change of a healthy cluster is found, and nothing else is.
#[track_caller]
fn finds(change: impl FnOnce(&mut Facts), expected: &[(&'static str, Level, &str)]) {
    let mut facts = healthy();
    change(&mut facts);
    let expected: Vec<_> = expected
        .iter()
        .map(|(check, level, about)| (*check, *level, (*about).to_owned()))
        .collect();
    assert_eq!(found(&facts), expected);
}

#[test]
fn a_healthy_cluster_is_fine() {
    let lines = judge(&healthy());
    assert_eq!(lines.len(), CHECKS.len());
    finds(|_| {}, &[]);
}

#[test]
fn what_is_wrong_with_the_installation_is_found() {
    finds(
        |f| {
            f.operators.as_mut().unwrap()[0]
                .status
                .as_mut()
                .unwrap()
                .ready_replicas = Some(1)
        },
        &[(
            "operator",
            Level::Warn,
            "chaperone-system/chaperone-operator",
        )],
    );
    finds(
        |f| f.operators.as_mut().unwrap()[0].status = None,
        &[(
            "operator",
            Level::Fail,
            "chaperone-system/chaperone-operator",
        )],
    );
    finds(
        |f| {
            let hooks = f.mutating.as_mut().unwrap()[0].webhooks.as_mut().unwrap();
            hooks[0].client_config.ca_bundle = None;
            hooks[1].failure_policy = Some("Ignore".to_owned());
            hooks.pop();
        },
        &[
            ("webhooks", Level::Fail, "annotated.pods.chaperone.dev"),
            ("webhooks", Level::Fail, "governed.pods.chaperone.dev"),
            ("webhooks", Level::Fail, "unsealrequests.chaperone.dev"),
        ],
    );
    finds(
        |f| {
            f.admission.as_mut().unwrap().remove(0);
            let binding = &mut f.bindings.as_mut().unwrap()[1];
            binding.spec.as_mut().unwrap().validation_actions = Some(vec!["Audit".to_owned()]);
        },
        &[
            ("admission", Level::Fail, installation::ADMISSION[0]),
            ("admission", Level::Fail, installation::ADMISSION[1]),
        ],
    );
    finds(
        |f| {
            let definitions = f.definitions.as_mut().unwrap();
            definitions
                .retain(|found| found.metadata.name.as_deref() != Some("sessions.chaperone.dev"));
            let older = definitions
                .iter_mut()
                .find(|found| found.spec.names.kind == "Connection")
                .unwrap();
            let schema = older.spec.versions[0].schema.as_mut().unwrap();
            let properties = schema
                .open_api_v3_schema
                .as_mut()
                .unwrap()
                .properties
                .as_mut()
                .unwrap();
            properties
                .get_mut("spec")
                .unwrap()
                .properties
                .as_mut()
                .unwrap()
                .remove("guardrails");
        },
        &[
            ("resources", Level::Fail, "connections.chaperone.dev"),
            ("resources", Level::Fail, "sessions.chaperone.dev"),
        ],
    );
}

#[test]
fn evidence_that_is_not_kept_or_not_signed_for_is_found() {
    let used = |bytes| {
        move |f: &mut Facts| {
            let status = f.stores.as_mut().unwrap()[0].status.as_mut().unwrap();
            status.used_bytes = bytes;
        }
    };
    finds(used(85 * 1024), &[("store", Level::Warn, "default")]);
    finds(used(100 * 1024), &[("store", Level::Fail, "default")]);
    finds(
        |f| f.stores = Ok(vec![]),
        &[("store", Level::Fail, "default")],
    );
    finds(
        |f| f.checkpoints = Ok(vec![]),
        &[("checkpoints", Level::Fail, "")],
    );
    finds(
        |f| f.segments.as_mut().unwrap().push(segment("s3", "00:58:00")),
        &[("checkpoints", Level::Fail, "")],
    );
}

#[test]
fn pods_off_the_path_are_found() {
    let bare = |pod: &mut k8s_openapi::api::core::v1::Pod| {
        pod.metadata.annotations = None;
    };
    finds(
        |f| f.pods.as_mut().unwrap().iter_mut().for_each(bare),
        &[
            ("governed pods", Level::Fail, "shop/a"),
            ("annotated", Level::Fail, "other/b"),
        ],
    );
    finds(
        |f| {
            f.pods.as_mut().unwrap()[0]
                .spec
                .as_mut()
                .unwrap()
                .init_containers = None
        },
        &[("governed pods", Level::Fail, "shop/a")],
    );
    let crashed = "{waiting: {reason: CrashLoopBackOff}}";
    finds(
        |f| f.pods.as_mut().unwrap()[1] = pod("other", "b", "sidecar:2", crashed),
        &[("annotated", Level::Fail, "other/b")],
    );
    finds(
        |f| {
            f.pods.as_mut().unwrap()[0] = pod("shop", "a", "sidecar:2", crashed);
            f.now = "2026-01-01T00:01:00Z".parse().unwrap();
        },
        &[("governed pods", Level::Warn, "shop/a")],
    );
    // Those that have ended, and the kubelet's own, are no concern.
    finds(
        |f| {
            let pods = f.pods.as_mut().unwrap();
            pods.iter_mut().for_each(bare);
            pods[0].status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
            let mirror = pods[1].metadata.annotations.get_or_insert_default();
            mirror.insert("kubernetes.io/config.mirror".to_owned(), String::new());
        },
        &[],
    );
}

#[test]
fn pods_of_a_cron_job_are_followed_through_its_jobs() {
    finds(
        |f| {
            f.cron_jobs = Ok(vec![read(
                "{metadata: {name: nightly, namespace: other, annotations: {chaperone.dev/connections: x/y}}, \
                 spec: {schedule: '0 0 * * *', jobTemplate: {}}}",
            )]);
            f.jobs = Ok(vec![read(
                "{metadata: {name: nightly-1, namespace: other, ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: u}]}, \
                 spec: {selector: {matchExpressions: [{key: app, operator: In, values: [c]}]}, template: {}}}",
            )]);
            let mut bare: k8s_openapi::api::core::v1::Pod = pod("other", "c", "i", "{running: {}}");
            bare.metadata.annotations = None;
            f.pods.as_mut().unwrap().push(bare);
        },
        &[("annotated", Level::Fail, "other/c")],
    );
}

#[test]
fn sidecars_of_another_image_are_found() {
    finds(
        |f| {
            f.pods.as_mut().unwrap()[0] = pod("shop", "a", "sidecar:1", "{running: {}}");
            f.pods.as_mut().unwrap()[1] = pod("other", "b", "evil:1", "{running: {}}");
        },
        &[
            ("images", Level::Fail, "other/b"),
            ("images", Level::Warn, "shop/a"),
        ],
    );
}

#[test]
fn connections_and_policies_that_are_weaker_than_they_look_are_found() {
    finds(
        |f| f.connections = Ok(vec![connection("databases", "VerifyFull", "False")]),
        &[("connections", Level::Fail, "databases/db")],
    );
    finds(
        |f| f.connections = Ok(vec![connection("shop", "Disable", "True")]),
        &[
            ("secrets", Level::Warn, "shop/db"),
            ("tls", Level::Warn, "shop/db"),
        ],
    );
    finds(
        |f| f.policies = Ok(vec![policy("DryRun")]),
        &[("dry runs", Level::Warn, "shop/p")],
    );
    finds(
        |f| {
            f.policies = Ok(vec![read(
                "{apiVersion: chaperone.dev/v1alpha1, kind: AccessPolicy, metadata: {name: p, namespace: shop}, spec: {subjects: 1}}",
            )])
        },
        &[("policies", Level::Fail, "shop/p")],
    );
}

#[test]
fn what_may_not_be_seen_fails_every_check_that_needs_it() {
    finds(
        |f| f.pods = Err("you may not".to_owned()),
        &[
            ("governed pods", Level::Fail, ""),
            ("annotated", Level::Fail, ""),
            ("images", Level::Fail, ""),
            ("secrets", Level::Fail, ""),
        ],
    );
}

#[test]
fn what_is_worst_is_told_first_and_what_is_left_out_is_counted() {
    let mut findings = vec![Finding::warn("a", "w"); MOST_TOLD + 2];
    findings.push(Finding::fail("z", "f"));
    let told = lines("pods", Ok((String::new(), findings)));
    assert_eq!(told.len(), MOST_TOLD + 1);
    assert_eq!(told.first().map(|line| line.result), Some(Level::Fail));
    let last = told.last().map(|line| line.message.as_str());
    assert_eq!(last, Some("and 3 more"));
}

#[test]
fn what_cannot_be_seen_is_not_fine() {
    let told = lines("pods", Err("you may not list pods".to_owned()));
    assert_eq!(told.first().map(|line| line.result), Some(Level::Fail));
}
