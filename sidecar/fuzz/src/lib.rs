//! What must hold for any bytes that a client, a server or a table may bring: one function a
//! property, which panics where it does not hold.
//!
//! ```text
//! corpus/TARGET/*, the repository's own statements ─┬─► tests/replay.rs: each, and mutants, on stable
//!                                                   └─► fuzz/: the same functions under cargo-fuzz
//! ```
//!
//! | target | bytes of | beyond "no panic" |
//! |---|---|---|
//! | [`startup`] | a client | cut anywhere it is the same packet; written again it says the same |
//! | [`frontend`] | a client | frames are the input's bytes; written again, a message is them too |
//! | [`backend`] | a server | the same; a row changes in its replaced cells only |
//! | [`classify`] | a client | one text, one answer; every span lies in it |
//! | [`lineage`] | a client | what touches a mask does so inside another statement, and under more masks |
//! | [`values`] | a table | a secret is in no masked value; JSON stays JSON |
//! | [`copy`] | a table | the same for rows of COPY, whose other fields stay |
//! | [`login`] | a server | no proof, no session; nothing it says gets the password |
//!
//! Memory: no count or length makes a message's lists larger than its bytes allow; cargo-fuzz
//! runs with a limit on top.

// A property that does not hold is a panic: that is what a fuzzer looks for.
#![allow(clippy::panic)]

mod backend;
mod copy;
mod frames;
mod frontend;
mod login;
mod startup;
mod statement;
mod values;

pub use backend::backend;
pub use copy::copy;
pub use frontend::frontend;
pub use login::login;
pub use startup::startup;
pub use statement::{classify, lineage};
pub use values::values;

/// Checks its properties on any bytes.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("startup", startup),
    ("frontend", frontend),
    ("backend", backend),
    ("classify", classify),
    ("lineage", lineage),
    ("values", values),
    ("copy", copy),
    ("login", login),
];

/// A secret that a detector knows, with nothing beside it that would make it part of another word.
const SECRET: &str = "ann.secret@example.com";

/// Splits bytes of control off an input, so that the rest is what a peer would send.
fn control<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    match data.split_first_chunk::<N>() {
        Some((control, rest)) => (*control, rest),
        None => ([0; N], data),
    }
}
