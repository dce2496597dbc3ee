//! `policy test`: what policies that are only files would say, before anything is applied; and
//! `policy suggest`: policies made of what was observed, tested the same way.
//!
//! ```text
//! --manifests ─chaperone-manifests─► PolicySet ─┐
//! --schema ─chaperone-sql─► Catalog ─┐          ├─► Lab ─judge─► Judged ─► print | cases
//! --sql, --file ─────────────────────┴─classify─┤
//! --request, --file ─chaperone-http─────────────┘
//! ```
//!
//! The same crates as in a sidecar decide here. What only a session knows is not judged: limits
//! and rates, what it prepared, and the masked values it was sent.

mod cases;
mod lab;
mod meaning;
mod request;
mod suggest;

use serde::Serialize;

use self::lab::{Judged, Lab};
use self::request::Asked;
pub(crate) use self::suggest::suggest;
use super::Answer;
use super::show::verdict_tone;
use super::views::verdict_name;
use crate::cli::{Format, PolicyTestArgs};
use crate::error::CliError;
use crate::output::{Output, Tone, escape_for_display, escape_line, indented};

/// One decision in `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JudgedView {
    subject: String,
    connection: String,
    /// The statement, or the request.
    sql: String,
    verdict: &'static str,
    reason: &'static str,
    explanation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<String>,
    accesses: Vec<AccessView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_have_allowed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// Relations that were taken to be there, since no schema says.
    assumed: Vec<String>,
}

/// An effect on an object, and what matches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessView {
    /// What is done: an effect of SQL, or a method.
    pub(crate) effect: String,
    /// To what.
    pub(crate) object: String,
    /// Drivers may always do this where they may do anything.
    pub(crate) baseline: bool,
    /// Rules that match it: `Allow shop/report-agent/read`.
    pub(crate) rules: Vec<String>,
}

/// Judges one statement, or a file of them.
pub(crate) fn test(args: &PolicyTestArgs, output: &mut Output) -> Result<Answer, CliError> {
    let lab = Lab::open(args)?;
    if let Some(path) = &args.file {
        return cases::run(&lab, path, args.format.output, output);
    }
    let (sql, judged) = match (&args.request, args.sql.as_deref().unwrap_or_default()) {
        (Some(request), _) => (request.as_str(), lab.judge_request(&Asked::of(args)?)?),
        (None, sql) => (sql, lab.judge(sql)?),
    };
    if args.format.output == Format::Table {
        print(&judged, output)?;
    } else {
        output.document(args.format.output, &view(&lab, sql, &judged))?;
    }
    Ok(if judged.runs() {
        Answer::Yes
    } else {
        Answer::No
    })
}

fn view(lab: &Lab, sql: &str, judged: &Judged) -> JudgedView {
    let rule = judged.decision.rule.as_ref();
    JudgedView {
        subject: lab.subject().workload.qualified_name(),
        connection: lab.connection().to_owned(),
        sql: sql.to_owned(),
        verdict: verdict_name(judged.decision.verdict),
        reason: judged.decision.reason.as_str(),
        explanation: judged.explained.sentence.clone(),
        policy: rule.map(|rule| rule.policy.clone()),
        rule: rule.map(|rule| rule.rule.clone()),
        message: judged.decision.message.clone(),
        access: judged.decision.access.as_ref().map(ToString::to_string),
        accesses: judged.accesses.clone(),
        would_have_allowed: judged.explained.yaml.clone(),
        note: judged.explained.note.clone(),
        assumed: judged.assumed.clone(),
    }
}

fn print(judged: &Judged, output: &mut Output) -> Result<(), CliError> {
    let decision = &judged.decision;
    let verdict = verdict_name(decision.verdict);
    let tone = verdict_tone(verdict);
    let verdict = output.paint(tone, &verdict.to_uppercase());
    let rule = decision.rule.as_ref();
    let by = rule
        .map(|rule| format!(" · rule {}/{}", rule.policy, rule.rule))
        .unwrap_or_default();
    output.line(&format!(
        "{verdict} {}{}",
        decision.reason,
        escape_line(&by)
    ))?;
    output.line(&escape_line(&format!("  {}.", judged.explained.sentence)))?;
    if let Some(message) = &decision.message {
        output.line(&escape_line(&format!("  The agent reads: {message}")))?;
    }
    if !judged.accesses.is_empty() {
        output.line("What it does:")?;
    }
    for access in &judged.accesses {
        let text = format!("{} on {}", access.effect, access.object);
        let settled = decision
            .access
            .as_ref()
            .is_some_and(|settled| settled.to_string() == text);
        let mark = if settled { "  <- this settled it" } else { "" };
        let by = match (access.rules.as_slice(), access.baseline) {
            ([], true) => "  (as drivers may)".to_owned(),
            ([], false) => "  (no rule)".to_owned(),
            (rules, _) => format!("  ({})", rules.join(", ")),
        };
        output.line(&format!("  {}{mark}", escape_line(&format!("{text}{by}"))))?;
    }
    if let Some(yaml) = &judged.explained.yaml {
        output.line("The least that would allow it:")?;
        output.line(&indented(&escape_for_display(yaml), 2))?;
    }
    if let Some(note) = &judged.explained.note {
        let note = escape_line(&format!("({note})"));
        output.line(&output.paint(Tone::Dim, &note))?;
    }
    if !judged.assumed.is_empty() {
        let hint = format!(
            "without --schema these were taken to be tables: {}; functions of your own are not known",
            judged.assumed.join(", ")
        );
        output.line(&output.paint(Tone::Warn, &escape_line(&hint)))?;
    }
    Ok(())
}
