//! What is checked, and how it came out. Each check is a function of the facts and of what verify
//! found, and says in words what it saw.

use chaperone_evidence::{BreakReason, Level};

use super::facts::{Facts, Places};
use crate::commands::verify::Verified;
use crate::output::counted;
use crate::time::{between, from_ns};

/// How a check, or a control, came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was looked at, and it is so.
    Holds,
    /// It was looked at, and it is not so.
    Fails,
    /// It could not be seen.
    NotAssessed,
}

/// One check.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What was done to find out.
    pub(super) method: &'static str,
    pub(super) state: State,
    pub(super) said: String,
    /// `session` or `session/sequence`, the first of them.
    pub(super) places: Vec<String>,
}

/// How a check came out, in words, with places.
type Found<'a> = (State, String, Option<&'a Places>);

/// What a check looks at.
type Check = for<'a> fn(&'a Facts, &Verified) -> Found<'a>;

const HALF_A_YEAR: u64 = 183;
const A_YEAR: u64 = 365;
const SIX_YEARS: u64 = 6 * 365;

const ALL: [(&str, &str, &str, Check); 17] = [
    (
        "integrity",
        "Nothing recorded was changed",
        "signatures, hash chains and proofs of the whole log verified under the key that was given",
        integrity,
    ),
    (
        "completeness",
        "Nothing recorded is missing",
        "ordinals, sequences, heads and checkpoints verified to be without gaps; Gap records and interrupted sessions counted",
        completeness,
    ),
    (
        "decided-first",
        "Each command was decided on, and recorded, before it was forwarded",
        "every forwarded frame verified to follow an intent that lets it through",
        decided_first,
    ),
    (
        "identity",
        "Each session names who acted",
        "the subject of every SessionStart read",
        identity,
    ),
    (
        "delegation",
        "Each session names on whose behalf it acted, by a verified token",
        "the delegate of every SessionStart read",
        delegation,
    ),
    (
        "purpose",
        "Each session states a purpose",
        "the purpose of every SessionStart read",
        purpose,
    ),
    (
        "ruled",
        "Each command that ran names the rule that let it, with the digest of that rule",
        "policy, rule and digest of every intent that was let through read",
        ruled,
    ),
    (
        "enforced",
        "Policy was enforced, not only observed",
        "intents forwarded under DryRun policies alone counted",
        enforced,
    ),
    (
        "refusals",
        "What no rule allows was refused and recorded",
        "denied intents counted, and no frame of theirs found forwarded",
        refusals,
    ),
    (
        "approvals",
        "Commands that need a human ran only after a proven human other than the agent agreed",
        "reviews before every intent that redeems an approval read",
        approvals,
    ),
    (
        "masking",
        "Sensitive values were masked before the agent and the record got them",
        "Masked records counted",
        masking,
    ),
    (
        "monitoring",
        "Deviations are flagged",
        "Finding records counted",
        monitoring,
    ),
    (
        "durability",
        "Records were as durable as the rule asked before the command ran",
        "durability asked and served of every intent compared",
        durability,
    ),
    (
        "time",
        "Records carry times that go on",
        "wall times of consecutive records of each session compared",
        time,
    ),
    (
        "kept-half-a-year",
        "Records of at least six months are kept",
        "age of the oldest record of the selection computed",
        |facts, _| kept(facts, HALF_A_YEAR),
    ),
    (
        "kept-a-year",
        "Records of at least twelve months are kept",
        "age of the oldest record of the selection computed",
        |facts, _| kept(facts, A_YEAR),
    ),
    (
        "kept-six-years",
        "Records of at least six years are kept",
        "age of the oldest record of the selection computed",
        |facts, _| kept(facts, SIX_YEARS),
    ),
];

/// The checks' names.
#[cfg(test)]
pub(super) const IDS: [&str; 17] = {
    let mut ids = [""; 17];
    let mut i = 0;
    while i < 17 {
        #[allow(clippy::indexing_slicing, reason = "both have this length")]
        {
            ids[i] = ALL[i].0;
        }
        i += 1;
    }
    ids
};

/// All of them. Of evidence that does not verify, only that is said.
pub(super) fn all(facts: &Facts, verified: &Verified) -> Vec<Checked> {
    let broken = !verified.report.ok();
    ALL.iter()
        .map(|(id, title, method, check)| {
            let proof = ["integrity", "completeness", "decided-first"].contains(id);
            let (state, said, places) = match broken && !proof {
                true => (
                    State::NotAssessed,
                    "the evidence does not verify, so it says nothing".to_owned(),
                    None,
                ),
                false => check(facts, verified),
            };
            Checked {
                id,
                title,
                method,
                state,
                said,
                places: places
                    .map(|places| places.first.clone())
                    .unwrap_or_default(),
            }
        })
        .collect()
}

/// What verify said of the whole evidence, in a sentence.
pub(super) fn verification(verified: &Verified) -> String {
    let report = &verified.report;
    let level = match report.level {
        Level::Outer => "outer (signatures and headers; frames are sealed)",
        Level::Full => "full (every frame)",
    };
    let key = match report.key_given {
        true => "the key that was given",
        false => "the evidence's own key, as none was given",
    };
    let result = match report.first_break() {
        None => "whole and unchanged".to_owned(),
        Some(first) => format!("BROKEN, first {first}"),
    };
    format!(
        "{result}: {}, {}, verified under {key} ({}), level {level}",
        counted(report.sessions, "session", "sessions"),
        counted(report.records, "record", "records"),
        report.fingerprint
    )
}

fn integrity<'a>(_: &'a Facts, verified: &Verified) -> Found<'a> {
    let report = &verified.report;
    match report.first_break() {
        Some(first) => (
            State::Fails,
            format!("the evidence is broken: {first}"),
            None,
        ),
        None if !report.key_given => (
            State::NotAssessed,
            "no key was given, and evidence does not vouch for itself; give it with --key"
                .to_owned(),
            None,
        ),
        None if report.level != Level::Full => (
            State::NotAssessed,
            "frames are sealed, and only their headers were verified".to_owned(),
            None,
        ),
        None => {
            let said = format!(
                "{} of {} verified unchanged",
                counted(report.records, "record", "records"),
                counted(report.sessions, "session", "sessions")
            );
            (State::Holds, said, None)
        }
    }
}

fn completeness<'a>(facts: &'a Facts, verified: &Verified) -> Found<'a> {
    if let Some(first) = verified.report.first_break() {
        return (
            State::Fails,
            format!("the evidence is broken: {first}"),
            None,
        );
    }
    if facts.gaps.count > 0 {
        let said = counted(facts.gaps.count, "gap is", "gaps are");
        return (
            State::Fails,
            format!("{said} recorded: what could not be kept"),
            Some(&facts.gaps),
        );
    }
    if facts.interrupted.count > 0 {
        let said = format!(
            "{} interrupted: what came last in them may be missing",
            counted(facts.interrupted.count, "session was", "sessions were")
        );
        return (State::Fails, said, Some(&facts.interrupted));
    }
    if !verified.report.key_given {
        return integrity(facts, verified);
    }
    let said = format!(
        "{} without a gap, {} still open",
        counted(facts.sessions, "session", "sessions"),
        facts.open
    );
    (State::Holds, said, None)
}

fn decided_first<'a>(facts: &'a Facts, verified: &Verified) -> Found<'a> {
    let against = verified.report.breaks.iter().find(|found| {
        matches!(
            found.reason,
            BreakReason::CommandWithoutIntent | BreakReason::ApprovalMissing
        )
    });
    if let Some(found) = against {
        return (State::Fails, found.to_string(), None);
    }
    if !verified.report.ok() || verified.report.level != Level::Full {
        let said = "the evidence does not verify in full, so it says nothing".to_owned();
        return (State::NotAssessed, said, None);
    }
    seen(facts.forwarded, || {
        format!(
            "{} forwarded, each after its recorded decision",
            counted(facts.forwarded, "command was", "commands were")
        )
    })
}

fn identity<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    each(&facts.unnamed, facts.sessions, "without a subject", || {
        format!(
            "{}, each of a named service account, {} of them with a verified token",
            counted(facts.sessions, "session", "sessions"),
            facts.delegated
        )
    })
}

fn delegation<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    match facts.delegated {
        0 => (
            State::NotAssessed,
            "no session began with a token".to_owned(),
            None,
        ),
        delegated if delegated < facts.sessions => (
            State::Fails,
            format!(
                "{delegated} of {} began with a verified token",
                counted(facts.sessions, "session", "sessions")
            ),
            None,
        ),
        _ => (
            State::Holds,
            format!(
                "{} began with a verified token",
                counted(facts.sessions, "session", "sessions")
            ),
            None,
        ),
    }
}

fn purpose<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    each(
        &facts.without_purpose,
        facts.sessions,
        "without a purpose",
        || {
            format!(
                "{} with a purpose",
                counted(facts.sessions, "session", "sessions")
            )
        },
    )
}

fn ruled<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    each(
        &facts.unruled,
        facts.forwarded,
        "of a command that ran by no named rule",
        || {
            format!(
                "{} ran, each by a rule that is named",
                counted(facts.forwarded, "command", "commands")
            )
        },
    )
}

fn enforced<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    each(
        &facts.observed,
        facts.decisions,
        "of a command that was only observed",
        || {
            format!(
                "{} made, all enforced",
                counted(facts.decisions, "decision was", "decisions were")
            )
        },
    )
}

fn refusals<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    seen(facts.denied, || {
        format!(
            "{} refused, and nothing of it forwarded",
            counted(facts.denied, "command was", "commands were")
        )
    })
}

fn approvals<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    if facts.by_themselves.count > 0 {
        let said = format!(
            "{} approved by the agent itself",
            counted(facts.by_themselves.count, "command was", "commands were")
        );
        return (State::Fails, said, Some(&facts.by_themselves));
    }
    each(
        &facts.unauthenticated,
        facts.approved,
        "of an approval by nobody who is proven",
        || {
            format!(
                "{} only after a proven human agreed",
                counted(facts.approved, "command ran", "commands ran")
            )
        },
    )
}

fn masking<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    seen(facts.masked, || {
        let by: Vec<&str> = facts.masked_by.iter().map(String::as_str).collect();
        format!(
            "{} masked, of {}",
            counted(facts.masked, "value", "values"),
            by.join(", ")
        )
    })
}

fn monitoring<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    let (state, said, _) = seen(facts.findings.count, || {
        counted(
            facts.findings.count,
            "finding was flagged",
            "findings were flagged",
        )
    });
    (state, said, Some(&facts.findings))
}

fn durability<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    each(
        &facts.weaker,
        facts.decisions,
        "of a record less durable than was asked",
        || {
            format!(
                "{} as durable as was asked",
                counted(facts.decisions, "decision was", "decisions were")
            )
        },
    )
}

fn time<'a>(facts: &'a Facts, _: &Verified) -> Found<'a> {
    each(
        &facts.steps,
        facts.decisions,
        "of a clock that stepped back",
        || "no clock stepped back; whether it was right is not in the evidence".to_owned(),
    )
}

fn kept(facts: &Facts, days: u64) -> Found<'_> {
    let age = between(from_ns(facts.first_ns), jiff::Timestamp::now()).as_secs() / 86_400;
    let said = format!("the oldest record of the selection is {age} days old");
    let state = match age >= days {
        true => State::Holds,
        // A young store has kept all it had.
        false => State::NotAssessed,
    };
    (state, said, None)
}

/// Holds if there is something and nothing against it.
fn each<'a>(against: &'a Places, of: u64, what: &str, holds: impl FnOnce() -> String) -> Found<'a> {
    if against.count > 0 {
        let cases = counted(against.count, "case", "cases");
        return (State::Fails, format!("{cases} {what}"), Some(against));
    }
    seen(of, holds)
}

/// Holds if there is something at all.
fn seen<'a>(count: u64, holds: impl FnOnce() -> String) -> Found<'a> {
    match count {
        0 => (
            State::NotAssessed,
            "there is no such record in the selection".to_owned(),
            None,
        ),
        _ => (State::Holds, holds(), None),
    }
}
