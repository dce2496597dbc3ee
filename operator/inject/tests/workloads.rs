//! The copy follows or leaves with the original, and nothing of the user's is touched.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use chaperone_inject::{Refusal, WorkloadKind, copy};
use serde_json::Value;
use support::yaml;

fn workload(own: &str, template: &str) -> Value {
    yaml(&format!(
        "{{metadata: {{name: a, annotations: {own}}}, \
         spec: {{template: {{metadata: {{annotations: {template}}}, spec: {{}}}}}}}}"
    ))
}

fn template(object: &Value) -> Value {
    object
        .pointer("/spec/template/metadata/annotations")
        .cloned()
        .unwrap_or_default()
}

fn update(old: &Value, new: &Value) -> Value {
    let copied = copy(WorkloadKind::Deployment, "shop", Some(old), new).unwrap();
    template(&copied.object)
}

const A: &str = "{chaperone.dev/connections: a}";
const COPY_OF_A: &str = "{chaperone.dev/connections: a, chaperone.dev/copied: a}";

#[test]
fn the_copy_follows_the_original() {
    let old = workload(A, COPY_OF_A);
    let new = workload(
        "{chaperone.dev/connections: b, chaperone.dev/purpose: p}",
        COPY_OF_A,
    );
    assert_eq!(
        update(&old, &new),
        yaml(
            "{chaperone.dev/connections: b, chaperone.dev/copied: b, \
             chaperone.dev/purpose: p, chaperone.dev/copied-purpose: p}"
        )
    );
}

#[test]
fn the_copy_leaves_with_the_original_and_a_users_annotations_stay() {
    let marked = "{chaperone.dev/connections: a, chaperone.dev/copied: a, mine: kept}";
    let old = workload(A, marked);
    assert_eq!(update(&old, &workload("{}", marked)), yaml("{mine: kept}"));
    let old = workload(A, COPY_OF_A);
    assert_eq!(update(&old, &workload("{}", COPY_OF_A)), Value::Null);
}

#[test]
fn what_a_user_wrote_into_the_template_is_never_touched() {
    let own = "{chaperone.dev/connections: mine}";
    assert_eq!(update(&workload("{}", own), &workload(A, own)), yaml(own));
    assert_eq!(update(&workload(A, own), &workload("{}", own)), yaml(own));
    let taken_over = "{chaperone.dev/connections: mine, chaperone.dev/copied: a}";
    assert_eq!(
        update(&workload(A, COPY_OF_A), &workload(A, taken_over)),
        yaml(own)
    );
    let copied = copy(WorkloadKind::Deployment, "shop", None, &workload(A, own)).unwrap();
    assert_eq!(copied.warnings.len(), 1);
}

#[test]
fn a_reapplied_manifest_gets_its_copy_back() {
    let old = workload(A, COPY_OF_A);
    assert_eq!(update(&old, &workload(A, "{}")), yaml(COPY_OF_A));
}

#[test]
fn copying_twice_is_copying_once() {
    let once = copy(WorkloadKind::Deployment, "shop", None, &workload(A, "{}")).unwrap();
    let twice = copy(WorkloadKind::Deployment, "shop", None, &once.object).unwrap();
    assert_eq!(once.object, twice.object);
}

#[test]
fn a_job_made_by_a_cronjob_keeps_its_copy() {
    let job = workload("{}", COPY_OF_A);
    let made = copy(WorkloadKind::Job, "shop", None, &job).unwrap();
    assert_eq!(made.object, job);
    assert_eq!(made.wanted.connections.len(), 1);
    assert_eq!(
        copy(WorkloadKind::Job, "shop", Some(&job), &job)
            .unwrap()
            .object,
        job
    );
}

#[test]
fn a_job_annotated_later_is_refused() {
    let plain = workload("{}", "{}");
    let asked = workload(A, "{}");
    for (old, new) in [(&plain, &asked), (&asked, &plain)] {
        assert_eq!(
            copy(WorkloadKind::Job, "shop", Some(old), new).unwrap_err(),
            Refusal::JobImmutable
        );
    }
    assert!(copy(WorkloadKind::Job, "shop", Some(&plain), &plain).is_ok());
}

#[test]
fn a_workload_that_asks_for_nothing_is_left_byte_for_byte() {
    for text in [
        "{metadata: {name: a}}",
        "{metadata: {name: a}, spec: {template: {}}}",
    ] {
        let object = yaml(text);
        for old in [None, Some(&object)] {
            let copied = copy(WorkloadKind::Deployment, "shop", old, &object).unwrap();
            assert_eq!(copied.object, object);
        }
    }
}

#[test]
fn a_wrong_annotation_is_refused_where_it_is_written() {
    let wrong = workload("{chaperone.dev/connections: 'a,,b'}", "{}");
    let refusal = copy(WorkloadKind::Deployment, "shop", None, &wrong).unwrap_err();
    assert!(refusal.to_string().contains("entry 2"), "{refusal}");
}
