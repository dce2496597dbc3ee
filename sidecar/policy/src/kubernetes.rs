//! What a rule on the Kubernetes API matches: verbs, groups, resources, namespaces, names.
//!
//! As in RBAC, with one difference: `*` never stands for what reaches past the object itself.
//! Running commands, tunnels, tokens, acting as someone else, raising rights, Secrets, and what
//! other API groups than Kubernetes' own may do are covered only by name. What takes something
//! away (a Deny, a guardrail) matches all of it by `*`, and whatever could hold what it names.

use chaperone_crds::KubernetesRule;

use crate::pattern::Glob;
use crate::{Effect, Object};

/// Verbs that `*` does not stand for (Kubernetes, Using RBAC Authorization: Restrictions on role
/// creation or update; User impersonation; Certificates: Authorization).
const VERBS_BY_NAME: [&str; 6] = [
    "approve",
    "attest",
    "bind",
    "escalate",
    "impersonate",
    "sign",
];
/// Subresources that are part of their object and nothing more.
const PLAIN_SUBRESOURCES: [&str; 4] = ["log", "resize", "scale", "status"];
/// Groups of Kubernetes itself that have no dot in their names (Kubernetes API, API Groups).
const OWN_GROUPS: [&str; 6] = ["", "apps", "autoscaling", "batch", "extensions", "policy"];
/// Verbs on many objects at once, named or not.
const ON_MANY: [&str; 3] = ["list", "watch", "deletecollection"];

/// A request to the Kubernetes API, as rules match it (Kubernetes, Authorization: Request
/// attributes).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiObject {
    /// A resource, or a subresource.
    Resource {
        /// API group; the core group is empty.
        group: String,
        /// In the plural; a subresource after a slash: `pods/exec`.
        resource: String,
        /// Empty: none, or all.
        namespace: String,
        /// Empty: none, or all.
        name: String,
    },
    /// A path that is no resource: `/metrics`.
    Path(String),
}

impl std::fmt::Display for ApiObject {
    /// `deployments/scale.apps web in shop`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (group, resource, namespace, name) = match self {
            ApiObject::Path(path) => return f.write_str(path),
            ApiObject::Resource {
                group,
                resource,
                namespace,
                name,
            } => (group, resource, namespace, name),
        };
        f.write_str(resource)?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if !name.is_empty() {
            write!(f, " {name}")?;
        }
        if !namespace.is_empty() {
            write!(f, " in {namespace}")?;
        }
        Ok(())
    }
}

impl ApiObject {
    /// What the texts of evidence say: the inverse of `Display`.
    pub fn parse(text: &str) -> Option<ApiObject> {
        if text.starts_with('/') {
            return Some(ApiObject::Path(text.to_owned()));
        }
        let (rest, namespace) = text.split_once(" in ").unwrap_or((text, ""));
        let (kind, name) = rest.split_once(' ').unwrap_or((rest, ""));
        let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
        let fits = |text: &str| !text.contains(' ');
        (!resource.is_empty() && fits(name) && fits(namespace)).then(|| ApiObject::Resource {
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// The effect of a verb: how durable its record is.
pub(crate) fn effect(verb: &str, object: &ApiObject) -> Effect {
    match (verb, object) {
        (_, ApiObject::Resource { resource, .. }) if reaches_beyond(resource) => Effect::Execute,
        ("get" | "list" | "watch" | "head" | "options", _) => Effect::Read,
        ("create" | "post", _) => Effect::Write,
        ("update" | "patch" | "put", _) => Effect::Modify,
        ("delete" | "deletecollection", _) => Effect::Delete,
        (verb, _) if VERBS_BY_NAME.contains(&verb) => Effect::Privilege,
        _ => Effect::Execute,
    }
}

/// What goes on behind it is no request to the API server any more.
fn reaches_beyond(resource: &str) -> bool {
    let sub = resource.split_once('/').map(|(_, sub)| sub);
    sub.is_some_and(|sub| !PLAIN_SUBRESOURCES.contains(&sub))
}

fn is_own(group: &str) -> bool {
    OWN_GROUPS.contains(&group) || group.ends_with(".k8s.io")
}

/// The requests a rule speaks about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resources {
    any_verb: bool,
    verbs: Vec<String>,
    /// Empty: any of Kubernetes' own.
    groups: Vec<Glob>,
    /// Empty: any.
    resources: Vec<ResourcePattern>,
    /// Empty: any.
    namespaces: Vec<Glob>,
    /// Empty: any.
    names: Vec<Glob>,
    paths: Vec<Glob>,
    /// It lists paths and nothing else.
    only_paths: bool,
    /// The rule takes something away.
    restricts: bool,
}

/// `pods`, `pods/exec`, `*/scale`, `*`.
#[derive(Debug, Clone)]
struct ResourcePattern {
    base: Glob,
    sub: Option<Glob>,
    /// `*` alone.
    any: bool,
}

impl Resources {
    /// `refuse` is told the field and what is wrong with it.
    pub(crate) fn compile(
        rule: &KubernetesRule,
        restricts: bool,
        refuse: &mut dyn FnMut(String, String),
    ) -> Resources {
        let mut compiled = Resources {
            restricts,
            ..Resources::default()
        };
        if rule.verbs.is_empty() {
            let message = "without a verb the rule can never match".to_owned();
            refuse("verbs".to_owned(), message);
        }
        for (position, verb) in rule.verbs.iter().enumerate() {
            if verb == "*" {
                compiled.any_verb = true;
            } else if verb.is_empty() || !verb.bytes().all(|byte| byte.is_ascii_lowercase()) {
                let message = format!("`{verb}` is no verb; write it in small letters, or `*`");
                refuse(format!("verbs[{position}]"), message);
            }
            compiled.verbs.push(verb.clone());
        }
        let mut globs = |list: &str, texts: &[String], allowed: &dyn Fn(char) -> bool| {
            for (position, text) in texts.iter().enumerate() {
                if !text.chars().all(|c| c == '*' || allowed(c)) {
                    let message = format!("`{text}` can never match; write the name alone");
                    refuse(format!("{list}[{position}]"), message);
                }
            }
            texts.iter().map(|text| Glob::new(text)).collect()
        };
        let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        compiled.groups = globs("groups", &rule.groups, &label);
        compiled.namespaces = globs("namespaces", &rule.namespaces, &label);
        // Names may hold almost anything: those of RBAC have colons (Kubernetes, Object Names).
        compiled.names = globs("names", &rule.names, &|c| c != '/' && !c.is_whitespace());
        compiled.paths = globs("nonResourceURLs", &rule.non_resource_urls, &|c| {
            !c.is_whitespace() && !"%?#".contains(c)
        });
        for (position, path) in rule.non_resource_urls.iter().enumerate() {
            if !path.starts_with('/') {
                let message = format!("`{path}` does not begin with a slash");
                refuse(format!("nonResourceURLs[{position}]"), message);
            }
        }
        for (position, text) in rule.resources.iter().enumerate() {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-*".contains(c);
            let mut parts = text.split('/');
            let (base, sub, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
            let fits = |part: &str| !part.is_empty() && part.chars().all(known);
            if more.is_some() || !fits(base) || !sub.is_none_or(fits) {
                let message = format!(
                    "`{text}` is no resource; write it in the plural and without its group, as \
                     `deployments` or `pods/exec`"
                );
                refuse(format!("resources[{position}]"), message);
            }
            compiled.resources.push(ResourcePattern {
                base: Glob::new(base),
                sub: sub.map(Glob::new),
                any: text == "*",
            });
        }
        let others = [&rule.groups, &rule.resources, &rule.namespaces, &rule.names];
        compiled.only_paths =
            !rule.non_resource_urls.is_empty() && others.iter().all(|list| list.is_empty());
        compiled
    }

    pub(crate) fn matches(&self, verb: &str, object: &ApiObject) -> bool {
        let by_name = VERBS_BY_NAME.contains(&verb) && !self.restricts;
        let named = || self.verbs.iter().any(|known| known == verb);
        if !((self.any_verb && !by_name) || named()) {
            return false;
        }
        match object {
            ApiObject::Path(path) => {
                let unlisted = self.paths.is_empty() && self.restricts && self.is_unlisted();
                unlisted || self.paths.iter().any(|glob| glob.matches(path))
            }
            ApiObject::Resource {
                group,
                resource,
                namespace,
                name,
            } => {
                !self.only_paths
                    && self.has_group(group)
                    && self.has_resource(group, resource)
                    && self.has_namespace(verb, namespace, name)
                    && self.has_name(name)
            }
        }
    }

    fn is_unlisted(&self) -> bool {
        self.groups.is_empty()
            && self.resources.is_empty()
            && self.namespaces.is_empty()
            && self.names.is_empty()
    }

    fn has_group(&self, group: &str) -> bool {
        let any = |glob: &Glob| matches!(glob, Glob::Any);
        if self.groups.is_empty() || self.groups.iter().any(any) {
            return self.restricts || is_own(group);
        }
        self.groups.iter().any(|glob| glob.matches(group))
    }

    fn has_resource(&self, group: &str, resource: &str) -> bool {
        let (base, sub) = match resource.split_once('/') {
            Some((base, sub)) => (base, Some(sub)),
            None => (resource, None),
        };
        let secret = group.is_empty() && base == "secrets";
        let by_name = !self.restricts;
        if self.resources.is_empty() {
            return !by_name || (!secret && !reaches_beyond(resource));
        }
        self.resources.iter().any(|pattern| {
            if !pattern.base.matches(base) {
                return false;
            }
            if by_name && secret && !matches!(pattern.base, Glob::Exact(_)) {
                return false;
            }
            match (&pattern.sub, sub) {
                (None, None) => true,
                (None, Some(_)) => pattern.any && (!by_name || !reaches_beyond(resource)),
                (Some(_), None) => false,
                (Some(glob), Some(sub)) => {
                    let exact = matches!(glob, Glob::Exact(_));
                    glob.matches(sub) && (!by_name || exact || !reaches_beyond(resource))
                }
            }
        })
    }

    /// A request over all namespaces reaches into each: what restricts one catches it.
    fn has_namespace(&self, verb: &str, namespace: &str, name: &str) -> bool {
        if self.namespaces.is_empty() {
            return true;
        }
        if namespace.is_empty() {
            return self.restricts && name.is_empty() && ON_MANY.contains(&verb);
        }
        self.namespaces.iter().any(|glob| glob.matches(namespace))
    }

    /// A request without a name may be for any: what restricts one catches it.
    fn has_name(&self, name: &str) -> bool {
        if self.names.is_empty() {
            return true;
        }
        match name.is_empty() {
            true => self.restricts,
            false => self.names.iter().any(|glob| glob.matches(name)),
        }
    }

    /// The resources it is for, where each is one text and it has no path: for the index.
    pub(crate) fn bases(&self) -> Option<Vec<&str>> {
        if !self.paths.is_empty() || self.resources.is_empty() {
            return None;
        }
        let bases = self.resources.iter().map(|pattern| match &pattern.base {
            Glob::Exact(text) => Some(&**text),
            _ => None,
        });
        bases.collect()
    }
}

/// What the index looks an object up by.
pub(crate) fn base(object: &ApiObject) -> &str {
    match object {
        ApiObject::Resource { resource, .. } => {
            resource.split_once('/').map_or(resource, |(base, _)| base)
        }
        ApiObject::Path(_) => "",
    }
}

/// One access to the API.
pub fn api_access(verb: &str, object: ApiObject, baseline: bool) -> crate::Access {
    crate::Access {
        effect: match baseline {
            true => Effect::Catalog,
            false => effect(verb, &object),
        },
        object: Object::Api {
            verb: verb.to_owned(),
            object,
        },
        baseline,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rule(verbs: &[&str], resources: &[&str]) -> KubernetesRule {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        KubernetesRule {
            verbs: owned(verbs),
            resources: owned(resources),
            ..KubernetesRule::default()
        }
    }

    fn compile(rule: &KubernetesRule, restricts: bool) -> Resources {
        let mut wrong = Vec::new();
        let compiled = Resources::compile(rule, restricts, &mut |list, _| wrong.push(list));
        assert_eq!(wrong, Vec::<String>::new());
        compiled
    }

    fn matches(rule: &KubernetesRule, restricts: bool, verb: &str, object: &str) -> bool {
        let object = ApiObject::parse(object).unwrap();
        compile(rule, restricts).matches(verb, &object)
    }

    #[test]
    fn a_star_never_reaches_past_the_object() {
        let all = rule(&["*"], &["*"]);
        let every = rule(&["*"], &[]);
        for (verb, object) in [
            ("create", "pods/exec web in shop"),
            ("create", "pods/attach web in shop"),
            ("create", "pods/portforward web in shop"),
            ("get", "services/proxy web in shop"),
            ("get", "nodes/proxy n1"),
            ("patch", "pods/ephemeralcontainers web in shop"),
            ("create", "serviceaccounts/token web in shop"),
            ("get", "secrets db in shop"),
            ("list", "secrets"),
            ("impersonate", "users ann"),
            ("escalate", "roles.rbac.authorization.k8s.io r in shop"),
            ("bind", "clusterroles.rbac.authorization.k8s.io r"),
            (
                "update",
                "certificatesigningrequests/approval.certificates.k8s.io c",
            ),
            (
                "create",
                "virtualmachineinstances/console.subresources.kubevirt.io v in shop",
            ),
            ("get", "widgets.example.com w in shop"),
        ] {
            for rule in [&all, &every] {
                assert!(!matches(rule, false, verb, object), "{verb} on {object}");
                assert!(matches(rule, true, verb, object), "Deny {verb} on {object}");
            }
        }
        for (verb, object) in [
            ("get", "pods web in shop"),
            ("get", "pods/log web in shop"),
            ("patch", "deployments/scale.apps web in shop"),
            ("list", "nodes"),
            ("create", "events.events.k8s.io in shop"),
        ] {
            assert!(matches(&all, false, verb, object), "{verb} on {object}");
            assert!(matches(&every, false, verb, object), "{verb} on {object}");
        }
        assert!(!matches(&all, false, "get", "/metrics"));
        assert!(matches(&every, true, "get", "/metrics"));
    }

    #[test]
    fn what_is_named_is_covered() {
        assert!(matches(
            &rule(&["create"], &["pods/exec"]),
            false,
            "create",
            "pods/exec web in shop"
        ));
        assert!(!matches(
            &rule(&["create"], &["pods/*"]),
            false,
            "create",
            "pods/exec web in shop"
        ));
        assert!(matches(
            &rule(&["get"], &["pods/*"]),
            false,
            "get",
            "pods/log web in shop"
        ));
        assert!(!matches(
            &rule(&["get"], &["pods"]),
            false,
            "get",
            "pods/log web in shop"
        ));
        assert!(matches(
            &rule(&["get"], &["secrets"]),
            false,
            "get",
            "secrets db in shop"
        ));
        assert!(!matches(
            &rule(&["get"], &["secret*"]),
            false,
            "get",
            "secrets db in shop"
        ));
        assert!(matches(
            &rule(&["impersonate"], &["users"]),
            false,
            "impersonate",
            "users ann"
        ));
        let mut custom = rule(&["get"], &["widgets"]);
        custom.groups = vec!["*.com".to_owned()];
        assert!(matches(
            &custom,
            false,
            "get",
            "widgets.example.com w in shop"
        ));
        let mut paths = rule(&["get"], &[]);
        paths.non_resource_urls = vec!["/metrics".to_owned(), "/logs/*".to_owned()];
        assert!(matches(&paths, false, "get", "/metrics"));
        assert!(matches(&paths, false, "get", "/logs/kern.log"));
        assert!(!matches(&paths, false, "get", "/metricsx"));
        assert!(!matches(&paths, false, "get", "pods web in shop"));
    }

    #[test]
    fn what_restricts_one_catches_what_could_hold_it() {
        let mut prod = rule(&["*"], &["pods"]);
        prod.namespaces = vec!["prod".to_owned()];
        assert!(matches(&prod, true, "list", "pods"));
        assert!(matches(&prod, true, "deletecollection", "pods"));
        assert!(!matches(&prod, true, "list", "pods in shop"));
        assert!(!matches(&prod, false, "list", "pods"));
        let mut named = rule(&["*"], &["configmaps"]);
        named.names = vec!["root-ca".to_owned()];
        assert!(matches(&named, true, "list", "configmaps in shop"));
        assert!(matches(&named, true, "create", "configmaps in shop"));
        assert!(!matches(&named, false, "list", "configmaps in shop"));
        assert!(!matches(&named, true, "get", "configmaps other in shop"));
    }

    #[test]
    fn what_can_never_match_is_refused() {
        let refused = |rule: &KubernetesRule| {
            let mut wrong = Vec::new();
            Resources::compile(rule, false, &mut |list, _| wrong.push(list));
            wrong
        };
        assert_eq!(refused(&rule(&[], &["pods"])), ["verbs"]);
        assert_eq!(refused(&rule(&["GET"], &["pods"])), ["verbs[0]"]);
        for resource in ["deployments.apps", "pods/exec/x", "/pods", "Pods", "pods/"] {
            assert_eq!(
                refused(&rule(&["get"], &[resource])),
                ["resources[0]"],
                "{resource}"
            );
        }
        let mut path = rule(&["get"], &[]);
        path.non_resource_urls = vec!["metrics".to_owned()];
        assert_eq!(refused(&path), ["nonResourceURLs[0]"]);
    }

    #[test]
    fn objects_are_read_back_as_they_are_written() {
        for text in [
            "pods/exec web in shop",
            "deployments/scale.apps web in shop",
            "nodes",
            "secrets in shop",
            "clusterroles.rbac.authorization.k8s.io system:node",
            "/healthz",
        ] {
            assert_eq!(ApiObject::parse(text).unwrap().to_string(), text);
        }
    }
}
