//! `chaperone-operator`.

use std::io::Write;
use std::process::ExitCode;

use chaperone_operator::cli::{Cli, Command};
use chaperone_operator::{cli, run, uninstall};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = Cli::parse();
    cli::start_logging();
    match start(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever closed our output can't be told.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> anyhow::Result<()> {
    // One provider for every client and server; a second installation is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Run(config) => run::run(*config).await,
            Command::Uninstall(options) => {
                let client = kube::Client::try_default().await?;
                Ok(uninstall::uninstall(&client, &options.service).await?)
            }
        }
    })
}
