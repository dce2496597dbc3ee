//! From the reason of a recorded decision to a sentence, and to what can be done about it.

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

#[cfg(test)]
mod tests {
    use super::*;

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
