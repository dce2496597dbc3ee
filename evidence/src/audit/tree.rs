//! A Merkle tree as it grows: only the roots of its full subtrees are kept.

use crate::frame::{Hash, sha256};

/// Hash of a leaf (RFC 6962, section 2.1): what is hashed begins with 0, of a node with 1, so that
/// neither passes for the other.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf])
}

pub(super) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// A tree of some leaves, by the roots of its full subtrees, largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Tree {
    /// A tree as it was kept. None where a tree of that size has another number of full subtrees.
    pub fn of(size: u64, subtrees: Vec<Hash>) -> Option<Tree> {
        let full = usize::try_from(size.count_ones()).ok()?;
        (subtrees.len() == full).then_some(Tree { size, subtrees })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the full subtrees, largest first.
    pub fn subtrees(&self) -> &[Hash] {
        &self.subtrees
    }

    /// Adds a leaf at the end, by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut size = self.size;
        // Each full subtree as large as what is added is joined with it.
        while size & 1 == 1 {
            let Some(left) = self.subtrees.pop() else {
                break;
            };
            hash = node_hash(&left, &hash);
            size >>= 1;
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root (RFC 6962, section 2.1); of an empty tree the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut from_right = self.subtrees.iter().rev();
        let Some(last) = from_right.next() else {
            return sha256(&[]);
        };
        from_right.fold(*last, |right, left| node_hash(left, &right))
    }
}
