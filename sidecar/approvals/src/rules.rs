//! What a request's reviews amount to. Pure: the operator and the standalone folder share it.
//!
//! The phase is counted from the reviews each time. A `status.phase` that somebody wrote is
//! never read; only the marks that take a grant away (consumed, cancelled) are.
//!
//! A review counts when its reviewer
//! - is proven as the mode demands ([`ReviewerProof`]),
//! - is neither the subject's service account nor the delegate's user, nor any service account,
//! - is among the approvers of a requirement,
//! - gave it between the request's making and its expiry.
//!
//! Each reviewer counts once for each requirement. One Deny of somebody who may review ends the
//! request, whenever it comes before redemption. All requirements need their quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use chaperone_policy::Reason;
use jiff::{SignedDuration, Timestamp};

/// Reviews kept on one request, as in the resource's schema.
pub const MAX_REVIEWS: usize = 16;

/// How far a review's time may lie ahead of our clock before the review is not believed.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// User name prefix of Kubernetes service accounts.
const SERVICE_ACCOUNT_USER: &str = "system:serviceaccount:";
/// Group that every Kubernetes service account is in.
const SERVICE_ACCOUNT_GROUP: &str = "system:serviceaccounts";
/// Prefix of reviewers in a standalone folder; the rest is a numeric user id.
const LOCAL_USER: &str = "local:";

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Waits for reviews.
    Pending,
    /// Granted and not used yet.
    Approved,
    /// Somebody who may review said no.
    Denied,
    /// Not granted in time, or granted and not used in time.
    Expired,
    /// The client went away before anybody answered.
    Cancelled,
    /// Used. A grant releases one command.
    Consumed,
}

impl Phase {
    /// The name in `status.phase` and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Approved => "Approved",
            Phase::Denied => "Denied",
            Phase::Expired => "Expired",
            Phase::Cancelled => "Cancelled",
            Phase::Consumed => "Consumed",
        }
    }

    /// Whether nothing can happen to the request any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Phase::Pending | Phase::Approved)
    }

    /// The constant for whoever waits for the request or wants to redeem it.
    pub fn reason(self) -> Reason {
        match self {
            Phase::Pending => Reason::ApprovalPending,
            Phase::Approved => Reason::Approved,
            Phase::Denied => Reason::ApprovalDenied,
            Phase::Expired => Reason::ApprovalExpired,
            Phase::Cancelled => Reason::ApprovalCancelled,
            Phase::Consumed => Reason::ApprovalUnavailable,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reviewer's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No; this ends the request.
    Deny,
}

impl Verdict {
    /// The name in the resource.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Approve => "Approve",
            Verdict::Deny => "Deny",
        }
    }
}

/// How the reviewer of an entry is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewerProof {
    /// Stamped from the API server's user info: names and groups are believed. `local:` is a
    /// user name like any other.
    Authenticated,
    /// Written into a folder on this machine: only `local:<uid>` counts, for any approvers list,
    /// and is recorded as unauthenticated. Groups are not believed.
    LocalFolder,
}

/// One answer on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// User name, or `local:<uid>`.
    pub reviewer: String,
    /// The reviewer's groups when he answered.
    pub groups: Vec<String>,
    /// The answer.
    pub verdict: Verdict,
    /// Why, in the reviewer's words; may be empty.
    pub reason: String,
    /// When; to the second.
    pub at: Timestamp,
    /// Whether the reviewer's identity was proven.
    pub authenticated: bool,
}

/// What one RequireApproval rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// `policy/rule`, for messages.
    pub rule: String,
    /// User names that may review.
    pub users: Vec<String>,
    /// Groups that may review.
    pub groups: Vec<String>,
    /// Distinct reviewers needed; at least 1.
    pub quorum: u32,
}

/// What the rules look at, free of any resource's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The subject's namespace.
    pub namespace: String,
    /// The subject's service account.
    pub service_account: String,
    /// The delegate's user name, if one acts.
    pub delegate: Option<String>,
    /// All of these must reach their quorum; never empty.
    pub requirements: Vec<Requirement>,
    /// Answers so far, in any order.
    pub reviews: Vec<Counted>,
    /// When the request was made.
    pub created_at: Timestamp,
    /// Until when it may be granted.
    pub expires_at: Timestamp,
    /// How long the grant may be redeemed, from the review that completed it.
    pub valid_for: Duration,
    /// When the grant was redeemed, if it was.
    pub consumed_at: Option<Timestamp>,
    /// When the client went away, if it did.
    pub cancelled_at: Option<Timestamp>,
}

/// What the reviews amount to at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Where the request is.
    pub phase: Phase,
    /// The answers that counted, oldest first.
    pub reviews: Vec<Counted>,
    /// Entries that do not count, and why.
    pub ignored: Vec<(String, String)>,
    /// When the last quorum was reached.
    pub approved_at: Option<Timestamp>,
    /// Until when the request can be granted, or once granted, redeemed.
    pub open_until: Timestamp,
    /// When the request came to its end, if it did.
    pub ended_at: Option<Timestamp>,
    /// For each requirement: rule, distinct approvals, quorum.
    pub progress: Vec<(String, u32, u32)>,
}

/// Why `reviewer` may not answer a request of this subject; `None` if he may.
pub fn refusal(
    facts: &Facts,
    reviewer: &str,
    groups: &[String],
    proof: ReviewerProof,
) -> Option<String> {
    let own_account = format!(
        "{SERVICE_ACCOUNT_USER}{}:{}",
        facts.namespace, facts.service_account
    );
    if reviewer == own_account {
        return Some("the subject cannot review its own request".to_owned());
    }
    if facts.delegate.as_deref() == Some(reviewer) {
        return Some("the user on whose behalf the subject acts cannot review".to_owned());
    }
    if reviewer.starts_with(SERVICE_ACCOUNT_USER)
        || groups
            .iter()
            .any(|group| group == SERVICE_ACCOUNT_GROUP || is_account_group(group))
    {
        return Some("service accounts cannot review".to_owned());
    }
    match proof {
        ReviewerProof::LocalFolder => (!is_local(reviewer)).then(|| {
            "a standalone folder only knows reviewers as local:<uid>; use \
             `kubectl-chaperone approve` or `deny`"
                .to_owned()
        }),
        ReviewerProof::Authenticated => {
            let named = facts
                .requirements
                .iter()
                .any(|requirement| is_approver(requirement, reviewer, groups, proof));
            (!named).then(|| format!("not among the approvers ({})", approvers(facts)))
        }
    }
}

/// Counts a request's reviews at `now`.
pub fn evaluate(facts: &Facts, proof: ReviewerProof, now: Timestamp) -> Evaluation {
    let (reviews, ignored) = countable(facts, proof, now);
    let denied_at = reviews
        .iter()
        .find(|review| review.verdict == Verdict::Deny)
        .map(|review| review.at);
    let (progress, approved_at) = quorums(facts, &reviews, proof);
    let open_until = match approved_at {
        Some(at) => later(at, facts.valid_for),
        None => facts.expires_at,
    };
    // Consumed first: whatever was written into the request afterwards, the command has run.
    let (phase, ended_at) = if facts.consumed_at.is_some() {
        (Phase::Consumed, facts.consumed_at)
    } else if denied_at.is_some() {
        (Phase::Denied, denied_at)
    } else if facts.cancelled_at.is_some() {
        (Phase::Cancelled, facts.cancelled_at)
    } else if now >= open_until {
        (Phase::Expired, Some(open_until))
    } else if approved_at.is_some() {
        (Phase::Approved, None)
    } else {
        (Phase::Pending, None)
    };
    Evaluation {
        phase,
        reviews,
        ignored,
        approved_at,
        open_until,
        ended_at,
        progress,
    }
}

/// The entries that count, oldest first, and those that do not, with the reason.
fn countable(
    facts: &Facts,
    proof: ReviewerProof,
    now: Timestamp,
) -> (Vec<Counted>, Vec<(String, String)>) {
    let mut reviews = Vec::new();
    let mut ignored = Vec::new();
    // Times in a resource are whole seconds, rounded down.
    let from = facts.created_at.as_second();
    let believed = later(now, CLOCK_SKEW);
    for review in facts.reviews.iter().take(MAX_REVIEWS) {
        let why = refusal(facts, &review.reviewer, &review.groups, proof).or_else(|| {
            if review.at.as_second() < from {
                Some("dated before the request was made".to_owned())
            } else if review.at > believed {
                Some("dated in the future".to_owned())
            } else if review.at >= facts.expires_at && review.verdict == Verdict::Approve {
                Some("given after the request expired".to_owned())
            } else {
                None
            }
        });
        match why {
            Some(why) => ignored.push((review.reviewer.clone(), why)),
            None => reviews.push(review.clone()),
        }
    }
    for review in facts.reviews.iter().skip(MAX_REVIEWS) {
        ignored.push((
            review.reviewer.clone(),
            format!("more than {MAX_REVIEWS} reviews"),
        ));
    }
    reviews.sort_by_key(|review| review.at);
    (reviews, ignored)
}

/// How far each requirement is, and when the last of them was met.
fn quorums(
    facts: &Facts,
    reviews: &[Counted],
    proof: ReviewerProof,
) -> (Vec<(String, u32, u32)>, Option<Timestamp>) {
    let mut progress = Vec::with_capacity(facts.requirements.len());
    let mut approved_at = None;
    let mut all_met = !facts.requirements.is_empty();
    for requirement in &facts.requirements {
        // A quorum of zero in a damaged request must not grant anything by itself.
        let quorum = requirement.quorum.max(1);
        let mut first_by_reviewer: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for review in reviews {
            if review.verdict == Verdict::Approve
                && is_approver(requirement, &review.reviewer, &review.groups, proof)
            {
                first_by_reviewer
                    .entry(review.reviewer.as_str())
                    .or_insert(review.at);
            }
        }
        let times: BTreeSet<(Timestamp, &str)> = first_by_reviewer
            .iter()
            .map(|(reviewer, at)| (*at, *reviewer))
            .collect();
        let given = u32::try_from(times.len()).unwrap_or(u32::MAX);
        let needed = usize::try_from(quorum).unwrap_or(usize::MAX);
        match times.iter().nth(needed - 1) {
            Some((at, _)) => approved_at = approved_at.max(Some(*at)),
            None => all_met = false,
        }
        progress.push((requirement.rule.clone(), given, quorum));
    }
    (progress, approved_at.filter(|_| all_met))
}

fn is_approver(
    requirement: &Requirement,
    reviewer: &str,
    groups: &[String],
    proof: ReviewerProof,
) -> bool {
    match proof {
        ReviewerProof::LocalFolder => is_local(reviewer),
        ReviewerProof::Authenticated => {
            requirement.users.iter().any(|user| user == reviewer)
                || requirement
                    .groups
                    .iter()
                    .any(|group| groups.contains(group))
        }
    }
}

/// `local:` and a numeric user id, nothing else.
pub(crate) fn is_local(reviewer: &str) -> bool {
    reviewer
        .strip_prefix(LOCAL_USER)
        .is_some_and(|uid| uid.parse::<u32>().is_ok_and(|id| id.to_string() == uid))
}

/// `system:serviceaccounts:<namespace>`.
fn is_account_group(group: &str) -> bool {
    group
        .strip_prefix(SERVICE_ACCOUNT_GROUP)
        .is_some_and(|rest| rest.starts_with(':'))
}

fn approvers(facts: &Facts) -> String {
    let named: BTreeSet<String> = facts
        .requirements
        .iter()
        .flat_map(|requirement| {
            let users = requirement.users.iter().map(|user| format!("user {user}"));
            let groups = requirement
                .groups
                .iter()
                .map(|group| format!("group {group}"));
            users.chain(groups)
        })
        .collect();
    named.into_iter().collect::<Vec<_>>().join(", ")
}

/// `from` plus `by`, at most the end of time.
pub(crate) fn later(from: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| from.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}
