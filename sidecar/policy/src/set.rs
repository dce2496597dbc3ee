//! All policies of one connection, and what they come to for a subject.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use chaperone_crds as crds;

use crate::compile::{Compiler, Invalid, Rules};
use crate::digest;
use crate::index::RuleIndex;
use crate::policy::{Broken, Inner, State, View, WouldBe};
use crate::rule::Action;
use crate::selector::Selector;
use crate::{Findings, Limits, Masking, Policy, Reason, RuleRef, Subject};

/// Labels of namespaces, by name. Empty standalone, where namespaces have none: then only an
/// empty `consumers` selector admits other namespaces.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// A Connection with the metadata that counts.
#[derive(Debug, Clone, Copy)]
pub struct NamedConnection<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.generation`; 0 standalone.
    pub generation: i64,
    /// What it says.
    pub spec: &'a crds::ConnectionSpec,
    /// What `consumers` selects among.
    pub namespaces: &'a NamespaceLabels,
}

/// An AccessPolicy with the metadata that counts.
#[derive(Debug, Clone, Copy)]
pub struct NamedPolicy<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.generation`; 0 standalone.
    pub generation: i64,
    /// What it says.
    pub spec: &'a crds::AccessPolicySpec,
}

/// Everything that may apply on one connection, compiled.
#[derive(Debug)]
pub struct PolicySet {
    connection: Source,
    namespace: String,
    consumers: Option<crds::LabelSelector>,
    namespaces: NamespaceLabels,
    policies: Vec<Source>,
    /// Why everything is denied to everyone, selected or not: there is no connection.
    gone: Option<Broken>,
    /// Why everything is denied to those who are selected.
    suspended: Option<Broken>,
    /// One policy a combination of selecting sources, shared by all sessions it is for.
    selected: Mutex<HashMap<Vec<usize>, Policy>>,
}

/// Combinations kept; past it they are made again, which costs time and never changes an answer.
const MAX_SELECTED: usize = 1024;

/// One resource, compiled.
#[derive(Debug)]
struct Source {
    reference: RuleRef,
    selector: Selector,
    dry_run: bool,
    catalog: bool,
    rules: Rules,
    invalid: Option<Invalid>,
}

impl PolicySet {
    /// Compiles what is for this connection; policies for others are left out. Never fails:
    /// a resource that does not compile denies everyone it selects.
    pub fn compile(connection: &NamedConnection<'_>, policies: &[NamedPolicy<'_>]) -> PolicySet {
        let (source, _) = compile_connection(connection);
        let mut sources: Vec<Source> = policies
            .iter()
            .filter(|policy| names(policy, connection))
            .map(|policy| compile_policy(policy).0)
            .collect();
        sources.sort_by(|a, b| key(a).cmp(&key(b)));
        PolicySet {
            connection: source,
            namespace: connection.namespace.to_owned(),
            consumers: connection
                .spec
                .consumers
                .as_ref()
                .map(|consumers| consumers.namespace_selector.clone()),
            namespaces: connection.namespaces.clone(),
            policies: sources,
            gone: None,
            suspended: None,
            selected: Mutex::default(),
        }
    }

    /// The policies of a connection that is not there: everyone is denied.
    pub fn unavailable(
        namespace: &str,
        name: &str,
        reason: Reason,
        message: impl Into<String>,
    ) -> PolicySet {
        let spec = crds::ConnectionSpec {
            postgres: None,
            http: None,
            kubernetes: None,
            ssh: None,
            consumers: None,
            guardrails: None,
        };
        let connection = NamedConnection {
            namespace,
            name,
            generation: 0,
            spec: &spec,
            namespaces: &NamespaceLabels::new(),
        };
        let mut set = PolicySet::compile(&connection, &[]);
        set.gone = Some(without_rule(reason, message));
        set
    }

    /// Denies everything until another set takes this one's place. What was forwarded before is
    /// masked as the policies say all the same; whom no policy selects has none here either.
    #[must_use]
    pub fn suspended(mut self, reason: Reason, message: impl Into<String>) -> PolicySet {
        self.suspended = Some(without_rule(reason, message));
        self.selected = Mutex::default();
        self
    }

    /// Adds an AccessPolicy whose text could not even be read. Whom and what it is for is not
    /// known, so it denies everyone on this connection.
    #[must_use]
    pub fn with_unreadable(mut self, namespace: &str, name: &str, message: &str) -> PolicySet {
        let policy = format!("{namespace}/{name}");
        let digest = digest::of_texts(["unreadable", message]);
        let resource = format!("AccessPolicy {policy}");
        self.policies.push(Source {
            reference: RuleRef {
                policy,
                rule: String::new(),
                generation: 0,
                digest,
            },
            selector: Selector::Everyone,
            dry_run: false,
            catalog: true,
            rules: Rules::default(),
            invalid: Some(Invalid {
                resource,
                path: String::new(),
                message: message.to_owned(),
            }),
        });
        self.policies.sort_by(|a, b| key(a).cmp(&key(b)));
        self.selected = Mutex::default();
        self
    }

    /// What applies to this subject. `None` where no policy selects it, or where the connection
    /// does not admit its namespace: `NoPolicy`.
    pub fn select(&self, subject: &Subject) -> Option<Policy> {
        if let Some(gone) = &self.gone {
            return Some(Policy::invalid(gone.reason, gone.message.clone()));
        }
        if !self.admits(&subject.workload.namespace) {
            return None;
        }
        let selecting: Vec<usize> = self
            .policies
            .iter()
            .enumerate()
            .filter(|(_, source)| source.selector.selects(subject))
            .map(|(position, _)| position)
            .collect();
        if selecting.is_empty() {
            return None;
        }
        let mut selected = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = selected.get(&selecting) {
            return Some(policy.clone());
        }
        let sources: Vec<&Source> = selecting
            .iter()
            .filter_map(|position| self.policies.get(*position))
            .collect();
        let policy = self.join(&sources);
        if selected.len() >= MAX_SELECTED {
            selected.clear();
        }
        selected.insert(selecting, policy.clone());
        Some(policy)
    }

    /// The IdentityProviders whose tokens this workload's sessions must begin with; empty where
    /// they need none. A policy that selects by identity asks for a token of every session of its
    /// namespace: who could leave it out would leave out that policy's denials with it. One in
    /// DryRun asks only where no policy that decides selects the workload, since it must change
    /// nothing.
    pub fn identity_providers(&self, workload: &Subject) -> Vec<&str> {
        let namespace = &workload.workload.namespace;
        if self.gone.is_some() || !self.admits(namespace) {
            return Vec::new();
        }
        let asks = |source: &Source| source.selector.providers(namespace).next().is_some();
        let mut deciding = self.policies.iter().filter(|source| !source.dry_run);
        let decided = deciding
            .clone()
            .any(|source| source.selector.selects(workload));
        if decided && !deciding.any(asks) {
            return Vec::new();
        }
        let named: BTreeSet<&str> = self
            .policies
            .iter()
            .flat_map(|source| source.selector.providers(namespace))
            .collect();
        named.into_iter().collect()
    }

    fn admits(&self, namespace: &str) -> bool {
        if namespace == self.namespace {
            return true;
        }
        let Some(selector) = &self.consumers else {
            return false;
        };
        match self.namespaces.get(namespace) {
            Some(labels) => selector.matches(labels),
            // Unknown labels must not pass for absent ones.
            None => *selector == crds::LabelSelector::default(),
        }
    }

    fn join(&self, selecting: &[&Source]) -> Policy {
        let guardrails = [&self.connection];
        let with_guardrails = |sources: &[&Source]| -> Vec<Arc<crate::rule::Rule>> {
            let sources = guardrails.iter().chain(sources);
            sources
                .flat_map(|source| source.rules.rules.iter().cloned())
                .collect()
        };
        let view = |sources: &[&Source]| View {
            index: RuleIndex::new(with_guardrails(sources)),
            baseline: sources.iter().any(|source| source.grants()),
            catalog: sources.iter().all(|source| source.catalog),
        };
        let (dry_run, enforce): (Vec<&Source>, Vec<&Source>) =
            selecting.iter().copied().partition(|source| source.dry_run);
        let observing = enforce.is_empty();
        let decisive: &[&Source] = if observing { &dry_run } else { &enforce };
        let broken = self
            .suspended
            .clone()
            .or_else(|| first_broken(guardrails.iter().chain(decisive).copied()));
        let would_be = || match first_broken(dry_run.iter().copied()) {
            Some(broken) => WouldBe::Broken(broken),
            None => WouldBe::Rules(view(selecting)),
        };
        let state = match broken {
            Some(broken) => State::Broken(broken),
            None if observing => State::Observe {
                guardrails: view(&[]),
                would_be: would_be(),
            },
            None => State::Enforce {
                view: view(&enforce),
                would_be: (!dry_run.is_empty()).then(would_be),
            },
        };
        // A broken policy forwards nothing, yet what was forwarded before is still masked.
        let applied: Vec<&Source> = guardrails.iter().chain(&enforce).copied().collect();
        let recorded: Vec<&Source> = guardrails.iter().chain(&dry_run).copied().collect();
        let strictest = |limits: Limits, source: &&Source| limits.strictest(source.rules.limits);
        let findings = |found: Findings, source: &&Source| found.strictest(&source.rules.findings);
        Policy {
            inner: Arc::new(Inner {
                state,
                masking: self.masking(&applied),
                record_masking: observing.then(|| self.masking(&recorded)),
                limits: applied.iter().fold(Limits::default(), strictest),
                findings: applied.iter().fold(Findings::default(), findings),
                digest: self.digest(selecting),
            }),
        }
    }

    /// Where the owner masks columns, only the owner can say that a function's output is clean.
    fn masking(&self, sources: &[&Source]) -> Masking {
        let owner = self
            .connection
            .rules
            .masking
            .iter()
            .any(|rule| !rule.columns.is_empty());
        let declaring = sources
            .iter()
            .filter(|source| !owner || source.is_guardrail());
        Masking::new(
            sources.iter().flat_map(|source| &source.rules.masking),
            declaring.flat_map(|source| &source.rules.unmasked),
        )
    }

    fn digest(&self, selecting: &[&Source]) -> String {
        let mut texts = Vec::with_capacity(selecting.len().saturating_add(1).saturating_mul(3));
        for source in std::iter::once(&self.connection).chain(selecting.iter().copied()) {
            texts.push(source.reference.policy.clone());
            texts.push(source.reference.generation.to_string());
            texts.push(source.reference.digest.clone());
        }
        if let Some(broken) = &self.suspended {
            texts.extend(["suspended".to_owned(), broken.reason.as_str().to_owned()]);
            texts.push(broken.message.clone());
        }
        digest::of_texts(texts.iter().map(String::as_str))
    }
}

impl Source {
    fn is_guardrail(&self) -> bool {
        self.reference.policy.starts_with(CONNECTION_PREFIX)
    }

    fn grants(&self) -> bool {
        self.rules
            .rules
            .iter()
            .any(|rule| rule.action != Action::Deny)
    }
}

fn without_rule(reason: Reason, message: impl Into<String>) -> Broken {
    Broken {
        reason,
        rule: None,
        message: message.into(),
    }
}

fn key(source: &Source) -> (&str, &str) {
    (&source.reference.policy, &source.reference.digest)
}

fn first_broken<'a>(sources: impl Iterator<Item = &'a Source>) -> Option<Broken> {
    sources.into_iter().find_map(|source| {
        source.invalid.as_ref().map(|invalid| Broken {
            reason: Reason::PolicyInvalid,
            rule: Some(source.reference.clone()),
            message: invalid.to_string(),
        })
    })
}

/// Everything that is wrong with these resources, in their order. Nothing is wrong: empty.
pub fn check(connections: &[NamedConnection<'_>], policies: &[NamedPolicy<'_>]) -> Vec<Invalid> {
    let mut invalid = Vec::new();
    for connection in connections {
        invalid.extend(compile_connection(connection).1);
    }
    for policy in policies {
        invalid.extend(compile_policy(policy).1);
    }
    invalid
}

/// How a guardrail's `RuleRef::policy` begins; a namespace holds no space, so no policy's does.
const CONNECTION_PREFIX: &str = "Connection ";

fn compile_connection(connection: &NamedConnection<'_>) -> (Source, Vec<Invalid>) {
    let policy = format!(
        "{CONNECTION_PREFIX}{}/{}",
        connection.namespace, connection.name
    );
    let reference = RuleRef {
        policy: policy.clone(),
        rule: String::new(),
        generation: connection.generation,
        digest: digest::of_spec(connection.spec),
    };
    let mut compiler = Compiler::new(policy, reference.clone(), true);
    let mut rules = Rules::default();
    if let Some(guardrails) = &connection.spec.guardrails {
        rules = compiler.rules("spec.guardrails", &guardrails.rules, &guardrails.masking);
        rules.limits = compiler.limits("spec.guardrails.limits", guardrails.limits.as_ref());
        for (position, rule) in guardrails.rules.iter().enumerate() {
            let never = if connection.spec.postgres.is_some() && rule.sql.is_none() {
                "a PostgreSQL connection runs SQL only, so the rule can never match"
            } else if connection.spec.http.is_some() && rule.http.is_none() {
                "an HTTP connection takes requests only, so the rule can never match"
            } else {
                continue;
            };
            compiler.refuse(format!("spec.guardrails.rules[{position}]"), never);
        }
        for (position, entry) in guardrails.masking.iter().enumerate() {
            let (list, never) = if connection.spec.http.is_some() && !entry.columns.is_empty() {
                (
                    "columns",
                    "an HTTP connection has no columns; write jsonPaths",
                )
            } else if connection.spec.postgres.is_some() && !entry.json_paths.is_empty() {
                (
                    "jsonPaths",
                    "a PostgreSQL connection masks columns; write columns",
                )
            } else {
                continue;
            };
            compiler.refuse(format!("spec.guardrails.masking[{position}].{list}"), never);
        }
    }
    let source = Source {
        reference,
        selector: Selector::Everyone,
        dry_run: false,
        catalog: true,
        rules,
        invalid: compiler.invalid.first().cloned(),
    };
    (source, compiler.invalid)
}

fn compile_policy(policy: &NamedPolicy<'_>) -> (Source, Vec<Invalid>) {
    let name = format!("{}/{}", policy.namespace, policy.name);
    let reference = RuleRef {
        policy: name.clone(),
        rule: String::new(),
        generation: policy.generation,
        digest: digest::of_spec(policy.spec),
    };
    let spec = policy.spec;
    let mut compiler = Compiler::new(format!("AccessPolicy {name}"), reference.clone(), false);
    let selector = Selector::compile(&mut compiler, policy.namespace, &spec.subjects);
    if spec.connections.is_empty() {
        compiler.refuse("spec.connections", "name at least one connection");
    }
    for (position, connection) in spec.connections.iter().enumerate() {
        if split_connection(policy.namespace, connection).is_none() {
            let message = format!("`{connection}` is neither `name` nor `namespace/name`");
            compiler.refuse(format!("spec.connections[{position}]"), message);
        }
    }
    let mut rules = compiler.rules("spec", &spec.rules, &spec.masking);
    rules.limits = compiler.limits("spec.limits", spec.limits.as_ref());
    rules.findings = compiler.findings("spec.findings", spec.findings.as_ref());
    let source = Source {
        reference,
        selector,
        dry_run: spec.enforcement == crds::Enforcement::DryRun,
        catalog: spec.catalog == crds::CatalogAccess::Allow,
        rules,
        invalid: compiler.invalid.first().cloned(),
    };
    (source, compiler.invalid)
}

/// Whether the policy is for this connection. One it names illegibly may be this one.
fn names(policy: &NamedPolicy<'_>, connection: &NamedConnection<'_>) -> bool {
    policy.spec.connections.iter().any(|text| {
        split_connection(policy.namespace, text).is_none_or(|(namespace, name)| {
            namespace == connection.namespace && name == connection.name
        })
    })
}

fn split_connection<'a>(own: &'a str, text: &'a str) -> Option<(&'a str, &'a str)> {
    let (namespace, name) = text.split_once('/').unwrap_or((own, text));
    let named = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    named.then_some((namespace, name))
}
