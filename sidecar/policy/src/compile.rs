//! From spec types to rules: what does not compile is kept as a named problem, never dropped.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use chaperone_crds as crds;

use crate::condition::{Condition, Dialect};
use crate::http::Requests;
use crate::json_path::JsonPath;
use crate::kubernetes::Resources;
use crate::masking::MaskingRule;
use crate::pattern::{self, Glob};
use crate::rule::{EffectSet, Objects, On, Rule};
use crate::{
    Action, ApprovalRule, ColumnMask, Detector, Durability, Effect, Findings, Limits, OnFinding,
    Predicates, RuleRef, Strategy, Typed,
};

/// Something in a resource that cannot be compiled; the resource denies everyone it selects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Invalid {
    /// `AccessPolicy namespace/name` or `Connection namespace/name`.
    pub resource: String,
    /// Where in the resource: `spec.rules[2].when`.
    pub path: String,
    /// What is wrong and what is allowed, as one sentence.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.resource, self.path, self.message)
    }
}

/// Rules, masking and limits of one resource.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub rules: Vec<Arc<Rule>>,
    pub masking: Vec<MaskingRule>,
    /// Functions declared clean.
    pub unmasked: Vec<[Glob; 2]>,
    pub limits: Limits,
    pub findings: Findings,
}

/// Compiles the parts of one resource and collects what is wrong with it.
pub(crate) struct Compiler {
    resource: String,
    /// The resource itself; `rule` is empty.
    reference: RuleRef,
    guardrail: bool,
    pub invalid: Vec<Invalid>,
}

/// What a finding's approvals are asked for by, where a rule's name stands otherwise.
const FINDINGS: &str = "findings.onFinding";

const RELATION_FORM: &str = "schema.name";
const COLUMN_FORM: &str = "schema.relation.column";
const GUARDRAIL_ALLOW: &str = "a guardrail restricts and never grants; write the Allow in an \
                               AccessPolicy (only `returns: Unmasked` may stand here)";
const SINGLE_FORM: &str = "name";

impl Compiler {
    pub(crate) fn new(resource: String, reference: RuleRef, guardrail: bool) -> Compiler {
        Compiler {
            resource,
            reference,
            guardrail,
            invalid: Vec::new(),
        }
    }

    pub(crate) fn refuse(&mut self, path: impl Into<String>, message: impl fmt::Display) {
        self.invalid.push(Invalid {
            resource: self.resource.clone(),
            path: path.into(),
            message: message.to_string(),
        });
    }

    /// `base` is the path of the object that holds `rules` and `masking`.
    pub(crate) fn rules(
        &mut self,
        base: &str,
        rules: &[crds::PolicyRule],
        masking: &[crds::Masking],
    ) -> Rules {
        let mut compiled = Rules::default();
        let mut names = BTreeSet::new();
        for (position, rule) in rules.iter().enumerate() {
            let path = format!("{base}.rules[{position}]");
            self.name(&path, &rule.name, &mut names);
            if let Some(rule) = self.rule(&path, rule) {
                if rule.returns_unmasked {
                    compiled
                        .unmasked
                        .extend(rule.objects.functions.iter().cloned());
                }
                compiled.rules.push(Arc::new(rule));
            }
        }
        let mut names = BTreeSet::new();
        for (position, entry) in masking.iter().enumerate() {
            let path = format!("{base}.masking[{position}]");
            self.name(&path, &entry.name, &mut names);
            compiled.masking.extend(self.masking(&path, entry));
        }
        compiled
    }

    fn name<'a>(&mut self, path: &str, name: &'a str, names: &mut BTreeSet<&'a str>) {
        if name.is_empty() {
            self.refuse(
                format!("{path}.name"),
                "a name is needed: decisions are told by it",
            );
        } else if !names.insert(name) {
            self.refuse(
                format!("{path}.name"),
                format_args!("`{name}` is already the name of another entry of this list"),
            );
        }
    }

    /// `None` for a rule of another protocol, which no operation of this one can match.
    fn rule(&mut self, path: &str, rule: &crds::PolicyRule) -> Option<Rule> {
        let protocols = [
            rule.sql.is_some(),
            rule.kubernetes.is_some(),
            rule.http.is_some(),
            rule.ssh.is_some(),
        ];
        if protocols.into_iter().filter(|named| *named).count() != 1 {
            self.refuse(
                path,
                "a rule names exactly one of sql, kubernetes, http, ssh",
            );
        }
        let action = match rule.action {
            crds::Action::Allow => Action::Allow,
            crds::Action::Deny => Action::Deny,
            crds::Action::RequireApproval => Action::RequireApproval,
        };
        let reference = RuleRef {
            rule: rule.name.clone(),
            ..self.reference.clone()
        };
        let approval = self.approval(&format!("{path}.approval"), rule, &reference);
        let dialect = match (&rule.http, &rule.kubernetes) {
            (Some(_), _) => Dialect::Http,
            (None, Some(_)) => Dialect::Kubernetes,
            (None, None) => Dialect::Sql,
        };
        let condition = rule.when.as_deref().and_then(|text| {
            Condition::compile(text, dialect)
                .map_err(|error| self.refuse(format!("{path}.when"), error))
                .ok()
        });
        let on = if let Some(http) = &rule.http {
            On::Http(Requests::compile(http, &mut |list, message| {
                self.refuse(format!("{path}.http.{list}"), message);
            }))
        } else if let Some(kubernetes) = &rule.kubernetes {
            let restricts = action == Action::Deny || self.guardrail;
            let refuse = &mut |list: String, message: String| {
                self.refuse(format!("{path}.kubernetes.{list}"), message);
            };
            On::Kubernetes(Resources::compile(kubernetes, restricts, refuse))
        } else {
            On::Sql
        };
        if !matches!(on, On::Sql) {
            if self.guardrail && action == Action::Allow {
                self.refuse(format!("{path}.action"), GUARDRAIL_ALLOW);
            }
            return Some(Rule {
                reference,
                guardrail: self.guardrail,
                action,
                effects: EffectSet::default(),
                objects: Objects::default(),
                on,
                condition,
                approval,
                durability: rule.durability.map(durability_of),
                message: rule.message.clone(),
                returns_unmasked: false,
            });
        }
        let sql = rule.sql.as_ref()?;
        let path = format!("{path}.sql");
        let mut effects = EffectSet::default();
        for effect in &sql.effects {
            effects.insert(effect_of(*effect));
        }
        if effects.is_empty() {
            self.refuse(
                format!("{path}.effects"),
                "without an effect the rule can never match",
            );
        }
        let objects = Objects {
            relations: self.patterns(&path, "relations", &sql.relations, RELATION_FORM),
            functions: self.patterns(&path, "functions", &sql.functions, RELATION_FORM),
            settings: self.settings(&path, &sql.settings),
            channels: self.singles(&path, "channels", &sql.channels),
        };
        self.can_match(&path, action, effects, sql);
        let returns_unmasked = sql.returns.is_some();
        self.returns(&path, action, effects, sql);
        Some(Rule {
            reference,
            guardrail: self.guardrail,
            action,
            effects,
            objects,
            on: On::Sql,
            condition,
            approval,
            durability: rule.durability.map(durability_of),
            message: rule.message.clone(),
            returns_unmasked,
        })
    }

    fn approval(
        &mut self,
        path: &str,
        rule: &crds::PolicyRule,
        reference: &RuleRef,
    ) -> Option<ApprovalRule> {
        let Some(approval) = &rule.approval else {
            if rule.action == crds::Action::RequireApproval {
                self.refuse(
                    path,
                    "RequireApproval needs approvers, or nobody could ever approve",
                );
            }
            return None;
        };
        if rule.action != crds::Action::RequireApproval {
            self.refuse(path, "approval belongs to the action RequireApproval");
            return None;
        }
        Some(self.approvers(path, approval, reference))
    }

    fn approvers(
        &mut self,
        path: &str,
        approval: &crds::Approval,
        reference: &RuleRef,
    ) -> ApprovalRule {
        let distinct = |names: &[String]| -> Vec<String> {
            names
                .iter()
                .cloned()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        let users = distinct(&approval.approvers.users);
        let groups = distinct(&approval.approvers.groups);
        if users.is_empty() && groups.is_empty() {
            self.refuse(
                format!("{path}.approvers"),
                "name at least one of users, groups",
            );
        }
        if users.iter().chain(&groups).any(String::is_empty) {
            self.refuse(format!("{path}.approvers"), "an approver's name is empty");
        }
        if !(1..=16).contains(&approval.quorum) {
            self.refuse(format!("{path}.quorum"), "the quorum is from 1 to 16");
        } else if groups.is_empty()
            && !users.is_empty()
            && usize::try_from(approval.quorum).is_ok_and(|quorum| quorum > users.len())
        {
            let message = format!("{} user(s) can never reach this quorum", users.len());
            self.refuse(format!("{path}.quorum"), message);
        }
        let valid_for = approval.valid_for.get();
        if valid_for.is_zero() {
            self.refuse(
                format!("{path}.validFor"),
                "a grant that is never valid releases nothing",
            );
        }
        ApprovalRule {
            rule: reference.clone(),
            users,
            groups,
            quorum: approval.quorum,
            timeout: approval.timeout.get(),
            valid_for,
        }
    }

    /// Thresholds, and what happens when one is passed.
    pub(crate) fn findings(&mut self, path: &str, findings: Option<&crds::Findings>) -> Findings {
        let Some(findings) = findings else {
            return Findings::default();
        };
        let on_finding = match findings.on_finding {
            crds::OnFinding::Alert => OnFinding::Alert,
            crds::OnFinding::HoldNext => OnFinding::HoldNext,
            crds::OnFinding::Close => OnFinding::Close,
        };
        let holds = on_finding == OnFinding::HoldNext;
        let approval_path = format!("{path}.approval");
        if holds && findings.approval.is_none() {
            self.refuse(
                approval_path.clone(),
                "onFinding: HoldNext needs approvers, or nothing could ever run again",
            );
        }
        if !holds && findings.approval.is_some() {
            let message = "approval belongs to onFinding: HoldNext";
            self.refuse(approval_path.clone(), message);
        }
        let reference = RuleRef {
            rule: FINDINGS.to_owned(),
            ..self.reference.clone()
        };
        let approvals = findings.approval.as_ref().filter(|_| holds);
        let approvals = approvals.map(|asked| self.approvers(&approval_path, asked, &reference));
        Findings {
            denials_per_minute: findings.denials_per_minute.map(u64::from),
            equality_per_minute: findings.equality_per_minute.map(u64::from),
            masked_per_minute: findings.masked_per_minute.map(u64::from),
            rows_times_usual: findings.rows_times_usual.map(u64::from),
            first_seen: findings.first_seen,
            on_finding,
            approvals: approvals.into_iter().collect(),
        }
    }

    fn patterns<const N: usize>(
        &mut self,
        path: &str,
        list: &str,
        texts: &[String],
        form: &'static str,
    ) -> Vec<[Glob; N]> {
        let mut patterns = Vec::with_capacity(texts.len());
        for (position, text) in texts.iter().enumerate() {
            match pattern::parse::<N>(text, form) {
                Ok(parts) => patterns.push(parts),
                Err(error) => self.refuse(format!("{path}.{list}[{position}]"), error),
            }
        }
        patterns
    }

    fn singles(&mut self, path: &str, list: &str, texts: &[String]) -> Vec<Glob> {
        self.patterns::<1>(path, list, texts, SINGLE_FORM)
            .into_iter()
            .map(|[glob]| glob)
            .collect()
    }

    /// PostgreSQL folds the names of settings (PostgreSQL, Server Configuration, Setting Parameters).
    fn settings(&mut self, path: &str, texts: &[String]) -> Vec<Glob> {
        let folded: Vec<String> = texts.iter().map(|text| text.to_ascii_lowercase()).collect();
        self.singles(path, "settings", &folded)
    }

    /// A list no listed effect can ever be on makes the rule look like it did something.
    fn can_match(&mut self, path: &str, action: Action, effects: EffectSet, sql: &crds::SqlRule) {
        type Possible = fn(Effect) -> bool;
        let lists: [(&str, bool, Possible); 4] = [
            ("relations", sql.relations.is_empty(), is_on_relations),
            ("functions", sql.functions.is_empty(), is_on_functions),
            ("settings", sql.settings.is_empty(), is_on_settings),
            ("channels", sql.channels.is_empty(), |effect| {
                effect == Effect::Notify
            }),
        ];
        for (list, empty, possible) in lists {
            let denies_unknown = action == Action::Deny && effects.contains(Effect::Unknown);
            if !empty && !effects.is_empty() && !denies_unknown && !effects.iter().any(possible) {
                let message = format!("none of the rule's effects is ever on {list}");
                self.refuse(format!("{path}.{list}"), message);
            }
        }
    }

    fn returns(&mut self, path: &str, action: Action, effects: EffectSet, sql: &crds::SqlRule) {
        if sql.returns.is_some() {
            let declares = action == Action::Allow
                && effects.contains(Effect::Execute)
                && !sql.functions.is_empty();
            if !declares {
                let message = "returns belongs to an Allow rule that lists Execute and functions";
                self.refuse(format!("{path}.returns"), message);
            }
        } else if self.guardrail && action == Action::Allow {
            self.refuse(
                path.trim_end_matches(".sql").to_owned() + ".action",
                GUARDRAIL_ALLOW,
            );
        }
    }

    fn masking(&mut self, path: &str, entry: &crds::Masking) -> Option<MaskingRule> {
        let lists = [
            entry.columns.is_empty(),
            entry.json_paths.is_empty(),
            entry.detectors.is_empty(),
        ];
        if lists.into_iter().filter(|empty| !empty).count() != 1 {
            self.refuse(path, "name exactly one of columns, jsonPaths, detectors");
        }
        let mut json_paths = Vec::with_capacity(entry.json_paths.len());
        for (position, text) in entry.json_paths.iter().enumerate() {
            match JsonPath::parse(text) {
                Ok(parsed) => json_paths.push(parsed),
                Err(error) => self.refuse(format!("{path}.jsonPaths[{position}]"), error),
            }
        }
        let strategy = match (entry.strategy, &entry.partial) {
            (crds::Strategy::Partial, Some(partial)) => Strategy::Partial {
                keep_first: partial.keep_first.unwrap_or_default().into(),
                keep_last: partial.keep_last.into(),
            },
            (crds::Strategy::Partial, None) => {
                self.refuse(
                    format!("{path}.partial"),
                    "Partial needs keepFirst or keepLast",
                );
                return None;
            }
            (_, Some(_)) => {
                self.refuse(
                    format!("{path}.partial"),
                    "partial belongs to the strategy Partial",
                );
                return None;
            }
            (crds::Strategy::Redact, None) => Strategy::Redact,
            (crds::Strategy::Hash, None) => Strategy::Hash,
            (crds::Strategy::Null, None) => Strategy::Null,
        };
        Some(MaskingRule {
            columns: self.patterns(path, "columns", &entry.columns, COLUMN_FORM),
            json_paths,
            detectors: entry
                .detectors
                .iter()
                .map(|detector| detector_of(*detector))
                .collect(),
            mask: ColumnMask {
                strategy,
                typed: match entry.typed {
                    crds::Typed::Null => Typed::Null,
                    crds::Typed::Zero => Typed::Zero,
                },
                base64: false,
                predicates: match entry.predicates {
                    crds::Predicates::Equality => Predicates::Equality,
                    crds::Predicates::Allow => Predicates::Allow,
                },
                rule: RuleRef {
                    rule: entry.name.clone(),
                    ..self.reference.clone()
                },
            },
        })
    }

    pub(crate) fn limits(&mut self, path: &str, limits: Option<&crds::Limits>) -> Limits {
        let Some(limits) = limits else {
            return Limits::default();
        };
        let compiled = Limits {
            rows_per_statement: limits.rows_per_statement,
            bytes_per_minute: limits.bytes_per_minute.map(crds::ByteSize::get),
            statements_per_minute: limits.statements_per_minute.map(u64::from),
            session_duration: limits.session_duration.map(crds::HumanDuration::get),
        };
        let zeros = [
            ("rowsPerStatement", compiled.rows_per_statement == Some(0)),
            ("bytesPerMinute", compiled.bytes_per_minute == Some(0)),
            (
                "statementsPerMinute",
                compiled.statements_per_minute == Some(0),
            ),
            (
                "sessionDuration",
                compiled.session_duration.is_some_and(|time| time.is_zero()),
            ),
        ];
        for (field, zero) in zeros {
            if zero {
                self.refuse(
                    format!("{path}.{field}"),
                    "a limit of zero; leave it out or write a Deny",
                );
            }
        }
        compiled
    }
}

fn is_on_relations(effect: Effect) -> bool {
    !matches!(
        effect,
        Effect::Session | Effect::Transaction | Effect::Notify | Effect::Execute | Effect::Unknown
    )
}

fn is_on_functions(effect: Effect) -> bool {
    !matches!(
        effect,
        Effect::Session
            | Effect::Transaction
            | Effect::Notify
            | Effect::Delete
            | Effect::BulkLoad
            | Effect::BulkExport
            | Effect::Unknown
    )
}

fn is_on_settings(effect: Effect) -> bool {
    matches!(
        effect,
        Effect::Session | Effect::Privilege | Effect::SchemaAlter | Effect::Catalog | Effect::Read
    )
}

fn durability_of(durability: crds::Durability) -> Durability {
    match durability {
        crds::Durability::Written => Durability::Written,
        crds::Durability::Synced => Durability::Synced,
        crds::Durability::Replicated => Durability::Replicated,
    }
}

fn detector_of(detector: crds::Detector) -> Detector {
    match detector {
        crds::Detector::PaymentCard => Detector::PaymentCard,
        crds::Detector::Iban => Detector::Iban,
        crds::Detector::EmailAddress => Detector::EmailAddress,
        crds::Detector::PhoneNumber => Detector::PhoneNumber,
        crds::Detector::UsSsn => Detector::UsSsn,
        crds::Detector::JsonWebToken => Detector::JsonWebToken,
        crds::Detector::PrivateKey => Detector::PrivateKey,
        crds::Detector::AwsAccessKey => Detector::AwsAccessKey,
    }
}

fn effect_of(effect: crds::SqlEffect) -> Effect {
    match effect {
        crds::SqlEffect::Catalog => Effect::Catalog,
        crds::SqlEffect::Read => Effect::Read,
        crds::SqlEffect::Write => Effect::Write,
        crds::SqlEffect::Modify => Effect::Modify,
        crds::SqlEffect::Delete => Effect::Delete,
        crds::SqlEffect::BulkLoad => Effect::BulkLoad,
        crds::SqlEffect::BulkExport => Effect::BulkExport,
        crds::SqlEffect::SchemaCreate => Effect::SchemaCreate,
        crds::SqlEffect::SchemaAlter => Effect::SchemaAlter,
        crds::SqlEffect::SchemaDestroy => Effect::SchemaDestroy,
        crds::SqlEffect::Privilege => Effect::Privilege,
        crds::SqlEffect::Session => Effect::Session,
        crds::SqlEffect::Transaction => Effect::Transaction,
        crds::SqlEffect::Maintenance => Effect::Maintenance,
        crds::SqlEffect::Lock => Effect::Lock,
        crds::SqlEffect::Notify => Effect::Notify,
        crds::SqlEffect::Execute => Effect::Execute,
        crds::SqlEffect::UnsafeIo => Effect::UnsafeIo,
        crds::SqlEffect::Unknown => Effect::Unknown,
    }
}
