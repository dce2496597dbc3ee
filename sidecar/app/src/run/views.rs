//! What `kubectl get sessions` shows of a session.

use chaperone_control::RecoveredSession;
use chaperone_crds::{SessionSpec, SessionState};
use chaperone_evidence::{RecoveredTail, SessionSummary, State};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A session's view, within the bounds of its schema.
pub(super) fn spec_of(session: &SessionSummary, pod: &str) -> SessionSpec {
    SessionSpec {
        subject: cut(&session.start.subject, 320),
        connection: cut(&session.start.connection, 320),
        target: cut(&session.start.target, 512),
        purpose: session.start.purpose.as_deref().map(|text| cut(text, 256)),
        pod: pod.to_owned(),
        state: match session.state {
            State::Open => SessionState::Open,
            State::Ended => SessionState::Ended,
            State::Recovered => SessionState::Recovered,
            State::Interrupted => SessionState::Interrupted,
        },
        end: cut(&session.end, 512),
        started_at: time(session.started_ns),
        last_at: time(session.last_ns),
        allowed: session.allowed.saturating_add(session.observed),
        denied: session.denied,
        held: session.held,
        rows: session.rows,
        masked: session.masked,
        findings: session.findings,
        records: session.records,
    }
}

/// How a session of an earlier life came out.
pub(super) fn recovered(tail: &RecoveredTail) -> RecoveredSession {
    RecoveredSession {
        id: tail.id.to_string(),
        last_at: time(tail.last_ns).0,
        end: cut(&tail.end, 512),
    }
}

/// At most so many characters, as schemas count them.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// Whole seconds, which is what the API server keeps of a time.
fn time(ns: u64) -> Time {
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}
