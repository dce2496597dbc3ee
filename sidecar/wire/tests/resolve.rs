//! Names become addresses by DNS alone, and special addresses are never targets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use chaperone_policy::Reason;
use chaperone_wire::{AllowSpecial, ConnectError, Resolver, SpecialAddress, connect};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::Instant;

const ZONE: [(&str, [u8; 4]); 5] = [
    ("db.shop.svc.cluster.test.", [10, 1, 2, 3]),
    ("rebind.test.", [127, 0, 0, 1]),
    ("metadata.test.", [169, 254, 169, 254]),
    ("mixed.test.", [10, 9, 9, 9]),
    ("mixed.test.", [127, 0, 0, 1]),
];

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A nameserver for `ZONE` that answers everything else with NXDOMAIN.
async fn nameserver() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0u8; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let query = asked.queries[0].clone();
            let name = query.name().to_ascii().to_ascii_lowercase();
            let mut answer = Message::response(asked.metadata.id, OpCode::Query);
            let mut known = false;
            for (_, [a, b, c, d]) in ZONE.iter().filter(|(zone, _)| *zone == name) {
                known = true;
                if query.query_type() == RecordType::A {
                    let data = RData::A(A::new(*a, *b, *c, *d));
                    answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                }
            }
            if !known {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            answer.add_query(query);
            socket
                .send_to(&answer.to_vec().unwrap(), peer)
                .await
                .unwrap();
        }
    });
    address
}

async fn resolver() -> Resolver {
    let address = nameserver().await;
    let mut server = NameServerConfig::udp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    let search = vec![Name::from_str("svc.cluster.test.").unwrap()];
    let mut options = ResolverOpts::default();
    options.ndots = 5;
    // Asked for, and yet never done.
    options.use_hosts_file = ResolveHosts::Always;
    options.timeout = Duration::from_secs(5);
    Resolver::with_config(
        ResolverConfig::from_parts(None, search, vec![server]),
        options,
    )
    .unwrap()
}

fn refused(result: Result<Vec<SocketAddr>, ConnectError>) -> SpecialAddress {
    match result {
        Err(error @ ConnectError::Special { .. }) => {
            assert_eq!(error.reason(), Reason::TargetUnreachable);
            match error {
                ConnectError::Special { kind, .. } => kind,
                _ => unreachable!("matched above"),
            }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_search_list_and_ndots_are_honoured() {
    let resolver = resolver().await;
    let expected = vec![SocketAddr::from(([10, 1, 2, 3], 5432))];
    for host in [
        "db.shop",
        "db.shop.svc.cluster.test",
        "db.shop.svc.cluster.test.",
        "DB.Shop",
    ] {
        let found = resolver
            .resolve(host, 5432, AllowSpecial::Nothing, soon())
            .await;
        assert_eq!(found.unwrap(), expected, "{host}");
    }
    let missing = resolver
        .resolve("nowhere.test", 5432, AllowSpecial::Nothing, soon())
        .await;
    assert!(
        matches!(missing, Err(ConnectError::Dns { .. })),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_name_that_resolves_to_a_special_address_is_refused() {
    let resolver = resolver().await;
    // Loopback by DNS is refused even where loopback may be written out: that is rebinding.
    for allow in [AllowSpecial::Nothing, AllowSpecial::LiteralLoopback] {
        for (host, kind) in [
            ("rebind.test", SpecialAddress::Loopback),
            ("mixed.test", SpecialAddress::Loopback),
            ("metadata.test", SpecialAddress::LinkLocal),
        ] {
            assert_eq!(
                refused(resolver.resolve(host, 1, allow, soon()).await),
                kind,
                "{host}"
            );
        }
    }
}

#[tokio::test]
async fn literals_need_no_dns_and_special_ones_are_refused() {
    let resolver = Resolver::new();
    let nothing = AllowSpecial::Nothing;
    for host in [
        "127.0.0.1",
        "::1",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "fe80::1",
        "[::ffff:127.0.0.1]",
    ] {
        refused(resolver.resolve(host, 1, nothing, soon()).await);
    }
    let loopback = AllowSpecial::LiteralLoopback;
    for host in ["127.0.0.1", "localhost", "LOCALHOST."] {
        let found = resolver.resolve(host, 7, loopback, soon()).await.unwrap();
        assert_eq!(
            found.first(),
            Some(&SocketAddr::from(([127, 0, 0, 1], 7))),
            "{host}"
        );
    }
    for host in ["169.254.169.254", "0.0.0.0", "fe80::1", "::"] {
        refused(resolver.resolve(host, 1, loopback, soon()).await);
    }
    let found = resolver
        .resolve("[2001:db8::5]", 9, nothing, soon())
        .await
        .unwrap();
    assert_eq!(found, vec!["[2001:db8::5]:9".parse().unwrap()]);
    assert!(matches!(
        resolver.resolve("", 9, nothing, soon()).await,
        Err(ConnectError::NotAName { .. })
    ));
}

#[tokio::test]
async fn the_hosts_file_is_never_read() {
    // In hosts mode this file points the target's name at ourselves.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
    let name = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(|line| line.split_whitespace().skip(1))
        .find(|name| !name.starts_with("localhost"))
        .map(str::to_owned);
    let Some(name) = name else {
        // A machine whose hosts file names only localhost has nothing to mistake.
        return;
    };
    let found = resolver()
        .await
        .resolve(&name, 1, AllowSpecial::Nothing, soon())
        .await;
    assert!(
        matches!(found, Err(ConnectError::Dns { .. })),
        "{name}: {found:?}"
    );
}

#[tokio::test]
async fn connecting_ends_at_its_deadline_and_says_what_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let resolver = Resolver::new();
    let loopback = AllowSpecial::LiteralLoopback;
    // `localhost` has two addresses; the one that listens is found.
    let stream = connect(&resolver, "localhost", port, loopback, soon())
        .await
        .unwrap();
    assert!(stream.nodelay().unwrap());
    assert_eq!(
        stream.peer_addr().unwrap().ip(),
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    );
    drop(listener);
    drop(stream);
    let error = connect(&resolver, "127.0.0.1", port, loopback, soon())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    // A nameserver that never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
    for connection in &mut server.connections {
        connection.port = silent.local_addr().unwrap().port();
    }
    let config = ResolverConfig::from_parts(None, vec![], vec![server]);
    let resolver = Resolver::with_config(config, ResolverOpts::default()).unwrap();
    let deadline = Instant::now() + Duration::from_millis(200);
    let error = connect(&resolver, "db.test", 1, AllowSpecial::Nothing, deadline)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::TimedOut {
                stage: "resolving",
                ..
            }
        ),
        "{error:?}"
    );
}
