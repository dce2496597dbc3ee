//! Logging in to real servers, and every way in which that can fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::future::Future;
use std::time::Duration;

use chaperone_policy::Reason;
use chaperone_postgres::codec::TransactionStatus;
use chaperone_postgres::server::{
    AuthenticationMethod, ConnectError, ConnectOptions, Credential, Proof, QueryError,
    ServerConnection, Target, cancel, connect, load_catalog, load_search_path,
};
use chaperone_wire::{
    AllowSpecial, ClientIdentity, Resolver, Secret, TlsClient, TlsMode, TlsSettings,
};
use common::{PASSWORD, Setup, TestCa, TestServer, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn target(port: u16, tls: TlsClient) -> Target {
    Target {
        host: "localhost".to_owned(),
        port,
        database: "postgres".to_owned(),
        tls,
    }
}

fn password(username: &str, password: &str) -> Credential {
    Credential {
        username: username.to_owned(),
        proof: Proof::Password(Secret::from(password.to_owned())),
    }
}

fn options() -> ConnectOptions {
    ConnectOptions {
        allow_special: AllowSpecial::LiteralLoopback,
        allow_md5: false,
        allow_cleartext: false,
        deadline: Instant::now() + Duration::from_secs(30),
    }
}

async fn login(target: &Target, credential: &Credential) -> Result<ServerConnection, ConnectError> {
    connect(&Resolver::new(), target, credential, &[], &options()).await
}

/// The failure's reason, after checking that its words hold no password.
fn failure(result: Result<ServerConnection, ConnectError>) -> (Reason, String) {
    let error = result.expect_err("no session may come about");
    let words = format!("{error} {error:?}");
    assert!(
        !words.contains(PASSWORD) && !words.contains("wrong-pass"),
        "{words}"
    );
    (error.reason(), error.to_string())
}

fn verifying(ca: &str, identity: Option<(String, String)>) -> TlsClient {
    TlsClient::new(&TlsSettings {
        mode: TlsMode::VerifyFull,
        ca_pem: Some(ca.as_bytes().to_vec()),
        identity: identity.map(|(certificate, key)| ClientIdentity {
            certificates_pem: certificate.into_bytes(),
            key_pem: Secret::from(key),
        }),
    })
    .unwrap()
}

#[test]
fn passwords_log_in_by_the_methods_that_are_allowed() {
    let server = TestServer::start(&Setup::default());
    let plain = target(server.port, TlsClient::disabled());
    block_on(async {
        let connection = login(&plain, &password("scram_user", PASSWORD))
            .await
            .unwrap();
        assert_eq!(connection.authentication, AuthenticationMethod::Scram);
        assert_eq!(connection.status, TransactionStatus::Idle);
        assert_eq!(connection.parameters["client_encoding"], "UTF8");
        assert_eq!(connection.parameters["standard_conforming_strings"], "on");
        assert!(connection.backend_pid > 0);
        assert_eq!(connection.cancel_key.len(), 4);
        let connection = login(&plain, &password("postgres", "")).await.unwrap();
        assert_eq!(connection.authentication, AuthenticationMethod::None);

        for user in ["md5_user", "clear_user"] {
            let (reason, words) = failure(login(&plain, &password(user, PASSWORD)).await);
            assert_eq!(reason, Reason::TargetAuthentication);
            assert!(words.contains("scram-sha-256"), "{words}");
        }
        let md5 = ConnectOptions {
            allow_md5: true,
            ..options()
        };
        let credential = password("md5_user", PASSWORD);
        let connection = connect(&Resolver::new(), &plain, &credential, &[], &md5)
            .await
            .unwrap();
        assert_eq!(connection.authentication, AuthenticationMethod::Md5);
        let clear = ConnectOptions {
            allow_cleartext: true,
            ..options()
        };
        let credential = password("clear_user", PASSWORD);
        let connection = connect(&Resolver::new(), &plain, &credential, &[], &clear)
            .await
            .unwrap();
        assert_eq!(connection.authentication, AuthenticationMethod::Cleartext);
    });
}

#[test]
fn a_refused_login_says_why_and_shows_no_password() {
    let server = TestServer::start(&Setup::default());
    let plain = target(server.port, TlsClient::disabled());
    block_on(async {
        let (reason, words) = failure(login(&plain, &password("scram_user", "wrong-pass")).await);
        assert_eq!(reason, Reason::TargetAuthentication);
        assert!(words.contains("scram_user"), "{words}");
        let (reason, _) = failure(login(&plain, &password("absent_user", "wrong-pass")).await);
        assert_eq!(reason, Reason::TargetAuthentication);
        let (reason, _) = failure(login(&plain, &password("gone_user", "wrong-pass")).await);
        assert_eq!(reason, Reason::TargetAuthentication);
        let elsewhere = Target {
            database: "nowhere".to_owned(),
            ..plain.clone()
        };
        let (reason, words) = failure(login(&elsewhere, &password("scram_user", PASSWORD)).await);
        assert_eq!(reason, Reason::TargetRefused);
        assert!(
            words.contains("nowhere") && words.contains("3D000"),
            "{words}"
        );
        let certificate = Credential {
            username: "scram_user".to_owned(),
            proof: Proof::ClientCertificate,
        };
        let (reason, words) = failure(login(&plain, &certificate).await);
        assert_eq!(reason, Reason::TargetAuthentication);
        assert!(words.contains("client certificate only"), "{words}");
        // A password that the server's words happen to hold.
        let (_, words) = failure(login(&plain, &password("scram_user", "authentication")).await);
        assert!(words.contains("withheld"), "{words}");
    });
}

#[test]
fn tls_is_verified_or_there_is_no_session() {
    let ca = TestCa::new("right ca");
    let wrong = TestCa::new("wrong ca");
    let (certificate, key) = ca.issue("localhost");
    let server = TestServer::start(&Setup {
        tls: Some((&certificate, &key, &ca.pem)),
        not_ready: false,
    });
    let trusting = target(server.port, verifying(&ca.pem, None));
    block_on(async {
        let credential = password("scram_user", PASSWORD);
        let connection = login(&trusting, &credential).await.unwrap();
        assert!(connection.stream.is_tls());
        assert_eq!(connection.authentication, AuthenticationMethod::ScramPlus);
        drop(connection);

        let stranger = target(server.port, verifying(&wrong.pem, None));
        let (reason, words) = failure(login(&stranger, &credential).await);
        assert_eq!(reason, Reason::TargetTls);
        assert!(words.contains("not issued by the given ca"), "{words}");
        let misnamed = Target {
            host: "127.0.0.1".to_owned(),
            ..trusting.clone()
        };
        let (reason, words) = failure(login(&misnamed, &credential).await);
        assert_eq!(reason, Reason::TargetTls);
        assert!(words.contains("another host name"), "{words}");

        let shown = target(server.port, verifying(&ca.pem, Some(ca.issue("cert_user"))));
        let certificate = |username: &str| Credential {
            username: username.to_owned(),
            proof: Proof::ClientCertificate,
        };
        let connection = login(&shown, &certificate("cert_user")).await.unwrap();
        assert_eq!(connection.authentication, AuthenticationMethod::None);
        let unproven = failure(login(&trusting, &certificate("cert_user")).await);
        assert_eq!(unproven.0, Reason::TargetAuthentication, "{}", unproven.1);
        let other = target(server.port, verifying(&ca.pem, Some(ca.issue("somebody"))));
        let (reason, _) = failure(login(&other, &certificate("cert_user")).await);
        assert_eq!(reason, Reason::TargetAuthentication);

        // Cancelling over TLS.
        cancels(connection).await;
    });
}

#[test]
fn a_target_without_tls_is_refused_where_tls_is_asked_for() {
    let server = TestServer::start(&Setup::default());
    let ca = TestCa::new("ca");
    let asking = target(server.port, verifying(&ca.pem, None));
    let (reason, words) = failure(block_on(login(&asking, &password("scram_user", PASSWORD))));
    assert_eq!(reason, Reason::TargetTls);
    assert!(words.contains("offers no tls"), "{words}");
}

#[test]
fn a_target_that_is_not_there_or_not_ready_is_named() {
    let credential = password("scram_user", PASSWORD);
    block_on(async {
        let absent = target(free_port(), TlsClient::disabled());
        let (reason, words) = failure(login(&absent, &credential).await);
        assert_eq!(reason, Reason::TargetUnreachable);
        assert!(words.contains("localhost"), "{words}");

        // It accepts and says nothing: with TLS and without.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let ca = TestCa::new("ca");
        for tls in [TlsClient::disabled(), verifying(&ca.pem, None)] {
            let hasty = ConnectOptions {
                deadline: Instant::now() + Duration::from_millis(200),
                ..options()
            };
            let result = connect(
                &Resolver::new(),
                &target(port, tls),
                &credential,
                &[],
                &hasty,
            )
            .await;
            assert!(matches!(result, Err(ConnectError::TimedOut)), "{result:?}");
            assert_eq!(failure(result).0, Reason::TargetUnreachable);
        }
    });
    let server = TestServer::start(&Setup {
        tls: None,
        not_ready: true,
    });
    let (reason, words) = failure(block_on(login(
        &target(server.port, TlsClient::disabled()),
        &credential,
    )));
    assert_eq!(reason, Reason::TargetRefused);
    assert!(words.contains("57P03"), "{words}");
}

/// What a hostile or broken target answers to a startup packet.
#[test]
fn a_target_that_breaks_the_protocol_ends_the_login() {
    let frame = |tag: u8, body: &[u8]| {
        let mut out = bytes::BytesMut::new();
        chaperone_postgres::codec::encode::message(&mut out, tag, |out| {
            out.extend_from_slice(body)
        });
        out.to_vec()
    };
    let ok = frame(b'R', &[0, 0, 0, 0]);
    let answers = [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Reason::TargetProtocol,
        ),
        (b"R\xff\xff\xff\xff".to_vec(), Reason::TargetProtocol),
        (b"R\x7f\xff\xff\xff".to_vec(), Reason::TargetProtocol),
        // Ready before anyone has logged in.
        (frame(b'Z', b"I"), Reason::TargetProtocol),
        // Logged in, but the text would mean something else.
        (
            [
                ok.clone(),
                frame(b'S', b"client_encoding\0SJIS\0"),
                frame(b'Z', b"I"),
            ]
            .concat(),
            Reason::TargetProtocol,
        ),
        (
            [ok.clone(), frame(b'Z', b"I")].concat(),
            Reason::TargetProtocol,
        ),
        ([ok.clone(), ok.clone()].concat(), Reason::TargetProtocol),
        // A SCRAM exchange that is called done before the server has proven anything.
        (frame(b'R', b"\0\0\0\x0bsalt"), Reason::TargetProtocol),
        (
            frame(b'R', b"\0\0\0\x0aSCRAM-SHA-1\0\0"),
            Reason::TargetAuthentication,
        ),
        (frame(b'R', &[0, 0, 0, 7]), Reason::TargetAuthentication),
        (Vec::new(), Reason::TargetUnreachable),
    ];
    block_on(async {
        for (answer, expected) in answers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let bytes = answer.clone();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut packet = [0u8; 512];
                let _ = stream.read(&mut packet).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
                stream.shutdown().await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
            let credential = password("scram_user", PASSWORD);
            let result = login(&target(port, TlsClient::disabled()), &credential).await;
            let (reason, words) = failure(result);
            assert_eq!(reason, expected, "{words}: {answer:?}");
            server.await.unwrap();
        }
        // SCRAM begun, then AuthenticationOk instead of the server's own proof.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let offer = frame(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut packet = [0u8; 512];
            let _ = stream.read(&mut packet).await.unwrap();
            stream.write_all(&offer).await.unwrap();
            let _ = stream.read(&mut packet).await.unwrap();
            stream.write_all(&ok).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let credential = password("scram_user", PASSWORD);
        let result = login(&target(port, TlsClient::disabled()), &credential).await;
        assert_eq!(failure(result).0, Reason::TargetProtocol);
        server.await.unwrap();
    });
}

#[test]
fn the_login_settles_what_text_means_whatever_the_role_says() {
    let server = TestServer::start(&Setup::default());
    server.psql(
        "ALTER ROLE scram_user SET standard_conforming_strings = off;
         ALTER ROLE scram_user SET client_encoding = 'LATIN1';
         ALTER ROLE scram_user SET backslash_quote = on;",
    );
    let plain = target(server.port, TlsClient::disabled());
    let settings = [
        ("application_name", "agent"),
        ("client_encoding", "SJIS"),
        ("standard_conforming_strings", "off"),
        ("user", "postgres"),
        ("database", "template1"),
        ("options", "-c client_encoding=SJIS"),
        ("", "x"),
        ("search_path", "pg_catalog"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    block_on(async {
        let credential = password("scram_user", PASSWORD);
        let resolver = Resolver::new();
        let mut connection = connect(&resolver, &plain, &credential, &settings, &options())
            .await
            .unwrap();
        assert_eq!(connection.parameters["client_encoding"], "UTF8");
        assert_eq!(connection.parameters["standard_conforming_strings"], "on");
        assert_eq!(connection.parameters["application_name"], "agent");
        assert_eq!(connection.parameters["session_authorization"], "scram_user");
        let loaded = load_catalog(&mut connection, options().deadline)
            .await
            .unwrap();
        assert_eq!(loaded.search_path, ["pg_catalog"]);
    });
}

#[test]
fn a_cancel_ends_the_statement_and_nothing_after_it() {
    let server = TestServer::start(&Setup::default());
    let plain = target(server.port, TlsClient::disabled());
    block_on(async {
        let connection = login(&plain, &password("scram_user", PASSWORD))
            .await
            .unwrap();
        cancels(connection).await;
    });
}

/// Cancels a long statement; the next one must not be hit.
async fn cancels(mut connection: ServerConnection) {
    use chaperone_postgres::codec::encode;
    let handle = connection.cancel_handle();
    let mut query = bytes::BytesMut::new();
    encode::query(&mut query, "SELECT pg_sleep(600)");
    connection.stream.write_all(&query).await.unwrap();
    // A cancel that arrives before the statement runs hits nothing, so it is repeated.
    let mut answer = String::new();
    while !answer.contains("57014") {
        cancel(&handle, options().deadline).await.unwrap();
        let read = connection.buffer.fill(&mut connection.stream);
        if tokio::time::timeout(Duration::from_millis(200), read)
            .await
            .is_ok()
        {
            answer = String::from_utf8_lossy(connection.buffer.as_slice()).into_owned();
        }
    }
    while !connection.buffer.as_slice().ends_with(b"Z\0\0\0\x05I") {
        assert!(
            connection
                .buffer
                .fill(&mut connection.stream)
                .await
                .unwrap()
                > 0
        );
    }
    connection.buffer.bytes_mut().clear();
    let mut sleep = bytes::BytesMut::new();
    encode::query(&mut sleep, "SELECT pg_sleep(0.2)");
    connection.stream.write_all(&sleep).await.unwrap();
    while !connection.buffer.as_slice().ends_with(b"Z\0\0\0\x05I") {
        assert!(
            connection
                .buffer
                .fill(&mut connection.stream)
                .await
                .unwrap()
                > 0
        );
    }
    let answer = String::from_utf8_lossy(connection.buffer.as_slice()).into_owned();
    assert!(
        answer.contains("SELECT 1") && !answer.contains("57014"),
        "{answer}"
    );
}

#[test]
fn a_startup_search_path_does_not_capture_queries_of_our_own() {
    // PgBouncer, CVE-2025-12819: the client's search_path held while the pooler ran its own query.
    let server = TestServer::start(&Setup::default());
    server.psql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
         CREATE TABLE evil.customers (id int, email text);
         CREATE FUNCTION evil.current_schemas(boolean) RETURNS name[] LANGUAGE plpgsql AS
           $$ BEGIN RAISE 'captured'; END $$;
         CREATE FUNCTION evil.unnest(name[]) RETURNS name LANGUAGE plpgsql AS
           $$ BEGIN RAISE 'captured'; END $$;
         CREATE TABLE evil.pg_class (oid oid, relname name); CREATE TABLE evil.pg_namespace ();
         CREATE TABLE evil.pg_attribute (); CREATE TABLE evil.pg_proc ();
         CREATE FUNCTION evil.boom(oid, oid) RETURNS boolean LANGUAGE plpgsql AS
           $$ BEGIN RAISE 'captured'; END $$;
         CREATE FUNCTION evil.boom(name, name) RETURNS boolean LANGUAGE plpgsql AS
           $$ BEGIN RAISE 'captured'; END $$;
         CREATE FUNCTION evil.boom(name, text) RETURNS boolean LANGUAGE plpgsql AS
           $$ BEGIN RAISE 'captured'; END $$;
         CREATE FUNCTION evil.boom(\"char\", \"char\") RETURNS boolean LANGUAGE plpgsql AS
           $$ BEGIN RAISE 'captured'; END $$;
         CREATE OPERATOR evil.= (FUNCTION = evil.boom, LEFTARG = oid, RIGHTARG = oid);
         CREATE OPERATOR evil.= (FUNCTION = evil.boom, LEFTARG = name, RIGHTARG = name);
         CREATE OPERATOR evil.<> (FUNCTION = evil.boom, LEFTARG = name, RIGHTARG = name);
         CREATE OPERATOR evil.<> (FUNCTION = evil.boom, LEFTARG = name, RIGHTARG = text);
         CREATE OPERATOR evil.= (FUNCTION = evil.boom, LEFTARG = \"char\", RIGHTARG = \"char\");",
    );
    let plain = target(server.port, TlsClient::disabled());
    let settings = [(
        "search_path".to_owned(),
        "evil, pg_catalog, public".to_owned(),
    )];
    block_on(async {
        let credential = password("scram_user", PASSWORD);
        let mut connection = connect(&Resolver::new(), &plain, &credential, &settings, &options())
            .await
            .unwrap();
        let deadline = options().deadline;
        let path = load_search_path(&mut connection, deadline).await.unwrap();
        assert_eq!(path, ["evil", "pg_catalog", "public"]);
        let loaded = load_catalog(&mut connection, deadline).await.unwrap();
        assert_eq!(loaded.search_path, path);
        let key = |schema: &str, name: &str| (schema.to_owned(), name.to_owned());
        let customers = loaded.catalog.by_name[&key("evil", "customers")];
        let columns = &loaded.catalog.relations[&customers].columns;
        assert_eq!(
            columns
                .iter()
                .map(|column| column.name.as_str())
                .collect::<Vec<_>>(),
            ["id", "email"]
        );
        assert!(
            loaded
                .catalog
                .by_name
                .contains_key(&key("pg_catalog", "pg_class"))
        );
        assert!(loaded.catalog.functions.contains_key(&key("evil", "boom")));
        assert!(loaded.catalog.operators.contains_key(&key("evil", "=")));
        assert!(loaded.catalog.schemas.iter().any(|schema| schema == "evil"));
        // And the session's own path is as it was.
        assert_eq!(
            load_search_path(&mut connection, deadline).await.unwrap(),
            path
        );
        assert!(connection.deferred.is_empty(), "{:?}", connection.deferred);
    });
}

#[test]
fn what_the_server_says_meanwhile_is_kept_for_the_client() {
    let server = TestServer::start(&Setup::default());
    let plain = target(server.port, TlsClient::disabled());
    block_on(async {
        let mut connection = login(&plain, &password("scram_user", PASSWORD))
            .await
            .unwrap();
        let mut listen = bytes::BytesMut::new();
        chaperone_postgres::codec::encode::query(&mut listen, "LISTEN news");
        connection.stream.write_all(&listen).await.unwrap();
        while !connection.buffer.as_slice().ends_with(b"Z\0\0\0\x05I") {
            assert!(
                connection
                    .buffer
                    .fill(&mut connection.stream)
                    .await
                    .unwrap()
                    > 0
            );
        }
        connection.buffer.bytes_mut().clear();
        server.psql("NOTIFY news, 'for the client'");
        while connection.deferred.is_empty() {
            load_search_path(&mut connection, options().deadline)
                .await
                .unwrap();
        }
        let kept = connection.deferred.pop_front().unwrap();
        assert_eq!(kept.tag, b'A');
        assert!(String::from_utf8_lossy(&kept.raw).contains("for the client"));
    });
}

#[test]
fn a_refused_query_of_ours_leaves_the_session_usable() {
    let server = TestServer::start(&Setup::default());
    let plain = target(server.port, TlsClient::disabled());
    let change = |verb: &str, word: &str| {
        server.psql(&format!(
            "{verb} EXECUTE ON FUNCTION pg_catalog.current_schemas(boolean) {word} PUBLIC"
        ));
    };
    block_on(async {
        let mut connection = login(&plain, &password("scram_user", PASSWORD))
            .await
            .unwrap();
        let deadline = options().deadline;
        change("REVOKE", "FROM");
        let error = load_search_path(&mut connection, deadline)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, QueryError::Server { code, .. } if code == "42501"),
            "{error}"
        );
        assert_eq!(error.reason(), Reason::TargetRefused);
        change("GRANT", "TO");
        assert!(
            !load_search_path(&mut connection, deadline)
                .await
                .unwrap()
                .is_empty()
        );
        // A server that has gone is noticed.
        server.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'scram_user'",
        );
        let error = load_search_path(&mut connection, deadline)
            .await
            .unwrap_err();
        assert!(
            matches!(error, QueryError::Io(_) | QueryError::Server { .. }),
            "{error}"
        );
    });
}
