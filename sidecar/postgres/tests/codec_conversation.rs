//! A real conversation, read in pieces of every size.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use chaperone_postgres::codec::{
    Backend, Cell, Frame, Frontend, Initial, PassThrough, frame, rewrite, startup,
};
use common::{Setup, TestServer, bin};

const LIMIT: usize = 16 << 20;

/// Both directions of one connection.
#[derive(Default)]
struct Recording {
    client: Vec<u8>,
    server: Vec<u8>,
}

type Recordings = Arc<Mutex<Vec<Arc<Mutex<Recording>>>>>;

/// Relays connections to `server` and records each.
fn relay(server: u16) -> (u16, Recordings) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let recordings = Arc::new(Mutex::new(Vec::new()));
    let all = recordings.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let target = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let recording = Arc::new(Mutex::new(Recording::default()));
            all.lock().unwrap().push(recording.clone());
            for (mut from, mut to, of_client) in [
                (
                    client.try_clone().unwrap(),
                    target.try_clone().unwrap(),
                    true,
                ),
                (target, client, false),
            ] {
                let recording = recording.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0u8; 8192];
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        let mut record = recording.lock().unwrap();
                        let side = if of_client {
                            &mut record.client
                        } else {
                            &mut record.server
                        };
                        side.extend_from_slice(&buffer[..count]);
                        drop(record);
                        if to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (port, recordings)
}

/// `\;` makes psql send several statements in one Query.
const SESSION: &str = r"CREATE TABLE people (id int PRIMARY KEY, email text, note text);
COPY people FROM STDIN;
100	ann@example.org	\N
101	bob@example.org	ü
\.
INSERT INTO people SELECT n, n || '@example.org', NULL FROM generate_series(1, 50) n;
SELECT * FROM people \; SELECT count(*) FROM people;
\d people
COPY people TO STDOUT;
LISTEN c; NOTIFY c, 'payload';
DROP TABLE IF EXISTS nowhere;
BEGIN;
SELECT 1/0;
SELECT 1;
ROLLBACK;
";

/// psql and pgbench against a real server: simple and extended protocol, COPY both ways, errors,
/// notices, notifications, NULLs, every transaction state.
fn conversations() -> Vec<Recording> {
    let server = TestServer::start(&Setup::default());
    let (port, recordings) = relay(server.port);
    let script = server.directory.path().join("script.sql");
    std::fs::write(
        &script,
        "\\set a random(1, 9)\nBEGIN;\nSELECT :a + 1, NULL::text, repeat('x', 300), 'ü';\nCOMMIT;\n",
    )
    .unwrap();
    let session = server.directory.path().join("session.sql");
    std::fs::write(&session, SESSION).unwrap();
    server.psql_on(port, &["-X", "-q", "-f", session.to_str().unwrap()]);
    server.psql_on(port, &["-X", "-q", "-c", ";"]);
    for mode in ["extended", "prepared"] {
        let status = Command::new(bin("pgbench"))
            .args(["-n", "-t", "2", "-M", mode, "-f", script.to_str().unwrap()])
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
                &port.to_string(),
                "postgres",
            ])
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "{}",
            String::from_utf8_lossy(&status.stderr)
        );
    }
    let taken: Vec<_> = recordings.lock().unwrap().drain(..).collect();
    taken
        .into_iter()
        .map(|recording| std::mem::take(&mut *recording.lock().unwrap()))
        .collect()
}

/// Everything whole in `buffer`.
fn drain(buffer: &mut BytesMut, into: &mut Vec<Frame>) {
    while let Some(frame) = frame::next(buffer, LIMIT).unwrap() {
        into.push(frame);
    }
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    drain(&mut buffer, &mut frames);
    assert!(
        buffer.is_empty(),
        "the conversation ends with a whole message"
    );
    frames
}

/// Takes the startup packets off a client's bytes.
fn after_startup(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    loop {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let mut packet = BytesMut::from(&rest[..length]);
        rest = &rest[length..];
        match startup::next(&mut packet).unwrap().unwrap() {
            Initial::Startup(startup) => {
                assert_eq!(startup.user, "postgres");
                return rest;
            }
            Initial::SslRequest | Initial::GssEncRequest => {}
            Initial::Cancel(_) => panic!("nobody cancelled"),
        }
    }
}

/// Takes the `N` that answers each encryption request off a server's bytes.
fn after_negotiation(bytes: &[u8]) -> &[u8] {
    let plain = bytes.iter().take_while(|byte| **byte == b'N').count();
    &bytes[plain..]
}

fn cut_everywhere(whole: &[Frame]) {
    for pair in whole.windows(2) {
        let bytes = [pair[0].raw.as_ref(), pair[1].raw.as_ref()].concat();
        // A large pair is cut at every byte of its headers and tails and at some in between.
        let step = 1 + bytes.len() / 2000;
        let edge = pair[0].raw.len();
        for cut in (0..bytes.len()).filter(|cut| cut % step == 0 || cut.abs_diff(edge) < 8) {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let mut seen = Vec::new();
            drain(&mut buffer, &mut seen);
            assert_eq!(seen.len(), usize::from(cut >= edge));
            buffer.extend_from_slice(&bytes[cut..]);
            drain(&mut buffer, &mut seen);
            assert_eq!(seen, pair);
            assert!(buffer.is_empty());
        }
    }
}

#[test]
fn frames_cut_anywhere_mean_the_same() {
    let mut client_tags = BTreeSet::new();
    let mut server_tags = BTreeSet::new();
    for recording in conversations()
        .iter()
        .filter(|recording| !recording.server.is_empty())
    {
        let client = after_startup(&recording.client);
        let server = after_negotiation(&recording.server);
        for (bytes, tags) in [(client, &mut client_tags), (server, &mut server_tags)] {
            let whole = frames(bytes);
            assert_eq!(
                whole.iter().map(|frame| frame.raw.len()).sum::<usize>(),
                bytes.len()
            );
            cut_everywhere(&whole);
            // One byte at a time, and passed through in pieces.
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for byte in bytes {
                buffer.extend_from_slice(&[*byte]);
                drain(&mut buffer, &mut seen);
            }
            assert_eq!(seen, whole);
            assert_eq!(passed_through(bytes), bytes);
            tags.extend(whole.iter().map(|frame| char::from(frame.tag)));
        }
        for frame in frames(client) {
            Frontend::parse(&frame).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
        }
        for frame in frames(server) {
            Backend::parse(frame.as_ref()).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
            unchanged_when_kept(&frame);
        }
    }
    // What the conversations must have shown for this test to mean anything.
    assert!(
        "QPBDESXdc".chars().all(|tag| client_tags.contains(&tag)),
        "{client_tags:?}"
    );
    assert!(
        "RSKZTDCEN12GHdcAI"
            .chars()
            .all(|tag| server_tags.contains(&tag)),
        "{server_tags:?}"
    );
}

fn passed_through(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut buffer = BytesMut::new();
    let mut passing: Option<PassThrough> = None;
    for piece in bytes.chunks(7) {
        buffer.extend_from_slice(piece);
        loop {
            if passing.is_none() {
                passing = frame::header(&buffer).unwrap().map(PassThrough::new);
            }
            let Some(through) = &mut passing else { break };
            out.extend_from_slice(&through.take(&mut buffer));
            if !through.is_done() {
                break;
            }
            passing = None;
        }
    }
    out
}

fn unchanged_when_kept(frame: &Frame) {
    if frame.tag != b'D' {
        return;
    }
    let mut out = BytesMut::new();
    let changed = rewrite(&frame.raw, &mut out, &mut Vec::new(), |_, _, _| Cell::Keep).unwrap();
    assert!(!changed);
    assert_eq!(out, frame.raw);
}
