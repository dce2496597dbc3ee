//! Records as events of the Open Cybersecurity Schema Framework, 1.8, which SIEMs read.
//!
//! ```text
//! Origin + records of one session ─► Events::take ─► Event ─serde─► one JSON object a line
//! ```
//! | record | class |
//! |---|---|
//! | SessionStart | 3003 Authorize Session: whose session, by which token, under which policy |
//! | Intent, with its Outcome | 6005 Datastore Activity, once what came of it is known |
//! | Approval | 3005 User Access Management, by the reviewer, for the agent |
//! | Finding, Gap | 2004 Detection Finding |
//! | SessionEnd | 6005 Datastore Activity, `Other`: the end |
//!
//! All carry the profile `security_control`: `action_id`, `disposition_id`, `policy`. A preparation
//! that is let through is no event: what it prepares is one when it runs. Texts are as recorded,
//! masked.
//!
//! **What is missing can be told.** `metadata.correlation_uid` is the session and
//! `metadata.sequence` counts its events from 1 without gaps; the last says by its `activity_name`
//! that it is. `metadata.uid` is `session/record`: an event that comes twice is the same one, and
//! its record is in the evidence at that place.
//!
//! Source: schema.ocsf.io, version 1.8.0.

mod events;
mod model;

#[cfg(test)]
mod tests;

pub use events::Events;
pub use model::{
    Action, Activity, Actor, Authorization, Class, Database, Disposition, Endpoint, Event,
    Evidences, FindingInfo, Idp, Metadata, Named, Policy, Product, QueryInfo, Session, Severity,
    Status, User,
};

/// The version of the schema that events are written in.
pub const VERSION: &str = "1.8.0";
