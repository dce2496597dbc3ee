//! The command line's shape.

use std::path::PathBuf;

use chaperone_evidence::Recipient;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;

use crate::completion::{CompletionShell, candidates};

/// Show, explain, replay and verify what agents did; approve what waits.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-chaperone",
    bin_name = "kubectl-chaperone",
    version,
    disable_help_subcommand = true,
    after_help = "Works on the cluster of the kubeconfig's context, or on a standalone sidecar's folder (--state).\n\
                  What is sealed in a cluster is opened as it is read, which takes the verb unseal and is written into the log.\n\
                  Exit codes: 0 fine, 1 the answer is no, 2 usage or environment."
)]
pub(crate) struct Cli {
    /// State folder of a standalone sidecar, instead of a cluster.
    #[arg(long, global = true, env = "CHAPERONE_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// File with identities of age (AGE-SECRET-KEY-1…) that sealed sessions were sealed for, or a
    /// bundle's keys were wrapped for; may be given several times.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,

    /// Why you read what is sealed: goes into the cluster's log, with your name. A ticket, a case.
    #[arg(
        long,
        global = true,
        value_name = "TEXT",
        conflicts_with = "leave_sealed"
    )]
    pub(crate) because: Option<String>,

    /// Ask the cluster for no keys: of what is sealed only the outside is told.
    #[arg(long, global = true)]
    pub(crate) leave_sealed: bool,

    /// Which cluster, and as whom.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster, as kubectl's own options.
#[derive(Debug, Default, Args)]
pub(crate) struct ClusterArgs {
    /// The kubeconfig file; by default those of $KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, if not its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Namespace of requests for approval, and of the agents whose sessions are meant; by default
    /// all.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// User to impersonate.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub(crate) impersonate: Option<String>,
    /// Group to impersonate; may be given several times.
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        requires = "impersonate"
    )]
    pub(crate) impersonate_groups: Vec<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List sessions, newest last.
    Sessions(SessionsArgs),
    /// Find statements in all sessions: by text, by what they touch, by the rule that applied.
    ///
    /// Exit code 1 where there is none.
    Search(SearchArgs),
    /// Show a session: its statements with decision, rule, rows and time.
    Show(ShowArgs),
    /// Explain one decision, and the smallest rule that would have allowed it.
    Why(WhyArgs),
    /// Play a session as it went over the agent's connection.
    Replay(ReplayArgs),
    /// Check that nothing in the evidence was changed and nothing is missing.
    Verify(VerifyArgs),
    /// Write evidence into a file that can be handed on.
    Export(ExportArgs),
    /// Say which controls of a framework the evidence speaks for, and which it does not.
    ///
    /// Exit code 1 where a control that was checked is not satisfied.
    Report(ReportArgs),
    /// List what waits, or waited, for a human.
    Approvals(ApprovalsArgs),
    /// Let a command that waits run, once.
    Approve(ReviewArgs),
    /// Refuse a command that waits.
    Deny(ReviewArgs),
    /// Check that every governed workload is on the path, and what is weaker than it looks.
    Doctor(DoctorArgs),
    /// Try policies out before they are applied.
    Policy(PolicyArgs),
    /// Print a completion script for a shell, or the program that kubectl asks.
    ///
    /// bash: source <(kubectl-chaperone completion bash). For `kubectl chaperone <TAB>` put what
    /// `completion kubectl` prints into an executable file kubectl_complete-chaperone on the PATH.
    Completion {
        /// The shell.
        shell: CompletionShell,
    },
    /// Print the version.
    Version,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For reading.
    Table,
    /// One JSON document; with --watch one object a line. Its fields are stable.
    Json,
    /// The same objects one a line, each as soon as it is known.
    Ndjson,
    /// The same as YAML.
    Yaml,
}

/// `-o`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FormatArgs {
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// A decision to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DecisionFilter {
    /// At least one statement was allowed.
    Allow,
    /// At least one statement was denied.
    Deny,
    /// At least one statement was held for a human.
    Hold,
    /// At least one statement was forwarded because only DryRun policies select.
    Observe,
}

/// Which sessions.
#[derive(Debug, Clone, Args)]
pub(crate) struct SessionFilter {
    /// Only over this Connection, `namespace/name` or `name`.
    #[arg(long, value_name = "CONNECTION", add = ArgValueCandidates::new(candidates::connections))]
    pub(crate) connection: Option<String>,
    /// Only of this subject, `namespace/service-account` or `service-account`.
    #[arg(long, value_name = "SUBJECT", add = ArgValueCandidates::new(candidates::subjects))]
    pub(crate) subject: Option<String>,
    /// Only with something at or after that time: `15m`, `1h`, `2d` ago, `2026-03-01` or
    /// `2026-03-01T12:00:00Z`.
    #[arg(long, value_name = "TIME", value_parser = crate::time::parse_moment)]
    pub(crate) since: Option<jiff::Timestamp>,
    /// Only with something before that time, written the same.
    #[arg(long, value_name = "TIME", value_parser = crate::time::parse_moment)]
    pub(crate) until: Option<jiff::Timestamp>,
    /// Only with such a decision.
    #[arg(long, value_enum)]
    pub(crate) decision: Option<DecisionFilter>,
}

/// `sessions`.
#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) filter: SessionFilter,
    /// At most the newest N of them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "watch")]
    pub(crate) limit: Option<u32>,
    /// Only what began before the session with this `cursor`: the next page of --limit.
    #[arg(long = "continue", value_name = "CURSOR", conflicts_with = "watch")]
    pub(crate) before: Option<crate::commands::Cursor>,
    /// Keep on and print sessions as they begin and change.
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// `search`.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Text of the command or of a parameter, in upper or lower case.
    pub(crate) text: Option<String>,
    /// The text is a regular expression.
    #[arg(short = 'E', long, requires = "text")]
    pub(crate) regex: bool,
    /// Touching this relation; `*` stands for any characters: `public.orders`, `public.*`.
    #[arg(long, value_name = "RELATION")]
    pub(crate) relation: Option<String>,
    /// Doing this to it, or to anything: `Read`, `Delete`, `SchemaAlter` …
    #[arg(long, value_name = "EFFECT", ignore_case = true, value_parser = effects())]
    pub(crate) effect: Option<String>,
    /// Decided by this rule, `namespace/policy/rule`, `policy/rule` or `rule`.
    #[arg(long, value_name = "RULE")]
    pub(crate) rule: Option<String>,
    /// Decided by this policy, `namespace/name` or `name`.
    #[arg(long, value_name = "POLICY", add = ArgValueCandidates::new(candidates::policies))]
    pub(crate) policy: Option<String>,
    /// Decided for this reason, as `show` prints it: `NotCovered`.
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) filter: SessionFilter,
    /// Stop after N of them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Go on after this statement, `SESSION/SEQ`: the next page of --limit.
    #[arg(long = "continue", value_name = "SESSION/SEQ")]
    pub(crate) after: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Session id, the start of one, or `last`.
    #[arg(add = ArgValueCandidates::new(candidates::sessions))]
    pub(crate) session: String,
    /// Show preparations (Prepare, Bind) that were allowed too.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// `why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// `SESSION/SEQ`, as `show` prints it; the session may be abbreviated or `last`.
    #[arg(value_name = "SESSION/SEQ", add = ArgValueCandidates::new(candidates::sessions))]
    pub(crate) statement: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Which side of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// What the agent sent.
    Client,
    /// What the agent was sent.
    Server,
}

/// `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Session id, the start of one, or `last`.
    #[arg(add = ArgValueCandidates::new(candidates::sessions))]
    pub(crate) session: String,
    /// How many times as fast; 0 without pauses. Default: 1 on a terminal, else 0.
    #[arg(long, value_name = "N", value_parser = parse_speed)]
    pub(crate) speed: Option<f64>,
    /// Only the recorded bytes of one side, exactly, to standard output.
    #[arg(long, value_enum)]
    pub(crate) raw: Option<Side>,
}

/// `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Session id, the start of one, or `last`; all if none is given.
    #[arg(conflicts_with = "all", add = ArgValueCandidates::new(candidates::sessions))]
    pub(crate) session: Option<String>,
    /// Verify every session and the whole log.
    #[arg(long)]
    pub(crate) all: bool,
    /// The log's public key as you know it: a file, or its fingerprint `SHA256:…`.
    #[arg(long, value_name = "FILE|FINGERPRINT")]
    pub(crate) key: Option<String>,
    /// A bundle, instead of a cluster or a state folder.
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    pub(crate) bundle: Option<PathBuf>,
    /// A checkpoint of the log that you kept: the bundle's must have grown out of it.
    #[arg(long, value_name = "FILE", requires = "bundle")]
    pub(crate) note: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// What `export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A tar file that `verify --bundle` proves offline, with the log's public key alone.
    Bundle,
    /// Every record but the streams' bytes, one JSON object a line.
    Ndjson,
    /// Events of the Open Cybersecurity Schema Framework 1.8, one a line.
    Ocsf,
    /// One session as asciinema plays it (asciicast v2).
    Asciicast,
    /// One page to read and search in a browser, which loads nothing.
    Html,
}

/// `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Session ids, the starts of some, or `last`; all that are selected if none is given.
    #[arg(add = ArgValueCandidates::new(candidates::sessions))]
    pub(crate) sessions: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: SessionFilter,
    /// In which form.
    #[arg(long, value_enum, default_value_t = ExportFormat::Bundle)]
    pub(crate) format: ExportFormat,
    /// The file to write, which must not be there yet; by default standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Recipient of age (age1…) who alone can open the sessions of the bundle; may be given several
    /// times. Without one whoever has the bundle can.
    #[arg(long, value_name = "RECIPIENT", value_parser = parse_recipient)]
    pub(crate) recipient: Vec<Recipient>,
}

fn parse_recipient(text: &str) -> Result<Recipient, String> {
    Recipient::parse(text).map_err(|error| error.to_string())
}

/// Whose controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Framework {
    /// AICPA Trust Services Criteria, 2017 with the points of focus of 2022.
    Soc2,
    /// PCI DSS 4.0.1.
    Pci,
    /// ISO/IEC 27001:2022, Annex A.
    Iso27001,
    /// HIPAA Security Rule, 45 CFR 164.312.
    Hipaa,
    /// NIST SP 800-53 revision 5.
    Nist80053,
    /// Regulation (EU) 2024/1689, Articles 12, 14, 19 and 26.
    EuAiAct,
}

/// In which form a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For reading, as text.
    Markdown,
    /// For reading, as one page that loads nothing.
    Html,
    /// OSCAL assessment results 1.1.3, JSON.
    Oscal,
}

/// `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Whose controls.
    #[arg(long, value_enum)]
    pub(crate) framework: Framework,
    #[command(flatten)]
    pub(crate) filter: SessionFilter,
    /// The log's public key as you know it: a file, or its fingerprint `SHA256:…`. Without it the
    /// evidence vouches for itself, and integrity is not assessed.
    #[arg(long, value_name = "FILE|FINGERPRINT")]
    pub(crate) key: Option<String>,
    /// In which form.
    #[arg(short, long, value_enum, default_value_t = ReportFormat::Markdown)]
    pub(crate) output: ReportFormat,
}

/// `approvals`.
#[derive(Debug, Args)]
pub(crate) struct ApprovalsArgs {
    /// Only this request, with all that an approver should read.
    pub(crate) name: Option<String>,
    /// Keep on and print requests as they come and change.
    #[arg(short, long, conflicts_with = "name")]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// `approve`, `deny`.
#[derive(Debug, Args)]
pub(crate) struct ReviewArgs {
    /// The request, `ar-xxxxx`.
    #[arg(add = ArgValueCandidates::new(candidates::requests))]
    pub(crate) name: String,
    /// Why; goes into the evidence.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// `policy`.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

/// `policy …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Decide on SQL with the policies of a folder; exit 1 where it would not run as it is, or a
    /// case of the file is not as expected.
    Test(Box<PolicyTestArgs>),
    /// Write the least policies that allow what was observed, and nothing else.
    ///
    /// What only ran because a human approved it is never among it.
    Suggest(PolicySuggestArgs),
}

/// `policy suggest`.
#[derive(Debug, Args)]
pub(crate) struct PolicySuggestArgs {
    /// Session ids, the starts of some, or `last`; all that are selected if none is given.
    #[arg(add = ArgValueCandidates::new(candidates::sessions))]
    pub(crate) sessions: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: SessionFilter,
    /// Cover what was denied for want of a rule, too.
    #[arg(long)]
    pub(crate) denied: bool,
    /// What `pg_dump --schema-only` wrote, for the check of what is suggested.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
}

/// `policy test`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["sql", "request", "file"]))]
pub(crate) struct PolicyTestArgs {
    /// Folder of Connections and AccessPolicies; Secrets may be missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: PathBuf,
    /// Who acts.
    #[arg(long, value_name = "NAMESPACE/SERVICEACCOUNT")]
    pub(crate) subject: String,
    /// Over which Connection.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) connection: String,
    /// The SQL to decide on.
    #[arg(long, value_name = "SQL")]
    pub(crate) sql: Option<String>,
    /// The HTTP request to decide on: a method, and a path with its query; `POST /v1/orders`.
    #[arg(long, value_name = "METHOD PATH")]
    pub(crate) request: Option<String>,
    /// A field of that request; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", requires = "request")]
    pub(crate) headers: Vec<String>,
    /// Its body, as JSON.
    #[arg(long, value_name = "JSON", requires = "request")]
    pub(crate) json: Option<String>,
    /// A YAML list of {sql | request, headers, json, expect: Allow | Deny | Hold | Observe, name}.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// What `pg_dump --schema-only` wrote. Without it every relation is taken to be there, in
    /// schema public where none is named.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
    /// The workload's declared purpose.
    #[arg(long, value_name = "TEXT")]
    pub(crate) purpose: Option<String>,
    /// Label of the subject's namespace, for a Connection's `consumers`; may be given several times.
    #[arg(long = "namespace-label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) namespace_labels: Vec<(String, String)>,
    /// Label of the subject's pod, for a policy's `podSelector`; may be given several times.
    #[arg(long = "pod-label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) pod_labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The names of all effects.
fn effects() -> clap::builder::PossibleValuesParser {
    let names = chaperone_crds::SqlEffect::ALL.iter();
    clap::builder::PossibleValuesParser::new(names.map(|effect| effect.as_str()))
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && (0.0..=1e6).contains(&speed) => Ok(speed),
        _ => Err("give a number from 0 (no pauses) to 1000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn speed_is_a_sane_number() {
        assert!(parse_speed("0").is_ok());
        for bad in ["-1", "inf", "NaN", "fast", "1e7"] {
            assert!(parse_speed(bad).is_err(), "{bad}");
        }
    }
}
