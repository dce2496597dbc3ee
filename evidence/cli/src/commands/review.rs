//! `approve` and `deny`: a human's answer.

use chaperone_approvals::{Phase, Verdict};

use super::Answer;
use super::approvals::{RequestView, details};
use crate::cli::{Format, ReviewArgs};
use crate::error::CliError;
use crate::output::{Output, Tone};
use crate::source::Source;

/// Gives the answer and says what the request amounts to with it.
pub(crate) fn run(
    source: &Source,
    args: &ReviewArgs,
    verdict: Verdict,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let desk = source.desk()?;
    let entry = desk.review(&args.name, verdict, &args.reason)?;
    if args.format.output != Format::Table {
        output.document(args.format.output, &RequestView::from(&entry))?;
        return Ok(Answer::Yes);
    }
    details(&entry, &desk, output)?;
    let (tone, outcome) = match entry.evaluation.phase {
        Phase::Approved => (
            Tone::Good,
            "approved: it runs once, now or when it is retried",
        ),
        Phase::Denied => (Tone::Bad, "denied: it will not run"),
        Phase::Pending => (Tone::Warn, "noted: more people must approve"),
        // The agent was faster than we were.
        Phase::Consumed => (Tone::Good, "approved, and used already"),
        Phase::Expired | Phase::Cancelled => (Tone::Warn, "too late"),
    };
    output.line(&output.paint(tone, outcome))?;
    Ok(Answer::Yes)
}
