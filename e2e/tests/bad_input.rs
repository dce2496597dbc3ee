//! Whatever is wrong with manifests, targets, folders or ports: a clear error with a reason
//! constant, never a panic, never a silent default.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::faults::Fault;
use chaperone_e2e::lab::{binaries, plugin};
use chaperone_e2e::raw::{Client, Report};
use chaperone_e2e::server::PASSWORD;
use chaperone_e2e::{Lab, Transcript, clients};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use xtask::postgres::{Postgres, Settings};
use xtask::process::{demoted, free_port, hand_over, is_root};

const READ: &str =
    "  - {name: notes, action: Allow, sql: {effects: [Read], relations: [public.notes]}}";

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.policy("notes", READ)?;
    Ok(lab)
}

fn says(said: &Transcript, code: i32, needed: &[&str]) -> Result<()> {
    let all = said.all();
    ensure!(said.code == Some(code), "exit code {code} was due: {all}");
    ensure!(
        !all.contains("panicked") && !all.contains("RUST_BACKTRACE"),
        "{all}"
    );
    for needed in needed {
        ensure!(all.contains(needed), "no {needed:?} in {all}");
    }
    Ok(())
}

/// An AccessPolicy with one thing wrong, and what `check` must say: the line, the field, what is
/// allowed, the reason.
#[test]
fn a_malformed_manifest_is_named_by_file_line_and_field() -> Result<()> {
    let policy = |rule: &str, rest: &str| {
        format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: bad, namespace: shop}}\n\
             spec:\n  subjects: [{{serviceAccount: report-agent}}]\n  connections: [databases/orders-db]\n{rest}  rules:\n  - {rule}\n"
        )
    };
    let cases: Vec<(String, &[&str])> = vec![
        (
            policy("{name: a, action: Allow, sql: {effects: [Raed]}}", ""),
            &["bad.yaml:8", "effects", "Read", "Invalid"],
        ),
        (
            policy("{name: a, action: Permit, sql: {effects: [Read]}}", ""),
            &["bad.yaml:8", "action", "RequireApproval", "Invalid"],
        ),
        (
            policy("{name: a, action: Allow, sqll: {effects: [Read]}}", ""),
            &["bad.yaml:8", "sqll", "UnknownField"],
        ),
        (
            policy(
                "{name: a, action: Allow, sql: {effects: [Read]}}",
                "  enforcment: DryRun\n",
            ),
            &["bad.yaml:7", "enforcment", "UnknownField"],
        ),
        (
            policy("{action: Allow, sql: {effects: [Read]}}", ""),
            &["bad.yaml:8", "name", "MissingField"],
        ),
        (
            policy("{name: a, action: Allow}", ""),
            &["bad.yaml:8", "rules[0]"],
        ),
        (
            policy(
                "{name: a, action: RequireApproval, sql: {effects: [Read]}}",
                "",
            ),
            &["bad.yaml:8", "approval"],
        ),
        (
            policy(
                "{name: a, action: Allow, sql: {effects: [Read], relations: [\"\"]}}",
                "",
            ),
            &["bad.yaml:8", "relations"],
        ),
        (
            policy(
                "{name: a, action: Allow, when: \"subject.purpose ==\", sql: {effects: [Read]}}",
                "",
            ),
            &["bad.yaml:8", "when"],
        ),
        (
            policy(
                "{name: a, action: Allow, when: \"nobody.knows == 1\", sql: {effects: [Read]}}",
                "",
            ),
            &["bad.yaml:8", "when"],
        ),
        (
            policy(
                "{name: a, action: Allow, sql: {effects: [Read]}}",
                "  limits: {rowsPerStatement: many}\n",
            ),
            &["bad.yaml:7", "rowsPerStatement"],
        ),
        (
            policy("{name: a, action: Allow, sql: {effects: [Read]}}", "")
                .replace("orders-db", "no-such-db"),
            &["bad.yaml:6", "no-such-db", "RefNotFound"],
        ),
        (
            "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: bad\nspec: ["
                .to_owned(),
            &["bad.yaml:", "Malformed"],
        ),
        (
            "apiVersion: chaperone.dev/v1alpha1\nkind: AccesPolicy\nmetadata: {name: bad}\n"
                .to_owned(),
            &["bad.yaml:", "AccesPolicy", "UnknownKind"],
        ),
        (
            "apiVersion: chaperone.dev/v9\nkind: AccessPolicy\nmetadata: {name: bad}\n".to_owned(),
            &["bad.yaml:", "v9", "UnknownKind"],
        ),
    ];
    let lab = lab()?;
    says(&lab.check()?, 0, &["fine"])?;
    for (yaml, needed) in cases {
        lab.manifest("bad.yaml", &yaml)?;
        says(&lab.check()?, 1, needed).with_context(|| format!("for:\n{yaml}"))?;
    }
    fs::write(lab.manifests().join("bad.yaml"), [0xff, 0xfe, 0x00, 0x01])?;
    says(&lab.check()?, 1, &["bad.yaml"])?;
    lab.remove("bad.yaml")?;

    lab.remove("secret.yaml")?;
    says(
        &lab.check()?,
        1,
        &["connection.yaml:", "agent", "RefNotFound"],
    )?;
    says(&lab.start_and_end()?, 2, &["RefNotFound"])
}

#[test]
fn two_connections_on_one_port_are_refused() -> Result<()> {
    let lab = lab()?;
    let other = fs::read_to_string(lab.manifests().join("connection.yaml"))?
        .replace("name: orders-db", "name: other-db");
    lab.manifest("other.yaml", &other)?;
    says(&lab.check()?, 1, &["listen-port", "ConnectionsCollide"])
}

#[test]
fn folders_and_arguments_that_do_not_fit() -> Result<()> {
    let lab = lab()?;
    let sidecar = &binaries()?.sidecar;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(sidecar);
        command.args(arguments);
        clients::run(command, "")
    };
    says(
        &run(&["check", "--manifests", "/no/such/folder"])?,
        1,
        &["/no/such/folder", "Unreadable"],
    )?;
    says(
        &run(&[
            "standalone",
            "--manifests",
            "/no/such/folder",
            "--state",
            "/tmp/x",
            "--subject",
            "nobody",
        ])?,
        2,
        &["NAMESPACE/SERVICEACCOUNT"],
    )?;
    says(&run(&["standalone"])?, 2, &["--manifests"])?;
    let manifests = lab.manifests().display().to_string();
    let state = lab.state().display().to_string();
    let everywhere = [
        "standalone",
        "--manifests",
        &manifests,
        "--state",
        &state,
        "--subject",
        "shop/report-agent",
        "--listen",
        "0.0.0.0",
    ];
    says(&run(&everywhere)?, 2, &["token", "loopback"])?;
    // The plugin, on what is no state folder.
    let nothing = plugin(&lab.folder().join("nothing"), &["verify", "--all"])?;
    says(&nothing, 2, &["nothing"])?;
    says(&plugin(&lab.manifests(), &["sessions"])?, 2, &[])?;
    says(&plugin(&lab.manifests(), &["approve", "ar-none"])?, 2, &[])
}

#[test]
fn a_port_in_use_is_said_at_start() -> Result<()> {
    let lab = lab()?;
    let _taken = TcpListener::bind(("127.0.0.1", lab.port()))?;
    says(
        &lab.start_and_end()?,
        2,
        &[
            "AddressInUse",
            "databases/orders-db",
            &lab.port().to_string(),
        ],
    )
}

#[test]
fn a_state_folder_that_cannot_be_written_is_said_at_start() -> Result<()> {
    let lab = lab()?;
    // A file in its place.
    fs::write(lab.state(), "not a folder")?;
    says(&lab.start_and_end()?, 2, &["CannotRecord", "state"])?;
    fs::remove_file(lab.state())?;

    // Read-only for the one who runs it; root may write anywhere, so it runs as somebody else.
    fs::create_dir(lab.state())?;
    if is_root() {
        hand_over(lab.folder())?;
    }
    fs::set_permissions(lab.state(), fs::Permissions::from_mode(0o555))?;
    let mut command = demoted(&binaries()?.sidecar)?;
    command
        .arg("standalone")
        .arg("--manifests")
        .arg(lab.manifests())
        .arg("--state")
        .arg(lab.state());
    command.args(["--subject", "shop/report-agent"]);
    says(&clients::run(command, "")?, 2, &["CannotRecord", "state"])
}

#[test]
fn a_full_state_folder_is_said_at_start() -> Result<()> {
    let lab = lab()?;
    let faults = lab.faults()?;
    faults.set(Fault::Full)?;
    let failed = lab
        .start_with(&faults)
        .err()
        .context("it started on a full disk")?;
    let text = format!("{failed:#}");
    ensure!(
        text.contains("CannotRecord") && text.contains("No space left"),
        "{text}"
    );
    ensure!(!text.contains("panicked"), "{text}");
    Ok(())
}

/// Two sidecars on one state folder would write one log.
#[test]
fn a_state_folder_in_use_is_said_at_start() -> Result<()> {
    let lab = lab()?;
    let _running = lab.start()?;
    says(&lab.start_and_end()?, 2, &["CannotRecord", "in use"])
}

/// What the agent is told when it connects.
fn refusal(lab: &Lab) -> Result<Report> {
    let running = lab.start()?;
    let mut client = Client::attempt(
        lab.port(),
        &[("user", "agent"), ("database", &lab.database.name)],
    )?;
    let error = client.greeting.error()?;
    ensure!(error.severity == "FATAL", "{error:?}");
    ensure!(
        client.to_end()?.0.is_empty(),
        "it stayed open after {error:?}"
    );
    let log = running.sidecar.output();
    ensure!(
        !log.contains("panicked") && !log.contains(PASSWORD),
        "{log}"
    );
    ensure!(!error.text().contains(PASSWORD), "{error:?}");
    running.stop()?;
    lab.verify()?;
    Ok(error)
}

fn target(host: &str, port: u16, database: &str, tls: &str) -> String {
    format!(
        "  postgres:\n    host: {host}\n    port: {port}\n    database: {database}\n    tls: {tls}\n    \
         credential: {{secret: {{name: agent}}}}\n  consumers: {{namespaceSelector: {{}}}}\n"
    )
}

fn reason(error: &Report, expected: &str) -> Result<()> {
    ensure!(
        error.text().contains(expected),
        "no {expected} in {error:?}"
    );
    Ok(())
}

#[test]
fn a_target_that_cannot_be_used_is_said_to_the_agent() -> Result<()> {
    const DISABLE: &str = "{mode: Disable}";
    let lab = lab()?;
    let (port, database) = (lab.database.port, lab.database.name.clone());

    lab.connection(&target("127.0.0.1", free_port()?, &database, DISABLE))?;
    reason(&refusal(&lab)?, "TargetUnreachable")?;
    lab.connection(&target("no-such-host.invalid", port, &database, DISABLE))?;
    reason(&refusal(&lab)?, "TargetUnreachable")?;
    lab.connection(&target("127.0.0.1", port, &database, "{mode: VerifyFull}"))?;
    reason(&refusal(&lab)?, "TargetTls")?;

    // Something that is not PostgreSQL.
    let stranger = TcpListener::bind("127.0.0.1:0")?;
    let stranger_port = stranger.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in stranger.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    lab.connection(&target("127.0.0.1", stranger_port, &database, DISABLE))?;
    reason(&refusal(&lab)?, "Target")?;

    lab.guardrails("")?;
    lab.manifest(
        "secret.yaml",
        &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: agent, namespace: databases}}\n\
             stringData: {{username: {database}, password: {PASSWORD}-but-wrong}}\n"
        ),
    )?;
    reason(&refusal(&lab)?, "TargetAuthentication")
}

#[test]
fn a_database_that_is_not_the_connections_is_refused() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    for database in ["postgres", "template1", "seed"] {
        let client = Client::attempt(lab.port(), &[("user", "agent"), ("database", database)])?;
        reason(&client.greeting.error()?, "DatabaseDenied")?;
    }
    running.stop()?;
    lab.verify()
}

/// A certificate authority of its own and what it signs for a server at 127.0.0.1.
fn authority(name: &str) -> Result<(String, String, String)> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?
        .signed_by(&key, &issuer)?;
    Ok((issuer.pem(), server.pem(), key.serialize_pem()))
}

#[test]
fn a_target_is_believed_only_with_its_own_authority() -> Result<()> {
    let (ca, certificate, key) = authority("the right one")?;
    let (wrong, _, _) = authority("another one")?;
    let mut settings = Settings::for_tests();
    settings.tls = Some((certificate, key));
    let server = Postgres::start(&settings)?;
    server.sql(
        "postgres",
        &format!("CREATE ROLE secure LOGIN PASSWORD '{PASSWORD}'"),
    )?;

    let lab = lab()?;
    lab.policy("notes", READ)?;
    lab.manifest(
        "secret.yaml",
        &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: agent, namespace: databases}}\n\
             stringData: {{username: secure, password: {PASSWORD}}}\n"
        ),
    )?;
    let with_ca = |pem: &str| -> Result<()> {
        let indented: String = pem.lines().map(|line| format!("    {line}\n")).collect();
        lab.manifest(
            "ca.yaml",
            &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: databases}}\ndata:\n  ca.crt: |\n{indented}"),
        )?;
        lab.connection(&target(
            "127.0.0.1",
            server.port(),
            "postgres",
            "{mode: VerifyFull, ca: {configMap: {name: ca, key: ca.crt}}}",
        ))
    };
    let database = "postgres";
    with_ca(&wrong)?;
    {
        let _running = lab.start()?;
        let client = Client::attempt(lab.port(), &[("user", "agent"), ("database", database)])?;
        reason(&client.greeting.error()?, "TargetTls")?;
    }
    with_ca(&ca)?;
    let running = lab.start()?;
    let mut client = Client::connect(lab.port(), database)?;
    ensure!(client.query("SELECT 1")?.ok()?.value().as_deref() == Some("1"));
    ensure!(server.sql(database, "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'secure'")? == "t");
    client.close()?;
    running.stop()?;
    lab.verify()
}
