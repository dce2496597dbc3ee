//! The YAML that is installed is the YAML of these types.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;
use std::path::Path;

use chaperone_crds::generate;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/generated");
const TEMPLATES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../charts/chaperone/templates/crds"
);

#[test]
fn generated_yaml_is_fresh() {
    assert_fresh(GENERATED, |crd| generate::yaml(crd).unwrap());
}

#[test]
fn the_charts_definitions_are_fresh_and_stay_when_the_release_goes() {
    assert_fresh(TEMPLATES, |crd| {
        let text = generate::chart_template(crd).unwrap();
        assert!(text.contains("    helm.sh/resource-policy: keep\n"));
        // Helm would run it as a template.
        assert!(!text.contains("{{"));
        text
    });
}

fn assert_fresh(folder: &str, text: impl Fn(&CustomResourceDefinition) -> String) {
    let folder = Path::new(folder);
    let mut expected = BTreeSet::new();
    for crd in generate::all() {
        let name = generate::file_name(&crd);
        let on_disk = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            on_disk == text(&crd),
            "{}/{name} is stale; run: cargo run -p chaperone-crds --bin crdgen -- crds/generated charts/chaperone/templates/crds",
            folder.display()
        );
        expected.insert(name);
    }
    let found: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        found,
        expected,
        "{} has other files than the definitions",
        folder.display()
    );
}

#[test]
fn generated_yaml_reads_back_as_the_definition() {
    for crd in generate::all() {
        let read: Value = serde_saphyr::from_str(&generate::yaml(&crd).unwrap()).unwrap();
        let mut written = serde_json::to_value(&crd).unwrap();
        assert_eq!(whole(read), whole(written.take()));
    }
}

#[test]
fn every_list_map_and_text_is_bounded() {
    for crd in generate::all() {
        let crd = serde_json::to_value(&crd).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut unbounded = Vec::new();
        collect_unbounded("spec", spec, &mut unbounded);
        assert!(
            unbounded.is_empty(),
            "{}: {unbounded:?}",
            crd["metadata"]["name"]
        );
    }
}

#[test]
fn every_schema_is_structural() {
    for crd in generate::all() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let text = schema.to_string();
        for forbidden in [
            "anyOf",
            "oneOf",
            "allOf",
            "\"$ref\"",
            "uint",
            "\"additionalProperties\":false",
            "const",
        ] {
            assert!(
                !text.contains(forbidden),
                "{:?} has {forbidden}",
                crd.metadata.name
            );
        }
    }
}

/// Evidence: so many that `kubectl get chaperone` leaves them out, and never changed, so without
/// a status.
const EVIDENCE: [&str; 2] = ["AuditCheckpoint", "AuditSegment"];
/// As many as they are, and never changed; when it is stored is the status, and no condition.
const PACK: &str = "AuditPack";
/// A view is all status, so it has none.
const VIEW: &str = "Session";

#[test]
fn resources_are_listed_together_and_have_conditions_by_type() {
    for crd in generate::all() {
        let kind = crd.spec.names.kind.as_str();
        let evidence = EVIDENCE.contains(&kind);
        let category = if evidence || kind == PACK {
            "chaperone-audit"
        } else {
            "chaperone"
        };
        assert_eq!(crd.spec.names.categories, Some(vec![category.to_owned()]));
        assert!(
            crd.spec
                .names
                .short_names
                .is_some_and(|names| names.len() == 1)
        );
        let schema = serde_json::to_value(&crd.spec.versions[0]).unwrap();
        assert!(
            schema["additionalPrinterColumns"]
                .as_array()
                .is_some_and(|columns| columns.len() >= 3)
        );
        let status = &schema["schema"]["openAPIV3Schema"]["properties"]["status"];
        if evidence || kind == VIEW {
            assert!(status.is_null(), "{kind} has a status");
            continue;
        }
        assert!(schema["subresources"]["status"].is_object());
        if kind == PACK {
            assert!(status["properties"]["storedAt"].is_object());
            continue;
        }
        let conditions = &status["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(
            conditions["x-kubernetes-list-map-keys"],
            serde_json::json!(["type"])
        );
        assert!(conditions["items"]["properties"]["observedGeneration"].is_object());
    }
}

/// 1.0 and 1 are one number.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) => Value::from(float),
            None => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, whole(value)))
            .collect(),
        other => other,
    }
}

fn collect_unbounded(path: &str, schema: &Value, into: &mut Vec<String>) {
    let has = |key: &str| schema.get(key).is_some();
    let bounded = match schema["type"].as_str() {
        Some("string") => has("maxLength") || has("enum") || has("format"),
        Some("array") => has("maxItems"),
        Some("object") => !has("additionalProperties") || has("maxProperties"),
        _ => true,
    };
    if !bounded {
        into.push(path.to_owned());
    }
    for (field, child) in schema["properties"].as_object().into_iter().flatten() {
        collect_unbounded(&format!("{path}.{field}"), child, into);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = schema.get(key) {
            collect_unbounded(&format!("{path}[]"), child, into);
        }
    }
}
