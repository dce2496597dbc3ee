//! One value on its way to the agent, by its column's treatment.

use std::sync::Arc;

use chaperone_mask::{Counts, Detectors, Masker, Outcome, Scanned};
use chaperone_policy::{Strategy, Typed};

use super::masks::{ColumnPlan, Treatment};

/// What masks values: the store's masker and the detectors that are on.
#[derive(Clone)]
pub(crate) struct Masks {
    pub(crate) masker: Arc<Masker>,
    pub(crate) detectors: Option<Arc<Detectors>>,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Keep,
    Null,
    /// The replacement has been appended.
    Replace,
}

impl Masks {
    /// Treats one value. `out` gets the replacement, if there is one.
    pub(crate) fn value(
        &self,
        column: &ColumnPlan,
        value: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Cell {
        let Some(bytes) = value else {
            // Whether something computed is NULL tells of what it was computed from
            // (`profile->>'ssn'`). A column as it is stored may be asked IS NULL anyway.
            return match column.treatment {
                Treatment::Whole => cell(self.masker.mask_whole(
                    column.type_oid,
                    column.wire,
                    Some(b""),
                    Typed::Null,
                    out,
                )),
                _ => Cell::Keep,
            };
        };
        let outcome = match column.treatment {
            Treatment::Pass => return Cell::Keep,
            Treatment::Mask(strategy, typed) => {
                self.masker
                    .mask_value(column.type_oid, column.wire, value, strategy, typed, out)
            }
            Treatment::Whole => {
                self.masker
                    .mask_whole(column.type_oid, column.wire, value, Typed::Null, out)
            }
            Treatment::Detect => return self.detect(column, bytes, out),
        };
        cell(outcome)
    }

    fn detect(&self, column: &ColumnPlan, value: &[u8], out: &mut Vec<u8>) -> Cell {
        let Some(detectors) = &self.detectors else {
            return Cell::Keep;
        };
        let mut counts = Counts::default();
        match detectors.mask_value(
            &self.masker,
            column.type_oid,
            column.wire,
            value,
            Typed::Null,
            &mut counts,
            out,
        ) {
            Scanned::Clean => Cell::Keep,
            Scanned::Null => Cell::Null,
            Scanned::Value => Cell::Replace,
        }
    }

    /// Whether this treatment leaves marks that the session must know again: partial masks look
    /// like ordinary text (policy.md, Write-back).
    pub(crate) fn is_partial(column: &ColumnPlan) -> bool {
        matches!(
            column.treatment,
            Treatment::Mask(Strategy::Partial { .. }, _)
        )
    }
}

fn cell(outcome: Outcome) -> Cell {
    match outcome {
        Outcome::Null => Cell::Null,
        Outcome::Value => Cell::Replace,
    }
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masks")
            .field("detectors", &self.detectors.is_some())
            .finish_non_exhaustive()
    }
}
