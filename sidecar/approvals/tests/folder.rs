//! The folder of requests: nothing runs twice, nothing is lost, nothing forged counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use chaperone_approvals::{
    ApprovalError, Clock, Folder, NewRequest, Phase, SystemClock, Ticket, Tuple, Verdict,
    combined_rule_digest, local_reviewer,
};
use chaperone_policy::{Access, ApprovalRule, Effect, Object, Reason, RuleRef};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// A clock that stands until it is moved.
#[derive(Debug)]
struct StoppedClock(AtomicI64);

impl StoppedClock {
    fn new() -> Arc<StoppedClock> {
        Arc::new(StoppedClock(AtomicI64::new(1_800_000_000)))
    }

    fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

struct Fixture {
    runtime: Runtime,
    clock: Arc<StoppedClock>,
    dir: TempDir,
    folder: Folder,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = TempDir::new().unwrap();
        let clock = StoppedClock::new();
        let folder = Folder::open(&dir.path().join("approvals"), clock.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        Fixture {
            runtime,
            clock,
            dir,
            folder,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("approvals")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.path().join(format!("{name}.yaml"))
    }

    fn request(&self, new: NewRequest) -> Result<Ticket, ApprovalError> {
        self.runtime.block_on(self.folder.request(new))
    }

    fn redeem(&self, name: &str, tuple: &Tuple) -> Result<Vec<String>, ApprovalError> {
        let grant = self.runtime.block_on(self.folder.redeem(name, tuple))?;
        Ok(grant.reviews.into_iter().map(|r| r.reviewer).collect())
    }

    fn wait(&self, name: &str, millis: u64) -> Phase {
        let until = Instant::now() + Duration::from_millis(millis);
        self.runtime
            .block_on(self.folder.wait(name, until))
            .unwrap()
    }

    fn approve(&self, name: &str) -> Phase {
        self.folder
            .review(name, "local:1000", Verdict::Approve, "ticket 42")
            .unwrap()
            .phase
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.file(name)).unwrap();
        assert!(text.contains(from), "{from} is not in\n{text}");
        fs::write(self.file(name), text.replace(from, to)).unwrap();
    }
}

fn rule(name: &str, quorum: u32) -> ApprovalRule {
    ApprovalRule {
        rule: RuleRef {
            policy: "shop/report-agent".to_owned(),
            rule: name.to_owned(),
            generation: 0,
            digest: "ab".repeat(32),
        },
        users: vec![],
        groups: vec!["dba".to_owned()],
        quorum,
        timeout: Duration::from_secs(20),
        valid_for: Duration::from_secs(900),
    }
}

/// A DELETE of row `number`, waiting at most ten minutes.
fn delete(number: u8) -> NewRequest {
    asked_by("report-agent", number, vec![rule("deletes", 1)])
}

fn asked_by(service_account: &str, number: u8, rules: Vec<ApprovalRule>) -> NewRequest {
    NewRequest {
        tuple: Tuple {
            namespace: "shop".to_owned(),
            service_account: service_account.to_owned(),
            delegate: None,
            connection: "databases/orders-db".to_owned(),
            command_digest: [number; 32],
            rule_digest: combined_rule_digest(&rules),
        },
        purpose: Some("nightly-report".to_owned()),
        rules,
        summary: "DELETE over databases/orders-db".to_owned(),
        command: format!("DELETE FROM public.orders\n WHERE id = $1 -- {number}"),
        parameters: vec![Some("42".to_owned()), None],
        accesses: vec![Access {
            effect: Effect::Delete,
            object: Object::Relation {
                schema: "public".to_owned(),
                name: "orders".to_owned(),
            },
            baseline: false,
        }],
        expires_in: Duration::from_secs(600),
    }
}

#[test]
fn an_approved_command_is_released_once() {
    let fixture = Fixture::new();
    let new = delete(1);
    let tuple = new.tuple.clone();
    let ticket = fixture.request(new).unwrap();
    assert!(ticket.created && ticket.phase == Phase::Pending);
    assert!(matches!(
        fixture.redeem(&ticket.name, &tuple),
        Err(ApprovalError::NotApproved {
            phase: Phase::Pending,
            ..
        })
    ));
    assert_eq!(fixture.approve(&ticket.name), Phase::Approved);
    assert_eq!(fixture.wait(&ticket.name, 10_000), Phase::Approved);
    assert_eq!(
        fixture.redeem(&ticket.name, &tuple).unwrap(),
        ["local:1000"]
    );
    assert!(matches!(
        fixture.redeem(&ticket.name, &tuple),
        Err(ApprovalError::AlreadyRedeemed(_))
    ));
    assert_eq!(fixture.wait(&ticket.name, 0), Phase::Consumed);
}

#[test]
fn the_same_command_finds_its_request_and_later_its_grant() {
    let fixture = Fixture::new();
    let first = fixture.request(delete(1)).unwrap();
    let again = fixture.request(delete(1)).unwrap();
    assert_eq!((&again.name, again.created), (&first.name, false));
    assert_ne!(fixture.request(delete(2)).unwrap().name, first.name);
    let tuple = delete(1).tuple;
    let find = || fixture.runtime.block_on(fixture.folder.find_grant(&tuple));
    assert_eq!(find().unwrap(), None);
    fixture.approve(&first.name);
    assert_eq!(find().unwrap(), Some(first.name.clone()));
    let granted = fixture.request(delete(1)).unwrap();
    assert_eq!(
        (&granted.name, granted.phase, granted.created),
        (&first.name, Phase::Approved, false)
    );
    fixture.redeem(&first.name, &tuple).unwrap();
    assert_eq!(find().unwrap(), None);
    assert_ne!(fixture.request(delete(1)).unwrap().name, first.name);
}

#[test]
fn a_grant_is_for_exactly_what_was_asked() {
    let fixture = Fixture::new();
    let ticket = fixture.request(delete(1)).unwrap();
    fixture.approve(&ticket.name);
    let right = delete(1).tuple;
    let delegate = chaperone_crds::DelegateRef {
        provider: "corp".to_owned(),
        username: "alice".to_owned(),
    };
    let mut wrong: Vec<(&str, Tuple)> = vec![];
    for part in [
        "namespace",
        "account",
        "delegate",
        "connection",
        "command",
        "rule",
    ] {
        let mut other = right.clone();
        let what = match part {
            "namespace" => {
                other.namespace.push('x');
                "subject"
            }
            "account" => {
                other.service_account.push('x');
                "subject"
            }
            "delegate" => {
                other.delegate = Some(delegate.clone());
                "subject"
            }
            "connection" => {
                other.connection.push('x');
                "connection"
            }
            "command" => {
                other.command_digest[31] ^= 1;
                "command"
            }
            _ => {
                other.rule_digest = combined_rule_digest(&[rule("deletes", 1), rule("more", 1)]);
                "rule"
            }
        };
        wrong.push((what, other));
    }
    for (what, tuple) in wrong {
        match fixture.redeem(&ticket.name, &tuple) {
            Err(ApprovalError::TupleMismatch { what: named, .. }) => assert_eq!(named, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert!(fixture.redeem(&ticket.name, &right).is_ok());
}

#[test]
fn many_concurrent_redeems_have_one_winner() {
    let fixture = Fixture::new();
    let tuple = delete(1).tuple;
    let ticket = fixture.request(delete(1)).unwrap();
    fixture.approve(&ticket.name);
    let barrier = Barrier::new(8);
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    // Half of them on a folder of their own, as another process would have.
                    let own =
                        Folder::open_existing(&fixture.path(), fixture.clock.clone()).unwrap();
                    barrier.wait();
                    let redeemed = fixture.runtime.block_on(own.redeem(&ticket.name, &tuple));
                    usize::from(redeemed.is_ok())
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
}

/// Not a test by itself: another process for the test below.
#[test]
fn another_process() {
    let Some(dir) = std::env::var_os("CHAPERONE_TEST_FOLDER") else {
        return;
    };
    let name = std::env::var("CHAPERONE_TEST_REQUEST").unwrap();
    let folder = Folder::open_existing(Path::new(&dir), Arc::new(SystemClock)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let redeemed = runtime.block_on(folder.redeem(&name, &delete(1).tuple));
    #[allow(clippy::print_stdout, reason = "the answer to the parent process")]
    {
        println!("redeemed={}", redeemed.is_ok());
    }
}

#[test]
fn two_processes_have_one_winner() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("approvals");
    let folder = Folder::open(&path, Arc::new(SystemClock)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let ticket = runtime.block_on(folder.request(delete(1))).unwrap();
    folder
        .review(&ticket.name, &local_reviewer(), Verdict::Approve, "")
        .unwrap();
    let children: Vec<_> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "another_process", "--nocapture"])
                .env("CHAPERONE_TEST_FOLDER", &path)
                .env("CHAPERONE_TEST_REQUEST", &ticket.name)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mine = runtime.block_on(folder.redeem(&ticket.name, &delete(1).tuple));
    let mut won = usize::from(mine.is_ok());
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("redeemed="), "{text}");
        won += usize::from(text.contains("redeemed=true"));
    }
    assert_eq!(won, 1);
}

#[test]
fn a_forged_phase_grants_nothing_and_takes_nothing() {
    let fixture = Fixture::new();
    let ticket = fixture.request(delete(1)).unwrap();
    fixture.edit(&ticket.name, "phase: Pending", "phase: Approved");
    assert!(matches!(
        fixture.redeem(&ticket.name, &delete(1).tuple),
        Err(ApprovalError::NotApproved { .. })
    ));
    assert_eq!(fixture.wait(&ticket.name, 0), Phase::Pending);
    fixture.approve(&ticket.name);
    fixture.redeem(&ticket.name, &delete(1).tuple).unwrap();
    fixture.edit(&ticket.name, "phase: Consumed", "phase: Approved");
    assert!(matches!(
        fixture.redeem(&ticket.name, &delete(1).tuple),
        Err(ApprovalError::AlreadyRedeemed(_))
    ));
}

#[test]
fn an_edited_request_grants_nothing() {
    for (from, to) in [
        ("WHERE id = $1", "WHERE id > $1"),
        ("0101010101", "0202020202"),
        ("quorum: 2", "quorum: 1"),
        ("- dba", "- everyone"),
        ("validFor: 15m", "validFor: 16m"),
        (
            "serviceAccount: report-agent",
            "serviceAccount: other-agent",
        ),
    ] {
        let fixture = Fixture::new();
        let new = asked_by("report-agent", 1, vec![rule("deletes", 2)]);
        let tuple = new.tuple.clone();
        let ticket = fixture.request(new).unwrap();
        fixture.approve(&ticket.name);
        fixture
            .folder
            .review(&ticket.name, "local:1001", Verdict::Approve, "")
            .unwrap();
        fixture.edit(&ticket.name, from, to);
        match fixture.redeem(&ticket.name, &tuple) {
            Err(ApprovalError::Malformed { why, .. }) => assert!(why.contains("edited"), "{why}"),
            other => panic!("{from}: {other:?}"),
        }
        let listed = fixture.folder.list().unwrap();
        assert!(matches!(listed[..], [Err(ApprovalError::Malformed { .. })]));
        assert!(
            fixture
                .folder
                .review(&ticket.name, "local:1", Verdict::Approve, "")
                .is_err()
        );
    }
}

#[test]
fn a_mangled_file_is_a_clear_error_and_harms_no_other() {
    let fixture = Fixture::new();
    let broken = fixture.request(delete(1)).unwrap().name;
    let whole = fixture.request(delete(2)).unwrap().name;
    let text = fs::read_to_string(fixture.file(&broken)).unwrap();
    let mut cases: Vec<Vec<u8>> = (0..text.len())
        .step_by(97)
        .map(|cut| text.as_bytes()[..cut].to_vec())
        .collect();
    cases.extend([
        b"\xff\xfe".to_vec(),
        b"[]".to_vec(),
        b"kind: ApprovalRequest\nspec: *nothing".to_vec(),
        vec![b' '; 2 * 1024 * 1024],
        text.replace("spec:", "spec:\n  surprise: 1").into_bytes(),
    ]);
    for case in cases {
        fs::write(fixture.file(&broken), &case).unwrap();
        let error = fixture.redeem(&broken, &delete(1).tuple).unwrap_err();
        assert!(matches!(error, ApprovalError::Malformed { .. }), "{error}");
        assert_eq!(error.reason(), Reason::ApprovalUnavailable);
        assert!(!error.to_string().contains('\n'), "{error}");
        assert!(error.to_string().contains(&broken));
        let listed = fixture.folder.list().unwrap();
        assert_eq!(listed.iter().filter(|read| read.is_ok()).count(), 1);
    }
    // What was asked for is asked for anew, under another name.
    assert_ne!(fixture.request(delete(1)).unwrap().name, broken);
    assert_eq!(fixture.approve(&whole), Phase::Approved);
}

#[test]
fn a_used_grant_that_is_cut_short_stays_used() {
    let fixture = Fixture::new();
    let tuple = delete(1).tuple;
    let name = fixture.request(delete(1)).unwrap().name;
    fixture.approve(&name);
    fixture.redeem(&name, &tuple).unwrap();
    let text = fs::read(fixture.file(&name)).unwrap();
    for cut in 0..text.len() {
        fs::write(fixture.file(&name), &text[..cut]).unwrap();
        assert!(fixture.redeem(&name, &tuple).is_err(), "cut at {cut}");
    }
}

#[test]
fn one_deny_ends_it_even_after_the_grant() {
    let fixture = Fixture::new();
    let ticket = fixture.request(delete(1)).unwrap();
    fixture.approve(&ticket.name);
    let denied =
        fixture
            .folder
            .review(&ticket.name, "local:1000", Verdict::Deny, "changed my mind");
    assert_eq!(denied.unwrap().phase, Phase::Denied);
    match fixture.redeem(&ticket.name, &delete(1).tuple) {
        Err(error) => assert_eq!(error.reason(), Reason::ApprovalDenied),
        Ok(_) => panic!("a denied request was redeemed"),
    }
    let late = fixture
        .folder
        .review(&ticket.name, "local:1001", Verdict::Approve, "");
    assert!(matches!(late, Err(ApprovalError::ReviewRefused { .. })));
}

#[test]
fn a_quorum_of_two_needs_two_people_and_every_rule_its_own() {
    let fixture = Fixture::new();
    let rules = vec![rule("deletes", 2), rule("pii", 1)];
    let new = asked_by("report-agent", 1, rules.clone());
    let tuple = new.tuple.clone();
    let ticket = fixture.request(new).unwrap();
    assert_eq!(fixture.approve(&ticket.name), Phase::Pending);
    let twice = fixture
        .folder
        .review(&ticket.name, "local:1000", Verdict::Approve, "");
    assert!(matches!(twice, Err(ApprovalError::ReviewRefused { .. })));
    let second = fixture
        .folder
        .review(&ticket.name, "local:1001", Verdict::Approve, "")
        .unwrap();
    assert_eq!(second.phase, Phase::Approved);
    assert_eq!(
        second.progress,
        [
            ("shop/report-agent/deletes".to_owned(), 2, 2),
            ("shop/report-agent/pii".to_owned(), 2, 1)
        ]
    );
    // The order in which the policy names its rules is no part of the grant.
    let turned: Vec<_> = rules.into_iter().rev().collect();
    assert_eq!(combined_rule_digest(&turned), tuple.rule_digest);
    assert!(fixture.redeem(&ticket.name, &tuple).is_ok());
}

#[test]
fn only_local_users_review_in_a_folder() {
    let fixture = Fixture::new();
    let name = fixture.request(delete(1)).unwrap().name;
    for reviewer in [
        "bob",
        "system:serviceaccount:shop:report-agent",
        "local:root",
    ] {
        let refused = fixture.folder.review(&name, reviewer, Verdict::Approve, "");
        assert!(matches!(refused, Err(ApprovalError::ReviewRefused { .. })));
    }
    let long = "x".repeat(2_000);
    assert!(
        fixture
            .folder
            .review(&name, "local:1", Verdict::Approve, &long)
            .is_err()
    );
    assert!(matches!(
        fixture
            .folder
            .review("ar-zzzzz", "local:1", Verdict::Approve, ""),
        Err(ApprovalError::NotFound(_))
    ));
    for path in ["../x", "ar-../x", "", "ar-AAAAA", "ar-bcdfgh"] {
        assert!(matches!(
            fixture.folder.get(path),
            Err(ApprovalError::NotFound(_))
        ));
    }
}

#[test]
fn requests_and_grants_expire_and_finished_ones_are_deleted() {
    let fixture = Fixture::new();
    let unanswered = fixture.request(delete(1)).unwrap().name;
    let granted = fixture.request(delete(2)).unwrap().name;
    fixture.clock.pass(590);
    fixture.approve(&granted);
    fixture.clock.pass(10);
    assert_eq!(fixture.wait(&unanswered, 0), Phase::Expired);
    assert!(
        fixture
            .folder
            .review(&unanswered, "local:1", Verdict::Approve, "")
            .is_err()
    );
    assert_eq!(fixture.wait(&granted, 0), Phase::Approved);
    fixture.clock.pass(890);
    assert_eq!(fixture.wait(&granted, 0), Phase::Expired);
    let error = fixture.redeem(&granted, &delete(2).tuple).unwrap_err();
    assert_eq!(error.reason(), Reason::ApprovalExpired);
    assert_eq!(fixture.folder.list().unwrap().len(), 2);
    fixture.clock.pass(24 * 3_600);
    let fresh = fixture.request(delete(3)).unwrap().name;
    let left = fixture.folder.list().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].as_ref().unwrap().name, fresh);
}

#[test]
fn a_wait_ends_when_the_request_expires() {
    let fixture = Fixture::new();
    let name = fixture.request(delete(1)).unwrap().name;
    let until = Instant::now() + Duration::from_secs(30);
    let waited = fixture.runtime.block_on(async {
        let waiting = fixture.folder.wait(&name, until);
        let ((), phase) = tokio::join!(async { fixture.clock.pass(600) }, waiting);
        phase
    });
    assert_eq!(waited.unwrap(), Phase::Expired);
    assert!(Instant::now() < until);
}

#[test]
fn a_waiter_learns_of_an_answer_given_by_another_folder() {
    let fixture = Fixture::new();
    let name = fixture.request(delete(1)).unwrap().name;
    let until = Instant::now() + Duration::from_secs(30);
    let folder = fixture.folder.clone();
    let waited = name.clone();
    let waiter = fixture
        .runtime
        .spawn(async move { folder.wait(&waited, until).await });
    let other = Folder::open_existing(&fixture.path(), fixture.clock.clone()).unwrap();
    other.review(&name, "local:7", Verdict::Deny, "no").unwrap();
    let phase = fixture.runtime.block_on(waiter).unwrap().unwrap();
    assert_eq!(phase, Phase::Denied);
    assert!(Instant::now() < until);
}

#[test]
fn a_change_by_another_folder_is_an_event() {
    let fixture = Fixture::new();
    let name = fixture.request(delete(1)).unwrap().name;
    let changed = fixture.runtime.block_on(async {
        let mut changes = fixture.folder.changes().await.unwrap();
        changes.borrow_and_update();
        let other = Folder::open_existing(&fixture.path(), fixture.clock.clone()).unwrap();
        other
            .review(&name, "local:7", Verdict::Approve, "")
            .unwrap();
        // No poll moves this: only what the system says of the folder.
        tokio::time::timeout(Duration::from_secs(30), changes.changed()).await
    });
    assert!(changed.unwrap().is_ok());
}

#[test]
fn a_cancelled_request_cannot_be_granted_and_a_shared_one_stays() {
    let fixture = Fixture::new();
    let name = fixture.request(delete(1)).unwrap().name;
    let until = Instant::now() + Duration::from_secs(30);
    let cancel = || {
        fixture
            .runtime
            .block_on(fixture.folder.cancel(&name, "client went away"))
    };
    fixture.runtime.block_on(async {
        let folder = fixture.folder.clone();
        let waiting = folder.wait(&name, until);
        tokio::pin!(waiting);
        // Another session waits for the same command: polled once, so that it counts.
        assert!(
            tokio::time::timeout(Duration::ZERO, waiting.as_mut())
                .await
                .is_err()
        );
        let cancelled = fixture.folder.cancel(&name, "client went away").await;
        assert!(!cancelled.unwrap());
    });
    assert!(cancel().unwrap());
    assert_eq!(fixture.wait(&name, 0), Phase::Cancelled);
    assert!(
        fixture
            .folder
            .review(&name, "local:1", Verdict::Approve, "")
            .is_err()
    );
    assert!(!cancel().unwrap());
}

#[test]
fn at_most_ten_wait_for_one_subject() {
    let fixture = Fixture::new();
    for number in 0..10 {
        fixture.request(delete(number)).unwrap();
    }
    let error = fixture.request(delete(10)).unwrap_err();
    assert_eq!(error.reason(), Reason::TooManyPending);
    assert!(fixture.request(delete(3)).is_ok());
    let other = asked_by("other-agent", 1, vec![rule("deletes", 1)]);
    assert!(fixture.request(other).is_ok());
}

#[test]
fn what_no_human_can_judge_is_not_asked_for() {
    let fixture = Fixture::new();
    let large = |change: fn(&mut NewRequest)| {
        let mut new = delete(1);
        change(&mut new);
        fixture.request(new).unwrap_err().reason()
    };
    assert_eq!(
        large(|new| new.command = "x".repeat(32 * 1024 + 1)),
        Reason::TooLargeToApprove
    );
    assert_eq!(
        large(|new| new.command = "\u{202e}".repeat(9_000)),
        Reason::TooLargeToApprove
    );
    assert_eq!(
        large(|new| new.parameters = vec![Some("x".repeat(33_000))]),
        Reason::TooLargeToApprove
    );
    assert_eq!(
        large(|new| new.parameters = vec![None; 1_025]),
        Reason::TooLargeToApprove
    );
    assert_eq!(large(|new| new.rules.clear()), Reason::ApprovalUnavailable);
    let nobody = |new: &mut NewRequest| {
        new.rules[0].groups.clear();
    };
    assert_eq!(large(nobody), Reason::ApprovalUnavailable);
    let zero = |new: &mut NewRequest| new.rules[0].quorum = 0;
    assert_eq!(large(zero), Reason::ApprovalUnavailable);
    assert!(fixture.folder.list().unwrap().is_empty());
}

#[test]
fn what_the_approver_reads_hides_nothing_and_comes_back_as_written() {
    let fixture = Fixture::new();
    for (number, command) in (0..).zip([
        "DELETE FROM \u{202e}sredro; -- \u{1b}[2J\r\u{200b}",
        "yes",
        "~",
        "- a: b\n  'c' \"d\" # e \\",
        "  leading\n\n\ntrailing  \n",
        "| > & * ! % @ `",
        "2026-01-01",
        "0x1F",
    ]) {
        let mut new = delete(number);
        new.command = command.to_owned();
        new.parameters = vec![Some(command.to_owned()), None, Some(String::new())];
        let name = fixture.request(new).unwrap().name;
        let entry = fixture.folder.get(&name).unwrap();
        let shown = &entry.request.spec.operation;
        assert_eq!(
            shown.command,
            chaperone_approvals::escape_for_display(command)
        );
        assert_eq!(shown.parameters[0].as_deref(), Some(shown.command.as_str()));
        assert_eq!(shown.parameters[1], None);
        assert_eq!(shown.parameters[2].as_deref(), Some(""));
        assert_eq!(shown.objects, ["public.orders"]);
        assert_eq!(shown.digest, hex::encode([number; 32]));
    }
}

#[test]
fn what_is_written_is_a_valid_resource_at_each_step() {
    let fixture = Fixture::new();
    let valid = |name: &str| {
        let text = fs::read_to_string(fixture.file(name)).unwrap();
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let violations =
            chaperone_crds::validate::validate::<chaperone_crds::ApprovalRequest>(&value);
        assert!(violations.is_empty(), "{violations:?}\n{text}");
        assert_eq!(value["kind"], "ApprovalRequest");
    };
    let rules = vec![rule("deletes", 1), rule("pii", 1)];
    let new = asked_by("report-agent", 1, rules);
    let tuple = new.tuple.clone();
    let used = fixture.request(new).unwrap().name;
    valid(&used);
    fixture.approve(&used);
    valid(&used);
    fixture.redeem(&used, &tuple).unwrap();
    valid(&used);
    let left = fixture.request(delete(2)).unwrap().name;
    let cancel = fixture.folder.cancel(&left, "client went away");
    assert!(fixture.runtime.block_on(cancel).unwrap());
    valid(&left);
}

#[test]
fn files_are_for_their_owner_only() {
    let fixture = Fixture::new();
    let name = fixture.request(delete(1)).unwrap().name;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&fixture.path()), 0o700);
    assert_eq!(mode(&fixture.file(&name)), 0o600);
    assert_eq!(mode(&fixture.path().join(".lock")), 0o600);
    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Folder::open_existing(&fixture.path(), fixture.clock.clone()).unwrap();
    assert_eq!(mode(&fixture.path()), 0o700);
}

#[test]
fn a_lock_that_another_holds_is_waited_for_and_then_named() {
    let fixture = Fixture::new();
    let name = fixture.request(delete(1)).unwrap().name;
    let lock = fs::File::options()
        .write(true)
        .open(fixture.path().join(".lock"))
        .unwrap();
    lock.lock().unwrap();
    let refused = fixture
        .folder
        .review(&name, "local:1", Verdict::Approve, "");
    match refused {
        Err(error @ ApprovalError::Locked { .. }) => {
            assert!(error.to_string().contains(".lock"));
        }
        other => panic!("{other:?}"),
    }
    // Reading needs no lock.
    assert_eq!(fixture.folder.list().unwrap().len(), 1);
    std::thread::scope(|scope| {
        let review = scope.spawn(|| {
            fixture
                .folder
                .review(&name, "local:1", Verdict::Approve, "")
        });
        lock.unlock().unwrap();
        assert_eq!(review.join().unwrap().unwrap().phase, Phase::Approved);
    });
}

#[test]
fn concurrent_changes_are_never_lost() {
    let fixture = Fixture::new();
    let rules = vec![rule("deletes", 16)];
    let name = fixture
        .request(asked_by("report-agent", 1, rules))
        .unwrap()
        .name;
    std::thread::scope(|scope| {
        for uid in 0..16 {
            let (fixture, name) = (&fixture, &name);
            scope.spawn(move || {
                let own = Folder::open_existing(&fixture.path(), fixture.clock.clone()).unwrap();
                let reviewer = format!("local:{uid}");
                own.review(name, &reviewer, Verdict::Approve, "").unwrap();
            });
        }
    });
    let entry = fixture.folder.get(&name).unwrap();
    assert_eq!(entry.evaluation.reviews.len(), 16);
    assert_eq!(entry.evaluation.phase, Phase::Approved);
}

#[test]
fn a_crash_between_write_and_rename_leaves_the_old_request() {
    let fixture = Fixture::new();
    let name = fixture.request(delete(1)).unwrap().name;
    fs::write(fixture.path().join(format!(".{name}.tmp")), "half a fi").unwrap();
    assert_eq!(fixture.folder.list().unwrap().len(), 1);
    assert_eq!(fixture.approve(&name), Phase::Approved);
    assert!(!fixture.path().join(format!(".{name}.tmp")).exists());
}

#[test]
fn a_thousand_requests_are_kept_apart() {
    let fixture = Fixture::new();
    let mut names = Vec::new();
    for number in 0..1_000_u32 {
        let account = format!("agent-{}", number / 10);
        let digit = u8::try_from(number % 10).unwrap();
        let new = asked_by(&account, digit, vec![rule("deletes", 1)]);
        names.push((fixture.request(new.clone()).unwrap().name, new.tuple));
    }
    let listed = fixture.folder.list().unwrap();
    assert_eq!(listed.len(), 1_000);
    assert!(listed.iter().all(Result::is_ok));
    for (name, tuple) in names.iter().step_by(100) {
        fixture.approve(name);
        let found = fixture.runtime.block_on(fixture.folder.find_grant(tuple));
        assert_eq!(found.unwrap().as_ref(), Some(name));
    }
}
