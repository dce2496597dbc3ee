//! COPY both ways: its place among other messages, its masks, its refusals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use chaperone_evidence::{OutcomeStatus, Record};
use common::proxy::{ALL, MASKED, Proxy, World};
use common::raw::{bind, copy_data, copy_done, execute, extended, message, parse, query, sync};
use common::until;

fn plain() -> Proxy {
    Proxy::start(&World {
        policies: &[ALL],
        ..World::default()
    })
}

fn masked() -> Proxy {
    Proxy::start(&World {
        guardrails: MASKED,
        policies: &[ALL],
    })
}

fn loaded(proxy: &Proxy) -> String {
    proxy.sql("SELECT count(*) FROM unlimited")
}

#[test]
fn the_end_of_copy_data_and_sync_may_come_together() {
    let proxy = plain();
    let mut client = proxy.client();
    client.send(&[extended("COPY unlimited FROM STDIN", &[]), sync()].concat());
    client.until(b'G');
    let reply = client
        .exchange(&[copy_data(b"one\n"), copy_done(), sync()].concat())
        .ok();
    assert_eq!(reply.commands(), ["COPY 1"]);
    assert_eq!(loaded(&proxy), "1");
    client.query("SELECT 1").ok();
    client.close();
    proxy.finish();
}

#[test]
fn a_whole_copy_may_come_at_once() {
    let proxy = plain();
    let mut client = proxy.client();
    let reply = client
        .exchange(
            &[
                query("COPY unlimited FROM STDIN"),
                copy_data(b"one\ntwo\n"),
                copy_done(),
            ]
            .concat(),
        )
        .ok();
    assert_eq!(reply.commands(), ["COPY 2"]);
    let reply = client
        .exchange(
            &[
                extended("COPY unlimited FROM STDIN", &[]),
                copy_data(b"three\n"),
                copy_done(),
                sync(),
            ]
            .concat(),
        )
        .ok();
    assert_eq!(reply.commands(), ["COPY 1"]);
    assert_eq!(loaded(&proxy), "3");
}

#[test]
fn a_statement_may_follow_the_end_of_copy_data_at_once() {
    let proxy = plain();
    let mut client = proxy.client();
    client.send(&query("COPY unlimited FROM STDIN"));
    client.until(b'G');
    client.send(&[copy_data(b"one\n"), copy_done(), query("SELECT 5")].concat());
    assert_eq!(client.until_ready().ok().commands(), ["COPY 1"]);
    assert_eq!(client.until_ready().ok().value().as_deref(), Some("5"));
}

#[test]
fn two_copies_in_one_query_take_their_data_in_turn() {
    let proxy = plain();
    let mut client = proxy.client();
    client.send(&query(
        "COPY unlimited FROM STDIN; SELECT 1; COPY unlimited FROM STDIN",
    ));
    client.until(b'G');
    client.send(&[copy_data(b"one\n"), copy_done()].concat());
    client.until(b'G');
    client.send(&[copy_data(b"two\nthree\n"), copy_done()].concat());
    let reply = client.until_ready().ok();
    assert_eq!(reply.commands(), ["COPY 2"]);
    assert_eq!(loaded(&proxy), "3");
}

#[test]
fn a_command_in_the_middle_of_copy_data_ends_the_session() {
    let proxy = plain();
    for bytes in [
        query("SELECT 1"),
        [parse("", "SELECT 1"), sync()].concat(),
        message(b'C', b"Sx\0"),
    ] {
        let mut client = proxy.client();
        client.send(&query("COPY unlimited FROM STDIN"));
        client.until(b'G');
        client.send(&bytes);
        let reply = client.until_end();
        assert_eq!(reply.errors().last().unwrap().code, "08P01", "{reply:?}");
    }
    until(|| {
        proxy.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND pid <> pg_backend_pid() AND state = 'active'") == "0"
    });
    assert_eq!(loaded(&proxy), "0");
    proxy.finish();
}

#[test]
fn copy_data_that_nobody_asked_for_is_dropped_and_the_session_lives() {
    let proxy = plain();
    let mut client = proxy.client();
    client.send(&[copy_data(b"stray\n"), copy_done()].concat());
    assert_eq!(client.query("SELECT 7").ok().value().as_deref(), Some("7"));
    // The COPY fails, its data is in the pipe already.
    let reply = client.exchange(
        &[
            query("COPY nosuch FROM STDIN"),
            copy_data(b"lost\n"),
            copy_done(),
        ]
        .concat(),
    );
    assert_eq!(reply.errors().len(), 1);
    assert_eq!(client.query("SELECT 8").ok().value().as_deref(), Some("8"));
    client.close();
    proxy.finish();
}

/// Each way to load a mark, in the pieces given.
fn refuses(proxy: &Proxy, copy: &str, pieces: &[&[u8]]) {
    let before = loaded(proxy);
    for extended_protocol in [false, true] {
        let mut client = proxy.client();
        // Partial marks are only known to sessions that were sent them.
        client.query("SELECT card FROM customers").ok();
        if extended_protocol {
            client.send(&[extended(copy, &[]), sync()].concat());
        } else {
            client.send(&query(copy));
        }
        client.until(b'G');
        for piece in pieces {
            client.send(&copy_data(piece));
        }
        client.send(&copy_done());
        if extended_protocol {
            client.send(&sync());
        }
        client.until_ready().refused("MaskedWriteBack");
        assert_eq!(client.query("SELECT 9").ok().value().as_deref(), Some("9"));
        client.close();
    }
    assert_eq!(loaded(proxy), before);
}

#[test]
fn a_mark_is_never_loaded_however_it_is_cut() {
    let proxy = masked();
    let text = "COPY unlimited FROM STDIN";
    refuses(&proxy, text, &[b"fine\n", b"[masked]\n"]);
    refuses(&proxy, text, &[b"fine\n[mas", b"ked]\n"]);
    let single: Vec<[u8; 1]> = b"x[masked Email #1]y\n".iter().map(|b| [*b]).collect();
    let single: Vec<&[u8]> = single.iter().map(|b| &b[..]).collect();
    refuses(&proxy, text, &single);
    refuses(&proxy, text, &[b"****4", b"242\n"]);
    refuses(
        &proxy,
        "COPY unlimited FROM STDIN (DELIMITER '#')",
        &[b"****4242\n"],
    );
    refuses(
        &proxy,
        "COPY unlimited FROM STDIN (FORMAT csv, QUOTE '~')",
        &[b"~****4242~\n"],
    );
}

#[test]
fn a_mark_is_never_loaded_in_binary() {
    let proxy = masked();
    let mut data = b"PGCOPY\n\xff\r\n\0".to_vec();
    data.extend([0; 8]);
    for value in [&b"plain"[..], b"****4242"] {
        data.extend(1_i16.to_be_bytes());
        data.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        data.extend(value);
    }
    data.extend((-1_i16).to_be_bytes());
    let (one, two) = data.split_at(data.len() - 6);
    refuses(
        &proxy,
        "COPY unlimited FROM STDIN (FORMAT binary)",
        &[one, two],
    );
}

#[test]
fn copy_out_is_masked_in_text_and_csv_and_refused_in_binary() {
    let proxy = masked();
    let mut client = proxy.client();
    for copy in [
        "COPY customers TO STDOUT",
        "COPY customers TO STDOUT (FORMAT csv, HEADER)",
        "COPY customers (email, id) TO STDOUT (DELIMITER '@')",
        "COPY (SELECT email, id FROM customers) TO STDOUT",
        "COPY (SELECT * FROM customers) TO STDOUT (FORMAT csv, FORCE_QUOTE *)",
        "COPY customers TO STDOUT (ENCODING 'LATIN1')",
        "COPY customers TO STDOUT (ENCODING 'SJIS')",
    ] {
        let reply = client.query(copy);
        assert!(!reply.holds("raw.example"), "{copy}: {reply:?}");
        assert!(!reply.holds("42424242"), "{copy}: {reply:?}");
    }
    client
        .query("COPY customers TO STDOUT (FORMAT binary)")
        .refused("MaskUnsupported");
    let reply = client
        .exchange(&[extended("COPY customers TO STDOUT", &[]), sync()].concat())
        .ok();
    assert!(!reply.holds("raw.example"));
    client.close();
    proxy.finish().hides_raw();
}

#[test]
fn a_refused_copy_is_in_the_record_and_its_data_is_not() {
    let proxy = masked();
    let mut client = proxy.client();
    client.send(&query("COPY customers FROM STDIN"));
    client.until(b'G');
    client.send(&copy_data(b"9\tx\tada@raw.example\t[masked]\n"));
    client.send(&copy_data(b"8\tx\tgrace@raw.example\t4242424242424242\n"));
    client.send(&copy_done());
    client.until_ready().refused("MaskedWriteBack");
    client.close();
    let evidence = proxy.finish();
    evidence.hides_raw();
    let refusals = evidence.only().iter().filter(|shown| {
        matches!(&shown.record, Record::Intent(intent)
            if intent.intent.decision.reason == chaperone_policy::Reason::MaskedWriteBack)
    });
    assert_eq!(refusals.count(), 1);
    let failed = evidence.only().iter().any(|shown| {
        matches!(&shown.record, Record::Outcome(outcome) if outcome.status == OutcomeStatus::Failed)
    });
    assert!(failed);
}

/// Masks only, no Write any more.
const READ: &str =
    "rules: [{name: r, action: Allow, sql: {effects: [Read], relations: ['public.*']}}]";

#[test]
fn a_policy_change_refuses_a_running_copy_and_the_session_lives() {
    let proxy = plain();
    let mut client = proxy.client();
    client.send(&query("COPY unlimited FROM STDIN"));
    client.until(b'G');
    client.send(&copy_data(b"one\n"));
    proxy.change(&World {
        policies: &[READ],
        ..World::default()
    });
    let error = client.until(b'E');
    error.refused("PolicyChanged");
    client.send(&[copy_data(b"two\n"), copy_done()].concat());
    client.until(b'Z');
    assert_eq!(loaded(&proxy), "0");
    assert_eq!(client.query("SELECT 3").ok().value().as_deref(), Some("3"));
    client.close();
    proxy.finish();
}

#[test]
fn a_policy_change_stops_a_running_copy_out_and_the_session_lives() {
    let proxy = plain();
    let mut client = proxy.client();
    client.send(&query(
        "COPY (SELECT repeat('x', 1000) FROM orders, generate_series(1, 10000000)) TO STDOUT",
    ));
    client.until(b'd');
    proxy.change(&World {
        policies: &[READ],
        ..World::default()
    });
    let reply = client.until(b'E');
    let mut refused = reply;
    refused.0.retain(|message| message.tag == b'E');
    refused.refused("PolicyChanged");
    client.until(b'Z');
    assert_eq!(client.query("SELECT 3").ok().value().as_deref(), Some("3"));
    client.close();
    proxy.finish();
}

#[test]
fn bound_copies_are_commands_like_others() {
    let proxy = masked();
    let mut client = proxy.client();
    client
        .exchange(&[parse("c", "COPY customers TO STDOUT"), sync()].concat())
        .ok();
    for _ in 0..2 {
        let reply = client
            .exchange(&[bind("", "c", &[]), execute("", 0), sync()].concat())
            .ok();
        assert!(!reply.holds("raw.example"));
    }
}
