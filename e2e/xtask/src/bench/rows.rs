//! Results: 20 000 rows of text, and COPY OUT of a table, straight to the server, through a connection
//! that masks nothing, and through one that masks two columns by origin and runs every detector
//! (performance.md).

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{DATABASE, Measured, PASSWORD, ROLE, connection, machine, server, shared, started};
use crate::options::Options;
use crate::postgres::without_pg_variables;
use crate::process::free_port;
use crate::workspace::{Binaries, Profile};

const ROWS: u64 = 20_000;
/// Of those that masking concerns: two a row.
const MASKED_CELLS: u64 = 2 * ROWS;
/// Rows of the table that COPY sends: about 256 MiB of text.
const COPIED: u64 = 2_000_000;

struct Work {
    name: &'static str,
    sql: &'static str,
    /// How often in one measurement; the time is of one.
    times: u32,
}

const WORK: [Work; 2] = [
    Work {
        name: "20 000 rows × 3 text columns",
        sql: "SELECT email, card, note FROM bench_rows",
        times: 10,
    },
    Work {
        name: "COPY OUT, 256 MiB",
        sql: "COPY bench_copy TO STDOUT",
        times: 1,
    },
];

struct Cell {
    seconds: f64,
    bytes: f64,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let binaries = Binaries::build(Profile::Release)?;
    let server = server()?;
    let row = "'user' || n || '@example.com' AS email, lpad(n::text, 16, '4') AS card, \
               'Order ' || n || ' was left with the neighbours, who were told of it in time.' AS note";
    for (table, rows) in [("bench_rows", ROWS), ("bench_copy", COPIED)] {
        server.sql(
            DATABASE,
            &format!("CREATE TABLE {table} AS SELECT {row} FROM generate_series(1, {rows}) AS n"),
        )?;
        server.sql(DATABASE, &format!("GRANT SELECT ON {table} TO {ROLE}"))?;
        server.sql(DATABASE, &format!("VACUUM ANALYZE {table}"))?;
    }
    let (plain, masked) = (free_port()?, free_port()?);
    let masks = "  guardrails:
    masking:
    - {name: columns, columns: [\"public.*.email\", \"public.*.card\"], strategy: Redact}
    - name: anywhere
      detectors: [PaymentCard, Iban, EmailAddress, PhoneNumber, UsSsn, JsonWebToken, PrivateKey, AwsAccessKey]
      strategy: Redact
";
    let documents = [
        connection("plain", server.port(), plain, ""),
        connection("masked", server.port(), masked, masks),
        shared(&["plain", "masked"]),
    ];
    let (_scratch, sidecar) = started(&binaries, "bench-rows", &documents.concat())?;
    println!("{}; results, read by psql and thrown away\n", machine()?);
    let peers = [
        ("direct", server.port()),
        ("plain", plain),
        ("masked", masked),
    ];
    let psql = server.bin().join("psql");
    let measured = Measured::of(
        options.rounds,
        &WORK,
        |work| (work.name, peers),
        |port, work| {
            measure(&psql, port, work)
                .with_context(|| format!("the sidecar said:\n{}", sidecar.output()))
        },
    )?;
    println!("\n{}", render(&measured));
    Ok(())
}

fn measure(psql: &Path, port: u16, work: &Work) -> Result<Cell> {
    let mut command = std::process::Command::new(psql);
    without_pg_variables(&mut command);
    command
        .env("PGPASSWORD", PASSWORD)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", ROLE])
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            DATABASE,
        ]);
    for _ in 0..work.times {
        command.args(["-c", work.sql]);
    }
    let began = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("starting psql")?;
    let mut out = child.stdout.take().context("what psql prints")?;
    let bytes = std::io::copy(&mut out, &mut std::io::sink())?;
    let status = child.wait()?;
    ensure!(status.success(), "psql ended with {status}");
    Ok(Cell {
        seconds: began.elapsed().as_secs_f64() / f64::from(work.times),
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        bytes: bytes as f64 / f64::from(work.times),
    })
}

fn render(measured: &Measured<Cell>) -> String {
    let mut lines = vec![
        "| work (medians) | direct | unmasked | masked | unmasked, of direct's speed | masked, of direct's speed | µs a masked cell |"
            .to_owned(),
        "|---|---:|---:|---:|---:|---:|---:|".to_owned(),
    ];
    for work in &WORK {
        let seconds = |peer| measured.median(work.name, peer, |cell| cell.seconds);
        let rate = |peer| measured.median(work.name, peer, |cell| cell.bytes / cell.seconds / 1e6);
        let (direct, plain, masked) = (seconds("direct"), seconds("plain"), seconds("masked"));
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let cell = (masked - plain) * 1e6 / MASKED_CELLS as f64;
        let cell = match work.times {
            1 => "".to_owned(),
            _ => format!("{cell:.2}"),
        };
        lines.push(format!(
            "| {} | {:.1} ms, {:.0} MB/s | {:.1} ms | {:.1} ms | {:.2} | {:.2} | {cell} |",
            work.name,
            direct * 1e3,
            rate("direct"),
            plain * 1e3,
            masked * 1e3,
            direct / plain,
            direct / masked,
        ));
    }
    lines.join("\n")
}
