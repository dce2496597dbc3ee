//! Which columns of one result are masked, and how.

use chaperone_mask::{Detectors, Wire, detectable};
use chaperone_policy::{Strategy, Typed};
pub(crate) use chaperone_sql::MaskIndex;
use chaperone_sql::{Catalog, MaskedColumns, Overlay, Relation};

use crate::codec::{Format, RowDescription};

/// One column of a result, kept past its RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResultField {
    pub(crate) name: String,
    pub(crate) table_oid: u32,
    pub(crate) attnum: i16,
    pub(crate) type_oid: u32,
    pub(crate) format: Format,
}

/// The fields of a RowDescription, owned.
pub(crate) fn fields_of(description: &RowDescription<'_>) -> Vec<ResultField> {
    description
        .fields
        .iter()
        .map(|field| ResultField {
            name: field.name.to_owned(),
            table_oid: field.table_oid,
            attnum: field.attnum,
            type_oid: field.type_oid,
            format: field.format,
        })
        .collect()
}

/// What happens to one column of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Passed on as it is.
    Pass,
    /// Looked through by the detectors.
    Detect,
    /// A plain column with a mask.
    Mask(Strategy, Typed),
    /// Anything whose origin is not proven, in a statement that touches a masked relation.
    Whole,
}

/// What happens to each column of one result.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) columns: Vec<ColumnPlan>,
    /// Nothing is to be done: frames pass whole.
    pub(crate) untouched: bool,
}

/// One column of a plan.
#[derive(Debug, Clone)]
pub(crate) struct ColumnPlan {
    pub(crate) treatment: Treatment,
    pub(crate) type_oid: u32,
    pub(crate) wire: Wire,
    /// The column, for the record of what was masked.
    pub(crate) name: String,
}

impl ColumnPlan {
    /// A column that nothing happens to.
    pub(crate) fn pass() -> Self {
        Self {
            treatment: Treatment::Pass,
            type_oid: 0,
            wire: Wire::Text,
            name: String::new(),
        }
    }
}

/// Plans one result. `touches` is whether the statement touches a masked relation at all; `names`
/// are the catalog and what the session has changed since it was read.
pub(crate) fn plan(
    fields: &[ResultField],
    formats: &[Format],
    touches: bool,
    masks: &MaskIndex,
    names: (&Catalog, &Overlay),
    detectors: Option<&Detectors>,
) -> Plan {
    let columns: Vec<ColumnPlan> = fields
        .iter()
        .enumerate()
        .map(|(position, field)| {
            let wire = match format_of(field, formats, position) {
                Format::Text => Wire::Text,
                Format::Binary => Wire::Binary,
            };
            let treatment = match treat(field, touches, masks, names) {
                Treatment::Pass if detectors.is_some() && detectable(field.type_oid, wire) => {
                    Treatment::Detect
                }
                other => other,
            };
            ColumnPlan {
                treatment,
                type_oid: field.type_oid,
                wire,
                name: field.name.clone(),
            }
        })
        .collect();
    let untouched = columns
        .iter()
        .all(|column| column.treatment == Treatment::Pass);
    Plan { columns, untouched }
}

/// Bind's result formats: none means text, one means all, else one a column
/// (PostgreSQL, Message Formats, Bind). A simple Query's fields carry their own.
fn format_of(field: &ResultField, formats: &[Format], position: usize) -> Format {
    match formats {
        [] => field.format,
        [all] => *all,
        each => each.get(position).copied().unwrap_or(field.format),
    }
}

/// Whether a column was added since the catalog was read: what it is made of is not known.
pub(crate) fn is_new_column(field: &ResultField, catalog: &Catalog) -> bool {
    field.attnum > 0
        && catalog.relations.get(&field.table_oid).is_some_and(|from| {
            let mut known = from.columns.iter();
            known.all(|column| column.attnum != field.attnum)
        })
}

fn treat(
    field: &ResultField,
    touches: bool,
    masks: &MaskIndex,
    (catalog, overlay): (&Catalog, &Overlay),
) -> Treatment {
    if let Some(mask) = masks.column(field.table_oid, field.attnum) {
        return Treatment::Mask(mask.strategy, mask.typed);
    }
    if masks.any() && is_new_column(field, catalog) {
        return Treatment::Whole;
    }
    if !touches {
        return Treatment::Pass;
    }
    let proven = field.attnum > 0
        && catalog
            .relations
            .get(&field.table_oid)
            .is_some_and(|from: &Relation| {
                let name = (from.schema.clone(), from.name.clone());
                (from.is_traced() || masks.is_clean_view(from))
                    && !overlay.relations.contains_key(&name)
            });
    if proven {
        Treatment::Pass
    } else {
        Treatment::Whole
    }
}
