//! What the tests share: small spools, intents, sessions with a bit of everything.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaperone_evidence::clock::{Environment, SystemClock, SystemEntropy};
use chaperone_evidence::disk::Disk;
use chaperone_evidence::*;
use chaperone_policy::{Durability, Reason, Verdict};

pub fn options() -> SpoolOptions {
    SpoolOptions {
        file_bytes: 256 * 1024,
        files: 3,
        reserve: 64 * 1024,
        deadline: Duration::from_secs(5),
        ..SpoolOptions::default()
    }
}

pub fn identity() -> AttachIdentity {
    AttachIdentity {
        subject: "shop/report-agent".into(),
        host: "node-1".into(),
        version: "0.1.0".into(),
    }
}

pub fn attach(dir: &Path) -> Arc<Recorder> {
    Store::open(dir)
        .unwrap()
        .attach(identity(), options())
        .unwrap()
}

pub fn attach_on(dir: &Path, disk: Arc<dyn Disk>, options: SpoolOptions) -> Arc<Recorder> {
    let environment = Environment {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
        disk,
    };
    Store::open_with(dir, environment)
        .unwrap()
        .attach(identity(), options)
        .unwrap()
}

pub fn start(n: usize) -> SessionStart {
    SessionStart {
        subject: "shop/report-agent".into(),
        delegate: None,
        claims: [("application_name".to_owned(), format!("psql-{n}"))].into(),
        connection: "databases/orders-db".into(),
        target: "orders.db:5432/orders".into(),
        purpose: Some("nightly-report".into()),
        protocol: "postgres".into(),
        policy_digest: "ab".repeat(32),
    }
}

pub fn intent(verdict: Verdict, command: &str) -> Intent {
    let reason = match verdict {
        Verdict::Allow => Reason::Allowed,
        Verdict::Deny => Reason::NotCovered,
        Verdict::Hold => Reason::ApprovalPending,
        Verdict::Observe => Reason::Observed,
    };
    Intent {
        phase: Phase::Command,
        summary: command.split(' ').next().unwrap_or_default().to_owned(),
        accesses: vec!["Read on public.orders".into()],
        command: command.to_owned(),
        parameters: vec![Some("7".into()), None],
        digest: [7; 32],
        decision: DecisionRecord {
            verdict,
            reason,
            policy: "shop/report-agent".into(),
            rule: "read-reporting".into(),
            generation: 0,
            rule_digest: "cd".repeat(32),
            access: Some("Read on public.orders".into()),
            approval: None,
            would_be: None,
        },
        refers_to: None,
    }
}

/// Records a command that is allowed, and gives its permit.
pub async fn allowed(
    session: &mut SessionRecorder,
    command: &str,
    durability: Durability,
) -> Permit {
    let client = [Part::from(&b"Q"[..])];
    session
        .intent(&intent(Verdict::Allow, command), &client, durability)
        .await
        .unwrap()
}

pub fn outcome(intent: u64) -> Outcome {
    Outcome {
        intent,
        status: OutcomeStatus::Completed,
        detail: "SELECT 1".into(),
        rows: 1,
        bytes: 30,
        duration: Duration::from_micros(250),
    }
}

pub fn closed() -> SessionEnd {
    SessionEnd {
        cause: EndCause::ClientClosed,
        reason: None,
        detail: String::new(),
    }
}

pub fn granted(name: &str) -> Approval {
    Approval {
        request: name.into(),
        event: ApprovalEvent::Granted,
        reviewer: Some("local:1000".into()),
        authenticated: false,
        reason: "ticket 42".into(),
        policy: "shop/report-agent".into(),
        rule: "deletes-need-a-human".into(),
        rule_digest: "ef".repeat(32),
    }
}

pub fn approved(command: &str, name: &str) -> Intent {
    let mut intent = intent(Verdict::Allow, command);
    intent.decision.reason = Reason::Approved;
    intent.decision.approval = Some(name.into());
    intent
}

/// One session with every kind of record; its stream is returned as it should be replayed.
pub async fn full_session(
    recorder: &Arc<Recorder>,
    n: usize,
) -> (String, Vec<(Direction, Vec<u8>)>) {
    let mut session = recorder.begin(start(n)).unwrap();
    let mut stream = Vec::new();
    session.proxy("login", b"").unwrap();
    session.server(&[Part::from(&b"Z\0\0\0\x05I"[..])]).unwrap();
    stream.push((Direction::Server, b"Z\0\0\0\x05I".to_vec()));
    let query = format!("Q\0\0\0\x10SELECT {n}\0").into_bytes();
    let permit = session
        .intent(
            &intent(Verdict::Allow, "SELECT 1"),
            &[Part::from(&query[..])],
            Durability::Written,
        )
        .await
        .unwrap();
    stream.push((Direction::Client, query));
    session
        .server(&[Part {
            bytes: b"D***XXXX***",
            masked: std::slice::from_ref(&(4..8)),
        }])
        .unwrap();
    stream.push((Direction::Server, b"D***XXXX***".to_vec()));
    session
        .masked(Masked {
            by: "public.customers.email".into(),
            count: 1,
        })
        .unwrap();
    session.outcome(outcome(permit.sequence())).unwrap();
    session
        .refusal(
            &intent(Verdict::Deny, "DROP TABLE t"),
            &[Part::from(&b"Q drop"[..])],
        )
        .await
        .unwrap();
    stream.push((Direction::Client, b"Q drop".to_vec()));
    session
        .finding(Finding {
            kind: "DenialBurst".into(),
            detail: "3 in a minute".into(),
        })
        .unwrap();
    session
        .policy_changed(PolicyChanged {
            previous: "a".into(),
            current: "b".into(),
            detail: String::new(),
        })
        .unwrap();
    session.approval(granted("ar-1")).unwrap();
    let delete = session
        .intent(
            &approved("DELETE FROM t", "ar-1"),
            &[Part::from(&b"Q delete"[..])],
            Durability::Replicated,
        )
        .await
        .unwrap();
    stream.push((Direction::Client, b"Q delete".to_vec()));
    session.outcome(outcome(delete.sequence())).unwrap();
    let _ = session.control(&[Part::from(&b"S\0\0\0\x04"[..])]).unwrap();
    stream.push((Direction::Client, b"S\0\0\0\x04".to_vec()));
    let id = session.id().to_owned();
    session.end(closed()).await.unwrap();
    (id, stream)
}

pub async fn detach(recorder: &Arc<Recorder>) {
    recorder.detach(Duration::from_secs(20)).await.unwrap();
}

/// Waits for something, but not for ever.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::yield_now();
    }
}

pub fn check(dir: &Path) -> Report {
    verify(dir, &Selection::All, None).unwrap()
}

pub fn assert_ok(dir: &Path) -> Report {
    let report = check(dir);
    assert!(report.ok(), "{:#?}", report.breaks);
    report
}

/// Copies a store, but for its lock.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), target) {
            // What the store removes meanwhile is gone for whoever comes later, too.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

pub fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path))
        } else {
            out.push(path)
        }
    }
    out.sort();
    out
}

/// Waits until everything written is in segments.
pub async fn shipped(recorder: &Arc<Recorder>) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let stats = recorder.stats();
        if stats.appended_bytes == stats.shipped_bytes && stats.appended_bytes > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "waited too long for the shipper");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
