//! Completions of the command line, names that only the evidence or the cluster knows included.
//!
//! ```text
//! bash, zsh, fish ─COMPLETE=<shell>─────────┐
//! kubectl ─kubectl_complete-chaperone─► __complete ─┴─► clap_complete's engine ─► candidates
//! ```
//! The shells' way is clap_complete's own protocol; kubectl's is Cobra's: a candidate a line, its
//! description after a tab, and last a colon and a number that says how to go on.
//! <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>

pub(crate) mod candidates;

use std::ffi::OsString;

use clap::{CommandFactory, ValueEnum};
use clap_complete::env::Shells;

use crate::cli::Cli;
use crate::commands::Answer;
use crate::error::CliError;
use crate::output::Output;

const NAME: &str = "kubectl-chaperone";
/// Whether we are asked by a shell.
const VARIABLE: &str = "COMPLETE";
/// Cobra's ShellCompDirectiveNoFileComp: what is not listed is not to be completed with files.
const NO_FILES: &str = ":4";
/// Cobra's ShellCompDirectiveDefault.
const AS_USUAL: &str = ":0";

/// Who completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletionShell {
    /// bash.
    Bash,
    /// Elvish.
    Elvish,
    /// fish.
    Fish,
    /// PowerShell.
    Powershell,
    /// zsh.
    Zsh,
    /// The program kubectl_complete-chaperone.
    Kubectl,
}

/// Answers a shell that asks, and then ends the process.
pub(crate) fn answer_shell() {
    clap_complete::CompleteEnv::with_factory(Cli::command)
        .bin(NAME)
        .completer(NAME)
        .complete();
}

/// What makes a shell ask, to be sourced there; or the program that kubectl asks.
pub(crate) fn script(shell: CompletionShell, output: &mut Output) -> Result<(), CliError> {
    let name = match shell {
        CompletionShell::Bash => "bash",
        CompletionShell::Elvish => "elvish",
        CompletionShell::Fish => "fish",
        CompletionShell::Powershell => "powershell",
        CompletionShell::Zsh => "zsh",
        CompletionShell::Kubectl => {
            return output.raw(b"#!/bin/sh\nexec kubectl-chaperone __complete \"$@\"\n");
        }
    };
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(name) else {
        return Err(CliError::Usage(format!("{name} cannot be completed for")));
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "kubectl_chaperone", NAME, NAME, &mut script)?;
    output.raw(&script)
}

/// The words so far, if it is kubectl's completion that asks: any of them may look like an option
/// of ours.
pub(crate) fn asked_by_kubectl() -> Option<Vec<OsString>> {
    let mut words = std::env::args_os().skip(1);
    (words.next()? == "__complete").then(|| words.collect())
}

/// Answers kubectl. The last word is the one to complete.
pub(crate) fn answer_kubectl(words: &[OsString], output: &mut Output) -> Result<Answer, CliError> {
    let mut line = vec![OsString::from(NAME)];
    line.extend(words.iter().cloned());
    if words.is_empty() {
        line.push(OsString::new());
    }
    let last = line.len() - 1;
    let dir = std::env::current_dir().ok();
    let found = clap_complete::engine::complete(&mut Cli::command(), line, last, dir.as_deref())?;
    for candidate in &found {
        let value = candidate.get_value().to_string_lossy();
        // A name with a line feed in it would be two.
        if candidate.is_hide_set() || value.contains(['\n', '\t']) {
            continue;
        }
        let help = candidate.get_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        output.line(&match help.lines().next() {
            Some(help) if !help.is_empty() => format!("{value}\t{help}"),
            _ => value.into_owned(),
        })?;
    }
    output.line(if found.is_empty() { AS_USUAL } else { NO_FILES })?;
    Ok(Answer::Yes)
}
