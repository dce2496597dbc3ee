//! A file of statements, each with the verdict that is expected of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lab::{Lab, read_bounded};
use super::request::Asked;
use super::{JudgedView, view};
use crate::cli::Format;
use crate::commands::Answer;
use crate::commands::show::verdict_tone;
use crate::error::CliError;
use crate::output::{Cell, Output, Table, Tone, counted};

/// Largest file that is read.
const MAX_FILE: u64 = 4 << 20;
/// Most cases of one file.
const MAX_CASES: usize = 10_000;
/// Characters of a statement that stand for a name.
const SHOWN: usize = 60;

const HEADER: &[&str] = &["RESULT", "NAME", "EXPECTED", "VERDICT", "REASON", "RULE"];

/// One entry of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    sql: Option<String>,
    #[serde(default)]
    request: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    json: Option<serde_json::Value>,
    expect: Expected,
    #[serde(default)]
    name: Option<String>,
}

/// A verdict, as it is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Expected {
    Allow,
    Deny,
    Hold,
    Observe,
}

impl Expected {
    fn as_str(self) -> &'static str {
        match self {
            Expected::Allow => "Allow",
            Expected::Deny => "Deny",
            Expected::Hold => "Hold",
            Expected::Observe => "Observe",
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CaseView {
    name: String,
    ok: bool,
    expected: &'static str,
    #[serde(flatten)]
    judged: JudgedView,
}

/// Judges every case; the answer is no where one is not as expected.
pub(super) fn run(
    lab: &Lab,
    path: &Path,
    format: Format,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let text = read_bounded(path, MAX_FILE)?;
    let cases: Vec<Case> = serde_saphyr::from_str(&text).map_err(|error| {
        CliError::Usage(format!(
            "{} is no list of {{sql | request, headers, json, expect: Allow | Deny | Hold | Observe, name}}: {error}",
            path.display()
        ))
    })?;
    if cases.is_empty() || cases.len() > MAX_CASES {
        return Err(CliError::Usage(format!(
            "{} has {} cases; give 1 to {MAX_CASES}",
            path.display(),
            cases.len()
        )));
    }
    let mut views = Vec::with_capacity(cases.len());
    for case in cases {
        let (text, judged) = match (&case.sql, &case.request) {
            (Some(sql), None) => (sql.clone(), lab.judge(sql)?),
            (None, Some(request)) => {
                let asked = Asked::new(request, case.headers.clone(), case.json.clone());
                (request.clone(), lab.judge_request(&asked)?)
            }
            _ => {
                let message = "a case has exactly one of sql, request";
                return Err(CliError::Usage(message.to_owned()));
            }
        };
        let judged = view(lab, &text, &judged);
        views.push(CaseView {
            name: case.name.unwrap_or_else(|| shortened(&text)),
            ok: judged.verdict == case.expect.as_str(),
            expected: case.expect.as_str(),
            judged,
        });
    }
    let wrong = views.iter().filter(|case| !case.ok).count();
    if format == Format::Table {
        output.table(&table(&views))?;
        let all = counted(views.len() as u64, "case", "cases");
        let summary = match wrong {
            0 => output.paint(Tone::Good, &format!("{all} as expected")),
            wrong => output.paint(Tone::Bad, &format!("{wrong} of {all} not as expected")),
        };
        output.line(&summary)?;
    } else {
        output.documents(format, &views)?;
    }
    Ok(if wrong == 0 { Answer::Yes } else { Answer::No })
}

fn table(cases: &[CaseView]) -> Table {
    let mut table = Table::new(HEADER);
    for case in cases {
        let judged = &case.judged;
        let result = if case.ok {
            Cell::toned(Tone::Good, "ok")
        } else {
            Cell::toned(Tone::Bad, "WRONG")
        };
        let rule = match (&judged.policy, &judged.rule) {
            (Some(policy), Some(rule)) => format!("{policy}/{rule}"),
            _ => String::new(),
        };
        table.push(vec![
            result,
            Cell::new(&case.name),
            Cell::new(case.expected),
            Cell::toned(verdict_tone(judged.verdict), judged.verdict),
            Cell::new(judged.reason),
            Cell::new(&rule),
        ]);
    }
    table
}

fn shortened(sql: &str) -> String {
    let one_line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() <= SHOWN {
        return one_line;
    }
    one_line.chars().take(SHOWN - 1).chain(['…']).collect()
}
