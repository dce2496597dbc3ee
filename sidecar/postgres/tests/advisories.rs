//! What went wrong in others of this kind, tried here: one test for each published advisory that
//! concerns PostgreSQL (threat-model.md).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use chaperone_postgres::session::APPLICATION_PROTOCOL;
use chaperone_wire::{Secret, TlsServer};
use common::TestCa;
use common::proxy::{ALL, MASKED, Proxy, RAW, World};
use common::raw::{Client, bind, describe, execute, message, parse, query, startup, sync};

mod advisories_of_peers {
    use super::*;

    /// SSLRequest (PostgreSQL, section 55.7).
    fn ssl_request() -> Vec<u8> {
        [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat()
    }

    fn reader() -> World<'static> {
        World {
            guardrails: MASKED,
            policies: &[ALL],
        }
    }

    /// PgBouncer, CVE-2021-3935 (and PostgreSQL, CVE-2021-23214): what came in the clear before the
    /// handshake was taken for what came encrypted after it.
    #[test]
    fn cve_2021_3935_plaintext_before_tls_is_not_a_command() {
        let (certificate, key) = TestCa::new("pod").issue("db");
        let proxy = Proxy::with(&reader(), |connection| {
            let tls = TlsServer::new(
                certificate.as_bytes(),
                &Secret::from(key),
                &[APPLICATION_PROTOCOL],
            );
            connection.tls = Some(tls.unwrap());
        });
        let stuffed = [
            startup(&[("user", "agent"), ("database", &proxy.database)]),
            query("INSERT INTO orders VALUES (666, 'smuggled')"),
        ]
        .concat();
        // In the packet of the request, and in one of its own while the handshake is waited for.
        let mut together = Client::dial(proxy.port);
        together.send(&[ssl_request(), stuffed.clone()].concat());
        assert_eq!(together.until_end().rows().len(), 0);
        let mut apart = Client::dial(proxy.port);
        apart.send(&ssl_request());
        let mut answer = [0_u8; 1];
        std::io::Read::read_exact(&mut apart.socket(), &mut answer).unwrap();
        assert_eq!(&answer, b"S");
        apart.send(&stuffed);
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut apart.socket(), &mut rest);
        // At most a TLS alert comes back (RFC 8446, section 6: content type 21).
        assert!(rest.is_empty() || rest[0] == 21, "{rest:?}");
        assert_eq!(proxy.sql("SELECT count(*) FROM orders WHERE id = 666"), "0");
    }

    /// PgBouncer, CVE-2025-12819: a client's search_path held while the proxy asked questions of its
    /// own. Here the role that logs in can even be given one that captures every name.
    #[test]
    fn cve_2025_12819_our_own_questions_do_not_follow_the_clients_search_path() {
        let proxy = Proxy::start(&reader());
        proxy.sql(
            "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
             CREATE TABLE evil.customers (id int, name text, email text, card text);
             CREATE FUNCTION evil.current_schemas(boolean) RETURNS name[] LANGUAGE plpgsql AS
               $$ BEGIN RAISE 'captured'; END $$;
             CREATE TABLE evil.pg_class (oid oid); CREATE TABLE evil.pg_namespace ();
             CREATE TABLE evil.pg_attribute (); CREATE TABLE evil.pg_proc ();
             CREATE VIEW evil.pg_prepared_statements AS SELECT ''::text AS name, ''::text AS statement;",
        );
        for path in ["evil, pg_catalog", "evil"] {
            let attempt = Client::attempt(
                proxy.port,
                &[
                    ("user", "agent"),
                    ("database", &proxy.database),
                    ("search_path", path),
                ],
            );
            let Some('I') = attempt.greeting.state() else {
                // Refused as a setting outside the baseline: nothing was asked under it.
                attempt.greeting.refused("SettingDenied");
                continue;
            };
            let mut client = attempt;
            let reply = client.query("SELECT email FROM customers");
            assert!(
                !reply
                    .errors()
                    .iter()
                    .any(|error| error.message.contains("captured"))
            );
            let reply = client
                .query("SELECT name, email FROM public.customers ORDER BY id")
                .ok();
            assert_eq!(reply.rows()[0][1].as_deref(), Some("[masked]"));
        }
    }

    /// pgproto3 (pgx), CVE-2024-27304: a message so long that its length wrapped, whose rest was then
    /// read as messages of its own. The length is what is on the wire here, never what we compute; so
    /// each lie about it ends the connection, and nothing inside is a message.
    #[test]
    fn cve_2024_27304_a_wrapped_length_smuggles_no_message() {
        let proxy = Proxy::start(&reader());
        let smuggled = query("INSERT INTO orders VALUES (667, 'smuggled')");
        let text = [b"SELECT '", smuggled.as_slice(), b"'\0"].concat();
        // A frame that says it is as long as its low 32 bits, over 4 GiB of which only the start is
        // sent; one that wraps to negative; one shorter than its own length field.
        for length in [0_u32, 3, 0x8000_0000, 0xffff_ffff, 0xffff_fff4] {
            let mut client = proxy.client();
            client.send(&[&b"Q"[..], &length.to_be_bytes(), &text].concat());
            let reply = client.until_end();
            assert_eq!(reply.error().code, "08P01", "{length:x}");
        }
        // A parameter whose length is more than its message has, or wraps around it.
        for length in [5_u32, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe] {
            let mut client = proxy.client();
            client
                .exchange(&[parse("s", "SELECT $1::text"), sync()].concat())
                .ok();
            let body = [&b"\0s\0\0\0\0\x01"[..], &length.to_be_bytes(), b"abcd\0\0"].concat();
            client.send(&[message(b'B', &body), smuggled.clone()].concat());
            let reply = client.until_end();
            assert_eq!(reply.error().code, "08P01", "{length:x}");
        }
        assert_eq!(proxy.sql("SELECT count(*) FROM orders WHERE id = 667"), "0");
    }

    /// Results of a prepared statement that were masked only when it was first executed.
    #[test]
    fn a_prepared_statement_is_masked_however_often_it_is_executed() {
        let proxy = Proxy::start(&reader());
        let mut client = proxy.client();
        let sql = "SELECT name, email, card FROM customers ORDER BY id";
        client
            .exchange(&[parse("again", sql), describe(b'S', "again"), sync()].concat())
            .ok();
        // No parameters, and all results in format 1.
        let binary = message(b'B', b"\0again\0\0\0\0\0\0\x01\0\x01");
        for turn in 0..4 {
            // Without a Describe; in text and in binary; whole and in pieces; and from SQL.
            for bytes in [
                [bind("", "again", &[]), execute("", 0), sync()].concat(),
                [
                    bind("p", "again", &[]),
                    execute("p", 1),
                    execute("p", 1),
                    sync(),
                ]
                .concat(),
                [binary.clone(), execute("", 0), sync()].concat(),
                query("EXECUTE again"),
            ] {
                let reply = client.exchange(&bytes).ok();
                assert_eq!(reply.rows().len(), 2, "{turn}");
                for needle in RAW {
                    assert!(!reply.holds(needle), "{needle} at turn {turn}");
                }
            }
        }
        client.close();
        proxy.finish().hides_raw();
    }
}
