//! From a recorded denial to a sentence, and to the smallest rules that would have allowed it.
//!
//! Only the record is looked at: what the policy said then, not what it says now. The record has
//! no word on which of the other accesses were covered, so the rules cover all that the
//! statement does beyond what drivers are always allowed.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_crds::{Action, HttpRule, KubernetesRule, PolicyRule, SqlEffect, SqlRule};
use chaperone_policy::ApiObject;
use chaperone_policy::Reason;

/// What a policy author can do about an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// It ran, nothing to do.
    None,
    /// An Allow rule would have let it through.
    Rule,
    /// No policy selects the subject: it needs one, with such a rule.
    Policy,
    /// Something else, as the sentence says.
    Other,
}

/// For a reason that the table does not have.
const UNTOLD: &str = "see the documentation of this reason";

/// What a reason means, and what helps.
#[allow(
    unreachable_patterns,
    reason = "a reason added to the policy crate must not break the tool that reads records"
)]
pub(crate) fn meaning(reason: Reason) -> (&'static str, Remedy) {
    use Remedy::{None, Other, Policy, Rule};
    match reason {
        Reason::Allowed => ("a rule allows it", None),
        Reason::Baseline => (
            "drivers may always do this where they may do anything",
            None,
        ),
        Reason::Observed => (
            "only DryRun policies select this subject, so it was forwarded and observed",
            None,
        ),
        Reason::Approved => ("humans approved exactly this command", None),
        Reason::DeniedByRule => (
            "a Deny rule matches, and no Allow gets past a Deny; narrow that rule",
            Other,
        ),
        Reason::NoPolicy => (
            "no AccessPolicy selects this subject on this connection",
            Policy,
        ),
        Reason::NotCovered => (
            "no Allow or RequireApproval rule covers everything the statement does",
            Rule,
        ),
        Reason::PolicyInvalid => (
            "a policy that selects this subject does not compile, and denies until it does; see `chaperone-sidecar check`",
            Other,
        ),
        Reason::ConditionFailed => (
            "a rule's CEL condition failed to evaluate; an error denies",
            Other,
        ),
        Reason::PolicyChanged => (
            "the policy changed while it ran and no longer allows it",
            Rule,
        ),
        Reason::ApprovalPending => (
            "a RequireApproval rule holds it, and nobody has answered yet; approve it, then run the same command again",
            Other,
        ),
        Reason::ApprovalDenied => ("a human said no", Other),
        Reason::ApprovalExpired => (
            "nobody approved it in time, or it was not run in time; run the command again to ask again",
            Other,
        ),
        Reason::ApprovalCancelled => ("the client went away before anybody answered", Other),
        Reason::TooManyPending => (
            "too many requests of this subject wait for a human; review some",
            Other,
        ),
        Reason::TooLargeToApprove => (
            "it is too large for a human to judge; split the command",
            Other,
        ),
        Reason::ApprovalUnavailable => (
            "the approval could not be asked for or redeemed; see the sidecar's log",
            Other,
        ),
        Reason::MaskedFlow => (
            "a masked value would be written where it is not masked; take the masked columns out of the statement",
            Other,
        ),
        Reason::MaskedPredicate => (
            "it compares or orders by a masked column, which would give the values away; use equality, or set `predicates: Allow` on that masking",
            Other,
        ),
        Reason::MaskedWriteBack => (
            "it writes back a value that carries a mask, which would destroy the real one; leave that column out",
            Other,
        ),
        Reason::MaskUnsupported => ("its result cannot be masked", Other),
        Reason::CatalogChanged => (
            "the catalog changed since it was decided on; run it again",
            Other,
        ),
        Reason::SearchPathUnknown => (
            "the search path is not known here, so its names mean nothing certain; qualify them with their schema",
            Other,
        ),
        Reason::Unparsable => ("it is not SQL that PostgreSQL's grammar accepts", Other),
        Reason::TooComplex => ("it nests too deeply to be understood", Other),
        Reason::CannotRecord => (
            "the evidence could not be made durable, and nothing runs unrecorded; see the sidecar's log and disk",
            Other,
        ),
        Reason::LimitExceeded => ("it passes a limit of the policy or the connection", Other),
        Reason::TokenRequired => (
            "a policy here selects by identity, and no token was presented",
            Other,
        ),
        Reason::TokenRefused => (
            "the token is not what its issuer signed, or not for here and now",
            Other,
        ),
        Reason::TokenExpired => ("the token that the session began with has expired", Other),
        Reason::SessionExpired => ("the session lasted as long as it may", Other),
        Reason::ClosedByFinding => (
            "something out of the ordinary closed the session, as a policy's findings say",
            Other,
        ),
        Reason::ProtocolViolation => ("the client broke the protocol", Other),
        Reason::UnsupportedMessage => ("this kind of message is never forwarded", Other),
        Reason::SettingDenied => ("a startup parameter or setting is not allowed", Other),
        Reason::DatabaseDenied => ("the connection is for another database", Other),
        Reason::HostDenied => (
            "the connection is for another host, or for paths under another prefix",
            Other,
        ),
        Reason::BodyUnreadable => (
            "a rule looks into the body, and it is too long, not decodable, or not JSON with one reading",
            Other,
        ),
        Reason::TargetUnreachable => ("the target could not be reached", Other),
        Reason::TargetRefused => ("the target ended or refused the session", Other),
        Reason::TargetAuthentication => (
            "the target did not accept the connection's credential",
            Other,
        ),
        Reason::TargetTls => ("the target's TLS identity could not be verified", Other),
        Reason::TargetProtocol => ("the target broke the protocol", Other),
        Reason::RefNotFound => (
            "the connection names a Secret, CA or other resource that is missing",
            Other,
        ),
        Reason::ConnectionNotFound => (
            "the connection is missing, or does not admit the workload's namespace; see its `consumers`",
            Other,
        ),
        Reason::ConnectionsCollide => (
            "two connections of the workload would listen on one address; pin a `database` on each, or drop one",
            Other,
        ),
        Reason::Unsupported => (
            "this version knows what was asked for and does not serve it",
            Other,
        ),
        Reason::SnapshotExpired => (
            "the sidecar has not heard from the operator for longer than its policy is valid; see the operator",
            Other,
        ),
        Reason::TooManySessions => ("too many sessions were open", Other),
        Reason::ShuttingDown => ("the sidecar was shutting down", Other),
        Reason::UnknownStatement => (
            "it names a prepared statement that this session never prepared",
            Other,
        ),
        Reason::UnknownPortal => ("it names a portal that this session never bound", Other),
        Reason::Cancelled => ("the client cancelled it", Other),
        Reason::Internal => (
            "a fault of Chaperone's own; nothing was forwarded, please report it",
            Other,
        ),
        // A reason newer than this table is still worth its name; the test keeps the table whole.
        _ => (UNTOLD, Other),
    }
}

/// Objects of one list of a rule, as many as every list may have.
const LIST: usize = 64;
/// Longest name of a rule.
const MAX_RULE_NAME: usize = 63;

/// What an object is, told from the words it is recorded in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Relation(String),
    Function(String),
    Setting(String),
    Channel(String),
    /// No list of a rule names it; only a rule without any list matches.
    Unlisted,
}

/// The smallest Allow rules for `accesses` (`Read on public.orders` …), or why there are none.
///
/// A rule is effects × objects, so objects with different effects get rules of their own: one
/// rule for all would allow pairs that nobody asked for. `settled_by` is the access that the
/// decision names; it is covered even where drivers usually need no rule for its kind.
pub(crate) fn smallest_rules(
    accesses: &[String],
    settled_by: Option<&str>,
) -> Result<Vec<PolicyRule>, String> {
    let accesses = accesses.iter().map(String::as_str).chain(settled_by);
    covering(accesses, |access| settled_by == Some(access))
}

/// The rules for `accesses`; what drivers rarely lack is left out unless it is `lacking`.
pub(crate) fn covering<'a>(
    accesses: impl Iterator<Item = &'a str>,
    lacking: impl Fn(&str) -> bool,
) -> Result<Vec<PolicyRule>, String> {
    let mut effects_of: BTreeMap<Target, BTreeSet<SqlEffect>> = BTreeMap::new();
    let mut methods_of: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut verbs_of: BTreeMap<ApiObject, BTreeSet<&str>> = BTreeMap::new();
    for access in accesses {
        if let Some((method, host, path)) = request_of(access) {
            methods_of.entry((host, path)).or_default().insert(method);
            continue;
        }
        if let Some((verb, object)) = api_request_of(access) {
            verbs_of.entry(object).or_default().insert(verb);
            continue;
        }
        let (effect, object) = parse(access)?;
        let (effect, target) = match target_of(object) {
            Some(target) => (effect, target),
            None => {
                return Err(format!(
                    "the name in '{access}' could not be resolved; qualify it with its schema"
                ));
            }
        };
        if !lacking(access) && is_usual(effect, &target) {
            continue;
        }
        effects_of.entry(target).or_default().insert(effect);
    }
    let mut rules: BTreeMap<(u8, BTreeSet<SqlEffect>, usize), SqlRule> = BTreeMap::new();
    let mut placed: BTreeMap<(u8, BTreeSet<SqlEffect>), usize> = BTreeMap::new();
    for (target, effects) in effects_of {
        let kind = match target {
            Target::Relation(_) => 0,
            Target::Function(_) => 1,
            Target::Setting(_) => 2,
            Target::Channel(_) => 3,
            Target::Unlisted => 4,
        };
        let before = placed.entry((kind, effects.clone())).or_default();
        let full = *before / LIST;
        *before += 1;
        let rule = rules
            .entry((kind, effects.clone(), full))
            .or_insert_with(|| SqlRule {
                effects: effects.into_iter().collect(),
                ..SqlRule::default()
            });
        match target {
            Target::Relation(pattern) => rule.relations.push(pattern),
            Target::Function(pattern) => rule.functions.push(pattern),
            Target::Setting(name) => rule.settings.push(name),
            Target::Channel(name) => rule.channels.push(name),
            Target::Unlisted => {}
        }
    }
    let sql = rules
        .into_values()
        .enumerate()
        .map(|(i, sql)| allow(name_of(i, &sql), Some(sql)));
    let http = http_rules(methods_of).into_iter().enumerate();
    let http = http.map(|(i, http)| {
        let methods = http.methods.join("-").to_ascii_lowercase();
        let name = match i {
            0 => format!("allow-{methods}"),
            i => format!("allow-{methods}-{}", i + 1),
        };
        PolicyRule {
            http: Some(http),
            ..allow(name, None)
        }
    });
    let kubernetes = kubernetes_rules(verbs_of).into_iter().enumerate();
    let kubernetes = kubernetes.map(|(i, kubernetes)| {
        let verbs = kubernetes.verbs.join("-");
        let name = match i {
            0 => format!("allow-{verbs}"),
            i => format!("allow-{verbs}-{}", i + 1),
        };
        PolicyRule {
            kubernetes: Some(kubernetes),
            ..allow(name.chars().take(MAX_RULE_NAME).collect(), None)
        }
    });
    Ok(sql.chain(http).chain(kubernetes).collect())
}

fn allow(name: String, sql: Option<SqlRule>) -> PolicyRule {
    PolicyRule {
        name,
        action: Action::Allow,
        sql,
        kubernetes: None,
        http: None,
        ssh: None,
        when: None,
        approval: None,
        durability: None,
        message: None,
    }
}

/// Method, host and path of a request, recorded as `GET on api.test/v1/orders`, and of `Upgrade` on
/// the same; `None` where it is none.
fn request_of(access: &str) -> Option<(&str, &str, &str)> {
    let (method, object) = access.split_once(" on ")?;
    let (host, path) = object.split_at(object.find('/')?);
    let capitals = method
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_' | b'0'..=b'9'));
    (capitals || method == chaperone_policy::UPGRADE).then_some((method, host, path))
}

/// Verb and object of a request to the Kubernetes API, recorded as `get on pods web in shop`.
fn api_request_of(access: &str) -> Option<(&str, ApiObject)> {
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

fn parse(access: &str) -> Result<(SqlEffect, &str), String> {
    let unknown = || format!("the record's '{access}' is no effect on an object");
    let (effect, object) = access.split_once(" on ").ok_or_else(unknown)?;
    let effect = SqlEffect::ALL
        .iter()
        .copied()
        .find(|known| known.as_str() == effect)
        .ok_or_else(unknown)?;
    Ok((effect, object))
}

/// The reverse of how `chaperone_policy::Object` is written. `None`: an unresolved name.
fn target_of(object: &str) -> Option<Target> {
    if object.ends_with(" (unresolved)") {
        return None;
    }
    if object == "session" || object == "*" {
        return Some(Target::Unlisted);
    }
    if let Some(name) = object.strip_prefix("setting ") {
        return Some(Target::Setting(name.to_owned()));
    }
    if let Some(name) = object.strip_prefix("channel ") {
        return Some(Target::Channel(name.to_owned()));
    }
    let kind_first = object
        .split_once(' ')
        .is_some_and(|(kind, _)| kind.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    match object.strip_suffix("()") {
        Some(function) => Some(Target::Function(pattern(function))),
        None if kind_first || !object.contains('.') => Some(Target::Unlisted),
        None => Some(Target::Relation(pattern(object))),
    }
}

/// `schema.name` as a pattern. A dot inside the name cannot be written; `*` is what covers it.
fn pattern(qualified: &str) -> String {
    match qualified.split_once('.') {
        Some((schema, name)) => format!("{schema}.{}", name.replace('.', "*")),
        None => qualified.to_owned(),
    }
}

/// What drivers need and rarely lack (policy.md, Client baseline).
fn is_usual(effect: SqlEffect, target: &Target) -> bool {
    match effect {
        SqlEffect::Catalog | SqlEffect::Session | SqlEffect::Transaction => true,
        SqlEffect::Read => *target == Target::Unlisted,
        _ => false,
    }
}

/// `allow-delete-read`, with a number where several rules need telling apart.
fn name_of(index: usize, sql: &SqlRule) -> String {
    let effects: Vec<String> = sql
        .effects
        .iter()
        .take(3)
        .map(|effect| effect.as_str().to_ascii_lowercase())
        .collect();
    let number = if index == 0 {
        String::new()
    } else {
        format!("-{}", index + 1)
    };
    format!("allow-{}{number}", effects.join("-"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use chaperone_policy::{Access, Effect, Object};

    use super::*;

    fn text(effect: Effect, object: Object) -> String {
        Access {
            effect,
            object,
            baseline: false,
        }
        .to_string()
    }

    fn relation(schema: &str, name: &str) -> Object {
        Object::Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn rules_cover_what_was_done_and_no_other_pair() {
        let accesses = [
            text(Effect::Delete, relation("public", "a")),
            text(Effect::Read, relation("public", "a")),
            text(Effect::Write, relation("public", "b")),
            text(Effect::Read, relation("public", "c")),
            text(Effect::Read, relation("public", "d.e")),
            text(Effect::Catalog, relation("pg_catalog", "pg_class")),
            text(Effect::Read, Object::Session),
        ];
        let rules = smallest_rules(&accesses, Some("Delete on public.a")).unwrap();
        let said: Vec<(Vec<&str>, Vec<String>)> = rules
            .iter()
            .map(|rule| {
                let sql = rule.sql.clone().unwrap();
                (
                    sql.effects.iter().map(|e| e.as_str()).collect(),
                    sql.relations,
                )
            })
            .collect();
        assert_eq!(
            said,
            [
                (
                    vec!["Read"],
                    vec!["public.c".to_owned(), "public.d*e".to_owned()]
                ),
                (vec!["Read", "Delete"], vec!["public.a".to_owned()]),
                (vec!["Write"], vec!["public.b".to_owned()]),
            ]
        );
        let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names.len(), rules.len());
    }

    #[test]
    fn every_kind_of_object_is_told_from_its_words() {
        let named = |kind: &str, name: &str| Object::Named {
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        for (object, target) in [
            (relation("s", "t"), Target::Relation("s.t".to_owned())),
            (
                Object::Function {
                    schema: "s".to_owned(),
                    name: "f".to_owned(),
                },
                Target::Function("s.f".to_owned()),
            ),
            (
                Object::Setting("work_mem".to_owned()),
                Target::Setting("work_mem".to_owned()),
            ),
            (
                Object::Channel("jobs".to_owned()),
                Target::Channel("jobs".to_owned()),
            ),
            (named("schema", "x.y"), Target::Unlisted),
            (named("role", "admin"), Target::Unlisted),
            (Object::Session, Target::Unlisted),
            (Object::Any, Target::Unlisted),
        ] {
            assert_eq!(target_of(&object.to_string()), Some(target));
        }
        let unresolved = Object::Unresolved("t".to_owned());
        assert_eq!(target_of(&unresolved.to_string()), None);
        assert!(smallest_rules(&[text(Effect::Read, unresolved)], None).is_err());
    }

    #[test]
    fn a_request_is_allowed_by_its_method_host_and_path() {
        let accesses = [
            "GET on api.test/chat".to_owned(),
            "Upgrade on api.test/chat".to_owned(),
        ];
        let rules = smallest_rules(&accesses, Some(&accesses[1])).unwrap();
        let http = rules[0].http.as_ref().unwrap();
        assert_eq!(http.methods, ["GET", "Upgrade"]);
        assert_eq!(
            (http.hosts[0].as_str(), http.paths[0].as_str()),
            ("api.test", "/chat")
        );
        assert_eq!(rules.len(), 1);
    }

    #[test]
    fn what_settled_it_is_covered_even_if_usual() {
        let setting = text(Effect::Session, Object::Setting("work_mem".to_owned()));
        let alone = smallest_rules(std::slice::from_ref(&setting), Some(&setting)).unwrap();
        assert_eq!(alone[0].sql.as_ref().unwrap().settings, ["work_mem"]);
        assert!(smallest_rules(&[setting], None).unwrap().is_empty());
    }

    #[test]
    fn an_outcome_that_a_policy_can_change_says_so() {
        for reason in Reason::ALL {
            let (sentence, remedy) = meaning(*reason);
            assert_ne!(sentence, UNTOLD, "{reason}");
            let ran = matches!(
                reason,
                Reason::Allowed | Reason::Baseline | Reason::Observed | Reason::Approved
            );
            assert_eq!(remedy == Remedy::None, ran, "{reason}");
        }
    }
}
