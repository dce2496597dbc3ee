//! `why`: one decision, explained from its record.

use chaperone_crds::{AccessPolicySpec, CatalogAccess, Enforcement, PolicyRule};
use chaperone_evidence::{IntentRecord, Record, SessionSummary};
use chaperone_policy::Reason;
use serde::Serialize;

use super::Answer;
use super::meaning::{Remedy, meaning};
use super::rules::smallest_rules;
use super::show::{headline, print_command};
use super::views::{SessionView, StatementView};
use crate::cli::{Format, WhyArgs};
use crate::error::CliError;
use crate::output::{Output, Tone, escape_line, indented, to_yaml};
use crate::source::{Found, Source};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WhyView {
    session: SessionView,
    statement: StatementView,
    explanation: String,
    /// The rules, or the whole policy, that would have allowed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_have_allowed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct Rules {
    rules: Vec<PolicyRule>,
}

/// An AccessPolicy as somebody applies it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewPolicy {
    api_version: &'static str,
    kind: &'static str,
    metadata: NewMetadata,
    pub(super) spec: AccessPolicySpec,
}

#[derive(Debug, Serialize)]
struct NewMetadata {
    name: String,
    namespace: String,
}

/// Explains the decision on `SESSION/SEQ`.
pub(crate) fn run(
    source: &Source,
    args: &WhyArgs,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let (session, sequence) = args
        .statement
        .rsplit_once('/')
        .and_then(|(session, sequence)| {
            let number = sequence.strip_prefix('#').unwrap_or(sequence);
            Some((session, number.parse::<u64>().ok()?))
        })
        .ok_or_else(|| {
            CliError::Usage(format!(
                "'{}' is no SESSION/SEQ; write `last/3` or `8f0c…/3` with a number that `show` prints after #",
                args.statement
            ))
        })?;
    let mut evidence = source.evidence()?;
    let found = source.session(&mut evidence, session)?;
    let (wall_ns, record) = find(&found, sequence)?;
    let session = found.session;
    let statement = StatementView::new(sequence, wall_ns, &record);
    let decision = &record.intent.decision;
    let explained = explain(&Question {
        subject: &session.start.subject,
        connection: &session.start.connection,
        reason: decision.reason,
        accesses: &record.intent.accesses,
        settled_by: decision.access.clone(),
    })?;
    if args.format.output == Format::Table {
        print(&session, &statement, &explained, output)?;
    } else {
        let view = WhyView {
            session: SessionView::from(&session),
            statement,
            explanation: explained.sentence,
            would_have_allowed: explained.yaml,
            note: explained.note,
        };
        output.document(args.format.output, &view)?;
    }
    Ok(Answer::Yes)
}

/// The intent at `sequence`, or which numbers are intents.
fn find(found: &Found, sequence: u64) -> Result<(u64, IntentRecord), CliError> {
    let Found { session, dir } = found;
    let mut nearest: Option<u64> = None;
    for shown in chaperone_evidence::show(dir, &session.id)? {
        let shown = shown?;
        let Record::Intent(record) = shown.record else {
            continue;
        };
        if shown.sequence == sequence {
            return Ok((shown.wall_ns, *record));
        }
        let distance = |number: u64| number.abs_diff(sequence);
        if nearest.is_none_or(|near| distance(shown.sequence) < distance(near)) {
            nearest = Some(shown.sequence);
        }
    }
    Err(CliError::Usage(match nearest {
        Some(near) => format!(
            "#{sequence} of session {} is no statement; the nearest is #{near}, and `show` lists them all",
            session.id
        ),
        None => format!("session {} has no statement", session.id),
    }))
}

/// A decision to explain.
pub(super) struct Question<'a> {
    /// `namespace/service-account`.
    pub(super) subject: &'a str,
    /// `namespace/name`.
    pub(super) connection: &'a str,
    pub(super) reason: Reason,
    /// What a rule would have to cover: `Read on public.orders`.
    pub(super) accesses: &'a [String],
    /// The one of them that settled it.
    pub(super) settled_by: Option<String>,
}

/// The answer.
pub(super) struct Explained {
    pub(super) sentence: String,
    /// The rules, or the whole policy, that would have allowed it.
    pub(super) yaml: Option<String>,
    pub(super) note: Option<String>,
}

/// Says what a decision means, and the least that would have made it another.
pub(super) fn explain(question: &Question<'_>) -> Result<Explained, CliError> {
    let (sentence, remedy) = meaning(question.reason);
    let mut explained = Explained {
        sentence: sentence.to_owned(),
        yaml: None,
        note: None,
    };
    if matches!(remedy, Remedy::None | Remedy::Other) {
        return Ok(explained);
    }
    let rules = match smallest_rules(question.accesses, question.settled_by.as_deref()) {
        Ok(rules) if !rules.is_empty() => rules,
        Ok(_) => return Ok(explained),
        Err(why) => {
            explained.note = Some(format!("no rule would have allowed it: {why}"));
            return Ok(explained);
        }
    };
    if rules.iter().any(|rule| {
        let sql = rule.sql.as_ref();
        sql.is_some_and(|sql| sql.effects.contains(&chaperone_crds::SqlEffect::Unknown))
    }) {
        explained.note = Some(
            "Unknown is what could not be understood: a rule that allows it allows anything"
                .to_owned(),
        );
    } else if remedy == Remedy::Rule && rules.len() > 1 {
        explained.note = Some("leave out what another rule of yours allows already".to_owned());
    }
    explained.yaml = Some(match remedy {
        Remedy::Policy => to_yaml(&policy(question, rules))?,
        _ => to_yaml(&Rules { rules })?,
    });
    Ok(explained)
}

/// A policy of its own for a subject that none selects.
fn policy(question: &Question<'_>, rules: Vec<PolicyRule>) -> NewPolicy {
    let (_, account) = question
        .subject
        .split_once('/')
        .unwrap_or(("", question.subject));
    NewPolicy::new(account, question.subject, question.connection, rules)
}

impl NewPolicy {
    /// Of these rules, for `namespace/service-account` over `namespace/name`.
    pub(super) fn new(
        name: &str,
        subject: &str,
        connection: &str,
        rules: Vec<PolicyRule>,
    ) -> NewPolicy {
        let (namespace, account) = subject.split_once('/').unwrap_or(("default", subject));
        NewPolicy {
            api_version: chaperone_crds::API_VERSION,
            kind: "AccessPolicy",
            metadata: NewMetadata {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
            },
            spec: AccessPolicySpec {
                subjects: vec![chaperone_crds::Subject {
                    service_account: Some(account.to_owned()),
                    pod_selector: None,
                    identity: None,
                }],
                connections: vec![connection.to_owned()],
                rules,
                enforcement: Enforcement::Enforce,
                masking: Vec::new(),
                catalog: CatalogAccess::Allow,
                limits: None,
                findings: None,
            },
        }
    }
}

fn print(
    session: &SessionSummary,
    statement: &StatementView,
    explained: &Explained,
    output: &mut Output,
) -> Result<(), CliError> {
    let heading = format!("Session {} #{}", session.id, statement.sequence);
    output.line(&output.paint(Tone::Bold, &heading))?;
    output.line(&format!("  {}", headline(statement, output)))?;
    print_command(statement, output)?;
    output.line("")?;
    output.line(&escape_line(&format!(
        "{}: {}.",
        statement.decision.reason, explained.sentence
    )))?;
    output.line("What it does:")?;
    for access in &statement.accesses {
        let settled = statement.decision.access.as_ref() == Some(access);
        let mark = if settled { "  <- this settled it" } else { "" };
        output.line(&format!("  {}{mark}", escape_line(access)))?;
    }
    let decision = &statement.decision;
    if !decision.policy.is_empty() {
        output.line(&escape_line(&format!(
            "Settled by: {} rule {} (generation {}, digest {})",
            decision.policy, decision.rule, decision.generation, decision.rule_digest
        )))?;
    }
    if let Some(yaml) = &explained.yaml {
        output.line("")?;
        output.line("The least that would have allowed it:")?;
        output.line(&indented(&crate::output::escape_for_display(yaml), 2))?;
    }
    if let Some(note) = &explained.note {
        let note = escape_line(&format!("({note})"));
        output.line(&output.paint(Tone::Dim, &note))?;
    }
    Ok(())
}
