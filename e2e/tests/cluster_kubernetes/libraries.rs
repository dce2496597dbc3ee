//! Client libraries of three languages in an agent's pod, each by its own in-cluster configuration.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use chaperone_e2e::clients;
use chaperone_e2e::cluster::unavailable;
use xtask::drivers;
use xtask::process::{Scratch, succeed};

use super::{Desk, desk};

/// What the Python client is made of, in the venv's packages; none of it is compiled.
const PYTHON_PARTS: &str = "
import importlib, os, sys, tarfile
names = ['kubernetes', 'certifi', 'charset_normalizer', 'dateutil', 'durationpy', 'idna', 'oauthlib',
         'requests', 'requests_oauthlib', 'six', 'urllib3', 'websocket', 'yaml']
def plain(member):
    return None if member.name.endswith('.so') or '__pycache__' in member.name else member
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|') as archive:
    for name in names:
        path = importlib.import_module(name).__file__
        path = os.path.dirname(path) if path.endswith('__init__.py') else path
        archive.add(path, os.path.basename(path), filter=plain)
    archive.add(sys.argv[1], 'main.py')
";

impl Desk {
    /// Runs a script in the agent's container with what `from` prints as its input.
    fn fed(&self, mut from: Command, script: &str) -> Result<()> {
        let mut giver = from.stdout(Stdio::piped()).spawn()?;
        let given = giver.stdout.take().context("no output")?;
        let status = self.raw_sh(script)?.stdin(given).status()?;
        ensure!(
            giver.wait()?.success() && status.success(),
            "{script}: {status}"
        );
        Ok(())
    }
}

#[test]
fn client_libraries_work_unmodified() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    let (namespace, web) = (desk.namespace(), desk.web()?);

    let said = desk.ok(&format!(
        "ln -sf kubectl /tmp/client-go && client-go {namespace} {web}"
    ))?;
    assert_eq!(
        said,
        "got one\nlisted two\nwatched ADDED\nwatched MODIFIED\nwatched DELETED\nsecret [masked]\n\
         written back 403 Forbidden MaskedWriteBack\nunread 403 Forbidden BodyUnreadable\n\
         ran through\ndenied 403 Forbidden NotCovered\n"
    );

    let mut python = clients::interpreter()?;
    let program = drivers::sources().join("kubernetes/main.py");
    python.args(["-B", "-c", PYTHON_PARTS]).arg(program);
    desk.fed(python, "mkdir -p /tmp/python && tar -C /tmp/python -xf -")?;
    let said = desk.ok(&format!(
        "PYTHONPATH=/tmp/python python3 -B /tmp/python/main.py {namespace} {web}"
    ))?;
    assert_eq!(
        said,
        "got one\nlisted two\nwatched MODIFIED\nwatched DELETED\nsecret [masked]\nran through 3\n\
         denied 403 Forbidden NotCovered\n"
    );

    // What it has for debuggers is most of it.
    let scratch = Scratch::new("kube-rs")?;
    let stripped = scratch.path().join("kube-rs");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped);
    succeed(strip.arg(env!("CARGO_BIN_EXE_kube-rs")))?;
    desk.give(&stripped, "kube-rs")?;
    // The one library of it that the agent's image has not.
    let named = succeed(Command::new("cc").arg("-print-file-name=libgcc_s.so.1"))?;
    let library = String::from_utf8(named.stdout)?;
    desk.give(Path::new(library.trim()), "libgcc_s.so.1")?;
    let said = desk.ok(&format!("LD_LIBRARY_PATH=/tmp kube-rs {namespace}"))?;
    assert_eq!(
        said,
        "got one\nlisted two\nwatched MODIFIED\nwatched DELETED\nsecret [masked]\n\
         denied 403 Forbidden NotCovered\n"
    );
    Ok(())
}
