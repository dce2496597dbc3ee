//! Prints every CustomResourceDefinition, or with a folder writes one file each into it; with a
//! second folder, the Helm chart's templates of them into that one.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use chaperone_crds::generate;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "crdgen: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let templates = std::env::args_os().nth(2).map(PathBuf::from);
    for crd in generate::all() {
        let text = generate::yaml(&crd)?;
        match &folder {
            Some(folder) => std::fs::write(folder.join(generate::file_name(&crd)), text)?,
            None => write!(std::io::stdout(), "---\n{text}")?,
        }
        if let Some(templates) = &templates {
            let name = generate::file_name(&crd);
            std::fs::write(templates.join(name), generate::chart_template(&crd)?)?;
        }
    }
    Ok(())
}
