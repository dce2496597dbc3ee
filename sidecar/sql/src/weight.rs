//! Memory for what an agent or a server chooses the size of: judged before it is taken, and bounded
//! for all sessions of the process together: a sidecar has 64 MiB unless it is given more.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of tree for each token, at most on average: of lists of values, chains of operators and
/// lists of columns, while both the library's tree and ours are there.
const TOKEN: usize = 320;
/// Copies of the text that parsing, classifying and recording it make, at the most.
const COPIES: usize = 6;
/// Below it a tree is not accounted for: sessions and caches bound how many of those there are.
const SMALL: usize = 1 << 20;
static BUDGET: Budget = Budget::new(Room::OF_64_MIB);

/// What there is of it, and what of that is taken, in bytes.
#[derive(Debug)]
struct Budget {
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Budget {
    const fn new(most: usize) -> Budget {
        Budget {
            most: AtomicUsize::new(most),
            taken: AtomicUsize::new(0),
        }
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn take(&'static self, bytes: usize) -> Option<Room> {
        let most = self.most();
        let sum = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= most);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum)
            .ok()
            .map(|_| Room {
                budget: self,
                bytes,
            })
    }
}

/// A part of what large things may take together; given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    budget: &'static Budget,
    bytes: usize,
}

impl Room {
    /// What a container of 64 MiB has of it, in bytes, beside an idle sidecar and the small buffers
    /// of its sessions. It is so much until [`Room::provide`] says otherwise.
    pub const OF_64_MIB: usize = 36 << 20;

    /// Says how much there is of it for the whole process, in bytes.
    pub fn provide(bytes: usize) {
        BUDGET.most.store(bytes, Ordering::Relaxed);
    }

    /// What there is of it, in bytes, taken or not.
    pub fn most() -> usize {
        BUDGET.most()
    }

    /// Takes `bytes`; none where the others have left less.
    pub fn take(bytes: usize) -> Option<Room> {
        BUDGET.take(bytes)
    }

    /// How much.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a tree weighs while it is there.
#[derive(Debug)]
pub(crate) struct Weight {
    bytes: usize,
    _room: Option<Room>,
}

impl Weight {
    /// That of the tree of `text`; none for one that is too large, by itself or beside what is there.
    pub(crate) fn of(text: &str) -> Option<Weight> {
        Weight::within(&BUDGET, text)
    }

    fn within(budget: &'static Budget, text: &str) -> Option<Weight> {
        let bytes = text
            .len()
            .saturating_mul(COPIES)
            .saturating_add(tokens(text.as_bytes()).saturating_mul(TOKEN));
        let room = match bytes {
            0..=SMALL => None,
            // Two of the largest, and a little beside them.
            _ if bytes > budget.most() / 9 * 4 => return None,
            _ => Some(budget.take(bytes)?),
        };
        Some(Weight { bytes, _room: room })
    }

    /// In bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The tokens of a text, never fewer than the grammar finds: what is inside a plain string counts as
/// one, but from the first place on that a string may begin or end differently (a comment, a dollar
/// quote, a backslash), everything counts as words.
fn tokens(text: &[u8]) -> usize {
    let mut count = 0_usize;
    let (mut in_word, mut in_string, mut plain) = (false, false, true);
    let mut previous = 0;
    for &byte in text {
        let unsure = matches!((previous, byte), (b'-', b'-') | (b'/', b'*'))
            || matches!(byte, b'\\' | b'$' | b'"');
        if plain && unsure && (!in_string || byte == b'\\') {
            plain = false;
        }
        if byte == b'\'' && plain {
            in_string = !in_string;
            count += usize::from(in_string);
            in_word = false;
        } else if !(in_string && plain) {
            let word = byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
            count += usize::from((word && !in_word) || !(word || byte.is_ascii_whitespace()));
            in_word = word;
        }
        previous = byte;
    }
    count
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_text_has_more_tokens_than_are_counted() {
        for text in [
            "SELECT 1",
            "SELECT 'it''s', e'a\\'b' , 1",
            "INSERT INTO t VALUES (1,'x'),(2,'y')",
            "SELECT $$ ' $$, 1, 2, 3",
            "SELECT 1 -- it's\n, 2, 3, 4",
            "SELECT /* ' */ 1, 2, 3",
            "SELECT \"it's\", 1, 2",
            "SELECT U&'\\0061', 1",
            "SELECT a.b::int[] @> '{1}'",
            "1e5+.5..2",
            "SELECT $1, $2",
            "é''é'é'",
            "",
        ] {
            let real = pg_query::scan(text).map_or(0, |scanned| scanned.tokens.len());
            let counted = tokens(text.as_bytes());
            assert!(counted >= real, "{counted} < {real}: {text}");
        }
        assert_eq!(tokens(b"SELECT 'a b c d e'"), 2);
    }

    #[test]
    fn what_all_trees_take_together_is_bounded_and_given_back() {
        static BUDGET: Budget = Budget::new(Room::OF_64_MIB);
        let weight = |text: &str| Weight::within(&BUDGET, text);
        let text = format!("SELECT '{}'", "x".repeat(2_700_000));
        let first = weight(&text).unwrap();
        assert!(first.bytes() > 16_000_000);
        let second = weight(&text);
        assert!(
            second.is_some() && weight(&text).is_none(),
            "there is room for two"
        );
        drop(second);
        assert!(weight("SELECT 1").is_some());
        drop(first);
        assert!(weight(&text).is_some());
        assert!(weight(&"1,".repeat(1 << 20)).is_none());
    }
}
