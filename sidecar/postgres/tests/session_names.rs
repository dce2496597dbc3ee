//! A name never means something here that it does not mean at the server: prepared statements,
//! portals and cursors under errors, pipelines and reuse.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::proxy::{ALL, MASKED, Proxy, World};
use common::raw::{bind, close, execute, extended, parse, query, sync};

/// Deletes need a human, who is not there.
const HELD: &str = "
rules:
- {name: read, action: Allow, sql: {effects: [Read], relations: ['public.*', 'other.*']}}
- name: deletes
  action: RequireApproval
  sql: {effects: [Delete], relations: [public.orders]}
  approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 0s, validFor: 15m}";

/// Functions of the database may run too.
const FUNCTIONS: &str = "
rules:
- {name: own, action: Allow, sql: {effects: [Execute], functions: ['public.*']}}";

const DELETE: &str = "DELETE FROM orders";

fn held() -> Proxy {
    Proxy::start(&World {
        policies: &[HELD],
        ..World::default()
    })
}

fn masked() -> Proxy {
    Proxy::start(&World {
        guardrails: MASKED,
        policies: &[ALL],
    })
}

#[track_caller]
fn nothing_was_deleted(proxy: &Proxy) {
    assert_eq!(proxy.sql("SELECT count(*) FROM orders"), "10");
}

/// Sends everything at once, as a pipelining client does, and reads as many replies.
fn pipelined(client: &mut common::raw::Client, sections: &[Vec<u8>]) -> Vec<common::raw::Reply> {
    client.send(&sections.concat());
    sections.iter().map(|_| client.until_ready()).collect()
}

#[test]
fn a_held_statement_never_runs_under_a_name_whose_change_was_skipped() {
    let proxy = held();
    let mut client = proxy.client();
    client.exchange(&[parse("p", DELETE), sync()].concat()).ok();
    let replies = pipelined(
        &mut client,
        &[
            [
                parse("n", "SELECT nosuch FROM orders"),
                close(b'S', "p"),
                parse("p", "SELECT 1"),
                sync(),
            ]
            .concat(),
            [bind("", "p", &[]), execute("", 0), sync()].concat(),
        ],
    );
    nothing_was_deleted(&proxy);
    replies[1].refused("ApprovalPending");
    assert_eq!(client.query("SELECT 1").ok().state(), Some('I'));
}

#[test]
fn a_held_unnamed_statement_never_runs_for_one_that_was_skipped() {
    let proxy = held();
    let mut client = proxy.client();
    client.exchange(&[parse("", DELETE), sync()].concat()).ok();
    pipelined(
        &mut client,
        &[
            [
                parse("n", "SELECT nosuch FROM orders"),
                parse("", "SELECT 1"),
                sync(),
            ]
            .concat(),
            [bind("", "", &[]), execute("", 0), sync()].concat(),
        ],
    );
    nothing_was_deleted(&proxy);
}

#[test]
fn a_name_that_failed_to_be_made_takes_the_next_ones_meaning() {
    let proxy = held();
    let mut client = proxy.client();
    pipelined(
        &mut client,
        &[
            [parse("p", "SELECT 'x'::int"), sync()].concat(),
            [
                parse("p", DELETE),
                bind("", "p", &[]),
                execute("", 0),
                sync(),
            ]
            .concat(),
        ],
    );
    nothing_was_deleted(&proxy);
    client.query("SELECT 1").ok();
}

#[test]
fn a_name_longer_than_the_server_keeps_is_refused() {
    let proxy = held();
    let mut client = proxy.client();
    let (one, two) = ("n".repeat(63) + "1", "n".repeat(63) + "2");
    for bytes in [
        [parse(&one, DELETE), sync()].concat(),
        [close(b'S', &two), sync()].concat(),
        [parse(&two, "SELECT 1"), sync()].concat(),
        [close(b'S', &one), sync()].concat(),
        [parse(&one, DELETE), sync()].concat(),
        [bind("", &two, &[]), execute("", 0), sync()].concat(),
    ] {
        client.exchange(&bytes);
    }
    nothing_was_deleted(&proxy);
    let short = "n".repeat(63);
    client
        .exchange(&[parse(&short, "SELECT 1"), bind("", &short, &[]), sync()].concat())
        .ok();
}

#[test]
fn a_portal_runs_what_its_execute_named_when_it_was_bound() {
    let proxy = held();
    let mut client = proxy.client();
    client.query("PREPARE p AS SELECT 1").ok();
    client.query("BEGIN").ok();
    client
        .exchange(&[parse("e", "EXECUTE p"), bind("x", "e", &[]), sync()].concat())
        .ok();
    client.query("DEALLOCATE p").ok();
    client.exchange(&[parse("p", DELETE), sync()].concat()).ok();
    client.exchange(&[execute("x", 0), sync()].concat());
    client.query("COMMIT");
    nothing_was_deleted(&proxy);
}

#[test]
fn an_execute_anywhere_in_a_statement_is_decided_by_what_it_runs_now() {
    let proxy = held();
    let mut client = proxy.client();
    for text in ["EXPLAIN ANALYZE EXECUTE p", "EXPLAIN (ANALYZE) EXECUTE p"] {
        client.query("PREPARE p AS SELECT 1").ok();
        client.query(text).ok();
        client.exchange(&[parse("e", text), sync()].concat()).ok();
        client.query("DEALLOCATE p").ok();
        client.exchange(&[parse("p", DELETE), sync()].concat()).ok();
        client.query(text);
        client.exchange(&[bind("", "e", &[]), execute("", 0), sync()].concat());
        nothing_was_deleted(&proxy);
        client.exchange(&[close(b'S', "p"), close(b'S', "e"), sync()].concat());
        let unknown = client.query(text).error();
        assert_eq!(unknown.code, "26000", "{unknown:?}");
    }
}

#[test]
fn a_name_changed_by_a_query_still_running_is_waited_for() {
    let proxy = held();
    let mut client = proxy.client();
    client.exchange(&[parse("p", DELETE), sync()].concat()).ok();
    pipelined(
        &mut client,
        &[
            query("SELECT 1/0; DEALLOCATE p; PREPARE p AS SELECT 1"),
            query("EXECUTE p"),
        ],
    );
    nothing_was_deleted(&proxy);
    // The same in the extended protocol, and with the name used by Bind.
    pipelined(
        &mut client,
        &[
            query("SELECT 1/0; DEALLOCATE p; PREPARE p AS SELECT 1"),
            [
                parse("", "SELECT 2"),
                bind("", "p", &[]),
                execute("", 0),
                sync(),
            ]
            .concat(),
        ],
    );
    nothing_was_deleted(&proxy);
    let replies = pipelined(
        &mut client,
        &[
            query("DEALLOCATE p; PREPARE p AS SELECT 41"),
            query("EXECUTE p"),
            [bind("", "p", &[]), execute("", 0), sync()].concat(),
        ],
    );
    assert_eq!(replies[1].value().as_deref(), Some("41"));
    assert_eq!(replies[2].value().as_deref(), Some("41"));
}

#[test]
fn names_prepared_in_one_pipeline_are_known_in_it() {
    let proxy = held();
    let mut client = proxy.client();
    let reply = client
        .exchange(
            &[
                extended("PREPARE p AS SELECT 42", &[]),
                extended("EXECUTE p", &[]),
                extended("DEALLOCATE p", &[]),
                sync(),
            ]
            .concat(),
        )
        .ok();
    assert_eq!(reply.value().as_deref(), Some("42"));
    let reply = client.query("PREPARE p AS SELECT 43; EXECUTE p").ok();
    assert_eq!(reply.value().as_deref(), Some("43"));
    let reply = client.exchange(
        &[
            parse("", "DEALLOCATE ALL"),
            bind("", "", &[]),
            execute("", 0),
            bind("", "p", &[]),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(reply.error().code, "26000");
}

#[test]
fn sections_of_one_pipeline_keep_their_names_apart() {
    let proxy = held();
    let mut client = proxy.client();
    let replies = pipelined(
        &mut client,
        &[
            [parse("a", "SELECT nosuch"), parse("p", "SELECT 1"), sync()].concat(),
            [
                close(b'S', "p"),
                parse("p", "SELECT 2"),
                bind("", "p", &[]),
                execute("", 0),
                sync(),
            ]
            .concat(),
            [bind("", "p", &[]), execute("", 0), sync()].concat(),
            [extended("SELECT 3", &[]), sync()].concat(),
        ],
    );
    assert_eq!(replies[0].tags(), "EZ");
    assert_eq!(replies[1].value().as_deref(), Some("2"));
    assert_eq!(replies[2].value().as_deref(), Some("2"));
    assert_eq!(replies[3].value().as_deref(), Some("3"));
}

#[test]
fn a_fetch_is_masked_as_the_cursor_it_reads_now() {
    let proxy = masked();
    let mut client = proxy.client();
    client.query("BEGIN").ok();
    client
        .query("DECLARE c CURSOR FOR SELECT name FROM customers")
        .ok();
    client
        .exchange(&[parse("f", "FETCH ALL FROM c"), sync()].concat())
        .ok();
    client
        .query("CLOSE c; DECLARE c CURSOR FOR SELECT email FROM customers")
        .ok();
    let reply = client.exchange(&[bind("", "f", &[]), execute("", 0), sync()].concat());
    assert!(!reply.holds("raw.example"), "{:?}", reply.rows());
    client.query("ROLLBACK").ok();
    // Bound before, executed after.
    client.query("BEGIN").ok();
    client
        .query("DECLARE c CURSOR FOR SELECT name FROM customers")
        .ok();
    client
        .exchange(&[bind("x", "f", &[]), sync()].concat())
        .ok();
    client
        .query("CLOSE c; DECLARE c CURSOR FOR SELECT email FROM customers")
        .ok();
    let reply = client.exchange(&[execute("x", 0), sync()].concat());
    assert!(!reply.holds("raw.example"), "{:?}", reply.rows());
    client.query("ROLLBACK").ok();
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn a_portal_with_a_cursors_name_is_masked_as_the_portal() {
    let proxy = masked();
    let mut client = proxy.client();
    client.query("BEGIN").ok();
    client
        .query("DECLARE c CURSOR FOR SELECT note FROM orders")
        .ok();
    let reply = client.exchange(
        &[
            close(b'P', "c"),
            parse("", "SELECT email || '!' FROM customers"),
            bind("c", "", &[]),
            sync(),
        ]
        .concat(),
    );
    reply.ok();
    let reply = client.query("FETCH ALL FROM c");
    assert!(!reply.holds("raw.example"), "{:?}", reply.rows());
    client.close();
    proxy.finish().hides_raw();
}

/// A part of a masked value, which is masked whole: no column says where it comes from.
const PART: &str = "SELECT left(email, 5) FROM public.customers";

/// Whether a reply holds what [`PART`] would give away.
#[track_caller]
fn tells_nothing(reply: &common::raw::Reply) {
    assert!(!reply.holds("ada@r"), "{:?}", reply.rows());
}

#[test]
fn a_portal_is_masked_as_itself_where_a_cursor_of_its_name_has_ended() {
    let proxy = masked();
    for end in ["COMMIT", "ROLLBACK"] {
        let mut client = proxy.client();
        client.query("BEGIN").ok();
        client.query("DECLARE c CURSOR FOR SELECT 1").ok();
        client.query(end).ok();
        let section = [
            parse("", PART),
            bind("c", "", &[]),
            extended("FETCH ALL FROM c", &[]),
            sync(),
        ];
        let reply = client.exchange(&section.concat()).ok();
        assert_eq!(reply.rows().len(), 2);
        tells_nothing(&reply);
        client.query("BEGIN").ok();
        let bound = [parse("", PART), bind("c", "", &[]), sync()].concat();
        client.exchange(&bound).ok();
        let reply = client.query("FETCH ALL FROM c").ok();
        assert_eq!(reply.rows().len(), 2);
        tells_nothing(&reply);
        client.query("ROLLBACK").ok();
        client.close();
    }
    proxy.finish().hides_raw();
}

#[test]
fn a_cursor_is_masked_as_itself_where_a_portal_had_its_name() {
    let proxy = masked();
    let mut client = proxy.client();
    client.query("BEGIN").ok();
    let bound = [parse("", "SELECT 1"), bind("c", "", &[]), sync()].concat();
    client.exchange(&bound).ok();
    let declare = format!("DECLARE c CURSOR FOR {PART}");
    // In one Query, in one pipeline, and in a transaction of its own.
    let reply = client.query(&format!("CLOSE c; {declare}; FETCH 1 FROM c"));
    assert_eq!(reply.clone().ok().rows().len(), 1);
    tells_nothing(&reply);
    let section = [
        close(b'P', "c"),
        parse("", "SELECT 1"),
        bind("c", "", &[]),
        extended("CLOSE c", &[]),
        extended(&declare, &[]),
        extended("FETCH 1 FROM c", &[]),
        sync(),
    ];
    let reply = client.exchange(&section.concat());
    assert_eq!(reply.clone().ok().rows().len(), 1);
    tells_nothing(&reply);
    client.exchange(&[close(b'P', "c"), sync()].concat()).ok();
    client.exchange(&bound).ok();
    let reply = client.query(&format!("COMMIT; BEGIN; {declare}; FETCH 1 FROM c"));
    assert_eq!(reply.clone().ok().rows().len(), 1);
    tells_nothing(&reply);
    client.query("ROLLBACK").ok();
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn a_held_cursor_is_masked_after_its_transaction() {
    let proxy = masked();
    let mut client = proxy.client();
    client.query("BEGIN").ok();
    client
        .query(&format!("DECLARE c CURSOR WITH HOLD FOR {PART}"))
        .ok();
    client.query("COMMIT").ok();
    let reply = client.query("FETCH 1 FROM c").ok();
    assert_eq!(reply.rows().len(), 1);
    tells_nothing(&reply);
    // A CLOSE stands though its transaction is rolled back, and a DECLARE does not.
    client.query("BEGIN").ok();
    client.query("CLOSE c").ok();
    client.query("DECLARE c CURSOR WITH HOLD FOR SELECT 1").ok();
    client.query("ROLLBACK").ok();
    assert_eq!(client.query("FETCH 1 FROM c").error().code, "34000");
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn an_execute_is_masked_as_what_its_own_pipeline_prepared() {
    let proxy = masked();
    let mut client = proxy.client();
    let prepare = format!("PREPARE p AS {PART}");
    let drop = "DEALLOCATE p";
    for known in [query("PREPARE p AS SELECT 'x'"), {
        [parse("p", "SELECT 'x'"), sync()].concat()
    }] {
        client.exchange(&known).ok();
        let section = [
            extended(drop, &[]),
            extended(&prepare, &[]),
            extended("EXECUTE p", &[]),
            bind("", "p", &[]),
            execute("", 0),
            sync(),
        ];
        let reply = client.exchange(&section.concat()).ok();
        assert_eq!(reply.rows().len(), 4);
        tells_nothing(&reply);
        client.query(drop).ok();
        client.exchange(&known).ok();
        let reply = client.query(&format!("{drop}; {prepare}; EXECUTE p")).ok();
        assert_eq!(reply.rows().len(), 2);
        tells_nothing(&reply);
        client.query(drop).ok();
    }
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn what_was_prepared_stays_prepared_when_its_transaction_fails() {
    let proxy = masked();
    let mut client = proxy.client();
    let prepare = format!("DEALLOCATE p; PREPARE p AS {PART}");
    let undone = "DEALLOCATE p; PREPARE p AS SELECT 'x'";
    for fails in [
        vec![query("BEGIN"), query(&prepare), query("ROLLBACK")],
        vec![query(&format!("{prepare}; SELECT 1/0; {undone}"))],
        vec![
            [
                extended("DEALLOCATE p", &[]),
                extended(&format!("PREPARE p AS {PART}"), &[]),
                extended("SELECT 1/0", &[]),
                extended("DEALLOCATE p", &[]),
                extended("PREPARE p AS SELECT 'x'", &[]),
                sync(),
            ]
            .concat(),
        ],
    ] {
        client.query("PREPARE p AS SELECT 'x'").ok();
        let mut sections = fails;
        sections.push(query("EXECUTE p"));
        sections.push([bind("", "p", &[]), execute("", 0), sync()].concat());
        let replies = pipelined(&mut client, &sections);
        for reply in replies.iter().rev().take(2) {
            assert_eq!(reply.clone().ok().rows().len(), 2);
            tells_nothing(reply);
        }
        client.query("DEALLOCATE p").ok();
    }
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn a_portal_from_before_a_savepoint_is_masked_as_itself() {
    let proxy = masked();
    let mut client = proxy.client();
    client.query("BEGIN").ok();
    client
        .exchange(
            &[
                parse("", "SELECT email || '!' FROM customers"),
                bind("a", "", &[]),
                sync(),
            ]
            .concat(),
        )
        .ok();
    client.query("SAVEPOINT s").ok();
    let replies = pipelined(
        &mut client,
        &[
            [
                parse("", "SELECT nosuch"),
                close(b'P', "a"),
                parse("", "SELECT note FROM orders"),
                bind("a", "", &[]),
                sync(),
            ]
            .concat(),
            query("ROLLBACK TO s"),
            [execute("a", 0), sync()].concat(),
        ],
    );
    assert!(!replies[2].holds("raw.example"), "{:?}", replies[2].rows());
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn a_prepared_read_is_masked_by_the_table_it_reads_now() {
    let proxy = masked();
    let mut client = proxy.client();
    client.query("SET search_path = other").ok();
    client
        .exchange(
            &[
                parse(
                    "s",
                    "SELECT t.email FROM customers t, other.customers x, public.customers y",
                ),
                sync(),
            ]
            .concat(),
        )
        .ok();
    client.query("SET search_path = public").ok();
    let reply = client.exchange(&[bind("", "s", &[]), execute("", 0), sync()].concat());
    assert!(!reply.holds("raw.example"), "{:?}", reply.rows());
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn many_names_in_turn_are_not_too_many() {
    let proxy = held();
    let mut client = proxy.client();
    for number in 0..120 {
        let section: Vec<u8> = (0..100)
            .flat_map(|n| {
                let name = format!("p{number}_{n}");
                [
                    parse("", "SELECT 1"),
                    bind(&name, "", &[]),
                    execute(&name, 0),
                ]
                .concat()
            })
            .collect();
        client.exchange(&[section, sync()].concat()).ok();
    }
}

#[test]
fn a_cursor_that_a_function_opened_is_masked_whatever_had_its_name() {
    let proxy = Proxy::start(&World {
        guardrails: MASKED,
        policies: &[ALL, FUNCTIONS],
    });
    proxy.sql(
        "CREATE FUNCTION reopen(r refcursor) RETURNS refcursor LANGUAGE plpgsql AS $$
         BEGIN
           BEGIN CLOSE r; EXCEPTION WHEN invalid_cursor_name THEN NULL; END;
           OPEN r FOR SELECT left(email, 15) FROM customers;
           RETURN r;
         END $$",
    );
    let declare = "DECLARE c CURSOR FOR SELECT 'harmless'";
    let hold = "DECLARE c CURSOR WITH HOLD FOR SELECT 'harmless'";
    let before: [&[&str]; 5] = [
        &["BEGIN"],
        &["BEGIN", declare, "COMMIT", "BEGIN"],
        &["BEGIN", hold, "ROLLBACK", "BEGIN"],
        &["BEGIN", "SAVEPOINT s", declare, "ROLLBACK TO s"],
        &["BEGIN", declare],
    ];
    for statements in before {
        let mut client = proxy.client();
        for statement in statements {
            client.query(statement).ok();
        }
        client.query("SELECT reopen('c')").ok();
        let reply = client.query("FETCH ALL FROM c").ok();
        assert_eq!(reply.rows().len(), 2, "after {statements:?}");
        assert!(!reply.holds("ada@raw"), "after {statements:?}");
        client.close();
    }
}
