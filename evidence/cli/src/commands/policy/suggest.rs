//! `policy suggest`: the least policies that cover what was observed.
//!
//! ```text
//! records ─► accesses of what ran ─smallest rules─► AccessPolicy ─► Lab: does each statement run?
//!                                        ▲                            │ no: what it lacks
//!                                        └────────────────────────────┘
//! ```
//! One policy for each subject and connection, as wide as what was done and no wider. What ran only
//! because a human said yes stays with the humans: a suggestion never makes an Allow of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chaperone_crds::{CatalogAccess, Connection, ConnectionSpec, PolicyRule};
use chaperone_evidence::SessionId;

use super::lab::Lab;
use crate::cli::{Format, FormatArgs, PolicySuggestArgs, PolicyTestArgs};
use crate::commands::Answer;
use crate::commands::entries::{Entries, Told};
use crate::commands::rules::covering;
use crate::commands::select::{Selection, opened, within};
use crate::commands::transcript::Entry;
use crate::commands::views::StatementView;
use crate::commands::why::NewPolicy;
use crate::error::CliError;
use crate::output::{Output, counted, escape_line, note, to_yaml};
use crate::progress::Progress;
use crate::source::{Scratch, Source};

/// Different statements of one subject over one connection that are checked.
const MOST_STATEMENTS: usize = 5_000;
/// Different accesses of them that are covered.
const MOST_ACCESSES: usize = 16_384;
/// Rules of one policy.
const MOST_RULES: usize = 64;
/// How often what a check lacks is added: each time less is left to lack.
const ROUNDS: usize = 8;

/// What stands for the target: nothing is connected to.
const TARGET: &str = "
postgres: {host: target.invalid, tls: {mode: VerifyFull}, credential: {secret: {name: none}}}
consumers: {namespaceSelector: {}}
";

/// What one subject did over one connection.
#[derive(Default)]
struct Observed {
    sessions: BTreeSet<SessionId>,
    accesses: BTreeSet<String>,
    /// With what each does.
    statements: BTreeMap<String, BTreeSet<String>>,
    times: u64,
    approved: u64,
    unresolved: BTreeSet<String>,
    more: bool,
}

/// Prints the policies; the answer is no where nothing was observed that one could be made of.
pub(crate) fn suggest(
    source: &Source,
    args: &PolicySuggestArgs,
    namespace: Option<&str>,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let evidence = opened(source, &args.sessions, &args.filter, namespace)?;
    let progress = Progress::start("reading what was observed");
    let selection = Selection::of(&evidence, &args.sessions, &args.filter, namespace)?;
    let mut observed: BTreeMap<(String, String), Observed> = BTreeMap::new();
    for told in Entries::new(evidence.records()) {
        let Told::Entry(origin, Entry::Statement(statement)) = told? else {
            continue;
        };
        if !selection.has(&origin) || !within(statement.at_ns, &args.filter) {
            continue;
        }
        let start = &origin.start;
        let key = (start.subject.clone(), start.connection.clone());
        let observed = observed.entry(key).or_default();
        observed.sessions.insert(origin.id);
        observed.take(&statement, args.denied);
    }
    drop(progress);
    observed.retain(|_, observed| observed.times > 0);
    if observed.is_empty() {
        note("nothing was observed that a policy could be made of");
        return Ok(Answer::No);
    }
    let mut names = BTreeSet::new();
    for ((subject, connection), mut observed) in observed {
        let found = Suggestion::of(&subject, &connection, &mut observed, args.schema.as_deref())?;
        found.print(&observed, &mut names, output)?;
    }
    Ok(Answer::Yes)
}

impl Observed {
    fn take(&mut self, statement: &StatementView, denied: bool) {
        let decision = &statement.decision;
        if decision.approval.is_some() || decision.verdict == "Hold" {
            self.approved += 1;
            return;
        }
        let ran = matches!(decision.verdict, "Allow" | "Observe");
        let lacked = matches!(decision.reason, "NotCovered" | "NoPolicy");
        if !(ran || denied && lacked) {
            return;
        }
        self.times += 1;
        for access in &statement.accesses {
            if covering(std::iter::once(access.as_str()), |_| true).is_err() {
                self.unresolved.insert(access.clone());
            } else if self.accesses.len() < MOST_ACCESSES {
                self.accesses.insert(access.clone());
            } else {
                self.more = true;
            }
        }
        if statement.command.is_empty() || statement.truncated {
            return;
        }
        let full = self.statements.len() >= MOST_STATEMENTS;
        if full && !self.statements.contains_key(&statement.command) {
            self.more = true;
            return;
        }
        let does = self
            .statements
            .entry(statement.command.clone())
            .or_default();
        does.extend(statement.accesses.iter().cloned());
    }
}

/// Rules, and what they were found to allow.
struct Suggestion<'a> {
    subject: &'a str,
    connection: &'a str,
    rules: Vec<PolicyRule>,
    catalog: CatalogAccess,
    /// Statements that would not run under it, as far as can be told here.
    refused: Vec<(String, &'static str)>,
}

impl<'a> Suggestion<'a> {
    fn of(
        subject: &'a str,
        connection: &'a str,
        observed: &mut Observed,
        schema: Option<&Path>,
    ) -> Result<Suggestion<'a>, CliError> {
        let reads_catalog = observed
            .accesses
            .iter()
            .any(|access| access.starts_with("Catalog on "));
        let mut found = Suggestion {
            subject,
            connection,
            rules: Vec::new(),
            catalog: if reads_catalog {
                CatalogAccess::Allow
            } else {
                CatalogAccess::Deny
            },
            refused: Vec::new(),
        };
        // What a driver needs no rule for is known only to who decides: ask, and add what lacks.
        let mut lacking: BTreeSet<String> = BTreeSet::new();
        for _ in 0..ROUNDS {
            let accesses = observed.accesses.iter().map(String::as_str);
            found.rules =
                covering(accesses, |access| lacking.contains(access)).map_err(CliError::Usage)?;
            let known = lacking.len();
            found.check(observed, schema, &mut lacking)?;
            if lacking.len() == known {
                break;
            }
        }
        Ok(found)
    }

    /// Judges every statement as `policy test` does.
    fn check(
        &mut self,
        observed: &Observed,
        schema: Option<&Path>,
        lacking: &mut BTreeSet<String>,
    ) -> Result<(), CliError> {
        let scratch = Scratch::new()?;
        let (namespace, name) = self
            .connection
            .split_once('/')
            .unwrap_or(("default", self.connection));
        let spec: ConnectionSpec =
            serde_saphyr::from_str(TARGET).map_err(|error| CliError::Usage(error.to_string()))?;
        let mut target = Connection::new(name, spec);
        target.metadata.namespace = Some(namespace.to_owned());
        std::fs::write(scratch.path().join("connection.yaml"), to_yaml(&target)?)?;
        for (i, policy) in self.policies("suggested").iter().enumerate() {
            let file = scratch.path().join(format!("policy-{i}.yaml"));
            std::fs::write(file, to_yaml(policy)?)?;
        }
        let lab = Lab::open(&PolicyTestArgs {
            manifests: scratch.path().to_path_buf(),
            subject: self.subject.to_owned(),
            connection: self.connection.to_owned(),
            sql: None,
            request: None,
            headers: Vec::new(),
            json: None,
            file: None,
            schema: schema.map(Path::to_path_buf),
            purpose: None,
            namespace_labels: Vec::new(),
            pod_labels: Vec::new(),
            format: FormatArgs {
                output: Format::Table,
            },
        })?;
        self.refused.clear();
        for (statement, does) in &observed.statements {
            let judged = lab.judge(statement)?;
            if judged.runs() {
                continue;
            }
            self.refused
                .push((statement.clone(), judged.decision.reason.as_str()));
            for access in &judged.accesses {
                let text = format!("{} on {}", access.effect, access.object);
                if access.rules.is_empty() && !access.baseline && does.contains(&text) {
                    lacking.insert(text);
                }
            }
        }
        Ok(())
    }

    fn policies(&self, name: &str) -> Vec<NewPolicy> {
        let mut chunks: Vec<&[PolicyRule]> = self.rules.chunks(MOST_RULES).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let policy = |(i, rules): (usize, &&[PolicyRule])| {
            let name = match i {
                0 => name.to_owned(),
                i => format!("{name}-{}", i + 1),
            };
            let mut policy = NewPolicy::new(&name, self.subject, self.connection, rules.to_vec());
            policy.spec.catalog = self.catalog;
            policy
        };
        chunks.iter().enumerate().map(policy).collect()
    }

    fn print(
        &self,
        observed: &Observed,
        names: &mut BTreeSet<(String, String)>,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let (namespace, account) = self.subject.split_once('/').unwrap_or(("", self.subject));
        let (_, connection) = self
            .connection
            .split_once('/')
            .unwrap_or(("", self.connection));
        let mut name = format!("{account}-{connection}");
        while !names.insert((namespace.to_owned(), name.clone())) {
            name.push_str("-2");
        }
        let checked = observed.statements.len() - self.refused.len();
        output.line("---")?;
        output.line(&escape_line(&format!(
            "# {} over {}: {} in {}, {} of which {} checked to run under it",
            self.subject,
            self.connection,
            counted(observed.times, "statement", "statements"),
            counted(observed.sessions.len() as u64, "session", "sessions"),
            counted(
                observed.statements.len() as u64,
                "different one",
                "different ones"
            ),
            counted(checked as u64, "was", "were"),
        )))?;
        for policy in self.policies(&name) {
            output.line(to_yaml(&policy)?.trim_end())?;
        }
        output.flush()?;
        if observed.approved > 0 {
            note(&format!(
                "not among it: {} that a human was asked for; keep the rules that ask",
                counted(observed.approved, "statement", "statements")
            ));
        }
        for access in &observed.unresolved {
            note(&escape_line(&format!(
                "not among it: {access}, whose name was not resolved"
            )));
        }
        for (statement, reason) in self.refused.iter().take(10) {
            note(&escape_line(&format!(
                "could not be checked here ({reason}; --schema may tell more): {statement}"
            )));
        }
        if observed.more {
            note("there was more than is looked at; suggest for fewer sessions");
        }
        Ok(())
    }
}
