//! A token is believed for what its issuer signed, for as long as it says, and for nothing else.

#![allow(
    clippy::indexing_slicing,
    reason = "a claim that is not there fails the test"
)]

use std::process::Command;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::issuer::{AUDIENCE, Issuer, SigningKey, now};
use chaperone_e2e::raw::{Client, Report, message, query, startup};
use chaperone_e2e::relay::find;
use chaperone_e2e::{DEADLINE, Lab, Running, clients, wait_for};
use serde_json::{Value, json};
use xtask::needs::{self, Need};
use xtask::releases::Release;

const READ: &str =
    "  - {name: notes, action: Allow, sql: {effects: [Read], relations: [public.notes]}}";

/// A lab whose policy is for analysts of `corp`, whoever the workload is.
fn lab(issuer: &Issuer, rules: &str) -> Result<Lab> {
    let lab = Lab::new()?;
    lab.manifest("corp.yaml", &issuer.manifest("corp"))?;
    lab.manifest(
        "analysts.yaml",
        &format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: analysts, namespace: shop}}\n\
             spec:\n  subjects: [{{identity: {{provider: corp, claims: {{groups: [analysts]}}}}}}]\n  \
             connections: [databases/orders-db]\n  rules:\n{rules}\n"
        ),
    )?;
    Ok(lab)
}

/// Logs in with `token` as password, and gives whatever the server answered.
fn present(lab: &Lab, token: &str) -> Result<Client> {
    let mut client = asked(lab, &[], 3)?;
    client.send(&message(b'p', &[token.as_bytes(), &[0]].concat()))?;
    client.greeting = client.until_ready_or_end()?;
    Ok(client)
}

/// Opens a session up to the authentication request of this code.
fn asked(lab: &Lab, settings: &[(&str, &str)], code: i32) -> Result<Client> {
    let mut client = Client::dial(lab.port())?;
    let own = [("user", "corp:admin"), ("database", &lab.database.name)];
    client.send(&startup(&[&own, settings].concat()))?;
    let request = client.receive()?.context("no authentication request")?;
    ensure!(
        request.tag == b'R' && request.body.starts_with(&code.to_be_bytes()),
        "{request:?}"
    );
    Ok(client)
}

fn refused(lab: &Lab, token: &str) -> Result<Report> {
    present(lab, token)?.greeting.error()
}

/// Waits until the issuer's keys have come, and leaves a session open.
fn let_in(lab: &Lab, token: &str) -> Result<Client> {
    wait_for("the token to be believed", DEADLINE, || {
        let client = present(lab, token)?;
        Ok(client.greeting.errors().is_empty().then_some(client))
    })
}

fn psql(running: &Running<'_>, token: Option<&str>, sql: &str) -> Result<clients::Transcript> {
    let mut command = running.psql_command()?;
    command.arg("-w");
    if let Some(token) = token {
        command.env("PGPASSWORD", token);
    }
    clients::run(command, sql)
}

/// No file below `folder` holds `text`.
fn nowhere(folder: &std::path::Path, text: &str) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            nowhere(&path, text)?;
        } else if path.is_file() {
            let found = find(&std::fs::read(&path)?, text.as_bytes());
            ensure!(found.is_none(), "{} holds it", path.display());
        }
    }
    Ok(())
}

#[test]
fn an_unmodified_client_is_let_in_for_its_token_and_recorded_with_all_its_actors() -> Result<()> {
    let (rsa, ec) = (SigningKey::rsa("r1")?, SigningKey::ec("e1")?);
    let issuer = Issuer::start(&[&rsa, &ec])?;
    let lab = lab(&issuer, READ)?;
    let running = lab.start()?;
    let mut claims = issuer.claims("alice", &["staff", "analysts"]);
    let actors =
        json!({"sub": "planner", "act": {"sub": "scheduler", "iss": "https://else.example"}});
    claims["act"] = actors.clone();
    claims["jti"] = json!("token-7");
    let token = rsa.sign(&claims)?;
    let read = "SELECT body FROM notes WHERE id = 1;\n";
    let said = psql(&running, Some(&token), read)?;
    ensure!(said.out.trim() == "note 1", "{}", said.all());
    // An EC key of the same issuer is as good.
    let bob = ec.sign(&issuer.claims("bob", &["analysts"]))?;
    ensure!(psql(&running, Some(&bob), read)?.out.trim() == "note 1");

    // Without a token there is nothing, whoever the client says it is.
    let said = psql(&running, None, read)?;
    ensure!(
        said.code == Some(2) && said.out.is_empty(),
        "{}",
        said.all()
    );
    let error = refused(&lab, "")?;
    ensure!(
        error.code == "28000" && error.text().contains("TokenRequired"),
        "{error:?}"
    );
    // A token that no policy selects by.
    let other = rsa.sign(&issuer.claims("mallory", &["interns"]))?;
    let error = refused(&lab, &other)?;
    ensure!(
        error.code == "28000" && error.text().contains("NoPolicy"),
        "{error:?}"
    );
    ensure!(error.text().contains("corp:mallory of corp"), "{error:?}");

    running.stop()?;
    lab.verify()?;
    let sessions = lab.plugin_json(&["sessions"])?.to_string();
    ensure!(
        sessions.contains("corp:alice") && sessions.contains("corp:bob"),
        "{sessions}"
    );
    for needed in [
        "\"scheduler\"",
        "\"https://else.example\"",
        "token-7",
        "corp:staff",
    ] {
        ensure!(sessions.contains(needed), "no {needed} in {sessions}");
    }
    // What the client called itself is recorded as a claim and nothing else.
    ensure!(sessions.contains("corp:admin"), "{sessions}");
    ensure!(!sessions.contains("\"delegate\":\"corp:admin\""));
    let shown = lab.plugin(&["show", "last"])?.all();
    ensure!(shown.contains("shop/report-agent"), "{shown}");
    for secret in [&token, &bob, &other] {
        nowhere(lab.folder(), secret)?;
    }
    Ok(())
}

#[test]
fn a_token_that_its_issuer_did_not_sign_for_here_and_now_is_refused() -> Result<()> {
    let key = SigningKey::rsa("r1")?;
    let issuer = Issuer::start(&[&key])?;
    let lab = lab(&issuer, READ)?;
    let running = lab.start()?;
    let good = issuer.claims("alice", &["analysts"]);
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        claims
    };
    let without = |claim: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().map(|claims| claims.remove(claim));
        claims
    };
    // Clocks may differ by half a minute.
    for claims in [
        good.clone(),
        with("exp", json!(now() - 15)),
        with("nbf", json!(now() + 15)),
        with("aud", json!(["else", AUDIENCE])),
    ] {
        drop(let_in(&lab, &key.sign(&claims)?)?);
    }

    let token = key.sign(&good)?;
    let parts: Vec<&str> = token.split('.').collect();
    let [head, body, signature] = parts[..] else {
        anyhow::bail!("a token of {} parts", parts.len());
    };
    // A stranger's key under the issuer's key id.
    let stranger = SigningKey::rsa("r1")?;
    // HS256 keyed with what everybody knows of the issuer's key.
    let modulus = key.published()["n"].as_str().unwrap_or_default();
    let published = key.published().to_string();
    let symmetric = |secret: &[u8]| {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some("r1".to_owned());
        let secret = jsonwebtoken::EncodingKey::from_secret(secret);
        jsonwebtoken::encode(&header, &good, &secret)
    };
    let mut critical = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    critical.kid = Some("r1".to_owned());
    critical.crit = Some(vec!["b64".to_owned()]);
    let unlisted = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::PS256);
    let none = "eyJhbGciOiJub25lIn0";
    let cases: Vec<(&str, String)> = vec![
        ("expired", key.sign(&with("exp", json!(now() - 60)))?),
        ("not yet valid", key.sign(&with("nbf", json!(now() + 120)))?),
        ("no exp", key.sign(&without("exp"))?),
        ("exp is a text", key.sign(&with("exp", json!("tomorrow")))?),
        ("another audience", key.sign(&with("aud", json!("else")))?),
        ("no audience", key.sign(&without("aud"))?),
        (
            "another issuer",
            key.sign(&with("iss", json!("https://else.example")))?,
        ),
        ("no issuer", key.sign(&without("iss"))?),
        ("no subject", key.sign(&without("sub"))?),
        ("an empty subject", key.sign(&with("sub", json!("")))?),
        (
            "groups that are none",
            key.sign(&with("groups", json!([1])))?,
        ),
        (
            "too many actors",
            key.sign(&with("act", json!({"sub": "x".repeat(5000)})))?,
        ),
        ("alg none, no signature", format!("{none}.{body}.")),
        (
            "alg none, a signature",
            format!("{none}.{body}.{signature}"),
        ),
        ("no signature", format!("{head}.{body}.")),
        (
            "another body",
            format!(
                "{head}.{}.{signature}",
                key.sign(&with("sub", json!("bob")))?
                    .split('.')
                    .nth(1)
                    .unwrap_or_default()
            ),
        ),
        ("HS256 by the modulus", symmetric(modulus.as_bytes())?),
        (
            "HS256 by the published key",
            symmetric(published.as_bytes())?,
        ),
        ("a stranger's key", stranger.sign(&good)?),
        ("an extension", key.sign_as(&critical, &good)?),
        (
            "an algorithm that is not listed",
            key.sign_as(&unlisted, &good)?,
        ),
        ("huge", key.sign(&with("more", json!("x".repeat(20_000))))?),
        ("junk", "junk".to_owned()),
        ("dots", "..".to_owned()),
        ("a password", "secret-of-the-target".to_owned()),
    ];
    for (what, token) in &cases {
        let error = refused(&lab, token).with_context(|| (*what).to_owned())?;
        ensure!(
            error.code == "28P01"
                && error.severity == "FATAL"
                && error.text().contains("TokenRefused"),
            "{what}: {error:?}"
        );
        ensure!(
            !error.text().contains(token.as_str()) || token.len() < 5,
            "{what}: {error:?}"
        );
    }
    // Longer than any message of its kind, or another message: the connection ends.
    let mut client = asked(&lab, &[], 3)?;
    client.send(&message(b'p', &vec![b'x'; 70_000]))?;
    ensure!(client.to_end()?.error()?.text().contains("65535"));
    let mut client = asked(&lab, &[], 3)?;
    client.send(&query("SELECT body FROM notes"))?;
    let error = client.to_end()?.error()?;
    ensure!(error.code == "08P01", "{error:?}");
    ensure!(!lab.database.saw("SELECT body FROM notes")?);

    running.stop()?;
    lab.verify()?;
    // Refusals are recorded, and none as the session of somebody.
    let sessions = lab.plugin_json(&["sessions"])?.to_string();
    ensure!(sessions.contains("TokenRefused"), "{sessions}");
    ensure!(!sessions.contains("corp:bob"), "{sessions}");
    Ok(())
}

#[test]
fn rotated_keys_are_fetched_for_the_first_token_that_needs_them_and_not_in_a_rush() -> Result<()> {
    let (old, new) = (SigningKey::ec("k1")?, SigningKey::ec("k2")?);
    let issuer = Issuer::start(&[&old])?;
    let lab = lab(&issuer, READ)?;
    let running = lab.start()?;
    let claims = issuer.claims("alice", &["analysts"]);
    let mut live = let_in(&lab, &old.sign(&claims)?)?;
    let before = issuer.fetched();
    issuer.publish(&[&new]);
    // Believed at the first attempt: the session waits for the keys, the agent notices nothing.
    let first = present(&lab, &new.sign(&claims)?)?;
    ensure!(
        first.greeting.errors().is_empty(),
        "{:?}",
        first.greeting.errors()
    );
    // What the issuer does not publish any more is not believed any more; who is in stays.
    let error = refused(&lab, &old.sign(&claims)?)?;
    ensure!(error.text().contains("key id"), "{error:?}");
    ensure!(
        live.query("SELECT id FROM notes WHERE id = 1")?
            .ok()?
            .value()
            .as_deref()
            == Some("1")
    );

    // Many tokens of keys that nobody has cost the issuer next to nothing.
    let unknown = SigningKey::ec("k3")?.sign(&claims)?;
    let refusals: Vec<Result<Report>> = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| refused(&lab, &unknown)))
            .collect();
        attempts
            .into_iter()
            .filter_map(|attempt| attempt.join().ok())
            .collect()
    });
    ensure!(refusals.len() == 20);
    for refusal in refusals {
        ensure!(refusal?.text().contains("TokenRefused"));
    }
    let fetched = issuer.fetched() - before;
    ensure!((1..=6).contains(&fetched), "{fetched} fetches");
    running.stop()?;
    lab.verify()
}

#[test]
fn a_session_ends_with_its_token_and_with_its_provider() -> Result<()> {
    let key = SigningKey::ec("k1")?;
    let issuer = Issuer::start(&[&key])?;
    let lab = lab(&issuer, READ)?;
    let running = lab.start()?;
    let claims = issuer.claims("alice", &["analysts"]);
    let mut lasting = let_in(&lab, &key.sign(&claims)?)?;
    // Four seconds are left of the half minute by which clocks may differ.
    let mut short = claims.clone();
    short["exp"] = json!(now() - 26);
    let mut brief = let_in(&lab, &key.sign(&short)?)?;
    ensure!(
        brief
            .query("SELECT count(*) FROM notes")?
            .ok()?
            .value()
            .is_some()
    );
    let error = brief.to_end()?.error()?;
    ensure!(
        error.code == "57P01" && error.text().contains("TokenExpired"),
        "{error:?}"
    );
    ensure!(
        now() - 30 >= short["exp"].as_i64().unwrap_or(i64::MAX),
        "it ended too early"
    );
    lasting.query("SELECT count(*) FROM notes")?.ok()?;

    lab.remove("corp.yaml")?;
    let error = lasting.to_end()?.error()?;
    ensure!(error.text().contains("TokenRefused"), "{error:?}");
    let error = refused(&lab, &key.sign(&claims)?)?;
    ensure!(error.text().contains("TokenRefused"), "{error:?}");
    running.stop()?;
    lab.verify()
}

#[test]
fn a_policy_by_identity_ends_the_sessions_that_began_without_one() -> Result<()> {
    let key = SigningKey::ec("k1")?;
    let issuer = Issuer::start(&[&key])?;
    let lab = lab(&issuer, READ)?;
    let with_token = std::fs::read_to_string(lab.manifests().join("analysts.yaml"))?;
    lab.remove("analysts.yaml")?;
    lab.policy("agents", READ)?;
    let running = lab.start()?;
    // Nobody is asked for anything that no policy wants.
    let mut session = running.client()?;
    session.query("SELECT count(*) FROM notes")?.ok()?;
    lab.manifest("analysts.yaml", &with_token)?;
    let error = session.to_end()?.error()?;
    ensure!(error.text().contains("TokenRequired"), "{error:?}");
    // The workload's own policy still is for it, and the token adds to who it is.
    let token = key.sign(&issuer.claims("mallory", &["interns"]))?;
    let mut session = let_in(&lab, &token)?;
    session.query("SELECT count(*) FROM notes")?.ok()?;
    running.stop()?;
    lab.verify()
}

#[test]
fn a_grant_is_for_the_delegate_who_asked_and_for_nobody_else() -> Result<()> {
    let key = SigningKey::ec("k1")?;
    let issuer = Issuer::start(&[&key])?;
    let rules = format!(
        "{READ}
  - name: deletes
    action: RequireApproval
    sql: {{effects: [Delete], relations: [public.notes]}}
    approval: {{approvers: {{groups: [dba]}}, quorum: 1, timeout: 0s, validFor: 15m}}"
    );
    let lab = lab(&issuer, &rules)?;
    let running = lab.start()?;
    let delete = "DELETE FROM notes WHERE id = 3";
    let of = |name: &str| let_in(&lab, &key.sign(&issuer.claims(name, &["analysts"]))?);
    let (mut alice, mut bob) = (of("alice")?, of("bob")?);
    ensure!(
        alice
            .query(delete)?
            .error()?
            .text()
            .contains("ApprovalPending")
    );
    let name = running.pending()?;
    let request = lab.plugin(&["approvals", "-o", "json"])?.out;
    ensure!(request.contains("corp:alice"), "{request}");
    lab.plugin(&["approve", &name, "--reason", "ticket 42"])?
        .ok()?;
    let error = bob.query(delete)?.error()?;
    ensure!(
        error.text().contains("ApprovalPending") && !error.text().contains(&name),
        "{error:?}"
    );
    ensure!(lab.database.sql("SELECT count(*) FROM notes")? == "20");
    // Another session of hers, with another token.
    ensure!(of("alice")?.query(delete)?.ok()?.commands() == ["DELETE 1"]);
    running.stop()?;
    lab.verify()
}

#[test]
fn oauthbearer_brings_a_token_as_a_password_does() -> Result<()> {
    let key = SigningKey::ec("k1")?;
    let issuer = Issuer::start(&[&key])?;
    let lab = lab(&issuer, READ)?;
    let running = lab.start()?;
    let token = key.sign(&issuer.claims("alice", &["analysts"]))?;
    drop(let_in(&lab, &token)?);
    let option = [("options", "-c chaperone.authentication=oauthbearer")];
    let bearer = |token: &str| {
        let data = format!("n,,\u{1}auth={token}\u{1}\u{1}");
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
        message(
            b'p',
            &[b"OAUTHBEARER\0", &length[..], data.as_bytes()].concat(),
        )
    };
    let mut client = asked(&lab, &option, 10)?;
    client.send(&bearer(&format!("Bearer {token}")))?;
    client.until_ready()?.ok()?;
    ensure!(
        client
            .query("SELECT id FROM notes WHERE id = 2")?
            .ok()?
            .value()
            .as_deref()
            == Some("2")
    );
    client.close()?;
    // A client without a token is told where to get one, and one with a bad one is refused.
    for bad in ["", "Bearer junk"] {
        let mut client = asked(&lab, &option, 10)?;
        client.send(&bearer(bad))?;
        let told = client.receive()?.context("nothing was told")?;
        let text = String::from_utf8_lossy(told.body.get(4..).unwrap_or_default()).into_owned();
        let told: Value = serde_json::from_str(&text)?;
        ensure!(told["status"] == "invalid_token", "{told}");
        let place = format!("{}/.well-known/openid-configuration", issuer.url);
        ensure!(told["openid-configuration"] == place.as_str(), "{told}");
        client.send(&message(b'p', &[1]))?;
        ensure!(client.to_end()?.error()?.severity == "FATAL");
    }
    ensure!(
        Client::attempt(
            lab.port(),
            &[
                ("user", "a"),
                ("database", &lab.database.name),
                ("options", "-c chaperone.authentication=kerberos"),
            ],
        )?
        .greeting
        .error()?
        .text()
        .contains("SettingDenied")
    );
    running.stop()?;
    lab.verify()
}

/// libpq 18 itself, with an application that has a token already.
const LIBPQ: &str = r#"
import ctypes, os, sys
pq = ctypes.CDLL(os.environ["LIBPQ"])
class Request(ctypes.Structure):  # PGoauthBearerRequest, libpq-fe.h
    _fields_ = [("configuration", ctypes.c_char_p), ("scope", ctypes.c_char_p),
                ("flow", ctypes.c_void_p), ("cleanup", ctypes.c_void_p),
                ("token", ctypes.c_char_p), ("user", ctypes.c_void_p)]
Hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Request))
token = os.environ["TOKEN"].encode()
def give(kind, connection, request):
    if kind != 1:  # PQAUTHDATA_OAUTH_BEARER_TOKEN
        return 0
    request.contents.token = token
    return 1
hook = Hook(give)
pq.PQsetAuthDataHook(hook)
for name in ["PQconnectdb", "PQexec"]:
    getattr(pq, name).restype = ctypes.c_void_p
for name in ["PQerrorMessage", "PQgetvalue"]:
    getattr(pq, name).restype = ctypes.c_char_p
connection = ctypes.c_void_p(pq.PQconnectdb(os.environ["CONNINFO"].encode()))
if pq.PQstatus(connection) != 0:
    sys.exit(pq.PQerrorMessage(connection).decode())
result = ctypes.c_void_p(pq.PQexec(connection, b"SELECT body FROM notes WHERE id = 1"))
print(pq.PQgetvalue(result, 0, 0).decode())
"#;

#[test]
fn libpq_18_logs_in_by_oauthbearer() -> Result<()> {
    needs::install(&[Need::Maven, Need::Xz, Need::Releases], true)?;
    let key = SigningKey::ec("k1")?;
    let issuer = Issuer::start(&[&key])?;
    let lab = lab(&issuer, READ)?;
    let running = lab.start()?;
    let token = key.sign(&issuer.claims("alice", &["analysts"]))?;
    drop(let_in(&lab, &token)?);
    let folder = Release::of(18)?.folder()?.join("lib");
    let run = |token: &str| {
        let mut command = Command::new("python3");
        command
            .args(["-c", LIBPQ])
            .env("LD_LIBRARY_PATH", &folder)
            .env("LIBPQ", folder.join("libpq.so.5"))
            .env("TOKEN", token)
            .env(
                "CONNINFO",
                format!(
                    "host=127.0.0.1 port={} user=agent dbname={} require_auth=oauth oauth_client_id=agent \
                     oauth_issuer={} options='-c chaperone.authentication=oauthbearer'",
                    lab.port(),
                    lab.database.name,
                    issuer.url
                ),
            );
        clients::run(command, "")
    };
    let said = run(&token)?;
    ensure!(said.out.trim() == "note 1", "{}", said.all());
    let said = run("junk")?;
    ensure!(
        said.code == Some(1) && said.err.contains("not a JSON Web Token"),
        "{}",
        said.all()
    );
    running.stop()?;
    lab.verify()
}
