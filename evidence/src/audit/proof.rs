//! Proofs that need not the whole log: that a leaf is in a tree, and that a tree grew out of an
//! earlier one (RFC 6962, sections 2.1.1 and 2.1.2; checked as RFC 9162, sections 2.1.3.2 and
//! 2.1.4.2 say), and the files that hold them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::tree::{Tree, node_hash};
use crate::frame::{Hash, sha256};

/// First line of a C2SP tlog-proof.
const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";
/// More hashes than any tree has levels.
const MAX_PATH: usize = 64;

/// All leaves of a tree, or all behind a beginning of which only the full subtrees are known, for
/// whoever makes proofs of it.
///
/// A proof of a leaf behind the beginning, or of a growth from behind it, needs no more: a node that
/// lies wholly in the beginning and whose parent does not is one of its full subtrees.
#[derive(Debug, Clone)]
pub(super) struct Leaves {
    /// Hashes of the full subtrees of 2ⁿ leaves, by n, from the left, as far as they are known; and
    /// which is the first of them.
    levels: Vec<(usize, Vec<Hash>)>,
    size: usize,
}

impl Leaves {
    /// Of these leaf hashes, in order.
    #[cfg(test)]
    pub(super) fn new(leaves: Vec<Hash>) -> Leaves {
        Leaves::behind(&Tree::default(), leaves)
    }

    /// Of these leaf hashes, which come behind a tree.
    pub(super) fn behind(beginning: &Tree, leaves: Vec<Hash>) -> Leaves {
        let mut subtrees = beginning.subtrees().to_vec();
        let mut before = usize::try_from(beginning.size()).unwrap_or(usize::MAX);
        let size = before.saturating_add(leaves.len());
        let (mut known, mut levels) = (leaves, Vec::new());
        loop {
            // The full subtree of this height, if the beginning has one, is just left of what is known.
            if before & 1 == 1
                && let Some(subtree) = subtrees.pop()
            {
                known.insert(0, subtree);
            }
            let pairs = known.chunks_exact(2);
            let above: Vec<Hash> = pairs
                .filter_map(|pair| match pair {
                    [left, right] => Some(node_hash(left, right)),
                    _ => None,
                })
                .collect();
            levels.push((before & !1, known));
            before >>= 1;
            if above.is_empty() && before == 0 {
                return Leaves { levels, size };
            }
            known = above;
        }
    }

    /// How many.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The hash of the subtree over the leaves from `low` up to `high`, if it is known.
    fn hash(&self, low: usize, high: usize) -> Option<Hash> {
        let size = high.saturating_sub(low);
        if size == 0 {
            return Some(sha256(&[]));
        }
        let level = usize::try_from(size.trailing_zeros()).unwrap_or(0);
        if size.is_power_of_two()
            && let Some((first, nodes)) = self.levels.get(level)
            && let Some(found) = (low / size)
                .checked_sub(*first)
                .and_then(|at| nodes.get(at))
        {
            return Some(*found);
        }
        if size == 1 {
            return None;
        }
        let middle = low + split(size);
        Some(node_hash(
            &self.hash(low, middle)?,
            &self.hash(middle, high)?,
        ))
    }

    /// The root.
    pub(super) fn root(&self) -> Option<Hash> {
        self.hash(0, self.size)
    }

    /// The path from a leaf to the root, nearest first. None where there is no such leaf, or it is in
    /// the beginning.
    pub(super) fn inclusion(&self, index: usize) -> Option<Vec<Hash>> {
        let (mut low, mut high) = (0, self.size());
        if index >= high {
            return None;
        }
        let mut path = Vec::new();
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                path.push(self.hash(middle, high)?);
                high = middle;
            } else {
                path.push(self.hash(low, middle)?);
                low = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// What shows that this tree grew out of its first `old` leaves. None where it is smaller, or those
    /// end within the beginning.
    pub(super) fn consistency(&self, old: usize) -> Option<Vec<Hash>> {
        let (mut low, mut high) = (0, self.size());
        if old > high {
            return None;
        }
        let mut path = Vec::new();
        if old == 0 || old == high {
            return Some(path);
        }
        while old != high {
            let middle = low + split(high - low);
            if old <= middle {
                path.push(self.hash(middle, high)?);
                high = middle;
            } else {
                path.push(self.hash(low, middle)?);
                low = middle;
            }
        }
        // The old root itself is known to whoever checks.
        if low > 0 {
            path.push(self.hash(low, high)?);
        }
        path.reverse();
        Some(path)
    }
}

/// The largest power of two below `size`.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// Whether a leaf is at `index` of the tree with this size and root.
pub(super) fn included(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for step in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            up_to_odd(&mut at, &mut last);
        } else {
            hash = node_hash(&hash, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether the tree of `size` grew out of that of `old`.
pub(super) fn consistent(old: u64, old_root: &Hash, size: u64, root: &Hash, path: &[Hash]) -> bool {
    if old == size {
        return path.is_empty() && old_root == root;
    }
    if old == 0 {
        return path.is_empty() && *old_root == sha256(&[]);
    }
    if old > size || path.is_empty() {
        return false;
    }
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let mut steps = path.iter();
    let first = if old.is_power_of_two() {
        old_root
    } else {
        match steps.next() {
            Some(first) => first,
            None => return false,
        }
    };
    let (mut before, mut now) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            before = node_hash(step, &before);
            now = node_hash(step, &now);
            up_to_odd(&mut at, &mut last);
        } else {
            now = node_hash(&now, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && before == *old_root && now == *root
}

/// Past the levels at which a right-most node has no sibling.
fn up_to_odd(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        (*at, *last) = (*at >> 1, *last >> 1);
    }
}

/// A path with the number it is about and the note it leads to, as a text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProofFile {
    /// Index of the leaf, or size of the earlier tree.
    pub(super) number: u64,
    /// The hashes.
    pub(super) path: Vec<Hash>,
    /// The signed note, whole.
    pub(super) note: String,
}

impl ProofFile {
    /// That a leaf is in the log: a C2SP tlog-proof.
    pub(super) fn inclusion(&self) -> String {
        format!("{PROOF_HEADER}\n{}", self.text("index"))
    }

    /// That the log grew out of an earlier one: what C2SP tlog-witness sends a witness.
    pub(super) fn consistency(&self) -> String {
        self.text("old")
    }

    fn text(&self, word: &str) -> String {
        let mut text = format!("{word} {}\n", self.number);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// Reads what [`ProofFile::inclusion`] writes; None for anything else, byte for byte.
    pub(super) fn parse_inclusion(text: &str) -> Option<ProofFile> {
        let rest = text.strip_prefix(PROOF_HEADER)?.strip_prefix('\n')?;
        ProofFile::parse(rest, "index").filter(|read| read.inclusion() == text)
    }

    /// Reads what [`ProofFile::consistency`] writes.
    pub(super) fn parse_consistency(text: &str) -> Option<ProofFile> {
        ProofFile::parse(text, "old").filter(|read| read.consistency() == text)
    }

    fn parse(text: &str, word: &str) -> Option<ProofFile> {
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let number = lines.next()?.strip_prefix(word)?.strip_prefix(' ')?;
        let mut path = Vec::new();
        for line in lines {
            if path.len() == MAX_PATH {
                return None;
            }
            path.push(STANDARD.decode(line).ok()?.try_into().ok()?);
        }
        Some(ProofFile {
            number: number.parse().ok()?,
            path,
            note: note.to_owned(),
        })
    }
}
