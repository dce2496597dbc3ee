//! Memory is flat: in the size of a result, and in the number of sessions that came and went.

use anyhow::{Result, ensure};
use chaperone_e2e::raw::{Client, query};
use chaperone_e2e::{Lab, Running};

const RULES: &str = "  - {name: read, action: Allow, sql: {effects: [Read], relations: [public.notes, public.wide]}}";

/// What may come on top of a warm sidecar, in KiB. Far below what is passed through it.
const ROOM: u64 = 24 * 1024;

fn small_work(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    client.query("SELECT body FROM notes WHERE id = 1")?.ok()?;
    client
        .query("SELECT amount FROM hidden.salaries")?
        .error()?;
    client.close()
}

#[test]
fn memory_is_flat() -> Result<()> {
    let lab = Lab::new()?;
    lab.policy("read", RULES)?;
    // 64 rows of 1 MiB, each read 16 times: 1 GiB of result. EXTERNAL, or it would be compressed.
    lab.database.sql(
        "CREATE TABLE wide (id int, body text); ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
         INSERT INTO wide SELECT n, repeat(md5(n::text), 32768) FROM generate_series(1, 64) n;
         GRANT ALL ON wide TO PUBLIC",
    )?;
    let mut running = lab.start()?;
    for _ in 0..50 {
        small_work(&running)?;
    }
    let warm = running.resident()?;

    let mut client = running.client()?;
    client.send(&query("SELECT body FROM wide, generate_series(1, 16)"))?;
    let (mut bytes, mut highest) = (0_u64, warm);
    read_through(&mut client, |length| {
        let before = bytes / (64 << 20);
        bytes += length;
        if bytes / (64 << 20) > before {
            highest = highest.max(running.resident()?);
        }
        Ok(())
    })?;
    client.close()?;
    ensure!(bytes >= 1 << 30, "only {bytes} bytes of result");
    ensure!(
        highest - warm < ROOM,
        "{warm} KiB became {highest} KiB in a result of 1 GiB"
    );

    for number in 0..2_000 {
        small_work(&running)?;
        if number % 250 == 249 {
            let now = running.resident()?;
            ensure!(
                now.saturating_sub(warm) < ROOM,
                "{warm} KiB became {now} KiB after {number} sessions"
            );
        }
    }
    running.stop()?;
    lab.verify()
}

/// Reads a whole reply without keeping it.
fn read_through(client: &mut Client, mut seen: impl FnMut(u64) -> Result<()>) -> Result<()> {
    while let Some(message) = client.receive()? {
        ensure!(
            message.tag != b'E',
            "an error in the middle of the result: {}",
            String::from_utf8_lossy(&message.body)
        );
        seen(u64::try_from(message.body.len())?)?;
        if message.tag == b'Z' {
            break;
        }
    }
    Ok(())
}
