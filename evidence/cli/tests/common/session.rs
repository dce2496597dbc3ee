//! Records real sessions with the evidence library.
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
use std::time::Duration;

use chaperone_evidence::{
    Approval, ApprovalEvent, AttachIdentity, DecisionRecord, EndCause, Finding, Intent, Masked,
    Outcome, OutcomeStatus, Part, Phase, Recorder, SessionEnd, SessionRecorder, SessionStart,
    SpoolOptions, Store,
};
use chaperone_policy::{Access, Durability, Effect, Reason, Verdict};

use super::{access, relation, runtime};

/// What was recorded, to compare with.
pub struct Recorded {
    pub id: String,
    pub client: Vec<u8>,
    pub server: Vec<u8>,
    pub fingerprint: String,
    pub public_key: String,
}

/// A message of PostgreSQL's wire protocol.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// The evidence folder of a state folder.
pub fn attach(state: &Path) -> (Arc<Recorder>, String, String) {
    let store = Store::open(&state.join("evidence")).unwrap();
    let (fingerprint, public_key) = (store.log_fingerprint(), store.log_public_key());
    let identity = AttachIdentity {
        subject: "shop/report-agent".to_owned(),
        host: "laptop".to_owned(),
        version: "0.1.0".to_owned(),
    };
    let options = SpoolOptions {
        file_bytes: 1024 * 1024,
        files: 2,
        reserve: 64 * 1024,
        deadline: Duration::from_secs(30),
        ..SpoolOptions::default()
    };
    (
        store.attach(identity, options).unwrap(),
        fingerprint,
        public_key,
    )
}

pub fn start() -> SessionStart {
    SessionStart {
        subject: "shop/report-agent".to_owned(),
        connection: "databases/orders-db".to_owned(),
        target: "orders.db:5432/orders".to_owned(),
        purpose: Some("nightly-report".to_owned()),
        protocol: "postgres".to_owned(),
        policy_digest: "cd".repeat(32),
        claims: [("application_name".to_owned(), "psql\u{1b}[2J".to_owned())].into(),
        ..SessionStart::default()
    }
}

pub fn intent(command: &str, accesses: &[Access], verdict: Verdict, reason: Reason) -> Intent {
    let ruled = verdict == Verdict::Allow;
    Intent {
        phase: Phase::Command,
        summary: "SQL".to_owned(),
        accesses: accesses.iter().map(ToString::to_string).collect(),
        command: command.to_owned(),
        parameters: vec![],
        digest: [7; 32],
        decision: DecisionRecord {
            verdict,
            reason,
            policy: if ruled { "shop/report-agent" } else { "" }.to_owned(),
            rule: if ruled { "read-reporting" } else { "" }.to_owned(),
            generation: 0,
            rule_digest: if ruled {
                "ab".repeat(32)
            } else {
                String::new()
            },
            access: accesses.first().map(ToString::to_string),
            approval: None,
            would_be: None,
        },
        refers_to: None,
    }
}

fn outcome(intent: u64, rows: u64) -> Outcome {
    Outcome {
        intent,
        status: OutcomeStatus::Completed,
        detail: format!("SELECT {rows}"),
        rows,
        bytes: 100,
        duration: Duration::from_millis(4),
    }
}

/// A session with a masked read, a denial, and a DELETE that an approval released.
pub fn full_session(state: &Path) -> Recorded {
    runtime().block_on(async {
        let (recorder, fingerprint, public_key) = attach(state);
        let mut session = recorder.begin(start()).unwrap();
        let (mut client, mut server) = (vec![], vec![]);
        read(&mut session, &mut client, &mut server).await;
        denied(&mut session, &mut client, &mut server).await;
        approved(&mut session, &mut client, &mut server).await;
        let id = session.id().to_owned();
        session.end(goodbye()).await.unwrap();
        recorder.detach(Duration::from_secs(30)).await.unwrap();
        Recorded {
            id,
            client,
            server,
            fingerprint,
            public_key,
        }
    })
}

fn goodbye() -> SessionEnd {
    SessionEnd {
        cause: EndCause::ClientClosed,
        reason: None,
        detail: String::new(),
    }
}

async fn read(session: &mut SessionRecorder, client: &mut Vec<u8>, server: &mut Vec<u8>) {
    let sql = "SELECT email FROM public.customers -- \u{1b}]0;owned\u{7}";
    let asked = query(sql);
    let accesses = [access(Effect::Read, relation("public", "customers"))];
    let intent = intent(sql, &accesses, Verdict::Allow, Reason::Allowed);
    let permit = session
        .intent(&intent, &[Part::from(&asked[..])], Durability::Written)
        .await
        .unwrap();
    client.extend(&asked);
    let row = [&1_u16.to_be_bytes()[..], &8_u32.to_be_bytes(), b"[masked]"].concat();
    let answer = [
        message(b'D', &row),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    session.server(&[Part::from(&answer[..])]).unwrap();
    server.extend(&answer);
    session
        .masked(Masked {
            by: "public.customers.email".to_owned(),
            count: 1,
        })
        .unwrap();
    session.outcome(outcome(permit.sequence(), 1)).unwrap();
}

async fn denied(session: &mut SessionRecorder, client: &mut Vec<u8>, server: &mut Vec<u8>) {
    let sql = "DELETE FROM public.orders USING public.customers c WHERE c.id = 1";
    let asked = query(sql);
    let accesses = [
        access(Effect::Delete, relation("public", "orders")),
        access(Effect::Read, relation("public", "customers")),
    ];
    let intent = intent(sql, &accesses, Verdict::Deny, Reason::NotCovered);
    session
        .refusal(&intent, &[Part::from(&asked[..])])
        .await
        .unwrap();
    client.extend(&asked);
    let answer = [
        message(
            b'E',
            b"SERROR\0C42501\0MNotCovered: Delete on public.orders\0\0",
        ),
        message(b'Z', b"I"),
    ]
    .concat();
    session.server(&[Part::from(&answer[..])]).unwrap();
    server.extend(&answer);
    session
        .finding(Finding {
            kind: "DenialBurst".to_owned(),
            detail: "1 denial".to_owned(),
        })
        .unwrap();
}

async fn approved(session: &mut SessionRecorder, client: &mut Vec<u8>, server: &mut Vec<u8>) {
    let step = |event, reviewer: Option<&str>| Approval {
        request: "ar-bcdfg".to_owned(),
        event,
        reviewer: reviewer.map(str::to_owned),
        authenticated: false,
        reason: if reviewer.is_some() { "ticket 42" } else { "" }.to_owned(),
        policy: "shop/report-agent".to_owned(),
        rule: "deletes".to_owned(),
        rule_digest: "ab".repeat(32),
    };
    session
        .approval(step(ApprovalEvent::ReviewedApprove, Some("local:1000")))
        .unwrap();
    session
        .approval(step(ApprovalEvent::Granted, None))
        .unwrap();
    let sql = "DELETE FROM public.orders WHERE id = $1";
    let asked = query(sql);
    let accesses = [access(Effect::Delete, relation("public", "orders"))];
    let mut intent = intent(sql, &accesses, Verdict::Allow, Reason::Approved);
    intent.parameters = vec![Some("42".to_owned()), None];
    intent.decision.approval = Some("ar-bcdfg".to_owned());
    let permit = session
        .intent(&intent, &[Part::from(&asked[..])], Durability::Replicated)
        .await
        .unwrap();
    client.extend(&asked);
    let answer = [message(b'C', b"DELETE 1\0"), message(b'Z', b"I")].concat();
    session.server(&[Part::from(&answer[..])]).unwrap();
    server.extend(&answer);
    session.outcome(outcome(permit.sequence(), 1)).unwrap();
}

/// A session whose one statement met no policy at all.
pub fn unselected_session(state: &Path) -> String {
    runtime().block_on(async {
        let (recorder, _, _) = attach(state);
        let mut session = recorder
            .begin(SessionStart {
                subject: "shop/stray-agent".to_owned(),
                connection: "databases/other-db".to_owned(),
                ..start()
            })
            .unwrap();
        let mut refused = intent(
            "UPDATE public.orders SET total = (SELECT max(total) FROM reporting.totals)",
            &[
                access(Effect::Modify, relation("public", "orders")),
                access(Effect::Read, relation("reporting", "totals")),
            ],
            Verdict::Deny,
            Reason::NoPolicy,
        );
        refused.decision.access = None;
        session.refusal(&refused, &[]).await.unwrap();
        let id = session.id().to_owned();
        session.end(goodbye()).await.unwrap();
        recorder.detach(Duration::from_secs(30)).await.unwrap();
        id
    })
}

/// One statement of a session: what it says, does, and met.
pub struct Told<'a> {
    pub sql: &'a str,
    pub accesses: Vec<Access>,
    pub verdict: Verdict,
    pub reason: Reason,
}

/// One that a rule allows.
pub fn allowed(sql: &str, accesses: Vec<Access>) -> Told<'_> {
    Told {
        sql,
        accesses,
        verdict: Verdict::Allow,
        reason: Reason::Allowed,
    }
}

/// A session of `subject` with these statements, each answered with one row.
pub fn session_of(state: &Path, subject: &str, statements: &[Told<'_>]) -> String {
    runtime().block_on(async {
        let (recorder, _, _) = attach(state);
        let mut session = recorder
            .begin(SessionStart {
                subject: subject.to_owned(),
                ..start()
            })
            .unwrap();
        for told in statements {
            let asked = query(told.sql);
            let asked = [Part::from(&asked[..])];
            let intent = intent(told.sql, &told.accesses, told.verdict, told.reason);
            if matches!(told.verdict, Verdict::Deny | Verdict::Hold) {
                session.refusal(&intent, &asked).await.unwrap();
                continue;
            }
            let permit = session
                .intent(&intent, &asked, Durability::Written)
                .await
                .unwrap();
            session.outcome(outcome(permit.sequence(), 1)).unwrap();
        }
        let id = session.id().to_owned();
        session.end(goodbye()).await.unwrap();
        recorder.detach(Duration::from_secs(30)).await.unwrap();
        id
    })
}

/// A DELETE that a human, who is proven or not, let through.
pub fn approved_session(state: &Path, reviewer: &str, authenticated: bool) -> String {
    runtime().block_on(async {
        let (recorder, _, _) = attach(state);
        let mut session = recorder.begin(start()).unwrap();
        let step = |event, reviewer: Option<&str>| Approval {
            request: "ar-bcdfg".to_owned(),
            event,
            reviewer: reviewer.map(str::to_owned),
            authenticated,
            reason: String::new(),
            policy: "shop/report-agent".to_owned(),
            rule: "deletes".to_owned(),
            rule_digest: "ab".repeat(32),
        };
        for step in [
            step(ApprovalEvent::ReviewedApprove, Some(reviewer)),
            step(ApprovalEvent::Granted, None),
        ] {
            session.approval(step).unwrap();
        }
        let sql = "DELETE FROM public.orders WHERE id = 7";
        let accesses = [access(Effect::Delete, relation("public", "orders"))];
        let mut intent = intent(sql, &accesses, Verdict::Allow, Reason::Approved);
        intent.decision.approval = Some("ar-bcdfg".to_owned());
        let asked = query(sql);
        let permit = session
            .intent(&intent, &[Part::from(&asked[..])], Durability::Synced)
            .await
            .unwrap();
        session.outcome(outcome(permit.sequence(), 1)).unwrap();
        let id = session.id().to_owned();
        session.end(goodbye()).await.unwrap();
        recorder.detach(Duration::from_secs(30)).await.unwrap();
        id
    })
}

/// As many sessions of one statement each, the first of which stays open until the last has ended.
/// The ids in the order in which they began.
pub fn short_sessions(state: &Path, count: usize) -> Vec<String> {
    runtime().block_on(async {
        let (recorder, _, _) = attach(state);
        let mut ids = Vec::with_capacity(count);
        let mut first = None;
        for number in 0..count {
            let mut session = recorder.begin(start()).unwrap();
            ids.push(session.id().to_owned());
            let sql = format!("SELECT note FROM public.orders WHERE id = {number}");
            let accesses = [access(Effect::Read, relation("public", "orders"))];
            let intent = intent(&sql, &accesses, Verdict::Allow, Reason::Allowed);
            let permit = session
                .intent(&intent, &[], Durability::Written)
                .await
                .unwrap();
            session.outcome(outcome(permit.sequence(), 1)).unwrap();
            if number == 0 {
                first = Some(session);
            } else {
                session.end(goodbye()).await.unwrap();
            }
        }
        if let Some(first) = first {
            first.end(goodbye()).await.unwrap();
        }
        recorder.detach(Duration::from_secs(60)).await.unwrap();
        ids
    })
}
