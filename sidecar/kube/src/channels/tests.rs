#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_mask::{Counts, Detectors, HashKey, Masker};
use chaperone_policy::{Detector, Reason, Strategy};
use proptest::prelude::*;

use super::*;

fn masks(agent: bool, record: bool) -> TextMasks {
    let detectors = || Detectors::new(&Detector::ALL.map(|detector| (detector, Strategy::Redact)));
    TextMasks {
        agent: agent.then(detectors),
        record: record.then(detectors),
        masker: Arc::new(Masker::new(HashKey::new([7; 32]))),
    }
}

fn message(channel: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![0x82, 0x7e];
    bytes.extend((u16::try_from(text.len() + 1).unwrap()).to_be_bytes());
    bytes.push(channel);
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn how_a_command_ended_is_read_however_it_is_cut() {
    let failed = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
    for (text, told) in [
        (
            r#"{"metadata":{},"status":"Success"}"#,
            ("exit 0".to_owned(), true),
        ),
        (failed, ("exit 3".to_owned(), false)),
        (
            r#"{"status":"Failure","message":"no such container"}"#,
            ("failed".to_owned(), false),
        ),
        ("command terminated", ("failed".to_owned(), false)),
    ] {
        for step in [1, 5, 4096] {
            let mut channels = Channels::new("v5.channel.k8s.io", &masks(false, false)).unwrap();
            // Output that looks like an end is none.
            let mut bytes = message(1, r#"{"status":"Success"}"#);
            bytes.extend(message(ERROR, text));
            let mut recorded = Vec::new();
            for part in bytes.chunks(step) {
                recorded.extend(channels.down(part).unwrap().record);
            }
            assert_eq!(channels.ended(), Some(told.clone()), "{text}");
            assert_eq!(recorded, bytes);
        }
    }
    let mut tunnel = Channels::new("SPDY/3.1+portforward.k8s.io", &masks(false, false)).unwrap();
    tunnel.down(&message(ERROR, failed)).unwrap();
    assert_eq!(tunnel.ended(), None);
}

#[test]
fn a_command_that_is_ended_says_why_unless_half_a_message_was_sent() {
    let denial = Denial::new(Reason::MaskUnsupported, "too long a secret");
    let told = |channels: &Channels| {
        let frames = channels.farewell(&denial);
        let said = read(&frames);
        assert!(frames.is_empty() || frames.ends_with(&[0x88, 2, 0x03, 0xe8]));
        said.get(&ERROR).map(|(text, _)| text.clone())
    };
    for armed in [false, true] {
        let mut channels = Channels::new("v5.channel.k8s.io", &masks(armed, false)).unwrap();
        let status: serde_json::Value = serde_json::from_str(&told(&channels).unwrap()).unwrap();
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["message"], "MaskUnsupported: too long a secret");
        // The agent got what came as it came, or frames of ours.
        let output = message(STDOUT, "some output");
        let (half, rest) = output.split_at(7);
        channels.down(half).unwrap();
        assert_eq!(told(&channels).is_some(), armed);
        channels.down(rest).unwrap();
        assert!(told(&channels).is_some());
        channels
            .down(&message(ERROR, r#"{"status":"Success"}"#))
            .unwrap();
        assert_eq!(told(&channels), None, "it ended by itself");
    }
    let old = Channels::new("v3.channel.k8s.io", &masks(false, false)).unwrap();
    assert_eq!(told(&old).unwrap(), "too long a secret");
    let forward = Channels::new("SPDY/3.1+portforward.k8s.io", &masks(false, false)).unwrap();
    assert_eq!(told(&forward), None);
}

/// What each channel says in these frames, and how many messages that took.
fn read(bytes: &[u8]) -> BTreeMap<u8, (String, usize)> {
    let mut said: BTreeMap<u8, (Vec<u8>, usize)> = BTreeMap::new();
    ChannelFrames::default()
        .read(bytes, &mut Vec::new(), &mut |piece| {
            let (text, count) = said.entry(piece.channel).or_default();
            text.extend(piece.data);
            *count += usize::from(piece.last);
        })
        .unwrap();
    let text = |(text, count)| (String::from_utf8(text).unwrap(), count);
    said.into_iter().map(|(c, said)| (c, text(said))).collect()
}

const WORDS: [&str; 12] = [
    "ann@example.com",
    "4111 1111 1111 1111",
    concat!("AKIA", "IOSFODNN7EXAMPLE"),
    concat!("wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"),
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVp\n-----END PRIVATE KEY-----",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl",
    "\n",
    " ",
    "$ ",
    "hello",
    "; ",
    "total 12",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However a secret is cut into messages, and whatever the other output says between.
    #[test]
    fn outputs_are_masked_as_whole_texts(
        out in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..8),
        err in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..8),
        sizes in prop::collection::vec((any::<bool>(), 1_usize..20), 1..16),
        cut in 1_usize..40,
        observed: bool,
    ) {
        let texts = [(STDOUT, out.concat()), (STDERR, err.concat())];
        let mut bytes = message(STDOUT, "");
        let mut left = [texts[0].1.as_bytes(), texts[1].1.as_bytes()];
        for (which, size) in sizes.iter().cycle() {
            if left.iter().all(|left| left.is_empty()) {
                break;
            }
            let which = usize::from(*which) ^ usize::from(left[usize::from(*which)].is_empty());
            let (now, rest) = left[which].split_at((*size).min(left[which].len()));
            bytes.extend(message(texts[which].0, std::str::from_utf8(now).unwrap()));
            bytes.extend([0x89, 1, b'p']);
            left[which] = rest;
        }
        bytes.extend(message(ERROR, r#"{"status":"Failure","message":"ann@example.com"}"#));
        bytes.extend([0x88, 5, 0x03, 0xe8, b'a', b'@', b'b']);
        let mut channels = Channels::new("v4.channel.k8s.io", &masks(!observed, observed)).unwrap();
        let (mut agent, mut record) = (Vec::new(), Vec::new());
        let mut took = |came: &[u8], down: Down| {
            prop_assert_eq!(down.agent.is_none(), observed);
            agent.extend(down.agent.unwrap_or_else(|| came.to_vec()));
            record.extend(down.record);
            Ok(())
        };
        for part in bytes.chunks(cut) {
            let down = channels.down(part).unwrap();
            took(part, down)?;
        }
        let down = channels.finish().unwrap();
        took(&[], down)?;
        prop_assert_eq!(observed, agent == bytes);
        let masks = masks(true, false);
        let mut counts = Counts::default();
        let shown = read(&record);
        for (channel, text) in &texts {
            let whole = masks.agent.as_ref().unwrap().mask_text(&masks.masker, text, &mut counts);
            let said = shown.get(channel).map_or("", |(text, _)| text);
            prop_assert_eq!(said, whole.as_ref());
        }
        prop_assert_eq!(&shown[&ERROR].0, r#"{"status":"Failure","message":"[masked]"}"#);
        prop_assert!(record.ends_with(&[0x88, 2, 0x03, 0xe8]));
        if !observed {
            prop_assert_eq!(read(&agent), shown);
        }
        let masked: u64 = channels.masked().iter().map(|(_, count)| count).sum();
        prop_assert!(masked > 0);
    }
}

#[test]
fn what_the_agent_types_is_recorded_by_its_length_where_text_is_masked() {
    let mut channels = Channels::new("v5.channel.k8s.io", &masks(true, false)).unwrap();
    let mut bytes = message(STDIN, "ann@example.com");
    bytes.extend(message(4, r#"{"Width":80,"Height":24}"#));
    bytes.extend([0x8a, 3, b'a', b'@', b'b']);
    let mut recorded = Vec::new();
    for part in bytes.chunks(7) {
        recorded.extend_from_slice(channels.up(part).unwrap().bytes());
    }
    let said = read(&recorded);
    assert_eq!(said[&STDIN].0, "***************");
    assert_eq!(said[&4].0, r#"{"Width":80,"Height":24}"#);
    assert!(recorded.ends_with(&[0x8a, 0]));
}

#[test]
fn what_could_not_be_masked_does_not_go_on() {
    // Output after the end of all output, and on a channel that has none.
    for channel in [STDOUT, STDERR, STDIN, 9] {
        let mut channels = Channels::new("v5.channel.k8s.io", &masks(true, false)).unwrap();
        channels.down(&message(ERROR, "{}")).unwrap();
        let late = channels.down(&message(channel, "n@example.com"));
        assert_eq!(late.unwrap_err(), MessageError::Unexpected, "{channel}");
        // For the record alone nothing ends: it has only how much came.
        let mut channels = Channels::new("v5.channel.k8s.io", &masks(false, true)).unwrap();
        channels.down(&message(ERROR, "{}")).unwrap();
        let late = channels.down(&message(channel, "n@example.com")).unwrap();
        assert_eq!(late.agent, None);
        assert_eq!(read(&late.record)[&channel].0, "*************");
    }
    // Streams that are no text.
    for protocol in ["", "SPDY/3.1+portforward.k8s.io"] {
        for (agent, record) in [(true, false), (false, true)] {
            assert!(Channels::new(protocol, &masks(agent, record)).is_none());
        }
    }
}
