//! chaperone-sidecar: the only authenticated way from an agent to its targets.

use std::process::ExitCode;

use chaperone_sidecar::{check, cli, run, standalone};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    cli::start_logging(arguments.log_format);
    let done = match arguments.command {
        cli::Command::Check(check) => return check::run(&check),
        cli::Command::Run(options) => run::run(&options),
        cli::Command::Standalone(options) => standalone::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}
