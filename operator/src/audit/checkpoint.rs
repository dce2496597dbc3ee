//! Where the log stands, and its next stretch. No I/O here.

use chaperone_crds::{AuditCheckpointSpec, CheckpointedSegment};
use chaperone_evidence::audit::{LogKey, Note, Tree, digest};

use super::api::numbered;
use super::entry::{Hash, hash};

/// The log up to a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tip {
    /// Number of the checkpoint; 0 before the first.
    number: u64,
    /// SHA-256 of its note; zeros before the first.
    note: Hash,
    /// Public half of the key that signed it; none before the first.
    signer: Option<[u8; 32]>,
    tree: Tree,
}

/// Why nothing is signed on top of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TipError {
    /// A field that is not what it is to be.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// Its number is not its name's.
    #[error("it has another number than its name")]
    Number,
    /// The note is no note, or another key's.
    #[error("its note does not hold: {0}")]
    Note(String),
    /// The note says another tree.
    #[error("its note says another tree than its fields")]
    Tree,
    /// It goes on from something else.
    #[error("it does not go on from the checkpoint before it")]
    Previous,
    /// The log key was replaced.
    #[error("the log key is another than the one that signed the log so far; bring that one back")]
    Signer,
    /// The key cannot sign.
    #[error("the log key cannot sign")]
    Signing,
}

impl Tip {
    /// The log up to this checkpoint, which is believed only as far as the log key signed it.
    pub(super) fn of(
        number: u64,
        spec: &AuditCheckpointSpec,
        public: &[u8; 32],
    ) -> Result<Tip, TipError> {
        if spec.number != number {
            return Err(TipError::Number);
        }
        let note =
            Note::open(&spec.note, public).map_err(|error| TipError::Note(error.to_string()))?;
        let subtrees: Option<Vec<Hash>> = spec.subtrees.iter().map(|text| hash(text)).collect();
        let subtrees = subtrees.ok_or(TipError::Malformed("subtrees"))?;
        let tree = Tree::of(spec.size, subtrees).ok_or(TipError::Malformed("subtrees"))?;
        if (tree.size(), tree.root()) != (note.size, note.root) {
            return Err(TipError::Tree);
        }
        Ok(Tip {
            number,
            note: digest(spec.note.as_bytes()),
            signer: Some(*public),
            tree,
        })
    }

    /// The log up to another's checkpoint that was made where ours was to be.
    pub(super) fn followed_by(
        &self,
        spec: &AuditCheckpointSpec,
        public: &[u8; 32],
    ) -> Result<Tip, TipError> {
        self.signed_by(public)?;
        let next = Tip::of(self.next_number(), spec, public)?;
        if hash(&spec.previous) != Some(self.note) {
            return Err(TipError::Previous);
        }
        // What it names must make just the tree that it signs, on top of ours.
        let mut tree = self.tree.clone();
        for leaf in spec.segments.iter().flat_map(|segment| &segment.leaves) {
            tree.push(hash(leaf).ok_or(TipError::Malformed("leaves"))?);
        }
        match tree == next.tree {
            true => Ok(next),
            false => Err(TipError::Tree),
        }
    }

    /// The next stretch with these segments and the leaves of each. It is for nobody's eyes before
    /// it has been created.
    pub(super) fn next(
        &self,
        segments: Vec<(String, Vec<Hash>)>,
        key: &LogKey,
    ) -> Result<(AuditCheckpointSpec, Tip), TipError> {
        self.signed_by(key.public())?;
        let mut tree = self.tree.clone();
        for leaf in segments.iter().flat_map(|(_, leaves)| leaves) {
            tree.push(*leaf);
        }
        let (size, root) = (tree.size(), tree.root());
        let note = Note { size, root }.sign(key).ok_or(TipError::Signing)?;
        let number = self.next_number();
        let spec = AuditCheckpointSpec {
            number,
            previous: hex::encode(self.note),
            segments: segments
                .into_iter()
                .map(|(name, leaves)| CheckpointedSegment {
                    name,
                    leaves: leaves.iter().map(hex::encode).collect(),
                })
                .collect(),
            size,
            root: hex::encode(root),
            subtrees: tree.subtrees().iter().map(hex::encode).collect(),
            note,
        };
        let tip = Tip {
            number,
            note: digest(spec.note.as_bytes()),
            signer: Some(*key.public()),
            tree,
        };
        Ok((spec, tip))
    }

    /// One log has one key, or nobody could verify it with one.
    fn signed_by(&self, public: &[u8; 32]) -> Result<(), TipError> {
        match self.signer.is_none_or(|signer| signer == *public) {
            true => Ok(()),
            false => Err(TipError::Signer),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn next_number(&self) -> u64 {
        self.number.saturating_add(1)
    }

    /// Leaves of the log.
    pub(super) fn size(&self) -> u64 {
        self.tree.size()
    }
}

/// The name of a checkpoint.
pub(super) fn name_of(number: u64) -> String {
    format!("cp-{number}")
}

/// The number in a checkpoint's name, if it is one, written as [`name_of`] does.
pub(super) fn number_of(name: &str) -> Option<u64> {
    numbered("cp-", name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    fn key() -> LogKey {
        LogKey::from_pem(&LogKey::generate().unwrap()).unwrap()
    }

    fn segments(from: u8, count: u8) -> Vec<(String, Vec<Hash>)> {
        (from..from + count)
            .map(|n| (format!("as-{n}"), vec![[n; 32]; usize::from(n % 3).max(1)]))
            .collect()
    }

    #[test]
    fn a_log_goes_on_from_what_it_reads_as_from_what_it_wrote() {
        let key = key();
        let (first, tip) = Tip::default().next(segments(1, 5), &key).unwrap();
        assert_eq!(
            (first.number, first.previous.as_str()),
            (1, &*"0".repeat(64))
        );
        assert_eq!(Tip::of(1, &first, key.public()).unwrap(), tip);
        let (second, after) = tip.next(segments(9, 2), &key).unwrap();
        assert_eq!(second.previous, hex::encode(digest(first.note.as_bytes())));
        assert_eq!(tip.followed_by(&second, key.public()).unwrap(), after);
        assert_eq!((after.number(), after.size()), (2, second.size));
    }

    #[test]
    fn nothing_goes_on_from_a_checkpoint_that_does_not_hold() {
        let key = key();
        let (first, tip) = Tip::default().next(segments(1, 5), &key).unwrap();
        let (second, _) = tip.next(segments(9, 2), &key).unwrap();
        let alterations: [fn(&mut AuditCheckpointSpec); 7] = [
            |spec| spec.number = 3,
            |spec| spec.size += 1,
            |spec| spec.subtrees[0] = "ab".repeat(32),
            |spec| spec.subtrees.push("ab".repeat(32)),
            |spec| spec.note = spec.note.replace("chaperone.dev/log", "other"),
            |spec| spec.previous = "ab".repeat(32),
            |spec| {
                spec.segments.pop();
            },
        ];
        for alter in alterations {
            let mut altered = second.clone();
            alter(&mut altered);
            assert!(
                tip.followed_by(&altered, key.public()).is_err(),
                "{altered:?}"
            );
        }
        assert!(matches!(
            Tip::of(1, &first, self::key().public()),
            Err(TipError::Note(_))
        ));
        assert_eq!(
            tip.next(segments(9, 2), &self::key()).unwrap_err(),
            TipError::Signer
        );
        // A fork of another stretch is none of ours.
        let (_, other) = Tip::default().next(segments(1, 4), &key).unwrap();
        assert!(other.followed_by(&second, key.public()).is_err());
    }

    #[test]
    fn only_a_checkpoints_name_has_a_number() {
        assert_eq!(number_of("cp-12"), Some(12));
        for name in ["cp-0", "cp-012", "cp-", "cp--1", "cp-1a", "as-1", "cp-+1"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn stretches_make_the_tree_of_all_their_leaves(stretches in prop::collection::vec(1u8..9, 1..6)) {
            let key = key();
            let (mut tip, mut tree) = (Tip::default(), Tree::default());
            for count in stretches {
                let segments = segments(1, count);
                segments.iter().flat_map(|(_, leaves)| leaves).for_each(|leaf| tree.push(*leaf));
                let (spec, next) = tip.next(segments, &key).unwrap();
                prop_assert_eq!(spec.root, hex::encode(tree.root()));
                prop_assert_eq!(next.size(), tree.size());
                tip = next;
            }
        }
    }
}
