//! `report`: which controls of a framework the evidence speaks for.
//!
//! ```text
//! records ─► Facts ─┐
//! verify ─► Report ─┴─ checks ─► Checked ─ controls of the framework ─► Assessed ─► markdown | html | OSCAL
//! ```
//! Nothing is stated that was not computed from the evidence at hand. A control is satisfied if
//! each of its checks holds, not satisfied if one does not, and otherwise *not assessed*: what
//! cannot be seen from here is never taken for granted. Where the evidence itself does not verify,
//! that is all that is said.

mod checks;
mod facts;
mod frameworks;
mod oscal;
mod page;

use jiff::Timestamp;

use self::checks::{Checked, State};
use self::facts::Facts;
use self::frameworks::Control;
use super::Answer;
use super::key::trusted_key;
use super::select::{Selection, opened};
use super::verify::{Verified, verified};
use crate::cli::{ReportArgs, ReportFormat};
use crate::error::CliError;
use crate::output::{Output, note};
use crate::progress::Progress;
use crate::source::Source;

/// All that a report says.
struct Assessment {
    framework: &'static str,
    made_at: Timestamp,
    facts: Facts,
    verification: String,
    checks: Vec<Checked>,
    controls: Vec<Assessed>,
}

/// A control, and what is said of it.
struct Assessed {
    control: &'static Control,
    state: State,
    why: String,
}

/// Writes the report; the answer is no where a control is not satisfied.
pub(crate) fn run(
    source: &Source,
    args: &ReportArgs,
    namespace: Option<&str>,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let key = args.key.as_deref().map(trusted_key).transpose()?;
    let evidence = opened(source, &[], &args.filter, namespace)?;
    let progress = Progress::start("reading the evidence");
    let read =
        Selection::of(&evidence, &[], &args.filter, namespace).and_then(
            |selection| match selection.len() {
                0 => Ok(None),
                _ => Facts::of(&evidence, &selection).map(Some),
            },
        );
    let (facts, unreadable) = match read {
        Ok(Some(facts)) => (facts, None),
        Ok(None) => {
            drop(progress);
            note("no session matches");
            return Ok(Answer::No);
        }
        // Why it cannot be read is for verify to say.
        Err(CliError::Evidence(error)) => (Facts::default(), Some(error)),
        Err(error) => return Err(error),
    };
    progress.say("verifying");
    let verified = verified(source, evidence, None, key.as_ref())?;
    drop(progress);
    if let Some(error) = unreadable
        && verified.report.ok()
    {
        return Err(error.into());
    }
    let assessment = assess(args, facts, &verified);
    match args.output {
        ReportFormat::Markdown => output.raw(page::markdown(&assessment).as_bytes())?,
        ReportFormat::Html => output.raw(page::html(&assessment).as_bytes())?,
        ReportFormat::Oscal => output.line(&oscal::document(&assessment)?)?,
    }
    let refuted = |control: &Assessed| control.state == State::Fails;
    Ok(if assessment.controls.iter().any(refuted) {
        Answer::No
    } else {
        Answer::Yes
    })
}

fn assess(args: &ReportArgs, facts: Facts, verified: &Verified) -> Assessment {
    let (framework, controls) = frameworks::of(args.framework);
    let checks = checks::all(&facts, verified);
    let controls = controls
        .iter()
        .map(|control| assessed(control, &checks))
        .collect();
    Assessment {
        framework,
        made_at: Timestamp::now(),
        facts,
        verification: checks::verification(verified),
        checks,
        controls,
    }
}

fn assessed(control: &'static Control, checks: &[Checked]) -> Assessed {
    let of = |state: State| {
        let mut found = checks
            .iter()
            .filter(|check| control.checks.contains(&check.id) && check.state == state);
        found.next()
    };
    let (state, why) = match (of(State::Fails), of(State::NotAssessed)) {
        _ if control.checks.is_empty() => (State::NotAssessed, control.unseen.to_owned()),
        (Some(check), _) => (State::Fails, check.said.clone()),
        (None, Some(check)) => (State::NotAssessed, check.said.clone()),
        (None, None) => {
            let said = checks
                .iter()
                .filter(|check| control.checks.contains(&check.id));
            let said: Vec<&str> = said.map(|check| check.said.as_str()).collect();
            (State::Holds, said.join("; "))
        }
    };
    Assessed {
        control,
        state,
        why,
    }
}

impl State {
    /// As people and classes of a page read it.
    fn name(self) -> &'static str {
        match self {
            State::Holds => "satisfied",
            State::Fails => "not-satisfied",
            State::NotAssessed => "not-assessed",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn check(id: &'static str, state: State) -> Checked {
        Checked {
            id,
            title: "",
            method: "",
            state,
            said: format!("{id} {}", state.name()),
            places: Vec::new(),
        }
    }

    #[test]
    fn a_control_is_satisfied_only_if_each_of_its_checks_holds() {
        static TWO: Control = Control {
            id: "x",
            title: "",
            checks: &["a", "b"],
            unseen: "",
        };
        static NONE: Control = Control {
            id: "y",
            title: "",
            checks: &[],
            unseen: "it is not in the evidence",
        };
        use State::{Fails, Holds, NotAssessed};
        for (a, b, expected) in [
            (Holds, Holds, Holds),
            (Holds, Fails, Fails),
            (NotAssessed, Fails, Fails),
            (Holds, NotAssessed, NotAssessed),
        ] {
            let found = assessed(&TWO, &[check("a", a), check("b", b), check("c", Fails)]);
            assert_eq!(found.state, expected);
        }
        let unseen = assessed(&NONE, &[check("a", Holds)]);
        assert_eq!(
            (unseen.state, unseen.why.as_str()),
            (NotAssessed, NONE.unseen)
        );
    }

    #[test]
    fn every_control_names_checks_that_are_or_says_why_it_has_none() {
        use crate::cli::Framework;
        use clap::ValueEnum;
        for framework in Framework::value_variants() {
            let (_, controls) = frameworks::of(*framework);
            let mut ids = std::collections::BTreeSet::new();
            for control in controls {
                assert!(ids.insert(control.id), "{} is there twice", control.id);
                assert_eq!(
                    control.checks.is_empty(),
                    !control.unseen.is_empty(),
                    "{}",
                    control.id
                );
                for id in control.checks {
                    assert!(checks::IDS.contains(id), "{}: {id}", control.id);
                }
            }
        }
    }
}
