//! HTTP: a request has one meaning, which is decided on, recorded, and sent.
#![allow(clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::http::{Api, RULES, Server, Target, go};
use chaperone_e2e::{DEADLINE, clients, wait_for};
use serde_json::Value;
use xtask::nginx::Nginx;

const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

fn problem(body: &str) -> Result<Value> {
    serde_json::from_str(body).with_context(|| format!("no problem details: {body}"))
}

mod a_request_reaches_the_target_only_if_a_rule_allows_it {
    use super::*;

    #[test]
    fn and_as_it_was_decided_on() -> Result<()> {
        let target = Target::answering(&[OK])?;
        let api = Api::ruled(target.port(), RULES)?;
        let sidecar = api.start()?;
        let (status, body) = api.curl(
            "/open/a%2db?q=%41",
            &[
                "-H",
                "Authorization: mine",
                "-H",
                "X-Forwarded-For: 10.0.0.1",
            ],
        )?;
        ensure!(
            (status, body.as_str()) == (200, "{}"),
            "{status} {body}\n{}",
            sidecar.output()
        );
        let seen = target.seen();
        ensure!(
            seen.starts_with("GET /open/a-b?q=%41 HTTP/1.1\r\n"),
            "{seen}"
        );
        ensure!(seen.contains("authorization: Bearer real\r\n"), "{seen}");
        ensure!(
            !seen.contains("mine") && !seen.contains("10.0.0.1"),
            "{seen}"
        );
        Ok(())
    }

    #[test]
    fn a_denied_one_is_told_why_and_never_arrives() -> Result<()> {
        let target = Target::answering(&[OK])?;
        let api = Api::ruled(target.port(), RULES)?;
        let _sidecar = api.start()?;
        for (path, reason) in [
            ("/closed", "NotCovered"),
            ("/open/secret", "DeniedByRule"),
            ("/open/s%65cret", "DeniedByRule"),
        ] {
            let (status, body) = api.curl(path, &[])?;
            let problem = problem(&body)?;
            ensure!(
                status == 403 && problem["reason"] == reason,
                "{path}: {status} {body}"
            );
            let session = problem["session"].as_str().context("no session")?;
            let why = api.world.plugin(&["why", &format!("{session}/1")])?.all();
            ensure!(why.contains(reason), "{why}");
        }
        ensure!(target.seen().is_empty(), "{}", target.seen());
        api.world.verify()
    }

    #[test]
    fn for_the_target_of_the_connection_alone() -> Result<()> {
        let target = Target::answering(&[OK])?;
        let api = Api::ruled(target.port(), RULES)?;
        let _sidecar = api.start()?;
        for host in [
            "other.test",
            "169.254.169.254",
            "127.0.0.1:1",
            "api.test.evil",
            "api.test@evil",
        ] {
            let (status, body) = api.curl("/open/a", &["-H", &format!("Host: {host}")])?;
            ensure!(status == 421 || status == 400, "{host}: {status} {body}");
        }
        let (status, _) = api.curl("/open/a", &["-H", "Host: API.test"])?;
        ensure!(status == 200, "{status}");
        ensure!(
            target.seen().matches("HTTP/1.1\r\n").count() == 1,
            "{}",
            target.seen()
        );
        Ok(())
    }

    #[test]
    fn nothing_of_it_is_sent_before_the_decision() -> Result<()> {
        head_waits_for_the_decision()
    }

    /// A body is on its way, and the rule looks into it: until it is whole, nothing is sent.
    fn head_waits_for_the_decision() -> Result<()> {
        let target = Target::answering(&[OK])?;
        let rules = "
  - {name: small, action: Allow, http: {methods: [POST]}, when: request.json.amount < 1000}";
        let api = Api::ruled(target.port(), rules)?;
        let _sidecar = api.start()?;
        let mut stream = api.connect()?;
        stream.write_all(b"POST /pay HTTP/1.1\r\nhost: api.test\r\nexpect: 100-continue\r\ncontent-length: 14\r\n\r\n")?;
        let mut answer = [0; 25];
        stream.read_exact(&mut answer)?;
        ensure!(&answer == b"HTTP/1.1 100 Continue\r\n\r\n", "{answer:?}");
        stream.write_all(b"{\"amount\":")?;
        ensure!(target.seen().is_empty(), "{}", target.seen());
        stream.write_all(b"  5}")?;
        let mut answer = [0; 15];
        stream.read_exact(&mut answer)?;
        ensure!(&answer == b"HTTP/1.1 200 OK", "{answer:?}");
        ensure!(
            target.seen().ends_with("{\"amount\":  5}"),
            "{}",
            target.seen()
        );
        for body in [
            "{\"amount\":5000}",
            "{\"amount\":5,\"amount\":5000}",
            "amount=5",
            "{\"amount\":",
            "{}",
        ] {
            let (status, text) = api.curl("/pay", &["-d", body])?;
            ensure!(status == 403, "{body}: {status} {text}");
        }
        ensure!(
            target.seen().matches("POST").count() == 1,
            "{}",
            target.seen()
        );
        Ok(())
    }
}

/// Raw requests that some reader takes for something else. `A` marks those
/// that arrive, `B` those whose head may, before its body turns out to be none.
const FORMS: &[(&str, &[u8])] = &[
    ("A plain", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("A escaped", b"GET /open/%61%2Db HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("A body", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\n\r\nhello"),
    ("A chunks", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n"),
    ("A trailers", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n1\r\na\r\n0\r\nx: /open/secret\r\n\r\n"),
    ("A absolute form", b"GET http://api.test/open/a HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("A pipelined", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\n\r\nGET /open/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("A a body that looks like a request", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 44\r\n\r\nGET /open/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("A 1.0", b"GET /open/a HTTP/1.0\r\nHost: api.test\r\n\r\n"),
    ("A h2c offer", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"),
    ("A connection names a field", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nConnection: host, authorization\r\nX: y\r\n\r\n"),
    ("dot segments", b"GET /open/../secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("escaped dots", b"GET /open/%2e%2e/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("half escaped dots", b"GET /open/.%2e/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("dots twice escaped", b"GET /open/%252e%252e/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("dots with parameters", b"GET /open/..;/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("one dot", b"GET /open/./secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("two slashes", b"GET /open//secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("leading slashes", b"GET //open/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("escaped slash", b"GET /open%2Fsecret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("escaped backslash", b"GET /open%5Csecret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("backslash", b"GET /open\\secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("NUL in the path", b"GET /open/a%00/../secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("line feed in the path", b"GET /open/a%0d%0aX:y HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("bad escape", b"GET /open/%zz HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("overlong UTF-8", b"GET /open/%c0%ae%c0%ae/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("fragment", b"GET /open/secret#/a HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("semicolon in the query", b"GET /open/a?x=1;admin=1 HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("absolute form elsewhere", b"GET http://evil.test/open/a HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("host elsewhere", b"GET http://api.test/open/a HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
    ("no host", b"GET /open/a HTTP/1.1\r\n\r\n"),
    ("two hosts", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nHost: evil.test\r\n\r\n"),
    ("host with a user", b"GET /open/a HTTP/1.1\r\nHost: api.test@evil.test\r\n\r\n"),
    ("length and chunks", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /open/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("two lengths", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /open/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("equal lengths", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    ("a list of lengths", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1, 1\r\n\r\na"),
    ("a signed length", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: +1\r\n\r\na"),
    ("coding in disguise", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("two codings", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
    ("coding with a tab", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("space before the colon", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nContent-Length : 1\r\n\r\na"),
    ("folded", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n"),
    ("bare line feeds", b"GET /open/a HTTP/1.1\nHost: api.test\n\n"),
    ("bare carriage return", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nX: a\rY: b\r\n\r\n"),
    ("NUL in a value", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nX: a\x00b\r\n\r\n"),
    ("B chunk sizes in C", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"),
    ("B chunk without its end", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab0\r\n\r\n"),
    ("B chunks with line feeds", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n"),
    ("B chunk too large", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na"),
    ("small letters", b"get /open/a HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("method override", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nX-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n\r\n"),
    ("path override", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nX-Original-URL: /open/secret\r\n\r\n"),
    ("underscores", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nX_Forwarded_User: root\r\n\r\n"),
    ("CONNECT", b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("TRACE", b"TRACE /open/a HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("upgrade", b"GET /open/a HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /open/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("upgrade with a body", b"POST /open/a HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\na"),
    ("the guard's own words", b"refused /open/a HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ("version 2 in words", b"GET /open/a HTTP/2.0\r\nHost: api.test\r\n\r\n"),
    ("no version", b"GET /open/a\r\nHost: api.test\r\n\r\n"),
    ("words too many", b"GET /open/a /open/secret HTTP/1.1\r\nHost: api.test\r\n\r\n"),
];

/// Sends every form, each on a connection of its own; `log` gives what the target understood of
/// all requests so far, a line of JSON each.
fn differential(api: &Api, log: &dyn Fn() -> Result<String>) -> Result<()> {
    let seen = || -> Result<Vec<Value>> {
        let text = log()?;
        let lines = text.lines();
        Ok(lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    };
    for (name, bytes) in FORMS {
        let before = seen()?.len();
        let answer = api.raw(bytes)?;
        let after = seen()?;
        let new = after.get(before..).unwrap_or_default();
        let expected = match name.split_once(' ') {
            Some(("A", _)) => 1..=1,
            Some(("B", _)) => 0..=1,
            _ => 0..=0,
        };
        ensure!(
            expected.contains(&new.len()),
            "{name}: the target saw {new:?}, the agent {answer}"
        );
        for request in new {
            let path = request["path"].as_str().unwrap_or_default();
            let method = request["method"].as_str().unwrap_or_default();
            let host = request["host"].as_str().unwrap_or_default();
            ensure!(
                path == "/open/a" || path == "/open/a-b",
                "{name}: {request}"
            );
            ensure!(method == "GET" || method == "POST", "{name}: {request}");
            ensure!(host.starts_with("127.0.0.1"), "{name}: {request}");
        }
        if expected == (0..=0) && !answer.is_empty() {
            let refused = ["400", "403", "421"]
                .iter()
                .any(|code| answer.contains(&format!("HTTP/1.1 {code}")));
            ensure!(refused, "{name}: {answer}");
        }
    }
    // What was refused is in the evidence like all else, and it is whole.
    api.world.verify()
}

mod what_is_decided_is_what_is_sent {
    use super::*;

    #[test]
    fn to_nginx() -> Result<()> {
        let nginx = Nginx::start(
            "  log_format seen escape=json '{\"method\":\"$request_method\",\"path\":\"$uri\",\"host\":\"$http_host\",\"length\":\"$request_length\"}';
  server {
    listen 127.0.0.1:{port};
    access_log {folder}/seen seen;
    location / { return 200 '{}'; }
  }",
        )?;
        let api = Api::ruled(nginx.port(), RULES)?;
        let _sidecar = api.start()?;
        let file = nginx.file("seen");
        differential(&api, &|| {
            // The line is written once the answer was sent.
            std::thread::sleep(Duration::from_millis(20));
            Ok(std::fs::read_to_string(&file).unwrap_or_default())
        })
    }

    #[test]
    fn to_net_http_of_go() -> Result<()> {
        let server = Server::start()?;
        let api = Api::ruled(server.port(), RULES)?;
        let _sidecar = api.start()?;
        differential(&api, &|| server.seen())
    }
}

#[test]
fn an_approved_request_runs_once_and_no_other_with_it() -> Result<()> {
    let target = Target::answering(&[OK])?;
    let rules = "
  - {name: refund, action: RequireApproval, http: {methods: [POST], paths: [/refund]}, approval: {approvers: {groups: [ops]}, timeout: 0s}}";
    let api = Api::ruled(target.port(), rules)?;
    let _sidecar = api.start()?;
    let refund = |body: &str| api.curl("/refund", &["-d", body]);
    let (status, body) = refund("amount=5")?;
    let problem = problem(&body)?;
    ensure!(
        status == 409 && problem["reason"] == "ApprovalPending",
        "{status} {body}"
    );
    let name = problem["request"].as_str().context("no request is named")?;
    ensure!(target.seen().is_empty());
    let shown = api.world.plugin(&["approvals"])?.all();
    ensure!(shown.contains("amount=5"), "{shown}");
    api.world.plugin(&["approve", name])?.ok()?;
    ensure!(
        refund("amount=6")?.0 == 409,
        "another amount was let through"
    );
    ensure!(refund("amount=5")?.0 == 200);
    ensure!(refund("amount=5")?.0 == 409, "it ran twice");
    ensure!(
        target.seen().matches("POST /refund").count() == 1,
        "{}",
        target.seen()
    );
    api.world.verify()
}

mod masked {
    use super::*;

    const MASKING: &str = "
    masking:
    - {name: email, jsonPaths: [\"$..email\"], strategy: Redact}
    - {name: cards, detectors: [PaymentCard], strategy: Redact}";

    fn answer(kind: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nx-card: 4111111111111111\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn masked_api(target: &Target) -> Result<Api> {
        let api = Api::ruled(target.port(), RULES)?;
        api.guardrails(MASKING)?;
        Ok(api)
    }

    #[test]
    fn values_are_nowhere() -> Result<()> {
        let body = r#"{"email": "ann@a.test", "note": "card 4111 1111 1111 1111"}"#;
        let target = Target::answering(&[&answer("application/json", body)])?;
        let api = masked_api(&target)?;
        let _sidecar = api.start()?;
        let (status, body) = api.curl(
            "/open/a",
            &[
                "-i",
                "-H",
                "content-type: application/json",
                "-d",
                r#"{"email": "bob@b.test"}"#,
            ],
        )?;
        ensure!(status == 200, "{body}");
        ensure!(
            body.contains(r#"{"email": "[masked]", "note": "card [masked]"}"#),
            "{body}"
        );
        ensure!(!body.contains("4111"), "{body}");
        ensure!(
            target.seen().contains("bob@b.test"),
            "the target gets what the agent sent"
        );
        for side in ["client", "server"] {
            let text = api.world.plugin(&["replay", "last", "--raw", side])?.all();
            ensure!(text.contains("[masked]"), "{text}");
            for needle in ["ann@a.test", "bob@b.test", "4111", "Bearer"] {
                ensure!(!text.contains(needle), "{needle} in {text}");
            }
        }
        api.world.verify()
    }

    #[test]
    fn masked_values_count_for_findings() -> Result<()> {
        let body = format!("[{}]", vec![r#"{"email": "ann@a.test"}"#; 100].join(","));
        let target = Target::answering(&[&answer("application/json", &body)])?;
        let findings = "\n  findings: {maskedPerMinute: 10, onFinding: Alert}";
        let api = Api::ruled(target.port(), &format!("{RULES}{findings}"))?;
        api.guardrails(MASKING)?;
        let _sidecar = api.start()?;
        let (status, body) = api.curl("/open/a", &[])?;
        ensure!(
            status == 200 && body.contains("[masked]"),
            "{status} {body}"
        );
        wait_for("a finding in the record", DEADLINE, || {
            let shown = api.world.plugin(&["show", "last"])?.all();
            Ok(shown.contains("MaskedVolume").then_some(()))
        })
    }

    #[test]
    fn what_cannot_be_masked_is_not_passed_on() -> Result<()> {
        for kind in [
            "application/octet-stream",
            "text/html",
            "application/grpc",
            "image/png",
            "text/plain; charset=utf-16",
        ] {
            let target = Target::answering(&[&answer(kind, "ann@a.test")])?;
            let api = masked_api(&target)?;
            let _sidecar = api.start()?;
            let (status, body) = api.curl("/open/a", &[])?;
            ensure!(
                status == 403 && body.contains("MaskUnsupported"),
                "{kind}: {status} {body}"
            );
            ensure!(!body.contains("ann@"), "{kind}: {body}");
        }
        Ok(())
    }

    #[test]
    fn a_mask_is_not_written_back() -> Result<()> {
        let target = Target::answering(&[&answer("application/json", "{}")])?;
        let api = masked_api(&target)?;
        let _sidecar = api.start()?;
        let (status, body) =
            api.curl("/open/a", &["-X", "PUT", "-d", r#"{"email": "[masked]"}"#])?;
        ensure!(
            status == 403 && body.contains("MaskedWriteBack"),
            "{status} {body}"
        );
        ensure!(target.seen().is_empty(), "{}", target.seen());
        Ok(())
    }

    /// The first event is given to the agent while the target says nothing more.
    #[test]
    fn events_are_not_delayed() -> Result<()> {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let target = Target::answering(&[head, b"data: {\"email\": ", b"\"ann@a.test\"}\n\n"])?;
        let api = masked_api(&target)?;
        let _sidecar = api.start()?;
        let mut stream = api.connect()?;
        stream.write_all(b"GET /open/a HTTP/1.1\r\nhost: api.test\r\n\r\n")?;
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains("\n\n\r\n") {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "it ended: {text}");
            text.push_str(&String::from_utf8_lossy(
                buffer.get(..count).unwrap_or_default(),
            ));
        }
        ensure!(
            text.contains("data: {\"email\": \"[masked]\"}\n\n"),
            "{text}"
        );
        Ok(())
    }
}

/// As much as this many bytes flow each way through a sidecar that stays small.
#[test]
fn streams_are_not_collected() -> Result<()> {
    let mib: u64 = match std::env::var_os("CHAPERONE_FULL") {
        Some(_) => 1024,
        None => 256,
    };
    let server = Server::start()?;
    let directives = "  server {
    listen 127.0.0.1:{port};
    location /open/down { alias {folder}/big; }
    location /open/up { proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://127.0.0.1:GO; }
  }";
    let nginx = Nginx::start(&directives.replace("GO", &server.port().to_string()))?;
    let big = nginx.file("big");
    std::fs::File::create(&big)?.set_len(mib << 20)?;
    let api = Api::ruled(nginx.port(), RULES)?;
    let mut sidecar = api.start()?;
    let path = format!("/proc/{}/status", sidecar.process().id());
    let peak = || -> Result<u64> {
        let status = std::fs::read_to_string(&path)?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let (status, _) = api.curl("/open/down", &["-r", "0-9"])?;
    ensure!(status == 206, "{status}");
    let before = peak()?;
    let (status, _) = api.curl("/open/down", &["-o", "/dev/null", "--max-time", "600"])?;
    ensure!(status == 200, "{status}");
    let file = big.display().to_string();
    let (status, body) = api.curl(
        "/open/up",
        &["-T", &file, "-o", "/dev/null", "--max-time", "600"],
    )?;
    ensure!(status == 200, "{status} {body}");
    let grown = peak()?.saturating_sub(before);
    ensure!(grown < 48 * 1024, "the sidecar grew by {grown} KiB");
    Ok(())
}

mod leaving_http {
    use super::*;

    const UPGRADE: &[u8] = b"GET /open/chat HTTP/1.1\r\nhost: api.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05hello";

    #[test]
    fn takes_a_rule_that_says_so() -> Result<()> {
        let target = Target::answering(&[SWITCHING])?;
        let api = Api::ruled(target.port(), RULES)?;
        let _sidecar = api.start()?;
        let answer = api.raw(UPGRADE)?;
        ensure!(
            answer.starts_with("HTTP/1.1 403") && answer.contains("Upgrade on"),
            "{answer}"
        );
        ensure!(target.seen().is_empty(), "{}", target.seen());
        Ok(())
    }

    #[test]
    fn is_recorded_both_ways() -> Result<()> {
        let target = Target::answering(&[SWITCHING])?;
        let rules = "
  - {name: chat, action: Allow, http: {methods: [GET, Upgrade], paths: [/open/chat]}}";
        let api = Api::ruled(target.port(), rules)?;
        let _sidecar = api.start()?;
        let mut stream = api.connect()?;
        stream.write_all(UPGRADE)?;
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while !text.ends_with(b"hello") {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "{}", String::from_utf8_lossy(&text));
            text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        stream.write_all(b"\x81\x85\x00\x00\x00\x00howdy")?;
        wait_for("the frame to arrive", DEADLINE, || {
            Ok(target.seen().ends_with("howdy").then_some(()))
        })?;
        drop(stream);
        for (side, needle) in [("client", "howdy"), ("server", "hello")] {
            wait_for("the record", DEADLINE, || {
                let text = api.world.plugin(&["replay", "last", "--raw", side])?.all();
                Ok(text.contains(needle).then_some(()))
            })?;
        }
        api.world.verify()
    }

    #[test]
    fn happens_only_if_the_target_agrees() -> Result<()> {
        let target = Target::answering(&[OK])?;
        let rules = "
  - {name: chat, action: Allow, http: {methods: [GET, Upgrade], paths: [/open/chat]}}";
        let api = Api::ruled(target.port(), rules)?;
        let _sidecar = api.start()?;
        let smuggled = [UPGRADE, b"GET /closed HTTP/1.1\r\nhost: api.test\r\n\r\n"].concat();
        let answer = api.raw(&smuggled)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        ensure!(!target.seen().contains("/closed"), "{}", target.seen());
        Ok(())
    }
}

mod real_clients_work_unmodified {
    use super::*;

    fn lab() -> Result<(Server, Api)> {
        let server = Server::start()?;
        let api = Api::ruled(server.port(), RULES)?;
        Ok((server, api))
    }

    #[test]
    fn curl_in_both_versions() -> Result<()> {
        let (_server, api) = lab()?;
        let _sidecar = api.start()?;
        for version in [
            "--http1.1",
            "--http1.0",
            "--http2",
            "--http2-prior-knowledge",
        ] {
            let (status, body) = api.curl("/open/a", &[version, "-d", "x=y"])?;
            ensure!(
                status == 200 && body.contains("\"length\":3"),
                "{version}: {status} {body}"
            );
            let (status, body) = api.curl("/closed", &[version])?;
            ensure!(
                status == 403 && body.contains("NotCovered"),
                "{version}: {status} {body}"
            );
        }
        let (status, _) = api.curl("/open/a", &["-I"])?;
        ensure!(status == 200, "HEAD: {status}");
        api.world.verify()
    }

    #[test]
    fn requests_httpx_and_aiohttp() -> Result<()> {
        let (_server, api) = lab()?;
        let _sidecar = api.start()?;
        let script = "
import asyncio, sys, requests, httpx, aiohttp
base = sys.argv[1]
with requests.Session() as s:
    for _ in range(3):
        assert s.get(base + '/open/a').json()['path'] == '/open/a'
    assert s.post(base + '/open/a', json={'a': 1}).json()['length'] == 8
    assert s.post(base + '/open/a', data=iter([b'ab', b'cd'])).json()['length'] == 4
    assert s.get(base + '/closed').json()['reason'] == 'NotCovered'
with httpx.Client() as c:
    assert c.get(base + '/open/a b').json()['path'] == '/open/a b'
    assert c.get(base + '/closed').status_code == 403
async def main():
    async with aiohttp.ClientSession() as s:
        answers = await asyncio.gather(*[s.get(base + '/open/%d' % i) for i in range(20)])
        for i, answer in enumerate(answers):
            assert (await answer.json())['path'] == '/open/%d' % i
asyncio.run(main())
print('fine')
";
        let mut command = std::process::Command::new(xtask::needs::python());
        command.args(["-c", script, &api.url("")]);
        let said = clients::run(command, "")?;
        ensure!(said.out.trim() == "fine", "{}", said.all());
        api.world.verify()
    }

    #[test]
    fn fetch_of_node() -> Result<()> {
        let (_server, api) = lab()?;
        let _sidecar = api.start()?;
        let script = "
const base = process.argv[1];
(async () => {
  for (let i = 0; i < 3; i++) {
    const answer = await (await fetch(base + '/open/a', {method: 'POST', body: JSON.stringify({i})})).json();
    if (answer.length !== 7) throw new Error(JSON.stringify(answer));
  }
  const denied = await fetch(base + '/closed');
  if (denied.status !== 403 || (await denied.json()).reason !== 'NotCovered') throw new Error('not denied');
  console.log('fine');
})();
";
        let mut command = xtask::drivers::node("node");
        command.args(["-e", script, &api.url("")]);
        let said = clients::run(command, "")?;
        ensure!(said.out.trim() == "fine", "{}", said.all());
        Ok(())
    }

    #[test]
    fn net_http_of_go_and_what_grpc_takes() -> Result<()> {
        let (_server, api) = lab()?;
        let _sidecar = api.start()?;
        let get = |path: &str, grpc: bool| -> Result<String> {
            let mut command = go()?;
            command.args(["get", &api.url(path)]);
            if grpc {
                command.arg("h2c");
            }
            clients::run(command, "")?.ok()
        };
        ensure!(get("/open/a", false)?.starts_with("200 HTTP/1.1"));
        // Trailers come through, and a denial is a status that gRPC knows.
        let answer = get("/open/Get", true)?;
        ensure!(
            answer.starts_with("200 HTTP/2.0") && answer.contains("grpc-status  0"),
            "{answer}"
        );
        let denied = get("/closed/Get", true)?;
        ensure!(denied.contains("grpc-status 7"), "{denied}");
        api.world.verify()
    }
}

/// A policy that changes ends what runs and is no longer allowed.
#[test]
fn a_stream_that_is_no_longer_allowed_is_closed() -> Result<()> {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nfirst";
    let target = Target::answering(&[head])?;
    let api = Api::ruled(target.port(), RULES)?;
    let _sidecar = api.start()?;
    let mut stream = api.connect()?;
    stream.write_all(b"GET /open/a HTTP/1.1\r\nhost: api.test\r\n\r\n")?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(b"first\r\n") {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    api.world.policy(
        "agents",
        "
  - {name: other, action: Allow, http: {methods: [GET], paths: [/other]}}",
    )?;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    ensure!(!rest.ends_with(b"0\r\n\r\n"), "the body looks whole");
    wait_for("the record", DEADLINE, || {
        let shown = api.world.plugin(&["show", "last"])?.all();
        Ok(shown.contains("PolicyChanged").then_some(()))
    })
}
