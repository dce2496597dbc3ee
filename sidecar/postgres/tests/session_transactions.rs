//! What a session's transaction is: always what the server would have, whatever was denied, held,
//! cancelled or failed in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::proxy::{Proxy, World};
use common::raw::{Client, Reply, bind, cancel, execute, extended, parse, query, sync};
use common::until;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Drops are covered by nothing, deletes need a human who is not there.
const POLICY: &str = "
rules:
- {name: work, action: Allow, sql: {effects: [Read, Write], relations: [public.orders]}}
- name: deletes
  action: RequireApproval
  sql: {effects: [Delete], relations: [public.orders]}
  approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 0s, validFor: 15m}";

/// Runs until somebody stops it.
const ENDLESS: &str =
    "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b";

#[derive(Debug, Clone)]
enum Step {
    /// Writes one row.
    Good,
    /// Fails while it runs.
    Fails,
    /// Ours to refuse.
    Denied,
    /// Refused until a human has answered.
    Held,
    Begin,
    Commit,
    Rollback,
    Savepoint(u8),
    RollbackTo(u8),
    Release(u8),
}

/// What is sent at once and ends with a ReadyForQuery.
#[derive(Debug, Clone)]
enum Section {
    /// One Query with all of them.
    Simple(Vec<Step>),
    /// A pipeline of the extended protocol, and its Sync.
    Extended(Vec<Step>),
    /// A statement that is cancelled while it runs.
    Cancelled,
}

/// Through the proxy, or straight to a server, where each refusal is a failure of the same kind: of a
/// text that cannot be parsed, or of a Bind that cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Proxied,
    Direct,
}

impl Step {
    fn text(&self, way: Way, row: usize) -> String {
        match self {
            Step::Good => format!("INSERT INTO public.orders VALUES ({row}, 'new')"),
            Step::Fails => "SELECT 1 / 0".to_owned(),
            Step::Denied | Step::Held if way == Way::Direct => "NOT SQL".to_owned(),
            Step::Denied => "DROP TABLE orders".to_owned(),
            Step::Held => "DELETE FROM public.orders".to_owned(),
            Step::Begin => "BEGIN".to_owned(),
            Step::Commit => "COMMIT".to_owned(),
            Step::Rollback => "ROLLBACK".to_owned(),
            Step::Savepoint(n) => format!("SAVEPOINT s{n}"),
            Step::RollbackTo(n) => format!("ROLLBACK TO s{n}"),
            Step::Release(n) => format!("RELEASE s{n}"),
        }
    }

    fn messages(&self, way: Way, row: usize) -> Vec<u8> {
        match self {
            // Its Parse goes through; its Bind is what waits.
            Step::Held if way == Way::Direct => [
                parse("", "SELECT $1::int"),
                bind("", "", &[Some("no number")]),
                execute("", 0),
            ]
            .concat(),
            step => extended(&step.text(way, row), &[]),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Good),
        1 => Just(Step::Fails),
        3 => Just(Step::Denied),
        2 => Just(Step::Held),
        3 => Just(Step::Begin),
        1 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        2 => (0..2_u8).prop_map(Step::Savepoint),
        2 => (0..2_u8).prop_map(Step::RollbackTo),
        1 => (0..2_u8).prop_map(Step::Release),
    ]
}

fn section() -> impl Strategy<Value = Section> {
    prop_oneof![
        6 => prop::collection::vec(step(), 1..3).prop_map(Section::Simple),
        6 => prop::collection::vec(step(), 1..5).prop_map(Section::Extended),
        1 => Just(Section::Cancelled),
    ]
}

struct Side<'a> {
    way: Way,
    world: &'a Proxy,
    admin: Client,
    client: Client,
}

impl Side<'_> {
    fn new(way: Way, world: &Proxy) -> Side<'_> {
        let mut admin = world.direct();
        admin.query("DELETE FROM orders").ok();
        Side {
            way,
            world,
            admin,
            client: match way {
                Way::Proxied => world.client(),
                Way::Direct => world.direct(),
            },
        }
    }

    fn run(&mut self, section: &Section, state: char, row: usize) -> Reply {
        match section {
            Section::Simple(steps) => {
                let texts: Vec<String> = steps
                    .iter()
                    .enumerate()
                    .map(|(n, step)| step.text(self.way, row + n))
                    .collect();
                self.client.exchange(&query(&texts.join("; ")))
            }
            Section::Extended(steps) => {
                let mut bytes: Vec<u8> = steps
                    .iter()
                    .enumerate()
                    .flat_map(|(n, step)| step.messages(self.way, row + n))
                    .collect();
                bytes.extend(sync());
                self.client.exchange(&bytes)
            }
            Section::Cancelled => {
                self.client.send(&query(ENDLESS));
                // In a failed transaction it does not even begin.
                if state != 'E' {
                    self.until_it_runs();
                    let port = match self.way {
                        Way::Proxied => self.world.port,
                        Way::Direct => self.world.server.port,
                    };
                    cancel(port, &self.client.key.clone());
                }
                self.client.until_ready()
            }
        }
    }

    fn until_it_runs(&mut self) {
        let running = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state = 'active' \
             AND query LIKE '%generate_series%' AND pid <> pg_backend_pid()",
            self.world.database
        );
        until(|| self.admin.query(&running).ok().value().as_deref() == Some("1"));
    }

    /// What is there once nothing is open any more.
    fn rows(&mut self) -> Vec<Vec<Option<String>>> {
        self.client.query("ROLLBACK");
        self.admin
            .query("SELECT id FROM orders ORDER BY id")
            .ok()
            .rows()
    }
}

/// Which answers came, with what commands said they did; an error is an error.
fn shown(reply: &Reply) -> (String, Vec<String>, Option<char>) {
    (reply.tags(), reply.commands(), reply.state())
}

#[test]
fn transaction_state_is_what_the_server_has() {
    let world = World {
        policies: &[POLICY],
        ..World::default()
    };
    let (proxied, direct) = (Proxy::start(&world), Proxy::start(&world));
    let whole = std::env::var_os("CHAPERONE_FULL").is_some();
    let config = ProptestConfig {
        cases: if whole { 3000 } else { 80 },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // The same scripts in each run, and other ones where everything is tried.
    let mut runner = if whole {
        TestRunner::new(config)
    } else {
        let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        TestRunner::new_with_rng(config, seed)
    };
    let scripts = prop::collection::vec(section(), 1..9);
    runner
        .run(&scripts, |script| {
            let mut ours = Side::new(Way::Proxied, &proxied);
            let mut theirs = Side::new(Way::Direct, &direct);
            let (mut state, mut row) = ('I', 100);
            for section in &script {
                let was = theirs.run(section, state, row);
                let is = ours.run(section, state, row);
                prop_assert_eq!(
                    shown(&is),
                    shown(&was),
                    "{:?}: {:?}, at the server {:?}",
                    section,
                    is.errors(),
                    was.errors()
                );
                state = was.state().unwrap();
                row += 10;
            }
            prop_assert_eq!(ours.rows(), theirs.rows());
            Ok(())
        })
        .unwrap();
}

#[test]
fn denied_in_pipeline_answers_in_order() {
    let proxy = Proxy::start(&World {
        policies: &[POLICY],
        ..World::default()
    });
    let mut client = proxy.client();
    let good = |id: &str| extended("SELECT note FROM orders WHERE id = $1::int", &[Some(id)]);
    let denied = || extended("DROP TABLE orders", &[]);
    // Every place that a denial can have in a pipeline of three, and a second pipeline behind it.
    for place in 0..3_usize {
        let mut bytes = Vec::new();
        for n in 0..3 {
            bytes.extend(if n == place { denied() } else { good("1") });
        }
        client.send(
            &[
                bytes,
                sync(),
                good("2"),
                sync(),
                denied(),
                sync(),
                good("3"),
                sync(),
            ]
            .concat(),
        );
        let first = client.until_ready();
        assert_eq!(first.tags(), "12DC".repeat(place) + "EZ");
        first.refused("NotCovered");
        assert_eq!(client.until_ready().ok().value().as_deref(), Some("note 2"));
        assert_eq!(client.until_ready().tags(), "EZ");
        assert_eq!(client.until_ready().ok().value().as_deref(), Some("note 3"));
    }
    // The same with answers that the server is still working on, and simple queries between.
    client.send(
        &[
            good("4"),
            sync(),
            query("DROP TABLE orders"),
            query("SELECT note FROM orders WHERE id = 5"),
            denied(),
            sync(),
            query("SELECT 1 / 0"),
            good("6"),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(client.until_ready().ok().value().as_deref(), Some("note 4"));
    client.until_ready().refused("NotCovered");
    assert_eq!(client.until_ready().ok().value().as_deref(), Some("note 5"));
    client.until_ready().refused("NotCovered");
    assert_eq!(client.until_ready().error().code, "22012");
    assert_eq!(client.until_ready().ok().value().as_deref(), Some("note 6"));
    client.close();
    let evidence = proxy.finish();
    assert!(
        !evidence.server_log.contains("DROP TABLE orders"),
        "a denied statement reached the server"
    );
}

#[test]
fn a_name_behind_what_may_change_the_search_path_says_so() {
    let proxy = Proxy::start(&World {
        policies: &[POLICY],
        ..World::default()
    });
    let mut client = proxy.client();
    let reply = client.query("SET search_path = other, public; SELECT note FROM orders");
    reply.refused("SearchPathUnknown");
    client
        .query("SET search_path = other, public; SELECT note FROM public.orders")
        .ok();
}
