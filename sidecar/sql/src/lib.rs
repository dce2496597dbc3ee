//! What a SQL text does: every effect on every object, resolved against the catalog.
//!
//! Pure: no I/O. PostgreSQL's own grammar (pg_query) is the authority; what it cannot parse is
//! refused, and a node kind nobody wrote a handler for is [`chaperone_policy::Effect::Unknown`].
//!
//! ```text
//! text ─parse→ Script of Statements ─classify(Context: catalog, search_path, overlay, masks)→ Classification
//! ```

mod catalog;
pub mod catalog_sql;
mod classification;
mod effects;
mod functions;
mod mask_index;
mod masking;
mod parse;
mod resolve;
mod schema;
mod secrets;
mod setting;
mod shape;
mod system;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
mod tests;
mod verb;
mod walk;
mod weight;

pub use catalog::{Catalog, Column, Definition, Function, Relation, RelationKind};
pub use catalog_sql::CatalogBuilder;
pub use classification::{
    Classification, Context, CopyDirection, CopyFormat, Kind, MaskedColumns, MaskingFacts, Overlay,
    SearchPath, SessionChange, classify,
};
pub use mask_index::MaskIndex;
pub use parse::{ParseError, Script, Statement, parse};
pub use schema::catalog_of_schema;
pub use setting::setting_access;
pub use shape::shape;
pub use weight::Room;
