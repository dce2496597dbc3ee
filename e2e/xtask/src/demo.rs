//! `cargo demo`: the main job on a throw-away PostgreSQL, with the commands a user would type.
//!
//! Every step states what it expects and ends the demo with an error where that is not so: a demo
//! that goes on after a broken promise proves nothing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::janitor;
use crate::needs::{self, Need};
use crate::options::Options;
use crate::postgres::{self, Postgres, Settings, without_pg_variables};
use crate::process::{Scratch, free_port, succeed};
use crate::sidecar::{Sidecar, Standalone};
use crate::wait::wait_for;
use crate::workspace::{self, Binaries, Profile};

/// Ports as `config/quickstart` has them; others are taken where these are in use.
const LISTEN: u16 = 15432;
const TARGET: u16 = 15433;

/// Shows the steps.
pub fn run(options: &Options) -> Result<()> {
    let mut wanted = needs::BUILD.to_vec();
    wanted.push(Need::PostgreSql);
    needs::install(&wanted, options.yes)?;
    let profile = if options.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    println!("Building the sidecar and the plugin (minutes the first time) …");
    let binaries = Binaries::build(profile)?;
    let start = Instant::now();
    let stage = Stage::set(&binaries)?;
    stage.masked_read()?;
    stage.denial()?;
    stage.approval()?;
    stage.evidence()?;
    stage.forgery()?;
    println!(
        "\nAll of it happened as said, in {:.0} s.",
        start.elapsed().as_secs_f64()
    );
    if options.keep {
        stage.keep();
    }
    Ok(())
}

/// Everything that runs, and where.
struct Stage {
    // Dropped in this order: the sidecar before what it connects to.
    sidecar: Sidecar,
    server: Postgres,
    scratch: Scratch,
    binaries: Binaries,
    listen: u16,
}

impl Stage {
    fn set(binaries: &Binaries) -> Result<Stage> {
        let scratch = Scratch::new("demo")?;
        let (listen, target) = (port_or_free(LISTEN)?, port_or_free(TARGET)?);
        let manifests = manifests(&scratch, listen, target)?;

        heading("A throw-away PostgreSQL with sample data, and the sidecar before it");
        let mut settings = Settings::for_tests();
        settings.port = Some(target);
        let server = Postgres::start(&settings)?;
        server.sql("postgres", "CREATE DATABASE orders")?;
        let schema = workspace::root().join("config/quickstart/schema.sql");
        server
            .sql_file("orders", &schema)
            .context("loading config/quickstart/schema.sql")?;
        println!("{} on 127.0.0.1:{target}", postgres::version(server.bin())?);

        let state = scratch.path().join("state");
        let log = scratch.path().join("sidecar.log");
        let standalone = Standalone {
            program: &binaries.sidecar,
            manifests: &manifests,
            state: &state,
            subject: "shop/report-agent",
            purpose: None,
            log: &log,
        };
        typed(&shown(&standalone.command()));
        let sidecar = standalone.start()?;
        print!("{}", sidecar.output());
        Ok(Stage {
            sidecar,
            server,
            scratch,
            binaries: binaries.clone(),
            listen,
        })
    }

    fn masked_read(&self) -> Result<()> {
        heading("An unmodified psql reads: the sensitive columns come masked");
        let said = self.psql("SELECT name, email, card_number FROM customers")?;
        ensure!(said.contains("Ada Moreau"), "the read did not work");
        for raw in ["ada.moreau@example.com", "4111111111111111"] {
            ensure!(!said.contains(raw), "the raw value {raw} came through");
        }
        Ok(())
    }

    fn denial(&self) -> Result<()> {
        heading("A statement that a guardrail denies never reaches the database");
        let said = self.psql("DROP TABLE orders")?;
        ensure!(
            said.contains("Schema changes go through migrations"),
            "not denied as the rule says"
        );
        ensure!(
            !self.server.log().contains("DROP TABLE"),
            "the database saw it"
        );
        println!("(The database logs every statement it gets. This one is not in its log.)");
        Ok(())
    }

    fn approval(&self) -> Result<()> {
        const DELETE: &str = "DELETE FROM orders WHERE id = 1007";
        heading("A DELETE waits for a human, who lets exactly this one run");
        let mut psql = self.psql_command(DELETE);
        typed(&shown(&psql));
        let (out, err) = (
            self.scratch.path().join("psql.out"),
            self.scratch.path().join("psql.err"),
        );
        let mut child = psql
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out)?)
            .stderr(fs::File::create(&err)?)
            .spawn()?;
        janitor::owns_process(child.id(), "KILL");
        let name = wait_for(
            "the notice that names the request",
            Duration::from_secs(20),
            || {
                let notice = fs::read_to_string(&err)?;
                if let Some(status) = child.try_wait()? {
                    bail!("psql ended with {status} instead of waiting: {notice}");
                }
                Ok(request_in(&notice))
            },
        )?;
        print!("{}", fs::read_to_string(&err)?);
        ensure!(
            self.rows("orders")? == "7",
            "it ran before anybody approved it"
        );
        println!("\n  … and in another terminal:");
        self.plugin(&["approve", &name, "--reason", "test order, ticket 42"], 0)?;
        let status = wait_for("psql to end", Duration::from_secs(30), || {
            Ok(child.try_wait()?)
        })?;
        janitor::process_is_gone(child.id());
        println!("\n  … psql goes on:");
        let said = fs::read_to_string(&out)?;
        print!("{said}");
        ensure!(
            status.success() && said.contains("DELETE 1"),
            "{}",
            fs::read_to_string(&err)?
        );
        ensure!(
            self.rows("orders")? == "6",
            "the approved DELETE did not run"
        );
        Ok(())
    }

    fn evidence(&self) -> Result<()> {
        heading("What the agent did: listed, shown, replayed, proven");
        let sessions = self.plugin(&["sessions"], 0)?;
        ensure!(
            sessions.contains("report-agent"),
            "the subject is not on the sessions"
        );
        let shown = self.plugin(&["show", "last"], 0)?;
        ensure!(
            shown.contains("DELETE FROM orders") && shown.contains("changes-need-a-human"),
            "the DELETE is not shown with its rule"
        );
        let replayed = self.plugin(&["replay", "last"], 0)?;
        ensure!(
            replayed.contains("DELETE 1"),
            "the replay does not show the answer"
        );
        self.plugin(&["verify", "--all"], 0)?;
        Ok(())
    }

    fn forgery(&self) -> Result<()> {
        heading("One byte of a copy of the evidence is changed: verify names it");
        let forged = self.scratch.path().join("forged");
        let state = self.scratch.path().join("state");
        succeed(Command::new("cp").arg("-a").arg(&state).arg(&forged))?;
        // What has left the spool is signed; the newest segment holds the end of the session.
        let mut segments: Vec<PathBuf> = fs::read_dir(forged.join("evidence/segments"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        segments.sort();
        let file = segments.pop().context("no segment yet")?;
        let copy = fs::File::options().read(true).write(true).open(&file)?;
        let offset = copy.metadata()?.len() / 2;
        let mut byte = [0_u8];
        copy.read_exact_at(&mut byte, offset)?;
        copy.write_all_at(&byte.map(|byte| byte ^ 1), offset)?;
        println!(
            "(byte {offset} of {})",
            file.strip_prefix(&forged).unwrap_or(&file).display()
        );
        let said = self.plugin_on(&forged, &["verify", "--all"], 1)?;
        ensure!(!said.trim().is_empty(), "verify did not say what is wrong");
        Ok(())
    }

    fn keep(self) {
        let state = self.scratch.path().join("state");
        println!("\nIt stays up. Connect as the agent, and look at what it did:\n");
        println!("  psql -h 127.0.0.1 -p {} -d orders", self.listen);
        println!("  postgresql://agent@127.0.0.1:{}/orders", self.listen);
        println!(
            "  {} sessions --state {}",
            self.binaries.plugin.display(),
            state.display()
        );
        println!("  edit {}", self.scratch.path().join("manifests").display());
        println!("\nEnd it:\n");
        let (sidecar, server) = (self.sidecar.id(), self.server.id());
        janitor::keep_all();
        self.sidecar.leave_running();
        let data = self.server.leave_running();
        println!(
            "  kill {sidecar}; kill -QUIT {server}; rm -rf {} {}",
            self.scratch.into_path().display(),
            data.display()
        );
    }

    fn rows(&self, table: &str) -> Result<String> {
        self.server
            .sql("orders", &format!("SELECT count(*) FROM {table}"))
    }

    fn psql_command(&self, sql: &str) -> Command {
        let mut command = Command::new(self.server.bin().join("psql"));
        without_pg_variables(&mut command);
        command.args([
            "-X",
            "-h",
            "127.0.0.1",
            "-p",
            &self.listen.to_string(),
            "-d",
            "orders",
            "-c",
            sql,
        ]);
        command
    }

    /// Runs psql as the agent, prints what it prints, and gives all of it.
    fn psql(&self, sql: &str) -> Result<String> {
        let mut command = self.psql_command(sql);
        typed(&shown(&command));
        let output = command.stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        print!("{said}");
        Ok(said)
    }

    fn plugin(&self, arguments: &[&str], expected: i32) -> Result<String> {
        self.plugin_on(&self.scratch.path().join("state"), arguments, expected)
    }

    fn plugin_on(&self, state: &Path, arguments: &[&str], expected: i32) -> Result<String> {
        let mut command = Command::new(&self.binaries.plugin);
        command.args(arguments).arg("--state").arg(state);
        typed(&shown(&command));
        let output = command.stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        print!("{said}");
        ensure!(
            output.status.code() == Some(expected),
            "that should have ended with {expected}, and ended with {}",
            output.status
        );
        Ok(said)
    }
}

/// The quick start's manifests with the ports of this run.
fn manifests(scratch: &Scratch, listen: u16, target: u16) -> Result<PathBuf> {
    let folder = scratch.path().join("manifests");
    fs::create_dir(&folder)?;
    let source = workspace::root().join("config/quickstart");
    for entry in fs::read_dir(&source)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path)?
            .replace(&LISTEN.to_string(), &listen.to_string())
            .replace(&TARGET.to_string(), &target.to_string());
        fs::write(folder.join(path.file_name().unwrap_or_default()), text)?;
    }
    // A Secret that others may read is worth a warning of the sidecar's own.
    succeed(Command::new("chmod").args(["-R", "go="]).arg(&folder))?;
    Ok(folder)
}

fn port_or_free(wanted: u16) -> Result<u16> {
    match TcpListener::bind(("127.0.0.1", wanted)) {
        Ok(_) => Ok(wanted),
        Err(_) => {
            let other = free_port()?;
            println!("port {wanted} is in use; taking {other} in its place");
            Ok(other)
        }
    }
}

/// The request's name in a notice.
fn request_in(notice: &str) -> Option<String> {
    notice
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .find(|word| word.starts_with("ar-"))
        .map(str::to_owned)
}

fn heading(text: &str) {
    println!("\n\u{2500}\u{2500} {text}");
}

fn typed(command: &str) {
    println!("\n$ {command}");
}

/// A command as one would type it in the checkout.
fn shown(command: &Command) -> String {
    let root = workspace::root();
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let path = Path::new(word);
            let word = match path.strip_prefix(&root) {
                Ok(inside) => inside.display().to_string(),
                Err(_) if path.ends_with("psql") => "psql".to_owned(),
                Err(_) => path.display().to_string(),
            };
            match word.chars().any(|c| c.is_whitespace() || "*;'".contains(c)) {
                true => format!("\"{word}\""),
                false => word,
            }
        })
        .filter(|word| word != "-X")
        .collect::<Vec<_>>()
        .join(" ")
}
