//! `check`: everything that is wrong with a folder of manifests, by file and line.

use std::process::ExitCode;

use chaperone_manifests::{Manifests, policies};

use crate::cli::{Check, complain, say};

/// Compiles everything; exit code 1 when anything is wrong.
pub fn run(options: &Check) -> ExitCode {
    let manifests = Manifests::load(&options.manifests);
    let mut problems = manifests.problems.clone();
    problems.extend(policies::problems(&manifests));
    problems.extend(crate::build::problems(&manifests));
    problems.extend(crate::sinks::problems(&manifests));
    problems.sort();
    problems.dedup();
    for problem in &problems {
        say(&format!("{problem} [{}]", problem.reason));
    }
    if problems.is_empty() {
        say(&format!(
            "{} connections and {} policies are fine",
            manifests.connections.len(),
            manifests.policies.len()
        ));
        return ExitCode::SUCCESS;
    }
    complain(&format!("{} problems", problems.len()));
    ExitCode::from(1)
}
