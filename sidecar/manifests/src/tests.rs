#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata")
}

/// One line a problem: reason, then what a user sees, with the folder left out.
fn report(folder: &Path) -> String {
    let manifests = Manifests::load(folder);
    let prefix = format!("{}/", folder.display());
    let lines = manifests
        .problems
        .iter()
        .map(|problem| format!("{} {}\n", problem.reason, problem).replace(&prefix, ""));
    lines.collect()
}

#[test]
fn broken_manifests_are_reported_with_file_line_field_and_what_is_allowed() {
    let mut cases = 0;
    for case in fs::read_dir(testdata()).unwrap() {
        let case = case.unwrap().path();
        let expected = fs::read_to_string(case.join("expected.txt")).unwrap_or_default();
        let found = report(&case);
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(case.join("expected.txt"), &found).unwrap();
            continue;
        }
        assert_eq!(
            found,
            expected,
            "{}; rerun with UPDATE_EXPECTED=1 if meant",
            case.display()
        );
        cases += 1;
    }
    assert!(cases > 10 || std::env::var_os("UPDATE_EXPECTED").is_some());
}

#[test]
fn a_good_folder_is_read_whole() {
    let manifests = Manifests::load(&testdata().join("good"));
    assert_eq!(manifests.problems, []);
    assert_eq!(manifests.unreadable, []);
    let [connection] = manifests.connections.as_slice() else {
        panic!("{:?}", manifests.connections)
    };
    assert_eq!(connection.qualified_name(), "databases/orders-db");
    assert_eq!(listen_port(connection), Ok(15440));
    let [policy] = manifests.policies.as_slice() else {
        panic!("{:?}", manifests.policies)
    };
    assert_eq!(policy.qualified_name(), "default/report-agent");
    assert_eq!(policy.value.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(manifests.identity_providers[0].qualified_name(), "corp");
    let key = |name: &str| ("databases".to_owned(), name.to_owned());
    let secret = &manifests.secrets[&key("orders-agent")];
    assert_eq!(secret["username"].expose(), b"orders_agent");
    assert_eq!(secret["password"].expose_text(), Some("s3cret"));
    assert_eq!(
        manifests.config_maps[&key("orders-ca")]["ca.crt"],
        "-----BEGIN CERTIFICATE-----\n"
    );
}

#[test]
fn shipped_manifests_have_no_problem() {
    for (folder, count) in [("quickstart", 1), ("samples", 3)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../config")
            .join(folder);
        let manifests = Manifests::load(&folder);
        assert_eq!(manifests.problems, []);
        assert_eq!(
            (manifests.connections.len(), manifests.policies.len()),
            (count, count)
        );
        let sinks = manifests
            .audit_stores
            .iter()
            .map(|store| store.value.spec.sinks.len());
        assert_eq!(
            sinks.sum::<usize>(),
            if folder.ends_with("samples") { 4 } else { 0 }
        );
    }
}

#[test]
fn a_mistake_found_late_still_names_its_line() {
    let manifests = Manifests::load(&testdata().join("good"));
    let policy = &manifests.policies[0];
    for (path, line) in [
        ("spec.rules[0].sql.effects[0]", 12),
        ("spec.rules[0].action", 11),
        ("spec.rules[0]", 10),
        ("spec.rules[0].when", 10),
        ("spec.rules[7].when", 9),
        ("spec.subjects[1].identity.claims.groups[0]", 7),
        ("metadata.annotations[chaperone.dev/listen-port]", 3),
        ("", 1),
        ("[", 1),
    ] {
        assert_eq!(policy.problem(path, "m").line, line, "{path}");
    }
    assert!(
        policy
            .problem("spec.rules[0].when", "is no CEL")
            .to_string()
            .ends_with("good/policy.yml:10: spec.rules[0].when: is no CEL")
    );
    let port = "metadata.annotations[chaperone.dev/listen-port]";
    assert_eq!(
        manifests.connections[0].position(port),
        Position {
            line: 6,
            column: 17
        }
    );
}

#[test]
fn what_may_be_a_policy_denies_where_it_would_have_applied() {
    let unreadable = |case: &str| Manifests::load(&testdata().join(case)).unreadable;
    let [policy] = &unreadable("unknown-fields")[..] else {
        panic!()
    };
    assert_eq!(
        (policy.namespace.as_str(), policy.name.as_str()),
        ("shop", "report-agent")
    );
    assert!(policy.denies_on("databases", "orders-db") && !policy.denies_on("databases", "other"));
    assert!(
        policy.message.contains("policy.yaml:"),
        "{}",
        policy.message
    );

    // A kind of ours that is misspelt and a document without kind may be policies; a Deployment is none.
    let names: Vec<String> = unreadable("unknown-kinds")
        .into_iter()
        .map(|found| found.name)
        .collect();
    assert_eq!(names, ["report-agent", "report-agent", "all.yaml"]);
    for case in ["malformed", "wrong-values"] {
        assert!(
            unreadable(case)
                .iter()
                .any(|found| found.denies_on("any", "connection")),
            "{case}"
        );
    }
    assert_eq!(unreadable("ports"), []);
}

#[test]
fn no_value_of_a_secret_is_ever_shown() {
    for case in ["secrets", "malformed", "good"] {
        let manifests = Manifests::load(&testdata().join(case));
        let shown = format!("{manifests:?}");
        for value in ["hunter2", "1234", "not base64", "s3cret"] {
            assert!(!shown.contains(value), "{case} shows {value}: {shown}");
        }
    }
}

#[test]
fn files_that_cannot_be_read_are_named_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(path("nowhere"), path("link.yaml")).unwrap();
    fs::create_dir(path("folder.yaml")).unwrap();
    fs::write(path("large.yaml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    fs::write(path("latin1.yml"), b"name: J\xfcrgen\n").unwrap();
    fs::write(path("notes.txt"), "not: a manifest").unwrap();
    fs::write(path(".#editing.yaml"), "not: a manifest").unwrap();
    fs::write(path("empty.yaml"), "").unwrap();
    fs::write(
        path("z.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
    )
    .unwrap();
    assert_eq!(
        report(folder.path()),
        "Unreadable folder.yaml: is not a file; subfolders are not read\n\
         Unreadable large.yaml: is larger than 1024 KiB; split it\n\
         Unreadable latin1.yml: is not UTF-8 text: byte 7 is wrong\n\
         Unreadable link.yaml: is a link to nowhere: No such file or directory (os error 2)\n"
    );
    let manifests = Manifests::load(folder.path());
    assert_eq!(manifests.config_maps.len(), 1);
    assert_eq!(manifests.unreadable.len(), 4);
    let missing = Manifests::load(&path("nowhere"));
    assert_eq!(missing.problems.len(), 1);
    assert!(missing.unreadable[0].denies_on("any", "connection"));
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("pipe.yaml");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(
        report(folder.path()),
        "Unreadable pipe.yaml: is not a file; subfolders are not read\n"
    );
}

#[test]
fn deep_nesting_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("flow.yaml", "[".repeat(200_000)),
        ("block.yaml", "- ".repeat(200_000)),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let manifests = Manifests::load(folder.path());
    let files: Vec<_> = manifests
        .problems
        .iter()
        .map(|p| p.file.file_name().unwrap())
        .collect();
    assert_eq!(files, ["block.yaml", "flow.yaml"]);
}

#[cfg(unix)]
#[test]
fn a_secret_that_any_user_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret.yaml");
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n";
    fs::write(&file, secret).unwrap();
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || Manifests::load(folder.path()));
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text.contains("any user of this machine can read this Secret"),
            warned,
            "{mode:o}: {text}"
        );
        assert!(!text.contains("hunter2"));
    }
}

#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_changed_byte_never_panics_and_never_passes_unseen(at in 0usize..4096, byte in any::<u8>()) {
        let folder = tempfile::tempdir().unwrap();
        let mut text = fs::read(testdata().join("good/policy.yml")).unwrap();
        let at = at % text.len();
        text[at] = byte;
        fs::write(folder.path().join("policy.yml"), &text).unwrap();
        let manifests = Manifests::load(folder.path());
        // Its Connection is not in this folder: there is always a policy with a problem, or none.
        let kept = manifests.policies.len() + manifests.unreadable.len();
        prop_assert!(kept > 0, "{:?}", String::from_utf8_lossy(&text));
        prop_assert!(!manifests.problems.is_empty());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ \\-:{}\\[\\]a-c\"'&*#|>\n]{0,200}") {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("any.yaml"), &text).unwrap();
        let manifests = Manifests::load(folder.path());
        prop_assert!(manifests.policies.is_empty());
    }
}
