//! Every property on what is known to be interesting, and on mutants of it: the part of fuzzing that
//! runs everywhere. `CHAPERONE_FULL` takes other mutants each time, and more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use chaperone_fuzz::TARGETS;
use xtask::random::Random;

/// Mutants of each target.
const MUTANTS: u64 = 1500;
/// Longest mutant; what only long ones show is the coverage-guided fuzzer's to find.
const LONGEST: usize = 4096;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// Inputs with their names, in a stable order.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(folder(target))
        .unwrap_or_else(|error| panic!("the corpus of {target}: {error}"))
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    if matches!(target, "classify" | "lineage") {
        inputs.extend(statements());
    }
    inputs.sort();
    assert!(!inputs.is_empty(), "nothing for {target}");
    inputs
}

/// The statements that other tests keep: what is attempted on masks, and the golden ones.
fn statements() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = Vec::new();
    for (folder, between) in [
        ("e2e/corpus/masking", "\n"),
        ("e2e/corpus/ordinary", "\n"),
        ("sidecar/sql/tests/golden", "\n\n"),
    ] {
        for file in fs::read_dir(root.join(folder)).unwrap() {
            let path = file.unwrap().path();
            let content = fs::read_to_string(&path).unwrap();
            for (number, block) in content.split(between).enumerate() {
                let lines = block.lines().take_while(|line| *line != "=>");
                let lines =
                    lines.filter(|line| !line.starts_with(['#', '@']) && !line.starts_with("--"));
                let text = lines.collect::<Vec<_>>().join("\n").replace(" ;; ", ";");
                let text = ["allowed: ", "denied: "]
                    .iter()
                    .fold(text.as_str(), |text, mark| text.trim_start_matches(mark));
                if !text.is_empty() {
                    texts.push((
                        format!("{}:{number}", path.display()),
                        text.as_bytes().to_vec(),
                    ));
                }
            }
        }
    }
    assert!(texts.len() > 1000, "only {} statements", texts.len());
    texts
}

fn check(target: &str, run: fn(&[u8]), name: &str, input: &[u8]) {
    if catch_unwind(|| run(input)).is_err() {
        let kept = std::env::temp_dir().join(format!("{target}-failed"));
        fs::write(&kept, input).unwrap();
        panic!("{target} fails on {name}, which is in {}", kept.display());
    }
}

fn replay(target: &str) {
    let (_, run) = TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let inputs = corpus(target);
    for (name, input) in &inputs {
        check(target, run, name, input);
    }
    let whole = std::env::var_os("CHAPERONE_FULL").is_some();
    let mut random = if whole {
        Random::of_the_system().unwrap()
    } else {
        Random::new(7)
    };
    // A login is a connection, a thousand times a parse.
    let mutants = if target == "login" {
        MUTANTS / 4
    } else {
        MUTANTS
    };
    let mutants = if whole { mutants * 20 } else { mutants };
    for number in 0..mutants {
        let (name, input) = &inputs[random.index(inputs.len())];
        let (_, other) = &inputs[random.index(inputs.len())];
        let mutant = mutated(&mut random, input.clone(), other);
        check(target, run, &format!("mutant {number} of {name}"), &mutant);
    }
}

/// What a hostile peer does to a message.
fn mutated(random: &mut Random, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    const WORDS: [u32; 8] = [
        0,
        3,
        4,
        5,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_0000,
        0xffff_ffff,
    ];
    for _ in 0..=random.index(4) {
        let at = random.index(bytes.len() + 1);
        match random.index(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.byte()),
            2 => bytes.splice(at.., other.iter().copied()).for_each(drop),
            3 => {
                let end = (at + random.index(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let word = WORDS[random.index(WORDS.len())].to_be_bytes();
                let end = (at + 4).min(bytes.len());
                bytes.splice(at..end, word);
            }
            5 => {
                let end = (at + random.index(32)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let byte = random.byte();
                if let Some(slot) = bytes.get_mut(at) {
                    *slot = byte;
                }
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

macro_rules! replayed {
    ($($promise:ident: $target:literal,)*) => {
        $(#[test]
        fn $promise() {
            replay($target);
        })*

        /// None is forgotten, here or under cargo-fuzz.
        #[test]
        fn every_target_is_replayed_and_fuzzed() {
            let replayed = [$($target),*];
            let fuzzed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
            for (name, _) in TARGETS {
                assert!(replayed.contains(&name), "{name} is not replayed");
                assert!(fuzzed.join(format!("{name}.rs")).is_file(), "{name} is not fuzzed");
            }
        }
    };
}

replayed! {
    a_startup_packet_is_read_one_way: "startup",
    a_clients_message_is_its_bytes: "frontend",
    a_servers_message_is_its_bytes: "backend",
    a_text_has_one_classification: "classify",
    masks_are_not_lost_in_another_statement: "lineage",
    a_secret_is_in_no_masked_value: "values",
    a_secret_is_in_no_row_of_copy: "copy",
    a_hostile_server_gets_no_session_and_no_password: "login",
}

/// The corpus stays something that a person can look through.
#[test]
fn the_corpus_is_small() {
    let sizes: Vec<usize> = TARGETS
        .iter()
        .flat_map(|(target, _)| fs::read_dir(folder(target)).unwrap())
        .map(|file| usize::try_from(file.unwrap().metadata().unwrap().len()).unwrap())
        .collect();
    assert!(sizes.len() <= 500, "{} files", sizes.len());
    assert!(sizes.iter().sum::<usize>() <= 1 << 20);
}
