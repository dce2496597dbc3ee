//! Functions that do unseen what a statement would be seen to do: open cursors, replace portals,
//! prepare. A policy that lets one run does not so unmask what it leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::proxy::{MASKED, Proxy, World};
use common::raw::{Client, Reply, bind, execute, extended, parse, query, sync};

const RULES: &str = "
rules:
- {name: read, action: Allow, sql: {effects: [Read], relations: ['public.*']}}
- {name: run, action: Allow, sql: {effects: [Execute], functions: ['public.*']}}";

/// Each leaves a part of a masked value behind under a name.
const FUNCTIONS: &str = "
CREATE FUNCTION open_c() RETURNS int LANGUAGE plpgsql AS $$
  DECLARE c refcursor := 'c';
  BEGIN OPEN c FOR SELECT left(email, 5) FROM public.customers; RETURN 1; END $$;
CREATE FUNCTION reopen_c() RETURNS int LANGUAGE plpgsql AS $$
  DECLARE c refcursor := 'c';
  BEGIN CLOSE c; OPEN c FOR SELECT left(email, 5) FROM public.customers; RETURN 1; END $$;
CREATE FUNCTION prepare_p() RETURNS int LANGUAGE plpgsql AS $$
  BEGIN
    EXECUTE 'DEALLOCATE p';
    EXECUTE 'PREPARE p AS SELECT left(email, 5) FROM public.customers';
    RETURN 1;
  END $$;
CREATE FUNCTION harmless() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$;
CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS $$
  BEGIN PERFORM public.prepare_p(); RETURN 1 / 0; END $$;";

fn masked() -> Proxy {
    let proxy = Proxy::start(&World {
        guardrails: MASKED,
        policies: &[RULES],
    });
    proxy.sql(FUNCTIONS);
    proxy
}

#[track_caller]
fn tells_nothing(reply: &Reply) {
    assert!(!reply.holds("ada@r"), "{:?}", reply.rows());
}

fn sends(client: &mut Client, sections: &[Vec<u8>]) -> Vec<Reply> {
    client.send(&sections.concat());
    sections.iter().map(|_| client.until_ready()).collect()
}

#[test]
fn a_cursor_that_a_function_opened_is_not_taken_for_one_before_it() {
    let proxy = masked();
    let mut client = proxy.client();
    let fetch = extended("FETCH ALL FROM c", &[]);
    client.exchange(&[parse("f", "FETCH ALL FROM c"), sync()].concat());
    for (before, function) in [("COMMIT; BEGIN", "open_c"), ("SELECT 1", "reopen_c")] {
        let run = format!("SELECT {function}()");
        for sections in [
            vec![query(&run), query("FETCH ALL FROM c")],
            vec![query(&format!("{run}; FETCH ALL FROM c"))],
            vec![query(&run), [fetch.clone(), sync()].concat()],
            vec![[extended(&run, &[]), fetch.clone(), sync()].concat()],
            vec![
                query(&run),
                [bind("", "f", &[]), execute("", 0), sync()].concat(),
            ],
            vec![
                [
                    bind("x", "f", &[]),
                    extended(&run, &[]),
                    execute("x", 0),
                    sync(),
                ]
                .concat(),
            ],
        ] {
            client.query("BEGIN").ok();
            client
                .query("DECLARE c CURSOR FOR SELECT note FROM orders")
                .ok();
            client.query(before).ok();
            for reply in sends(&mut client, &sections) {
                tells_nothing(&reply);
            }
            client.query("ROLLBACK").ok();
        }
    }
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn a_portal_that_a_function_replaced_is_not_executed() {
    let proxy = masked();
    let mut client = proxy.client();
    let bound = [parse("", "SELECT note FROM orders"), bind("c", "", &[])].concat();
    for sections in [
        vec![
            [bound.clone(), sync()].concat(),
            query("SELECT reopen_c()"),
            [execute("c", 0), sync()].concat(),
        ],
        vec![
            [
                bound.clone(),
                extended("SELECT reopen_c()", &[]),
                execute("c", 0),
                sync(),
            ]
            .concat(),
        ],
    ] {
        client.query("BEGIN").ok();
        let replies = sends(&mut client, &sections);
        replies.iter().for_each(tells_nothing);
        replies.last().unwrap().refused("CatalogChanged");
        client.query("ROLLBACK").ok();
    }
    // Its own function does not keep the rest of its rows from coming.
    client.query("BEGIN").ok();
    let text = "SELECT harmless() FROM orders";
    let section = [
        parse("", text),
        bind("rows", "", &[]),
        execute("rows", 4),
        execute("rows", 4),
        execute("rows", 0),
        sync(),
    ];
    assert_eq!(client.exchange(&section.concat()).ok().rows().len(), 10);
    client.query("COMMIT").ok();
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn a_statement_that_a_function_replaced_is_not_masked_as_the_one_before() {
    let proxy = masked();
    let mut client = proxy.client();
    let bound = [bind("", "p", &[]), execute("", 0)].concat();
    let uses = [
        query("EXECUTE p"),
        [extended("EXECUTE p", &[]), sync()].concat(),
        [bound.clone(), sync()].concat(),
        query("EXPLAIN ANALYZE EXECUTE p"),
    ];
    for function in ["prepare_p", "fails"] {
        let run = format!("SELECT {function}()");
        for used in &uses {
            client.query("PREPARE p AS SELECT note FROM orders").ok();
            client.query(&run);
            for reply in sends(&mut client, std::slice::from_ref(used)) {
                tells_nothing(&reply);
                assert_eq!(reply.error().code, "26000");
            }
            client.query("DEALLOCATE ALL").ok();
        }
    }
    for section in [
        query("SELECT prepare_p(); EXECUTE p"),
        [extended("SELECT prepare_p()", &[]), bound.clone(), sync()].concat(),
        [
            extended("SELECT prepare_p()", &[]),
            extended("EXECUTE p", &[]),
            sync(),
        ]
        .concat(),
    ] {
        client.query("PREPARE p AS SELECT note FROM orders").ok();
        let reply = client.exchange(&section);
        tells_nothing(&reply);
        reply.refused("CatalogChanged");
        client.query("DEALLOCATE ALL").ok();
    }
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn statements_that_a_function_left_alone_live_on() {
    let proxy = masked();
    let mut client = proxy.client();
    client.exchange(&[parse("m", "SELECT note FROM orders LIMIT 1"), sync()].concat());
    client.query("SELECT 1; PREPARE s AS SELECT 42").ok();
    client
        .exchange(&[extended("PREPARE e AS SELECT 43", &[]), sync()].concat())
        .ok();
    client.query("SELECT harmless()").ok();
    let bound = [bind("", "m", &[]), execute("", 0), sync()].concat();
    let reply = client.exchange(&bound).ok();
    assert_eq!(reply.value().as_deref(), Some("note 1"));
    for (name, value) in [("s", "42"), ("e", "43")] {
        let reply = client.query(&format!("EXECUTE {name}")).ok();
        assert_eq!(reply.value().as_deref(), Some(value));
    }
    // The unnamed one is out of a function's reach, and what comes after it is new.
    let section = [
        extended("SELECT harmless()", &[]),
        extended("SELECT 44", &[]),
        parse("n", "SELECT 45"),
        bind("", "n", &[]),
        execute("", 0),
        sync(),
    ];
    let reply = client.exchange(&section.concat()).ok();
    assert_eq!(reply.rows().len(), 3);
    // A failed transaction can be ended by a prepared statement.
    client
        .exchange(&[parse("r", "ROLLBACK"), sync()].concat())
        .ok();
    client.query("BEGIN").ok();
    client.query("SELECT fails()").error();
    client
        .exchange(&[bind("", "r", &[]), execute("", 0), sync()].concat())
        .ok();
    client.query("SELECT 1").ok();
    client.close();
    proxy.finish().hides_raw();
}
