//! What real servers, and a real pooler between, say of a role and its session.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use chaperone_postgres::server::{
    ConnectOptions, Credential, Proof, ServerConnection, Target, connect, share_process,
};
use chaperone_wire::{AllowSpecial, Resolver, Secret, TlsClient};
use common::{PASSWORD, Setup, TestServer, as_postgres, free_port, give_away};
use tokio::time::Instant;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn login(port: u16, user: &str) -> ServerConnection {
    let target = Target {
        host: "127.0.0.1".to_owned(),
        port,
        database: "postgres".to_owned(),
        tls: TlsClient::disabled(),
    };
    let credential = Credential {
        username: user.to_owned(),
        proof: Proof::Password(Secret::from(PASSWORD.to_owned())),
    };
    let options = ConnectOptions {
        allow_special: AllowSpecial::LiteralLoopback,
        allow_md5: false,
        allow_cleartext: false,
        deadline: soon(),
    };
    connect(&Resolver::new(), &target, &credential, &[], &options)
        .await
        .unwrap()
}

#[tokio::test]
async fn privileges_are_read_as_the_server_has_them() {
    let server = TestServer::start(&Setup::default());
    server.psql(
        "CREATE TABLE public.t (a int); GRANT SELECT, UPDATE ON public.t TO scram_user; \
         REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         GRANT pg_read_server_files TO scram_user; \
         CREATE SCHEMA own AUTHORIZATION scram_user; \
         ALTER ROLE scram_user SET search_path = own, pg_catalog; \
         CREATE FUNCTION own.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    let mut session = login(server.port, "scram_user").await;
    let found = session.examine(soon()).await.unwrap();
    assert_eq!(
        found.backend_pid, session.backend_pid,
        "not a function of its own"
    );
    assert!(found.version >= 130_000, "{}", found.version);
    let role = found.privileges;
    assert!(role.select && role.update && role.create);
    assert!(!role.insert && !role.delete && !role.owns && !role.superuser);
    assert_eq!(role.strong_roles, ["pg_read_server_files"]);
    let mut superuser = login(server.port, "postgres").await;
    let role = superuser.examine(soon()).await.unwrap().privileges;
    assert!(role.superuser && role.owns && role.replication && role.bypass_row_security);
    // Nothing is left behind on the session.
    assert_eq!(
        session.examine(soon()).await.unwrap().version,
        found.version
    );
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_told_from_one_in_session_mode() {
    let server = TestServer::start(&Setup::default());
    let direct = (
        &mut login(server.port, "scram_user").await,
        &mut login(server.port, "scram_user").await,
    );
    assert!(!share_process(direct.0, direct.1, soon()).await.unwrap());
    for (mode, shared) in [("session", false), ("transaction", true)] {
        let pooler = Pooler::start(&server, mode);
        let mut first = login(pooler.port, "scram_user").await;
        let pid = first.examine(soon()).await.unwrap().backend_pid;
        assert_ne!(pid, first.backend_pid, "a pooler shows in its pid");
        let mut second = login(pooler.port, "scram_user").await;
        let found = share_process(&mut first, &mut second, soon()).await;
        assert_eq!(found.unwrap(), shared, "{mode}");
    }
}

struct Pooler {
    child: Child,
    port: u16,
}

impl Pooler {
    fn start(server: &TestServer, mode: &str) -> Pooler {
        let port = free_port();
        let folder = server.directory.path();
        let users = folder.join("users.txt");
        fs::write(&users, format!("\"scram_user\" \"{PASSWORD}\"\n")).unwrap();
        let config = folder.join(format!("{mode}.ini"));
        fs::write(
            &config,
            format!(
                "[databases]\npostgres = host=127.0.0.1 port={}\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\n\
                 ignore_startup_parameters = extra_float_digits, backslash_quote, \
                 restrict_nonsystem_relation_kind\n",
                server.port,
                users.display()
            ),
        )
        .unwrap();
        for file in [&users, &config] {
            give_away(file);
        }
        let child = as_postgres("/usr/sbin/pgbouncer")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        common::until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Pooler { child, port }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
