//! `kubectl-chaperone`: what agents did, why it was allowed, whether the evidence is whole, and
//! the answers to what waits for a human.
//!
//! ```text
//! args ─► cli ─► source: state folder | cluster ─► commands::<name> ─► output
//! ```
//!
//! Commands work on the cluster of the kubeconfig's context, or on a standalone sidecar's state
//! folder (`--state DIR`); `policy test` needs neither. Nothing here decides for a sidecar, and
//! nothing but `approve` and `deny` writes.
//!
//! Exit codes: 0 fine, 1 the answer is no, 2 usage or environment.

mod archive;
mod cli;
mod commands;
mod completion;
mod error;
mod html;
mod http;
mod output;
mod postgres;
mod progress;
mod source;
mod time;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::error::CliError;
use crate::output::Output;

fn main() -> ExitCode {
    completion::answer_shell();
    let mut output = Output::stdout();
    let answer = match completion::asked_by_kubectl() {
        Some(words) => completion::answer_kubectl(&words, &mut output),
        None => commands::run(&Cli::parse(), &mut output),
    };
    match answer {
        Ok(answer) => match output.flush() {
            // Whoever read our output has seen enough; the answer stands.
            Err(error) if !error.is_broken_pipe() => fail(&error),
            _ => answer.exit_code(),
        },
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // What was printed before it is still worth reading, above the error.
            let _ = output.flush();
            fail(&error)
        }
    }
}

fn fail(error: &CliError) -> ExitCode {
    output::complain(error);
    error.exit_code()
}
