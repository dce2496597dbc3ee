//! One file a command. Each takes its arguments and the output, and returns the answer.

mod approvals;
mod doctor;
mod entries;
mod export;
mod key;
mod meaning;
mod policy;
mod replay;
mod report;
mod review;
mod rules;
mod search;
mod select;
mod sessions;
mod show;
mod transcript;
mod verify;
mod views;
mod why;

use std::process::ExitCode;

pub(crate) use select::Cursor;

use crate::cli::{Cli, Command, PolicyArgs, PolicyCommand};
use crate::completion;
use crate::error::CliError;
use crate::output::Output;
use crate::source::{Source, keyring};

/// What a command found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Fine.
    Yes,
    /// The question was answered, with no.
    No,
}

impl Answer {
    /// 0 or 1.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Answer::Yes => ExitCode::SUCCESS,
            Answer::No => ExitCode::from(1),
        }
    }
}

/// Runs the command.
pub(crate) fn run(cli: &Cli, output: &mut Output) -> Result<Answer, CliError> {
    let source = || Source::of(cli);
    let namespace = cli.cluster.namespace.as_deref();
    match &cli.command {
        Command::Sessions(args) => sessions::run(&source()?, args, namespace, output),
        Command::Search(args) => search::run(&source()?, args, namespace, output),
        Command::Show(args) => show::run(&source()?, args, output),
        Command::Why(args) => why::run(&source()?, args, output),
        Command::Replay(args) => replay::run(&source()?, args, output),
        Command::Verify(args) => match &args.bundle {
            Some(bundle) => verify::of_bundle(bundle, args, &keyring(cli)?, output),
            None => verify::run(&source()?, args, output),
        },
        Command::Export(args) => export::run(&source()?, args, namespace, output),
        Command::Report(args) => report::run(&source()?, args, namespace, output),
        Command::Approvals(args) => approvals::run(&source()?, args, output),
        Command::Approve(args) => review::run(
            &source()?,
            args,
            chaperone_approvals::Verdict::Approve,
            output,
        ),
        Command::Deny(args) => {
            review::run(&source()?, args, chaperone_approvals::Verdict::Deny, output)
        }
        Command::Doctor(args) => doctor::run(&source()?, args, output),
        Command::Policy(PolicyArgs {
            command: PolicyCommand::Test(args),
        }) => policy::test(args, output),
        Command::Policy(PolicyArgs {
            command: PolicyCommand::Suggest(args),
        }) => policy::suggest(&source()?, args, namespace, output),
        Command::Completion { shell } => {
            completion::script(*shell, output)?;
            Ok(Answer::Yes)
        }
        Command::Version => {
            output.line(concat!("kubectl-chaperone ", env!("CARGO_PKG_VERSION")))?;
            Ok(Answer::Yes)
        }
    }
}
