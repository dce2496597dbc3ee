//! The report for people: as Markdown, and as one page that loads nothing.

use std::fmt::Write as _;

use super::checks::State;
use super::{Assessed, Assessment};
use crate::html::{self, line};
use crate::output::{counted, escape_line};
use crate::time::{date_and_time, from_ns};

/// What it is and is not.
const STANDS_FOR: &str = "Computed from recorded evidence and nothing else. Satisfied means that every check named \
    holds for these sessions; it is no audit opinion, and says nothing of sessions or systems that \
    were not recorded. What the records cannot show is listed as not assessed.";

struct Summary {
    period: String,
    counts: String,
}

fn summary(assessment: &Assessment) -> Summary {
    let facts = &assessment.facts;
    let of = |state: State| {
        let found = assessment
            .controls
            .iter()
            .filter(|found| found.state == state);
        found.count()
    };
    Summary {
        period: format!(
            "{} to {} UTC, {}, {}",
            date_and_time(from_ns(facts.first_ns)),
            date_and_time(from_ns(facts.last_ns)),
            counted(facts.sessions, "session", "sessions"),
            counted(facts.decisions, "decision", "decisions")
        ),
        counts: format!(
            "{} satisfied, {} not satisfied, {} not assessed",
            of(State::Holds),
            of(State::Fails),
            of(State::NotAssessed)
        ),
    }
}

/// What is wrong first, what is unknown next.
fn ordered(assessment: &Assessment) -> Vec<&Assessed> {
    let mut controls: Vec<&Assessed> = assessment.controls.iter().collect();
    controls.sort_by_key(|found| match found.state {
        State::Fails => 0,
        State::NotAssessed => 1,
        State::Holds => 2,
    });
    controls
}

/// As text.
pub(super) fn markdown(assessment: &Assessment) -> String {
    let Summary { period, counts } = summary(assessment);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# {}\n\n{STANDS_FOR}\n", assessment.framework);
    let _ = writeln!(text, "- Evidence: {period}");
    let _ = writeln!(text, "- Verification: {}", cell(&assessment.verification));
    let _ = writeln!(text, "- Controls: {counts}\n");
    let _ = writeln!(
        text,
        "## Controls\n\n| control | result | checks | what was seen |\n|---|---|---|---|"
    );
    for found in ordered(assessment) {
        let _ = writeln!(
            text,
            "| {} {} | {} | {} | {} |",
            found.control.id,
            found.control.title,
            found.state.name(),
            found.control.checks.join(", "),
            cell(&found.why)
        );
    }
    let _ = writeln!(
        text,
        "\n## Checks\n\n| check | result | how | what was seen | first places |\n|---|---|---|---|---|"
    );
    for check in &assessment.checks {
        let _ = writeln!(
            text,
            "| {}: {} | {} | {} | {} | {} |",
            check.id,
            check.title,
            check.state.name(),
            check.method,
            cell(&check.said),
            check.places.join(" ")
        );
    }
    text
}

/// Text that stays within its cell.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in escape_line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// As a page.
pub(super) fn html(assessment: &Assessment) -> String {
    let Summary { period, counts } = summary(assessment);
    let mut page = html::head(assessment.framework);
    // As above.
    let _ = writeln!(
        page,
        "<header><h1>{}</h1>\n<p class=\"dim\">{STANDS_FOR}</p>\n<dl><dt>evidence</dt><dd>{}</dd>\
         <dt>verification</dt><dd>{}</dd><dt>controls</dt><dd>{counts}</dd></dl></header>\n<main><h2>Controls</h2>\n\
         <table><thead><tr><th>control</th><th>result</th><th>checks</th><th>what was seen</th></tr></thead><tbody>",
        line(assessment.framework),
        line(&period),
        line(&assessment.verification)
    );
    for found in ordered(assessment) {
        let checks: Vec<String> = found
            .control
            .checks
            .iter()
            .map(|check| format!("<a href=\"#{check}\">{check}</a>"))
            .collect();
        let _ = writeln!(
            page,
            "<tr><td>{} {}</td><td class=\"{state}\">{state}</td><td>{}</td><td>{}</td></tr>",
            line(found.control.id),
            line(found.control.title),
            checks.join(", "),
            line(&found.why),
            state = found.state.name()
        );
    }
    let _ = writeln!(
        page,
        "</tbody></table>\n<h2>Checks</h2>\n<table><thead><tr><th>check</th><th>result</th><th>how</th>\
         <th>what was seen</th><th>first places</th></tr></thead><tbody>"
    );
    for check in &assessment.checks {
        let places: Vec<String> = check.places.iter().map(|place| line(place)).collect();
        let _ = writeln!(
            page,
            "<tr id=\"{}\"><td>{}</td><td class=\"{state}\">{state}</td><td>{}</td><td>{}</td><td class=\"mono\">{}</td></tr>",
            check.id,
            line(check.title),
            line(check.method),
            line(&check.said),
            places.join("<br>"),
            state = check.state.name()
        );
    }
    page.push_str("</tbody></table></main>\n");
    page.push_str(&html::foot());
    page
}
