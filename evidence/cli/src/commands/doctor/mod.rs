//! `doctor`: whether every governed workload is really on the path, and what is weaker than it
//! looks.
//!
//! ```text
//! API server ─gather─► Facts ─installation, evidence, workloads, access─► Findings ─► table, exit code
//! ```
//!
//! Only [`gather`] asks; the rest judges what it was given. What cannot be seen is not fine.

mod access;
mod evidence;
mod gather;
mod installation;
#[cfg(test)]
mod tests;
mod workloads;

use serde::Serialize;

use self::gather::Facts;
use super::Answer;
use crate::cli::{DoctorArgs, Format};
use crate::error::CliError;
use crate::output::{Cell, Output, Table, Tone};
use crate::source::Source;

/// Findings of one check that are told; the rest is counted.
const MOST_TOLD: usize = 50;

const HEADER: &[&str] = &["RESULT", "CHECK", "ABOUT", "WHAT"];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// What it is about: `shop/report-agent-7c9f`.
    about: String,
    /// What is wrong and what to do, in one sentence.
    message: String,
}

impl Finding {
    fn fail(about: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding {
            level: Level::Fail,
            about: about.into(),
            message: message.into(),
        }
    }

    fn warn(about: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding {
            level: Level::Warn,
            ..Finding::fail(about, message)
        }
    }
}

/// What a check says where it found nothing, and what it found; or why it saw nothing.
type Checked = Result<(String, Vec<Finding>), String>;

/// A check's name, and what does it.
type Check = (&'static str, fn(&Facts) -> Checked);

const CHECKS: [Check; 14] = [
    ("operator", installation::operator),
    ("webhooks", installation::webhooks),
    ("admission", installation::admission),
    ("resources", installation::resources),
    ("store", evidence::store),
    ("checkpoints", evidence::checkpoints),
    ("governed pods", workloads::governed),
    ("annotated", workloads::annotated),
    ("images", workloads::images),
    ("connections", access::connections),
    ("secrets", access::secrets),
    ("tls", access::tls),
    ("policies", access::policies),
    ("dry runs", access::dry_runs),
];

/// One line of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    check: &'static str,
    result: Level,
    #[serde(skip_serializing_if = "String::is_empty")]
    about: String,
    message: String,
}

#[derive(Debug, Serialize)]
struct DoctorView {
    ok: bool,
    checks: Vec<Line>,
}

/// Looks at everything; the answer is no where anything fails.
pub(crate) fn run(
    source: &Source,
    args: &DoctorArgs,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let Source::Cluster(cluster, ..) = source else {
        return Err(CliError::NeedsCluster("doctor"));
    };
    let facts = gather::gather(cluster)?;
    let lines = judge(&facts);
    let ok = lines.iter().all(|line| line.result != Level::Fail);
    if args.format.output == Format::Table {
        output.table(&table(&lines))?;
    } else {
        let view = DoctorView { ok, checks: lines };
        output.document(args.format.output, &view)?;
    }
    Ok(if ok { Answer::Yes } else { Answer::No })
}

fn judge(facts: &Facts) -> Vec<Line> {
    CHECKS
        .iter()
        .flat_map(|(check, judge)| lines(check, judge(facts)))
        .collect()
}

fn lines(check: &'static str, checked: Checked) -> Vec<Line> {
    let line = |result, about: &str, message: String| Line {
        check,
        result,
        about: about.to_owned(),
        message,
    };
    let (fine, mut findings) = match checked {
        Ok(checked) => checked,
        Err(why) => return vec![line(Level::Fail, "", format!("cannot be checked: {why}"))],
    };
    if findings.is_empty() {
        return vec![line(Level::Ok, "", fine)];
    }
    // What is worst is told first, and never left out for what is less.
    findings.sort_by(|a, b| (b.level, &a.about).cmp(&(a.level, &b.about)));
    let more = findings.len().saturating_sub(MOST_TOLD);
    let worst = findings.get(MOST_TOLD).map(|finding| finding.level);
    let told = findings.into_iter().take(MOST_TOLD);
    let mut lines: Vec<Line> = told
        .map(|finding| line(finding.level, &finding.about, finding.message))
        .collect();
    if let Some(worst) = worst {
        lines.push(line(worst, "", format!("and {more} more")));
    }
    lines
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(HEADER);
    for line in lines {
        let result = match line.result {
            Level::Ok => Cell::toned(Tone::Good, "OK"),
            Level::Warn => Cell::toned(Tone::Warn, "WARN"),
            Level::Fail => Cell::toned(Tone::Bad, "FAIL"),
        };
        table.push(vec![
            result,
            Cell::new(line.check),
            Cell::new(&line.about),
            Cell::new(&line.message),
        ]);
    }
    table
}
