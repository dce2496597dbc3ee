//! `search`: statements of all sessions, by what they say, do and met.
//!
//! One pass over the evidence; each is printed once what came of it is known, and nothing is kept.

use chaperone_evidence::Origin;
use regex::{Regex, RegexBuilder};
use serde::Serialize;

use super::Answer;
use super::entries::{Entries, Told};
use super::select::{begun_as, named, opened, within};
use super::show::verdict_tone;
use super::transcript::Entry;
use super::views::StatementView;
use crate::cli::{DecisionFilter, Format, SearchArgs};
use crate::error::CliError;
use crate::output::{Output, Tone, counted, escape_line, note};
use crate::progress::Progress;
use crate::source::Source;

/// Largest compiled expression, in bytes.
const MAX_PATTERN: usize = 1 << 20;
/// Characters of a statement in a table.
const SHOWN: usize = 100;

/// One hit in `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HitView<'a> {
    session: String,
    subject: &'a str,
    connection: &'a str,
    #[serde(flatten)]
    statement: &'a StatementView,
}

/// What is looked for.
struct Wanted<'a> {
    args: &'a SearchArgs,
    namespace: Option<&'a str>,
    text: Option<Regex>,
    relation: Option<Regex>,
}

/// Prints what is found; the answer is no where nothing is.
pub(crate) fn run(
    source: &Source,
    args: &SearchArgs,
    namespace: Option<&str>,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let wanted = Wanted {
        args,
        namespace,
        text: args
            .text
            .as_deref()
            .map(|text| text_of(text, args.regex))
            .transpose()?,
        relation: args.relation.as_deref().map(glob).transpose()?,
    };
    let evidence = opened(source, &[], &args.filter, namespace)?;
    let mut progress = Some(Progress::start("searching"));
    let limit = args.limit.map_or(u64::MAX, u64::from);
    let mut hits = Hits::new(args.format.output, output);
    let mut skipping = args.after.clone();
    let (mut seen, mut more) = (0_u64, None);
    for told in Entries::new(evidence.records()) {
        let Told::Entry(origin, Entry::Statement(statement)) = told? else {
            continue;
        };
        let place = format!("{}/{}", origin.id, statement.sequence);
        if let Some(after) = &skipping {
            if *after == place {
                skipping = None;
            }
            continue;
        }
        if let Some(progress) = &progress {
            seen += 1;
            if seen.is_multiple_of(1_000) {
                progress.say(&format!("searching: {seen} statements"));
            }
        }
        if !wanted.is(&origin, &statement) {
            continue;
        }
        if hits.count == limit {
            more = hits.last.take();
            break;
        }
        // Two writers to one terminal.
        progress = None;
        hits.print(&origin, &statement, place)?;
    }
    drop(progress);
    if let Some(after) = skipping {
        return Err(CliError::Usage(format!(
            "{after} is no statement of this evidence; --continue takes the one that the page before ended with"
        )));
    }
    let count = hits.finish()?;
    output.flush()?;
    if let Some(last) = more {
        note(&format!("there are more: --continue {last}"));
    }
    if count == 0 {
        note("no statement matches");
        return Ok(Answer::No);
    }
    Ok(Answer::Yes)
}

impl Wanted<'_> {
    fn is(&self, origin: &Origin, statement: &StatementView) -> bool {
        let SearchArgs { filter, .. } = self.args;
        let decision = &statement.decision;
        let verdict = match filter.decision {
            None => None,
            Some(DecisionFilter::Allow) => Some("Allow"),
            Some(DecisionFilter::Deny) => Some("Deny"),
            Some(DecisionFilter::Hold) => Some("Hold"),
            Some(DecisionFilter::Observe) => Some("Observe"),
        };
        let rule = format!("{}/{}", decision.policy, decision.rule);
        let ruled = |wanted: Option<&str>, full: &str| {
            wanted.is_none() || (!decision.policy.is_empty() && named(wanted, full))
        };
        begun_as(&origin.start, filter, self.namespace)
            && within(statement.at_ns, filter)
            && verdict.is_none_or(|verdict| decision.verdict == verdict)
            && self
                .args
                .reason
                .as_deref()
                .is_none_or(|reason| decision.reason.eq_ignore_ascii_case(reason))
            && ruled(self.args.rule.as_deref(), &rule)
            && ruled(self.args.policy.as_deref(), &decision.policy)
            && self.does(statement)
            && self.says(statement)
    }

    /// Effect and relation of one access.
    fn does(&self, statement: &StatementView) -> bool {
        if self.args.effect.is_none() && self.relation.is_none() {
            return true;
        }
        statement.accesses.iter().any(|access| {
            let (effect, object) = access.split_once(" on ").unwrap_or((access, ""));
            let wanted = self.args.effect.as_deref();
            wanted.is_none_or(|wanted| effect.eq_ignore_ascii_case(wanted))
                && self
                    .relation
                    .as_ref()
                    .is_none_or(|relation| relation.is_match(object))
        })
    }

    fn says(&self, statement: &StatementView) -> bool {
        let Some(text) = &self.text else { return true };
        let mut parameters = statement.parameters.iter().flatten();
        text.is_match(&statement.command)
            || text.is_match(&statement.summary)
            || parameters.any(|parameter| text.is_match(parameter))
    }
}

fn text_of(text: &str, regex: bool) -> Result<Regex, CliError> {
    let plain = regex::escape(text);
    compiled(if regex { text } else { &plain }, true)
}

/// `public.*` as the rules of a policy have it.
fn glob(pattern: &str) -> Result<Regex, CliError> {
    let parts: Vec<String> = pattern.split('*').map(regex::escape).collect();
    compiled(&format!("^(?s:{})$", parts.join(".*")), false)
}

fn compiled(pattern: &str, any_case: bool) -> Result<Regex, CliError> {
    RegexBuilder::new(pattern)
        .case_insensitive(any_case)
        .size_limit(MAX_PATTERN)
        .build()
        .map_err(|error| CliError::Usage(format!("the text is no regular expression: {error}")))
}

/// Hits as they are printed, one at a time.
struct Hits<'a> {
    format: Format,
    output: &'a mut Output,
    count: u64,
    last: Option<String>,
}

impl<'a> Hits<'a> {
    fn new(format: Format, output: &'a mut Output) -> Hits<'a> {
        Hits {
            format,
            output,
            count: 0,
            last: None,
        }
    }

    fn print(
        &mut self,
        origin: &Origin,
        statement: &StatementView,
        place: String,
    ) -> Result<(), CliError> {
        let view = HitView {
            session: origin.id.to_string(),
            subject: &origin.start.subject,
            connection: &origin.start.connection,
            statement,
        };
        let first = self.count == 0;
        match self.format {
            Format::Table => self.row(&view, &place)?,
            Format::Json => {
                let text = crate::output::to_json_line(&view)?;
                self.output
                    .line(&format!("{}{text}", if first { "[" } else { "," }))?;
            }
            format => self.output.event(format, &view)?,
        }
        self.count += 1;
        self.last = Some(place);
        Ok(())
    }

    /// Columns that are as wide as what is usual in them: the next rows are not known yet.
    fn row(&mut self, hit: &HitView<'_>, place: &str) -> Result<(), CliError> {
        let statement = hit.statement;
        if self.count == 0 {
            self.output.line(&format!(
                "{:<22} {:<20} {:<24} {:<7} {:<18} {:>6}  STATEMENT",
                "SESSION/SEQ", "TIME (UTC)", "SUBJECT", "VERDICT", "REASON", "ROWS"
            ))?;
        }
        let decision = &statement.decision;
        let verdict = format!("{:<7}", decision.verdict);
        let verdict = self.output.paint(verdict_tone(decision.verdict), &verdict);
        let place = self.output.paint(Tone::Bold, &format!("{place:<22}"));
        let rows = statement.outcome.as_ref();
        let rows = rows.map_or_else(|| "-".to_owned(), |outcome| outcome.rows.to_string());
        let time = statement
            .at
            .get(..19)
            .unwrap_or(&statement.at)
            .replace('T', " ");
        self.output.line(&format!(
            "{place} {time:<20} {:<24} {verdict} {:<18} {rows:>6}  {}",
            escape_line(hit.subject),
            decision.reason,
            shortened(&statement.command)
        ))
    }

    fn finish(self) -> Result<u64, CliError> {
        match (self.format, self.count) {
            (Format::Json, 0) => self.output.line("[]")?,
            (Format::Json, _) => self.output.line("]")?,
            (Format::Table, 1..) => {
                let counted = counted(self.count, "statement", "statements");
                note(&counted);
            }
            _ => {}
        }
        Ok(self.count)
    }
}

/// One line of it.
fn shortened(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let text = escape_line(&words.join(" "));
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}
