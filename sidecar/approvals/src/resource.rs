//! Between the `ApprovalRequest` resource and what the rules and tuples look at.
//!
//! All that was asked for is sealed by a digest in an annotation, so that a request whose command
//! or approvers were edited afterwards is not taken for what was asked. In a folder it is a plain
//! digest: it finds mistakes, and is no boundary against the user who owns the folder. In a
//! cluster it is keyed: whoever may write requests there cannot seal one.

use chaperone_crds::{
    ApprovalOperation, ApprovalPhase, ApprovalRequest, ApprovalRequestSpec, ApprovalRequestStatus,
    ApprovalRule as RuleOfRequest, ApprovalSubject, ApprovalVerdict, Approvers, HumanDuration,
    Review, SqlEffect,
};
use chaperone_policy::{Effect, RuleRef};
use jiff::{Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};

use crate::error::ApprovalError;
use crate::escape::{escape_for_display, escape_line};
use crate::request::Draft;
use crate::rules::{
    self, Counted, Evaluation, Facts, MAX_REVIEWS, Phase, Requirement, Verdict, is_local,
};
use crate::tuple::{Tuple, digest_of};

/// Annotation: hex SHA-256 of everything in the request that never changes.
const SEAL: &str = "chaperone.dev/request-digest";
/// Annotation: the rules after the first that ask for approval too, as JSON.
const MORE_RULES: &str = "chaperone.dev/more-rules";
/// Most rules one request may carry.
const MAX_RULES: usize = 16;
/// Condition that a grant was redeemed.
const CONSUMED: &str = "Consumed";
/// Condition that the client went away.
const CANCELLED: &str = "Cancelled";
/// Longest one-line text in the resource's schema, in characters.
const MAX_LINE: usize = 256;

/// A further rule that asks. The schema has room for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MoreRule {
    rule: RuleOfRequest,
    approvers: Approvers,
    quorum: u32,
}

/// Where a request is kept, which says how it is sealed.
#[derive(Clone, Copy)]
pub enum Sealing<'a> {
    /// A file of our own, status and creation time included, under a plain digest.
    Folder,
    /// A resource of an API server, which sets the creation time and keeps the status apart;
    /// under an HMAC-SHA-256 with this key.
    Cluster(&'a [u8]),
}

impl std::fmt::Debug for Sealing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Sealing::Folder => "Folder",
            Sealing::Cluster(_) => "Cluster(…)",
        })
    }
}

/// A request as it was read: whole, sealed, and understood.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The resource.
    pub request: ApprovalRequest,
    /// What [`rules`](crate::rules) look at.
    pub facts: Facts,
    /// What its grant is bound to.
    pub tuple: Tuple,
}

/// The resource for a new request.
///
/// # Errors
/// [`ApprovalError::Invalid`].
pub fn build(
    new: &Draft,
    name: &str,
    now: Timestamp,
    sealing: Sealing<'_>,
) -> Result<ApprovalRequest, ApprovalError> {
    let mut rules: Vec<MoreRule> = new
        .rules
        .iter()
        .map(|asked| MoreRule {
            rule: rule_of_request(&asked.rule),
            approvers: Approvers {
                users: asked.users.clone(),
                groups: asked.groups.clone(),
            },
            quorum: asked.quorum,
        })
        .collect();
    rules.sort_by(|a, b| (&a.rule.policy, &a.rule.name).cmp(&(&b.rule.policy, &b.rule.name)));
    let valid_for = new.rules.iter().map(|asked| asked.valid_for).min();
    let more = rules.split_off(rules.len().min(1));
    let (Some(first), Some(valid_for)) = (rules.pop(), valid_for) else {
        return Err(ApprovalError::Invalid("no rule asks for it".to_owned()));
    };
    let created_at = whole_seconds(now);
    let spec = ApprovalRequestSpec {
        connection: new.tuple.connection.clone(),
        subject: ApprovalSubject {
            namespace: new.tuple.namespace.clone(),
            service_account: new.tuple.service_account.clone(),
            pod: new.pod.clone(),
            delegate: new.tuple.delegate.clone(),
        },
        purpose: new
            .purpose
            .as_deref()
            .filter(|purpose| !purpose.is_empty())
            .map(|purpose| shortened(&escape_line(purpose))),
        rule: first.rule,
        operation: operation(new),
        approvers: first.approvers,
        quorum: first.quorum,
        expires_at: Time(whole_seconds(rules::later(created_at, new.expires_in))),
        valid_for: HumanDuration::from_secs(valid_for.as_secs()),
        decision: None,
        reviews: Vec::new(),
    };
    let mut request = ApprovalRequest::new(name, spec);
    request.metadata.namespace = Some(new.tuple.namespace.clone());
    if matches!(sealing, Sealing::Folder) {
        request.metadata.creation_timestamp = Some(Time(created_at));
        request.status = Some(status(Phase::Pending, created_at, Vec::new()));
    }
    let annotations = request.metadata.annotations.get_or_insert_default();
    if !more.is_empty() {
        let more = serde_json::to_string(&more)
            .map_err(|e| ApprovalError::Invalid(format!("its rules cannot be written: {e}")))?;
        annotations.insert(MORE_RULES.to_owned(), more);
    }
    let sealed = seal(&request, sealing).map_err(ApprovalError::Invalid)?;
    request
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(SEAL.to_owned(), sealed);
    Ok(request)
}

fn rule_of_request(rule: &RuleRef) -> RuleOfRequest {
    RuleOfRequest {
        policy: rule.policy.clone(),
        name: rule.rule.clone(),
        digest: rule.digest.clone(),
    }
}

fn operation(new: &Draft) -> ApprovalOperation {
    let mut effects = new.effects.clone();
    effects.sort();
    effects.dedup();
    ApprovalOperation {
        summary: shortened(&escape_line(&new.summary)),
        command: escape_for_display(&new.command),
        parameters: new
            .parameters
            .iter()
            .map(|value| value.as_deref().map(escape_for_display))
            .collect(),
        digest: hex::encode(new.tuple.command_digest),
        effects: effects.into_iter().filter_map(effect_of_resource).collect(),
        objects: new.objects(),
    }
}

fn effect_of_resource(effect: Effect) -> Option<SqlEffect> {
    SqlEffect::ALL
        .iter()
        .copied()
        .find(|known| known.as_str() == effect.as_str())
}

/// `text` cut to what the schema takes in one line.
fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_LINE {
        return text.to_owned();
    }
    text.chars().take(MAX_LINE - 1).chain(['…']).collect()
}

/// Makes sense of a resource that claims to be `name`, or says why there is none in it.
///
/// # Errors
/// A sentence; such a request grants nothing.
pub fn read(name: &str, request: ApprovalRequest, sealing: Sealing<'_>) -> Result<Stored, String> {
    if request.metadata.name.as_deref() != Some(name) {
        return Err(format!("metadata.name is not {name}"));
    }
    let written = annotation(&request, SEAL)
        .ok_or_else(|| format!("metadata.annotations.{SEAL} is missing"))?;
    let expected = seal(&request, sealing)?;
    let equal = aws_lc_rs::constant_time::verify_slices_are_equal;
    if equal(written.as_bytes(), expected.as_bytes()).is_err() {
        return Err("what was asked for has been edited".to_owned());
    }
    // An API server never cuts a status short, and has none before the first one is written.
    if matches!(sealing, Sealing::Folder) {
        check_status(&request)?;
    }
    let rules = rules_of(&request)?;
    let tuple = tuple_of(&request, &rules)?;
    let facts = facts_of(&request, rules, sealing)?;
    Ok(Stored {
        request,
        facts,
        tuple,
    })
}

/// What a cluster's request asks for and was answered, for a reader without the key that its seal
/// is made with. Good to show; nothing may be granted by it.
///
/// # Errors
/// A sentence.
pub fn unsealed(request: ApprovalRequest) -> Result<(ApprovalRequest, Facts), String> {
    let rules = rules_of(&request)?;
    let facts = facts_of(&request, rules, Sealing::Cluster(&[]))?;
    Ok((request, facts))
}

/// A file that was cut short may have lost the mark that takes its grant away.
fn check_status(request: &ApprovalRequest) -> Result<(), String> {
    let phase = request.status.as_ref().and_then(|status| status.phase);
    let lost = match phase.ok_or("status.phase is missing")? {
        ApprovalPhase::Consumed => mark(request, CONSUMED).is_none(),
        ApprovalPhase::Cancelled => mark(request, CANCELLED).is_none(),
        _ => false,
    };
    if lost {
        return Err("status.conditions do not bear out status.phase".to_owned());
    }
    Ok(())
}

fn rules_of(request: &ApprovalRequest) -> Result<Vec<MoreRule>, String> {
    let spec = &request.spec;
    let mut rules = vec![MoreRule {
        rule: spec.rule.clone(),
        approvers: spec.approvers.clone(),
        quorum: spec.quorum,
    }];
    if let Some(more) = annotation(request, MORE_RULES) {
        let more: Vec<MoreRule> = serde_json::from_str(more)
            .map_err(|e| format!("metadata.annotations.{MORE_RULES}: {e}"))?;
        rules.extend(more);
    }
    if rules.len() > MAX_RULES {
        return Err(format!("it carries more than {MAX_RULES} rules"));
    }
    Ok(rules)
}

fn tuple_of(request: &ApprovalRequest, rules: &[MoreRule]) -> Result<Tuple, String> {
    let spec = &request.spec;
    if request.metadata.namespace.as_deref() != Some(spec.subject.namespace.as_str()) {
        return Err("metadata.namespace is not the subject's".to_owned());
    }
    let mut command_digest = [0_u8; 32];
    hex::decode_to_slice(&spec.operation.digest, &mut command_digest)
        .map_err(|e| format!("spec.operation.digest: {e}"))?;
    Ok(Tuple {
        namespace: spec.subject.namespace.clone(),
        service_account: spec.subject.service_account.clone(),
        delegate: spec.subject.delegate.clone(),
        connection: spec.connection.clone(),
        command_digest,
        rule_digest: digest_of(rules.iter().map(|asked| {
            (
                asked.rule.policy.as_str(),
                asked.rule.name.as_str(),
                asked.rule.digest.as_str(),
            )
        })),
    })
}

fn facts_of(
    request: &ApprovalRequest,
    rules: Vec<MoreRule>,
    sealing: Sealing<'_>,
) -> Result<Facts, String> {
    let spec = &request.spec;
    let created_at = request
        .metadata
        .creation_timestamp
        .as_ref()
        .ok_or("metadata.creationTimestamp is missing")?
        .0;
    let requirements = rules
        .into_iter()
        .map(|asked| Requirement {
            rule: format!("{}/{}", asked.rule.policy, asked.rule.name),
            users: asked.approvers.users,
            groups: asked.approvers.groups,
            quorum: asked.quorum,
        })
        .collect();
    Ok(Facts {
        namespace: spec.subject.namespace.clone(),
        service_account: spec.subject.service_account.clone(),
        delegate: spec
            .subject
            .delegate
            .as_ref()
            .map(|delegate| delegate.username.clone()),
        requirements,
        reviews: spec
            .reviews
            .iter()
            .map(|review| {
                // In a cluster admission stamps every review from the API server's user info.
                let stamped = matches!(sealing, Sealing::Cluster(_));
                counted(review, stamped || !is_local(&review.reviewer))
            })
            .collect(),
        created_at,
        expires_at: spec.expires_at.0,
        valid_for: spec.valid_for.get(),
        consumed_at: mark(request, CONSUMED),
        cancelled_at: mark(request, CANCELLED),
    })
}

/// A review as the rules look at it.
pub(crate) fn counted(review: &Review, authenticated: bool) -> Counted {
    Counted {
        reviewer: review.reviewer.clone(),
        groups: review.groups.clone(),
        verdict: match review.verdict {
            ApprovalVerdict::Approve => Verdict::Approve,
            ApprovalVerdict::Deny => Verdict::Deny,
        },
        reason: review.reason.clone().unwrap_or_default(),
        at: review.at.0,
        authenticated,
    }
}

fn annotation<'a>(request: &'a ApprovalRequest, key: &str) -> Option<&'a String> {
    request.metadata.annotations.as_ref()?.get(key)
}

/// Since when the condition `type_` is true.
fn mark(request: &ApprovalRequest, type_: &str) -> Option<Timestamp> {
    let conditions = &request.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == "True")
        .map(|condition| condition.last_transition_time.0)
}

/// Digest over name, namespace, further rules, the spec without its answers, and in a folder the
/// creation time, which elsewhere the API server sets and keeps.
fn seal(request: &ApprovalRequest, sealing: Sealing<'_>) -> Result<String, String> {
    let mut spec = request.spec.clone();
    spec.decision = None;
    spec.reviews.clear();
    let created_at = match sealing {
        Sealing::Folder => request.metadata.creation_timestamp.as_ref(),
        Sealing::Cluster(_) => None,
    };
    let sealed = (
        &request.metadata.name,
        &request.metadata.namespace,
        created_at,
        annotation(request, MORE_RULES),
        &spec,
    );
    let bytes = serde_json::to_vec(&sealed).map_err(|e| e.to_string())?;
    Ok(match sealing {
        Sealing::Folder => hex::encode(aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            &bytes,
        )),
        Sealing::Cluster(key) => {
            use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
            let mut context = Context::with_key(&Key::new(HMAC_SHA256, key));
            context.update(b"chaperone approval request\0");
            context.update(&bytes);
            hex::encode(context.sign())
        }
    })
}

/// Adds an answer, or says why this reviewer cannot give it any more. A reviewer may take back
/// his own Approve.
pub(crate) fn add_review(
    stored: &mut Stored,
    reviewer: &str,
    verdict: Verdict,
    reason: &str,
    now: Timestamp,
) -> Result<(), String> {
    let review = Review {
        reviewer: reviewer.to_owned(),
        groups: Vec::new(),
        verdict: match verdict {
            Verdict::Approve => ApprovalVerdict::Approve,
            Verdict::Deny => ApprovalVerdict::Deny,
        },
        reason: (!reason.is_empty()).then(|| escape_line(reason)),
        at: Time(whole_seconds(now)),
    };
    let reviews = &mut stored.request.spec.reviews;
    let full = reviews.len() >= MAX_REVIEWS;
    match reviews.iter_mut().find(|given| given.reviewer == reviewer) {
        Some(given) if given.verdict == review.verdict => Err(format!(
            "{reviewer} has answered {} already; {} different people must approve",
            verdict.as_str(),
            stored.request.spec.quorum
        )),
        Some(given) => {
            *given = review;
            Ok(())
        }
        None if full => Err(format!(
            "it has {MAX_REVIEWS} reviews, and no more are kept"
        )),
        None => {
            reviews.push(review);
            Ok(())
        }
    }
}

/// Marks the grant as used, by which session if it has a name.
pub fn mark_consumed(request: &mut ApprovalRequest, session: Option<&str>, now: Timestamp) {
    let condition = condition(CONSUMED, "Redeemed", "released one command", now);
    let mut consumed = status(Phase::Consumed, now, vec![condition]);
    consumed.consumed_by = session.map(|session| escape_line(session).chars().take(128).collect());
    request.status = Some(consumed);
}

/// Marks the request as given up by its client.
pub fn mark_cancelled(request: &mut ApprovalRequest, why: &str, now: Timestamp) {
    let condition = condition(CANCELLED, "ClientGone", &escape_line(why), now);
    request.status = Some(status(Phase::Cancelled, now, vec![condition]));
}

/// Writes what the reviews amount to, for people who look at the file.
pub(crate) fn set_status(request: &mut ApprovalRequest, evaluation: &Evaluation, now: Timestamp) {
    request.status = Some(status(evaluation.phase, now, Vec::new()));
}

/// A phase as the resource names it.
pub fn phase_of_resource(phase: Phase) -> ApprovalPhase {
    match phase {
        Phase::Pending => ApprovalPhase::Pending,
        Phase::Approved => ApprovalPhase::Approved,
        Phase::Denied => ApprovalPhase::Denied,
        Phase::Expired => ApprovalPhase::Expired,
        Phase::Cancelled => ApprovalPhase::Cancelled,
        Phase::Consumed => ApprovalPhase::Consumed,
    }
}

/// An answer as the resource writes it.
pub fn review_of_resource(review: &Counted) -> Review {
    Review {
        reviewer: review.reviewer.clone(),
        groups: review.groups.clone(),
        verdict: match review.verdict {
            Verdict::Approve => ApprovalVerdict::Approve,
            Verdict::Deny => ApprovalVerdict::Deny,
        },
        reason: (!review.reason.is_empty()).then(|| review.reason.clone()),
        at: Time(review.at),
    }
}

fn status(phase: Phase, now: Timestamp, conditions: Vec<Condition>) -> ApprovalRequestStatus {
    ApprovalRequestStatus {
        phase: Some(phase_of_resource(phase)),
        changed_at: Some(Time(whole_seconds(now))),
        consumed_by: None,
        conditions,
    }
}

fn condition(type_: &str, reason: &str, message: &str, now: Timestamp) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: shortened(message),
        last_transition_time: Time(whole_seconds(now)),
        observed_generation: None,
    }
}

/// Rounded down, as the resource writes times: what is sealed must be what is read back.
fn whole_seconds(at: Timestamp) -> Timestamp {
    let rounding = jiff::TimestampRound::new()
        .smallest(Unit::Second)
        .mode(jiff::RoundMode::Floor);
    at.round(rounding).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::time::Duration;

    use chaperone_policy::ApprovalRule;

    use super::*;
    use crate::tuple::combined_rule_digest;
    use crate::{derived_name, is_name};

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn rule(policy: &str) -> ApprovalRule {
        ApprovalRule {
            rule: RuleRef {
                policy: policy.to_owned(),
                rule: "deletes".to_owned(),
                generation: 3,
                digest: "ab".repeat(32),
            },
            users: Vec::new(),
            groups: vec!["dba".to_owned()],
            quorum: 1,
            timeout: Duration::from_secs(20),
            valid_for: Duration::from_secs(900),
        }
    }

    fn draft() -> Draft {
        let rules = vec![rule("shop/one"), rule("shop/two")];
        Draft {
            tuple: Tuple {
                namespace: "shop".to_owned(),
                service_account: "report".to_owned(),
                delegate: None,
                connection: "databases/orders-db".to_owned(),
                command_digest: [7; 32],
                rule_digest: combined_rule_digest(&rules),
            },
            pod: Some("report-1".to_owned()),
            purpose: None,
            rules,
            summary: "Delete on public.orders".to_owned(),
            command: "DELETE FROM orders".to_owned(),
            parameters: Vec::new(),
            effects: vec![Effect::Delete],
            objects: vec!["public.orders".to_owned()],
            expires_in: Duration::from_secs(900),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// As it comes back from an API server.
    fn created() -> ApprovalRequest {
        let built = build(&draft(), "ar-bcdfg", at(1_000), Sealing::Cluster(KEY)).unwrap();
        assert!(built.metadata.creation_timestamp.is_none() && built.status.is_none());
        let mut request: ApprovalRequest =
            serde_json::from_str(&serde_json::to_string(&built).unwrap()).unwrap();
        request.metadata.creation_timestamp = Some(Time(at(1_001)));
        request
    }

    #[test]
    fn a_request_of_the_cluster_is_read_back_with_the_tuple_it_was_made_for() {
        let stored = read("ar-bcdfg", created(), Sealing::Cluster(KEY)).unwrap();
        assert_eq!(stored.tuple, draft().tuple);
        assert_eq!(stored.facts.requirements.len(), 2);
    }

    #[test]
    fn without_the_key_no_request_can_be_made_or_edited() {
        for forge in [
            |request: &mut ApprovalRequest| request.spec.quorum = 2,
            |request: &mut ApprovalRequest| request.spec.operation.command.push('x'),
            |request: &mut ApprovalRequest| {
                request
                    .metadata
                    .annotations
                    .get_or_insert_default()
                    .remove(MORE_RULES);
            },
        ] {
            let mut request = created();
            forge(&mut request);
            read("ar-bcdfg", request, Sealing::Cluster(KEY)).expect_err("it was edited");
        }
        read("ar-bcdfg", created(), Sealing::Cluster(b"another")).expect_err("another key");
        let mut plain = created();
        let sealed = seal(&plain, Sealing::Folder).unwrap();
        plain
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(SEAL.to_owned(), sealed);
        read("ar-bcdfg", plain, Sealing::Cluster(KEY)).expect_err("a plain digest is no seal");
    }

    #[test]
    fn reviews_of_a_cluster_are_authenticated_whatever_the_reviewer_is_called() {
        let mut request = created();
        request.spec.reviews.push(Review {
            reviewer: "local:0".to_owned(),
            groups: vec!["dba".to_owned()],
            verdict: ApprovalVerdict::Approve,
            reason: None,
            at: Time(at(1_002)),
        });
        let stored = read("ar-bcdfg", request, Sealing::Cluster(KEY)).unwrap();
        assert!(
            stored
                .facts
                .reviews
                .iter()
                .all(|review| review.authenticated)
        );
        let evaluation = rules::evaluate(
            &stored.facts,
            rules::ReviewerProof::Authenticated,
            at(1_003),
        );
        assert_eq!(evaluation.phase, Phase::Approved);
    }

    #[test]
    fn all_who_ask_for_the_same_come_to_the_same_name() {
        let tuple = draft().tuple;
        let name = derived_name(KEY, &tuple, 0).unwrap();
        assert!(is_name(&name), "{name}");
        assert_eq!(derived_name(KEY, &tuple, 0).unwrap(), name);
        assert_ne!(derived_name(KEY, &tuple, 1).unwrap(), name);
        let mut other = tuple;
        other.connection = "databases/other".to_owned();
        assert_ne!(derived_name(KEY, &other, 0).unwrap(), name);
    }
}
