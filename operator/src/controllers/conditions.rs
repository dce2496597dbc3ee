//! Conditions as Kubernetes wants them: the time of the last transition stays while the status
//! does.

use chaperone_control::Fault;
use chaperone_crds::conditions::condition;
use chaperone_crds::{ConditionReason, ConditionType};
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::ObjectMeta;

/// Longest message (metav1.Condition).
const LONGEST: usize = 1024;

/// What one condition comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) kind: ConditionType,
    pub(crate) good: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Finding {
    /// All is well.
    pub(crate) fn good(
        kind: ConditionType,
        reason: ConditionReason,
        message: impl Into<String>,
    ) -> Finding {
        Finding {
            kind,
            good: true,
            reason: reason.as_str().to_owned(),
            message: message.into(),
        }
    }

    /// Something has to be done.
    pub(crate) fn bad(
        kind: ConditionType,
        reason: ConditionReason,
        message: impl Into<String>,
    ) -> Finding {
        Finding {
            good: false,
            ..Finding::good(kind, reason, message)
        }
    }

    /// A fault, as this condition.
    pub(crate) fn fault(kind: ConditionType, fault: &Fault) -> Finding {
        Finding {
            kind,
            good: false,
            reason: fault.reason.clone(),
            message: fault.message.clone(),
        }
    }

    /// Ready: the first that is not good, else the first with a warning, else all is well.
    pub(crate) fn ready(findings: &[Finding]) -> Finding {
        let bad = findings.iter().find(|finding| !finding.good);
        // A reason that is not the condition's own name is a warning.
        let warning = || {
            findings
                .iter()
                .find(|finding| finding.reason != finding.kind.as_str())
        };
        match bad.or_else(warning) {
            Some(first) => Finding {
                kind: ConditionType::Ready,
                ..first.clone()
            },
            None => Finding::good(ConditionType::Ready, ConditionReason::Ready, ""),
        }
    }

    /// The outcome for the metric, of a Ready.
    pub(crate) fn outcome(&self) -> &'static str {
        if self.good { "Ready" } else { "NotReady" }
    }

    /// Whether its reason is another than in these conditions: then it is worth an Event.
    pub(crate) fn is_news(&self, old: &[Condition]) -> bool {
        let before = old.iter().find(|old| old.type_ == self.kind.as_str());
        before.is_none_or(|before| before.reason != self.reason)
    }
}

/// The conditions of a resource that cannot be read, as of its making: its old status is not
/// known, and a time that moved would make every write a change to look at.
pub(crate) fn of_unreadable(metadata: &ObjectMeta, findings: &[Finding]) -> Vec<Condition> {
    let since = metadata.creation_timestamp.as_ref();
    let since = since.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let mut findings = findings.to_vec();
    findings.push(Finding::ready(&findings));
    conditions(&[], &findings, metadata.generation, since)
}

/// The conditions for these findings. Conditions of other types are left out: what no controller
/// finds any more is not true for ever.
pub(crate) fn conditions(
    old: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .iter()
        .map(|finding| {
            let status = if finding.good { "True" } else { "False" };
            let since = old
                .iter()
                .find(|old| old.type_ == finding.kind.as_str() && old.status == status)
                .map_or_else(
                    || Time(whole_seconds(now)),
                    |old| old.last_transition_time.clone(),
                );
            let message: String = finding.message.chars().take(LONGEST).collect();
            Condition {
                reason: finding.reason.clone(),
                ..condition(
                    finding.kind,
                    finding.good,
                    ConditionReason::Pending,
                    message,
                    generation,
                    since,
                )
            }
        })
        .collect()
}

/// Times in a resource are whole seconds.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    let rounding = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Floor);
    at.round(rounding).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_stays_while_the_status_does() {
        let accepted = |good, message: &str| Finding {
            good,
            ..Finding::good(ConditionType::Accepted, ConditionReason::Accepted, message)
        };
        let first = conditions(&[], &[accepted(true, "a")], Some(1), at(10));
        let second = conditions(&first, &[accepted(true, "b")], Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(
            (second[0].message.as_str(), second[0].observed_generation),
            ("b", Some(2))
        );
        let third = conditions(&second, &[accepted(false, "c")], Some(2), at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn ready_repeats_the_first_problem_or_else_the_first_warning() {
        let good = Finding::good(ConditionType::Accepted, ConditionReason::Accepted, "");
        let warning = Finding::good(
            ConditionType::Reachable,
            ConditionReason::BypassPossible,
            "no password",
        );
        let bad = Finding::bad(
            ConditionType::ResolvedRefs,
            ConditionReason::RefNotFound,
            "x",
        );
        let ready = |findings: &[Finding]| {
            let ready = Finding::ready(findings);
            (ready.good, ready.reason)
        };
        assert_eq!(
            ready(std::slice::from_ref(&good)),
            (true, "Ready".to_owned())
        );
        assert_eq!(
            ready(&[good.clone(), warning.clone()]),
            (true, "BypassPossible".to_owned())
        );
        assert_eq!(
            ready(&[good, warning, bad]),
            (false, "RefNotFound".to_owned())
        );
    }
}
