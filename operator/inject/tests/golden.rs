//! Pods and workloads as they come in, and as they leave. `UPDATE_GOLDEN=1` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::PathBuf;

use chaperone_inject::{Plan, WorkloadKind, copy, inject, verify};
use serde_json::Value;
use support::{accepted, api, defaulted, orders, other_cluster, own_cluster, plan, target, yaml};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(name: &str) -> Value {
    yaml(&fs::read_to_string(folder().join(name)).unwrap())
}

fn check(name: &str, warnings: &[String], object: &Value) {
    let mut text = String::new();
    for warning in warnings {
        text.push_str(&format!("# warning: {warning}\n"));
    }
    text.push_str(&serde_saphyr::to_string(object).unwrap());
    let path = folder().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "{name}: see UPDATE_GOLDEN");
}

fn check_pod(name: &str, plan: &Plan) {
    let injected = inject(&read(&format!("{name}.in.yaml")), plan).unwrap();
    check(
        &format!("{name}.out.yaml"),
        &injected.warnings,
        &injected.pod,
    );
    accepted(|accepted| verify(&injected.pod, accepted)).expect(name);
    accepted(|accepted| verify(&defaulted(&injected.pod), accepted)).expect(name);
}

#[test]
fn a_bare_pod_gets_everything() {
    check_pod("bare", &plan(vec![orders()]));
}

#[test]
fn what_a_user_set_is_kept() {
    check_pod("user-settings", &plan(vec![orders()]));
}

#[test]
fn a_pod_as_the_service_account_plugin_leaves_it_loses_its_token() {
    check_pod("own-token", &plan(vec![orders()]));
}

#[test]
fn several_connections_have_an_address_each() {
    let targets = vec![
        orders(),
        target(("databases", "stock-db"), "orders.db", 5433, None),
        target(("shop", "legacy"), "10.1.2.3", 5432, None),
    ];
    check_pod("several", &plan(targets));
}

#[test]
fn an_api_is_reached_by_all_its_names_and_trusted() {
    let targets = vec![
        orders(),
        api(("apis", "pay"), "api.pay.example", 443, &["pay.test"]),
        api(("apis", "legacy"), "10.1.2.4", 8080, &[]),
    ];
    check_pod("apis", &plan(targets));
}

/// The agent finds the API server where it always does, and only the sidecar has the token.
#[test]
fn a_kubernetes_api_is_what_in_cluster_configuration_finds() {
    check_pod("kubernetes", &plan(vec![own_cluster(), other_cluster()]));
}

#[test]
fn a_governed_pod_without_connections_gets_a_sidecar_all_the_same() {
    check_pod("governed", &plan(Vec::new()));
}

#[test]
fn annotating_a_workload_annotates_its_template() {
    for (name, kind) in [
        ("deployment", WorkloadKind::Deployment),
        ("statefulset", WorkloadKind::StatefulSet),
        ("job", WorkloadKind::Job),
        ("cronjob", WorkloadKind::CronJob),
    ] {
        let copied = copy(kind, "shop", None, &read(&format!("{name}.in.yaml"))).unwrap();
        check(
            &format!("{name}.out.yaml"),
            &copied.warnings,
            &copied.object,
        );
        assert_eq!(copied.wanted.connections.len(), 1, "{name}");
    }
}

/// `stored.json` is what `kubectl get pod` of a Kubernetes 1.34 answered for an injected pod,
/// with another CA and image written into it.
#[test]
fn a_pod_as_a_real_api_server_stores_it_verifies() {
    let pod = read("stored.json");
    let verified = accepted(|accepted| verify(&pod, accepted)).unwrap();
    assert_eq!(verified.listeners.len(), 1);
}
