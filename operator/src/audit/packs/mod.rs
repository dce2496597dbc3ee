//! Packs: the oldest of the log, many segments in one object outside of etcd.
//!
//! ```text
//! used ≥ 80 % ─► build: the next segments, read ─► AuditPack pack-<n> ─► put, read back ─► storedAt
//!                                                                   └─► delete segments, checkpoints
//! readers: AuditPack ─► Place ─► bytes, digest ─► lines: segments and checkpoints as they were
//! ```
//!
//! - Nothing is deleted before its pack was read back with the digest that its AuditPack names.
//! - The name `pack-<n>` is the fence between two leaders. It says which segments and which digest
//!   before anything is written, so whoever leads next writes the same object again, or takes the
//!   AuditPack back: no object is left that nobody names.
//! - Tombstones stay resources, and checkpoints that name one: the newest one is looked for there.
//! - What is in a pack is as it was in the API server, altered or not. Checkpoints prove it or do not.

mod build;
mod objects;
mod packer;
mod place;
mod shelf;

pub use objects::Credentials;
pub use place::{Place, PlaceError};

pub(super) use packer::{Packer, Step, goes};
pub(super) use shelf::Packed;
pub(crate) use shelf::{PacksError, Shelf};

use chaperone_crds::{AuditPack, AuditPackSpec, AuditPacked};

use super::api::numbered;

/// The name of a pack.
fn name_of(number: u64) -> String {
    format!("pack-{number}")
}

/// The number in a pack's name, if it is one, written as [`name_of`] does.
fn number_of(name: &str) -> Option<u64> {
    numbered("pack-", name)
}

/// Whether what is in it may be read, and is not kept elsewhere for sure.
fn is_stored(pack: &AuditPack) -> bool {
    let status = pack.status.as_ref();
    status.is_some_and(|status| status.stored_at.is_some())
}

/// What lies in packs, in numbers.
pub(super) fn packed<'a>(packs: impl Iterator<Item = &'a AuditPackSpec>) -> AuditPacked {
    packs.fold(AuditPacked::default(), |sum, pack| AuditPacked {
        packs: sum.packs.saturating_add(1),
        bytes: sum.bytes.saturating_add(pack.bytes),
        segments: sum.segments.saturating_add(pack.segments),
        checkpoint: sum.checkpoint.max(pack.through),
    })
}
