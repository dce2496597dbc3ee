//! Requests to the Kubernetes API, recorded as `get on pods web in shop`.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_crds::{KubernetesRule, PolicyRule};
use chaperone_policy::ApiObject;

use super::{LIST, allow, name};

/// Verbs by object.
#[derive(Default)]
pub(super) struct Kubernetes<'a>(BTreeMap<ApiObject, BTreeSet<&'a str>>);

impl<'a> Kubernetes<'a> {
    pub(super) fn add(&mut self, verb: &'a str, object: ApiObject) {
        self.0.entry(object).or_default().insert(verb);
    }

    pub(super) fn rules(self) -> impl Iterator<Item = PolicyRule> {
        let rules = kubernetes_rules(self.0).into_iter().enumerate();
        rules.map(|(index, kubernetes)| {
            let verbs = kubernetes.verbs.join("-");
            PolicyRule {
                kubernetes: Some(kubernetes),
                ..allow(name(&verbs, index))
            }
        })
    }
}

/// Verb and object of a request to the Kubernetes API, recorded as `get on pods web in shop`.
pub(super) fn request_of(access: &str) -> Option<(&str, ApiObject)> {
    let (verb, object) = access.split_once(" on ")?;
    let small = !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_lowercase());
    let object = ApiObject::parse(object).filter(|_| small)?;
    Some((verb, object))
}

/// One rule for the names of a resource in a namespace that are asked for by the same verbs, as many
/// as it takes.
fn kubernetes_rules(verbs_of: BTreeMap<ApiObject, BTreeSet<&str>>) -> Vec<KubernetesRule> {
    let mut names_of: BTreeMap<(ApiObject, BTreeSet<&str>), Vec<String>> = BTreeMap::new();
    for (object, verbs) in verbs_of {
        let (unnamed, found) = match object {
            ApiObject::Path(path) => (ApiObject::Path(String::new()), path),
            ApiObject::Resource {
                group,
                resource,
                namespace,
                name,
            } => {
                // A rule with names covers no request without one.
                let mark = match name.is_empty() {
                    true => String::new(),
                    false => "*".to_owned(),
                };
                let unnamed = ApiObject::Resource {
                    group,
                    resource,
                    namespace,
                    name: mark,
                };
                (unnamed, name)
            }
        };
        names_of.entry((unnamed, verbs)).or_default().push(found);
    }
    let mut rules = Vec::new();
    for ((object, verbs), names) in names_of {
        for names in names.chunks(LIST / 2) {
            let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
            rules.push(match &object {
                ApiObject::Path(_) => KubernetesRule {
                    verbs,
                    non_resource_urls: names.to_vec(),
                    ..KubernetesRule::default()
                },
                ApiObject::Resource {
                    group,
                    resource,
                    namespace,
                    name,
                } => KubernetesRule {
                    verbs,
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    namespaces: Some(namespace.clone())
                        .filter(|text| !text.is_empty())
                        .into_iter()
                        .collect(),
                    names: match name.is_empty() {
                        true => Vec::new(),
                        false => names.to_vec(),
                    },
                    ..KubernetesRule::default()
                },
            });
        }
    }
    rules
}
