//! Requests to HTTP APIs, recorded as `GET on api.test/v1/orders`.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_crds::{HttpRule, PolicyRule};

use super::{LIST, allow, name};

/// Methods by host and path.
#[derive(Default)]
pub(super) struct Http<'a>(BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>);

impl<'a> Http<'a> {
    pub(super) fn add(&mut self, method: &'a str, host: &'a str, path: &'a str) {
        self.0.entry((host, path)).or_default().insert(method);
    }

    pub(super) fn rules(self) -> impl Iterator<Item = PolicyRule> {
        let rules = http_rules(self.0).into_iter().enumerate();
        rules.map(|(index, http)| {
            let methods = http.methods.join("-").to_ascii_lowercase();
            PolicyRule {
                http: Some(http),
                ..allow(name(&methods, index))
            }
        })
    }
}

/// Method, host and path of a request, recorded as `GET on api.test/v1/orders`, and of `Upgrade` on
/// the same; `None` where it is none.
pub(super) fn request_of(access: &str) -> Option<(&str, &str, &str)> {
    let (method, object) = access.split_once(" on ")?;
    let (host, path) = object.split_at(object.find('/')?);
    let capitals = method
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_' | b'0'..=b'9'));
    (capitals || method == chaperone_policy::UPGRADE).then_some((method, host, path))
}

/// One rule for the paths of a host that are asked for by the same methods, as many as it takes.
fn http_rules(methods_of: BTreeMap<(&str, &str), BTreeSet<&str>>) -> Vec<HttpRule> {
    let mut paths_of: BTreeMap<(&str, BTreeSet<&str>), Vec<String>> = BTreeMap::new();
    for ((host, path), methods) in methods_of {
        let paths = paths_of.entry((host, methods)).or_default();
        paths.push(path.to_owned());
    }
    let mut rules = Vec::new();
    for ((host, methods), paths) in paths_of {
        for paths in paths.chunks(LIST) {
            rules.push(HttpRule {
                methods: methods.iter().map(|method| (*method).to_owned()).collect(),
                hosts: vec![host.to_owned()],
                paths: paths.to_vec(),
            });
        }
    }
    rules
}
