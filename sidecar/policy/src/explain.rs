//! Why a decision came out as it did, and what the least change would be.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::policy::{State, View, WouldBe};
use crate::rule::Action;
use crate::{
    Access, ApiObject, Decision, Effect, Object, Operation, Policy, Reason, RuleRef, Subject,
    decide,
};

/// One decision, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision itself.
    pub decision: Decision,
    /// What matched each access, in the operation's order. Empty where a policy does not compile.
    /// Where only DryRun policies select, this and all below is about what they would do.
    pub accesses: Vec<AccessExplanation>,
    /// The smallest Allow rule that would have allowed it, as YAML for `spec.rules`. None where
    /// it is allowed, or where no Allow rule helps: then `stopped_by` or `decision` says what does.
    pub smallest_rule: Option<String>,
    /// The rules that no Allow can get past, first by name; a guardrail's policy begins with
    /// `Connection`.
    pub stopped_by: Vec<RuleRef>,
}

/// One access, and what matched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessExplanation {
    /// Which one.
    pub access: Access,
    /// The client baseline covers it.
    pub baseline: bool,
    /// Rules whose effects and objects match, first by name.
    pub rules: Vec<RuleMatch>,
}

/// A rule that matched an access, its condition aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMatch {
    /// Which one.
    pub rule: RuleRef,
    /// What it does.
    pub action: Action,
    /// Comes from the connection.
    pub guardrail: bool,
    /// What its condition said.
    pub condition: ConditionOutcome,
}

/// What a rule's condition said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionOutcome {
    /// It has none.
    Absent,
    /// True.
    Holds,
    /// False: the rule does not apply.
    DoesNotHold,
    /// It failed, which denies.
    Failed(String),
}

impl Policy {
    /// Explains the decision on one operation. Walks every rule: for people, not for the path.
    pub fn explain(&self, subject: &Subject, operation: &Operation) -> Explanation {
        let decision = decide(self, subject, operation);
        let (view, judged) = match &self.inner.state {
            State::Enforce { view, .. } => (view, &decision),
            State::Observe {
                would_be: WouldBe::Rules(view),
                ..
            } => (view, decision.dry_run.as_deref().unwrap_or(&decision)),
            State::Broken(_)
            | State::Observe {
                would_be: WouldBe::Broken(_),
                ..
            } => {
                return Explanation {
                    stopped_by: decision.rule.iter().cloned().collect(),
                    decision,
                    accesses: Vec::new(),
                    smallest_rule: None,
                };
            }
        };
        let accesses: Vec<AccessExplanation> = operation
            .accesses
            .iter()
            .map(|access| view.explain_access(access, subject, operation))
            .collect();
        let stopped_by = stopping(&accesses);
        let smallest_rule = match judged.reason {
            Reason::NotCovered => smallest_rule(&accesses),
            _ => None,
        };
        Explanation {
            accesses,
            smallest_rule,
            stopped_by,
            decision,
        }
    }
}

impl View {
    fn explain_access(
        &self,
        access: &Access,
        subject: &Subject,
        operation: &Operation,
    ) -> AccessExplanation {
        let rules = self
            .index
            .rules()
            .iter()
            .filter(|rule| rule.matches(access));
        let rules = rules.map(|rule| RuleMatch {
            rule: rule.reference.clone(),
            action: rule.action,
            guardrail: rule.guardrail,
            condition: match rule
                .condition
                .as_ref()
                .map(|when| when.holds(subject, operation))
            {
                None => ConditionOutcome::Absent,
                Some(Ok(true)) => ConditionOutcome::Holds,
                Some(Ok(false)) => ConditionOutcome::DoesNotHold,
                Some(Err(error)) => ConditionOutcome::Failed(error),
            },
        });
        AccessExplanation {
            access: access.clone(),
            baseline: self.is_baseline(access),
            rules: rules.collect(),
        }
    }
}

impl AccessExplanation {
    fn is_covered(&self) -> bool {
        self.baseline
            || self.rules.iter().any(|rule| {
                !rule.guardrail && rule.action != Action::Deny && rule.condition.applies()
            })
    }
}

impl ConditionOutcome {
    fn applies(&self) -> bool {
        matches!(self, ConditionOutcome::Absent | ConditionOutcome::Holds)
    }
}

/// Deny and RequireApproval rules that apply, and any rule whose condition fails.
fn stopping(accesses: &[AccessExplanation]) -> Vec<RuleRef> {
    let mut stopping: Vec<RuleRef> = Vec::new();
    for rule in accesses.iter().flat_map(|access| &access.rules) {
        let stops = matches!(rule.condition, ConditionOutcome::Failed(_))
            || (rule.action != Action::Allow && rule.condition.applies());
        if stops && !stopping.contains(&rule.rule) {
            stopping.push(rule.rule.clone());
        }
    }
    stopping.sort_by(|a, b| (&a.policy, &a.rule).cmp(&(&b.policy, &b.rule)));
    stopping
}

/// One rule that covers everything uncovered. A rule is effects × objects, so with several of
/// both it may cover pairs nobody asked for; it is the least that one rule can say.
fn smallest_rule(accesses: &[AccessExplanation]) -> Option<String> {
    let requests = accesses.iter().filter(|access| !access.is_covered());
    let requests: Vec<&Access> = requests.map(|explained| &explained.access).collect();
    if let Some(yaml) = smallest_http_rule(requests.iter().copied()) {
        return Some(yaml);
    }
    if let Some(yaml) = smallest_kubernetes_rule(&requests) {
        return Some(yaml);
    }
    let mut effects: BTreeSet<Effect> = BTreeSet::new();
    let mut lists: [(&str, BTreeSet<String>); 4] = [
        ("relations", BTreeSet::new()),
        ("functions", BTreeSet::new()),
        ("settings", BTreeSet::new()),
        ("channels", BTreeSet::new()),
    ];
    let mut listable = true;
    for access in accesses
        .iter()
        .filter(|access| !access.is_covered())
        .map(|a| &a.access)
    {
        effects.insert(access.effect);
        let [relations, functions, settings, channels] = &mut lists;
        match &access.object {
            Object::Relation { schema, name } => relations.1.insert(pattern([schema, name])),
            Object::Function { schema, name } => functions.1.insert(pattern([schema, name])),
            Object::Setting(name) => settings.1.insert(name.clone()),
            Object::Channel(name) => channels.1.insert(name.clone()),
            // What has no list is matched only by a rule without any.
            Object::Session
            | Object::Request { .. }
            | Object::Api { .. }
            | Object::Named { .. }
            | Object::Any => {
                listable = false;
                false
            }
            Object::Unresolved(_) => return None,
        };
    }
    if effects.is_empty() {
        return None;
    }
    let names: Vec<&str> = effects.iter().map(|effect| effect.as_str()).collect();
    let rule_name = names.join("-").to_ascii_lowercase();
    let rule_name = rule_name
        .get(..rule_name.len().min(50))
        .unwrap_or("rule")
        .trim_end_matches('-');
    let mut yaml = format!("name: allow-{rule_name}\naction: Allow\nsql:\n");
    let _ = writeln!(yaml, "  effects: [{}]", names.join(", "));
    if listable {
        for (list, patterns) in lists.iter().filter(|(_, patterns)| !patterns.is_empty()) {
            let quoted: Vec<String> = patterns.iter().map(|text| quote(text)).collect();
            let _ = writeln!(yaml, "  {list}: [{}]", quoted.join(", "));
        }
    }
    Some(yaml)
}

/// The same for a request: its method, host and path, and nothing else.
fn smallest_http_rule<'a>(accesses: impl Iterator<Item = &'a Access>) -> Option<String> {
    let mut methods = Vec::new();
    let mut place = None;
    for access in accesses {
        if let Object::Request { method, host, path } = &access.object {
            methods.push(method.as_str());
            place = Some((host, path));
        }
    }
    let (host, path) = place?;
    Some(format!(
        "name: allow-{}\naction: Allow\nhttp:\n  methods: [{}]\n  hosts: [{}]\n  paths: [{}]\n",
        methods.join("-").to_ascii_lowercase(),
        methods.join(", "),
        quote(host),
        quote(path),
    ))
}

/// The same for a request to the Kubernetes API. What takes several accesses (a role that is
/// written, and the rights in it) takes all of their verbs and resources.
fn smallest_kubernetes_rule(accesses: &[&Access]) -> Option<String> {
    let mut lists: [(&str, BTreeSet<&str>); 6] = [
        "verbs",
        "groups",
        "resources",
        "namespaces",
        "names",
        "nonResourceURLs",
    ]
    .map(|list| (list, BTreeSet::new()));
    for access in accesses {
        let Object::Api { verb, object } = &access.object else {
            continue;
        };
        let [verbs, groups, resources, namespaces, names, paths] = &mut lists;
        verbs.1.insert(verb);
        match object {
            ApiObject::Path(path) => {
                paths.1.insert(path);
            }
            ApiObject::Resource {
                group,
                resource,
                namespace,
                name,
            } => {
                groups.1.insert(group);
                resources.1.insert(resource);
                namespaces
                    .1
                    .extend(Some(namespace.as_str()).filter(|text| !text.is_empty()));
                names
                    .1
                    .extend(Some(name.as_str()).filter(|text| !text.is_empty()));
            }
        }
    }
    let verbs: Vec<&str> = lists.first()?.1.iter().copied().collect();
    if verbs.is_empty() {
        return None;
    }
    let mut yaml = format!(
        "name: allow-{}\naction: Allow\nkubernetes:\n",
        verbs.join("-")
    );
    for (list, texts) in lists.iter().filter(|(_, texts)| !texts.is_empty()) {
        let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
        let _ = writeln!(yaml, "  {list}: [{}]", quoted.join(", "));
    }
    Some(yaml)
}

/// A dot inside a name cannot be written in a pattern; `*` is the nearest that covers it.
fn pattern(parts: [&str; 2]) -> String {
    parts.map(|part| part.replace('.', "*")).join(".")
}

/// JSON's strings are YAML's double-quoted ones (YAML 1.2, section 1.3).
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
