#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
use chaperone_crds as crds;
use chaperone_policy::{
    Detector, NamedConnection, NamedPolicy, NamespaceLabels, PolicySet, Strategy, Subject, Workload,
};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use serde_json::{Value, json};

use super::*;
use crate::HashKey;

/// The masks of a policy with this `masking:`.
fn masking(yaml: &str) -> Masking {
    let connection: crds::ConnectionSpec =
        serde_saphyr::from_str("http: {url: \"https://a.test\"}").unwrap();
    let policy = format!("subjects: [{{serviceAccount: a}}]\nconnections: [c]\nmasking:\n{yaml}");
    let policy: crds::AccessPolicySpec = serde_saphyr::from_str(&policy).unwrap();
    let connection = NamedConnection {
        namespace: "n",
        name: "c",
        generation: 0,
        spec: &connection,
        namespaces: &NamespaceLabels::new(),
    };
    let policy = NamedPolicy {
        namespace: "n",
        name: "p",
        generation: 0,
        spec: &policy,
    };
    let subject = Subject {
        workload: Workload {
            namespace: "n".to_owned(),
            service_account: "a".to_owned(),
            pod: None,
            labels: BTreeMap::new(),
        },
        delegate: None,
        purpose: None,
    };
    let selected = PolicySet::compile(&connection, &[policy])
        .select(&subject)
        .unwrap();
    assert_eq!(selected.denies_all(), None);
    selected.masking().clone()
}

const PLACES: &str = "
- {name: email, jsonPaths: [\"$..email\"], strategy: Redact}
- {name: card, jsonPaths: [\"$.card\", \"$.orders[*].card\"], strategy: Partial, partial: {keepLast: 4}}
- {name: born, jsonPaths: [\"$.born\"], strategy: Redact, typed: Zero}
- {name: gone, jsonPaths: [\"$.gone\"], strategy: \"Null\"}";

fn stream(kind: Kind, places: &str, detectors: &[Detector]) -> StreamMask {
    let masking = match places {
        "" => Masking::default(),
        places => masking(places),
    };
    let detectors: Vec<_> = detectors.iter().map(|d| (*d, Strategy::Redact)).collect();
    let masker = Arc::new(Masker::new(HashKey::new([7; 32])));
    StreamMask::new(kind, &masking, &Detectors::new(&detectors), &masker)
}

fn run(mut stream: StreamMask, text: &[u8], cuts: &[usize]) -> Result<Vec<u8>, Unmaskable> {
    let mut out = Vec::new();
    let mut at = 0;
    for cut in cuts.iter().cycle().take(text.len() + 1) {
        let end = (at + cut.max(&1)).min(text.len());
        stream.push(&text[at..end], &mut out)?;
        at = end;
    }
    stream.finish(&mut out)?;
    Ok(out)
}

fn json_masked(text: &str) -> Result<String, Unmaskable> {
    let out = run(
        stream(Kind::Json, PLACES, &[]),
        text.as_bytes(),
        &[usize::MAX / 2],
    )?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn places_are_masked_by_the_type_of_what_is_there() {
    for (text, masked) in [
        (r#"{"email": "ann@a.test"}"#, r#"{"email": "[masked]"}"#),
        (r#"{"\u0065mail": "ann"}"#, r#"{"\u0065mail": "[masked]"}"#),
        (r#"{"card": "4111111111111234"}"#, r#"{"card": "****1234"}"#),
        (r#"{"card": 4111111111111234}"#, r#"{"card": null}"#),
        (
            r#"{"born": 19700101, "gone": "x"}"#,
            r#"{"born": 0, "gone": null}"#,
        ),
        (r#"{"born": true}"#, r#"{"born": false}"#),
        (r#"{"email": null}"#, r#"{"email": null}"#),
        (
            r#"{"email": {"a": ["x"], "email": 1}, "b": 2}"#,
            r#"{"email": "[masked]", "b": 2}"#,
        ),
        (
            r#"{"email": [], "b": [[], {}]}"#,
            r#"{"email": "[masked]", "b": [[], {}]}"#,
        ),
        (
            r#"{"orders": [{"card": "4111111111111234"}, {"x": 1}]}"#,
            r#"{"orders": [{"card": "****1234"}, {"x": 1}]}"#,
        ),
        (
            r#"{"a": {"b": [{"email": "x"}]}}"#,
            r#"{"a": {"b": [{"email": "[masked]"}]}}"#,
        ),
        (
            "{\"email\":\"a\"}\n{\"email\":\"b\"}\n",
            "{\"email\":\"[masked]\"}\n{\"email\":\"[masked]\"}\n",
        ),
        (
            r#"{"email": "a", "email": "b"}"#,
            r#"{"email": "[masked]", "email": "[masked]"}"#,
        ),
        ("12", "12"),
        ("", ""),
    ] {
        assert_eq!(json_masked(text).unwrap(), masked, "{text}");
    }
}

#[test]
fn what_is_no_json_is_given_out_no_further() {
    for text in [
        "{",
        "[",
        "\"a",
        "{\"a\"}",
        "{\"a\":}",
        "[1,]",
        "{,}",
        "[1 2]",
        "}",
        "{\"a\":1]",
        "nul",
        "01",
        "'a'",
        "<html>",
        "{\"email\": ann}",
        "[\"\u{1}\"]",
        "{\"a\" 1}",
        "{a: 1}",
    ] {
        assert!(json_masked(text).is_err(), "{text}");
    }
    assert_eq!(json_masked(&"[".repeat(5000)), Err(Unmaskable::TooDeep));
}

#[test]
fn detectors_look_through_escapes_into_names_and_numbers() {
    let text = r#"{"ann@a.test": "write to \u0061nn@a.test", "n": 4111111111111111, "x": "a@b"}"#;
    let detectors = [Detector::EmailAddress, Detector::PaymentCard];
    let out = run(stream(Kind::Json, "", &detectors), text.as_bytes(), &[3]).unwrap();
    let masked: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        masked,
        json!({"[masked]": "write to [masked]", "n": null, "x": "a@b"})
    );
}

#[test]
fn an_event_is_given_out_as_soon_as_it_is_whole() {
    let mut events = stream(Kind::Events, PLACES, &[]);
    let mut out = Vec::new();
    events
        .push(
            b": hello\r\nid: 7\ndata: {\"email\":\ndata:  \"ann\"}\n",
            &mut out,
        )
        .unwrap();
    assert_eq!(out, b"");
    events.push(b"\ndata: [DO", &mut out).unwrap();
    let first = ": hello\r\nid: 7\ndata: {\"email\":\ndata:  \"[masked]\"}\n\n";
    assert_eq!(String::from_utf8_lossy(&out), first);
    events.push(b"NE]\r\n\r\n", &mut out).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out),
        format!("{first}data: [DONE]\n\r\n")
    );
    assert_eq!(
        events.push(b"data: ann@a.test\n\n", &mut out),
        Err(Unmaskable::NotJsonEvent)
    );
    assert!(events.push(b"data: 1\n\n", &mut out).is_err());
}

#[test]
fn a_value_that_is_too_long_to_be_looked_at_ends_the_body() {
    let long = format!("{{\"email\": \"{}\"}}", "a".repeat(MAX_HELD));
    assert_eq!(json_masked(&long), Err(Unmaskable::TooLong));
    let passed = format!("{{\"picture\": \"{}\"}}", "a".repeat(MAX_HELD * 2));
    assert_eq!(json_masked(&passed).unwrap(), passed);
}

fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "email", "card", "orders", "born", "gone", "a", "b\"\\é",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z@.é\"\\\\\n]{0,12}".prop_map(Value::from),
        Just(Value::from("SECRET4111111111111234")),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5).prop_map(|members| members
                .into_iter()
                .map(|(n, v)| (n.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

/// The definition: what the places lead to is replaced in the whole document.
fn naive(value: &Value, masking: &Masking, place: &mut Vec<chaperone_policy::Place>) -> Value {
    use chaperone_policy::Place;
    if masking.json(place).is_some() {
        return Value::Null;
    }
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                place.push(Place::Index(index));
                let item = naive(item, masking, place);
                place.pop();
                item
            })
            .collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| {
                place.push(Place::Name(name.clone()));
                let member = naive(member, masking, place);
                place.pop();
                (name.clone(), member)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn masked_json_stays_valid(value in any_json(), pretty: bool, cuts in prop::collection::vec(1_usize..9, 1..9)) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let out = run(stream(Kind::Json, PLACES, &[]), text.as_bytes(), &cuts).unwrap();
        let masked: Value = serde_json::from_slice(&out).unwrap();
        // Beside the masked places nothing has changed.
        let masking = masking(PLACES);
        prop_assert_eq!(
            naive(&masked, &masking, &mut Vec::new()),
            naive(&value, &masking, &mut Vec::new())
        );
        // And how the network cuts it makes no difference.
        let whole = run(stream(Kind::Json, PLACES, &[]), text.as_bytes(), &[usize::MAX / 2]).unwrap();
        prop_assert_eq!(whole, out);
    }
}

/// Secrets, what looks like the beginning of one, and what stands between them.
const PARTS: [&str; 44] = [
    "4111 1111 1111 1111",
    "4111111111111111",
    "4111-1111-1111-11",
    "12 34 ",
    "ann@example.com",
    "né.é@exämple.org",
    "ann@",
    "@example.c",
    "DE89 3704 0044 0532 0130 00",
    "DE89370400440532013000",
    "DE89 3704 ",
    "536-90-4399",
    "536-90-",
    "+49 30 1234567",
    "(212) 555-0123",
    "212-555-0123",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl",
    "eyJhbGciOiJSUzI1NiJ9.",
    concat!("AKIA", "IOSFODNN7EXAMPLE"),
    concat!("AKIA", "IOSF"),
    concat!("wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"),
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVp\n-----END PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVp\n",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "-----",
    "\n",
    "\r\n",
    "\n\n",
    " ",
    ", ",
    "/",
    ".",
    "$ ",
    "root@pod-7d9f:/work# ",
    "\u{1b}[1;32m",
    "total 12\ndrwxr-xr-x 2 root root 4096 Jan 15 10:22 .\n",
    "hello",
    "a",
    "=",
    "日本",
    "x1",
    "aws_secret_access_key = ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_terminal_shows_what_the_whole_text_would(
        parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 1..24),
        cuts in prop::collection::vec(1_usize..12, 1..12),
    ) {
        let text = parts.concat();
        let masker = Masker::new(HashKey::new([7; 32]));
        let detectors = Detectors::new(&Detector::ALL.map(|detector| (detector, Strategy::Redact)));
        let whole = detectors.mask_text(&masker, &text, &mut Counts::default());
        let out = run(stream(Kind::Terminal, "", &Detector::ALL), text.as_bytes(), &cuts).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(&out), whole.as_ref());
        // Each alone as well: none leans on what another holds back.
        for detector in Detector::ALL {
            let alone = Detectors::new(&[(detector, Strategy::Redact)]);
            let whole = alone.mask_text(&masker, &text, &mut Counts::default());
            let out = run(stream(Kind::Terminal, "", &[detector]), text.as_bytes(), &cuts).unwrap();
            prop_assert_eq!(String::from_utf8_lossy(&out), whole.as_ref(), "{:?}", detector);
        }
    }
}

#[test]
fn a_prompt_is_shown_at_once_and_half_a_secret_never() {
    for (shown, held) in [
        ("$ ", ""),
        ("root@pod-7d9f8b:/work# ", ""),
        ("hello\nworld\n", ""),
        ("sh-5.2$ ", ""),
        ("Password: ", ""),
        (">>> ", ""),
        ("Continue? [y/N] ", ""),
        ("commit 3f786850e387550fdab836ed7e6dc881de23001b\n$ ", ""),
        ("card: ", "4111 1111 1111 1111 "),
        ("mail ", "ann@exam"),
        ("$ ", "l"),
        ("key\n", "-----BEG"),
        ("key\n", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI"),
        ("token=", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIi"),
    ] {
        let mut terminal = stream(Kind::Terminal, "", &Detector::ALL);
        let mut out = Vec::new();
        for byte in format!("{shown}{held}").bytes() {
            terminal.push(&[byte], &mut out).unwrap();
        }
        assert_eq!(String::from_utf8_lossy(&out), shown);
    }
}

#[test]
fn what_may_be_a_secret_is_held_no_longer_than_there_is_room() {
    for kind in [Kind::Terminal, Kind::Text] {
        let mut endless = stream(kind, "", &[Detector::PrivateKey]);
        let mut out = Vec::new();
        let mut result = endless.push(b"-----BEGIN PRIVATE KEY-----\n", &mut out);
        let mut pushed = 0;
        while result.is_ok() && pushed < MAX_HELD {
            result = endless.push(&[b'A'; 4096], &mut out);
            pushed += 4096;
        }
        assert_eq!(
            (result, out.len()),
            (Err(Unmaskable::TooLong), 0),
            "{kind:?}"
        );
    }
    // What is long and no secret is shown.
    let mut long = stream(Kind::Terminal, "", &Detector::ALL);
    let mut out = Vec::new();
    for _ in 0..64 {
        long.push(&[b'A'; 4096], &mut out).unwrap();
    }
    assert!(out.len() > 64 * 4096 - 1024, "{}", out.len());
}

proptest! {
    // Each is scanned several times over.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_match_across_a_cut_is_found(
        before in "[a-z ]{0,40}",
        padding in 0_usize..40_000,
        cuts in prop::collection::vec(1_usize..20_000, 1..5),
    ) {
        let text = format!("{}{before} ann@example.com {}", "x ".repeat(padding), "y ".repeat(20_000 - padding / 2));
        let out = run(stream(Kind::Text, "", &[Detector::EmailAddress]), text.as_bytes(), &cuts).unwrap();
        prop_assert_eq!(String::from_utf8(out).unwrap(), text.replace("ann@example.com", "[masked]"));
    }
}
