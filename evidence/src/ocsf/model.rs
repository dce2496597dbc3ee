//! The part of the schema that is written: classes, objects and their numbers.

use serde::{Serialize, Serializer};

macro_rules! numbered {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $text:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Its number in the schema.
            pub fn id(self) -> u32 {
                match self { $($name::$variant => $number),+ }
            }

            /// Its caption in the schema.
            pub fn caption(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u32(self.id())
            }
        }
    )+};
}

numbered! {
    /// `class_uid`.
    Class {
        /// A finding.
        DetectionFinding = 2004 "Detection Finding",
        /// A session begins.
        AuthorizeSession = 3003 "Authorize Session",
        /// A human grants, or does not.
        UserAccess = 3005 "User Access Management",
        /// A command.
        DatastoreActivity = 6005 "Datastore Activity",
    }
    /// `severity_id`.
    Severity {
        /// Nothing to see.
        Informational = 1 "Informational",
        /// Worth a look where there are many.
        Low = 2 "Low",
        /// Refused.
        Medium = 3 "Medium",
        /// Somebody should look.
        High = 4 "High",
    }
    /// `status_id`, but for findings.
    Status {
        /// Not known.
        Unknown = 0 "Unknown",
        /// It did.
        Success = 1 "Success",
        /// It did not.
        Failure = 2 "Failure",
    }
    /// `action_id`: what the control did.
    Action {
        /// Let through.
        Allowed = 1 "Allowed",
        /// Not let through.
        Denied = 2 "Denied",
        /// Let through because nothing is enforced.
        Observed = 3 "Observed",
        /// Let through, and values in its answer masked.
        Modified = 4 "Modified",
    }
    /// `disposition_id`: what became of it.
    Disposition {
        /// It ran.
        Allowed = 1 "Allowed",
        /// It never reached the target.
        Blocked = 2 "Blocked",
        /// A human let it run.
        Approved = 8 "Approved",
        /// It waits for a human.
        Delayed = 14 "Delayed",
        /// Seen.
        Detected = 15 "Detected",
        /// Written down only.
        Logged = 17 "Logged",
        /// A human said no.
        Rejected = 25 "Rejected",
        /// It was not possible.
        Error = 27 "Error",
    }
}

/// `activity_id` with its caption; the numbers mean something else in every class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity(pub u32, pub &'static str);

/// One event. Fields are named as the schema names them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Event {
    pub category_uid: u32,
    pub category_name: &'static str,
    pub class_uid: Class,
    pub class_name: &'static str,
    pub activity_id: u32,
    pub activity_name: &'static str,
    pub type_uid: u32,
    pub severity_id: Severity,
    pub severity: &'static str,
    /// Milliseconds since the Unix epoch.
    pub time: u64,
    pub metadata: Metadata,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub privileges: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_info: Option<QueryInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding_info: Option<FindingInfo>,
    /// Of a finding: in whose session it was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidences: Vec<Evidences>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_id: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_detail: Option<String>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    pub action_id: Action,
    pub action: &'static str,
    pub disposition_id: Disposition,
    pub disposition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// What the schema has no place for.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub unmapped: serde_json::Map<String, serde_json::Value>,
}

/// Where the event comes from, and its place among others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Metadata {
    pub version: &'static str,
    pub product: Product,
    pub profiles: [&'static str; 1],
    /// `session/record`.
    pub uid: String,
    /// From 1 in each session, without gaps.
    pub sequence: u64,
    /// The session.
    pub correlation_uid: String,
    pub event_code: String,
    pub log_name: &'static str,
    pub is_truncated: bool,
}

/// Us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Product {
    pub name: &'static str,
    pub vendor_name: &'static str,
    pub version: &'static str,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Actor {
    pub user: User,
    pub session: Session,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idp: Option<Idp>,
    /// On whose behalf, by a verified token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoked_by: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorizations: Vec<Authorization>,
}

/// What a finding rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Evidences {
    pub actor: Actor,
}

/// A service account, or a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct User {
    pub name: String,
    pub uid: String,
    pub type_id: u32,
    pub r#type: &'static str,
}

/// The agent's connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Session {
    pub uid: String,
    pub created_time: u64,
}

/// Whose token it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Idp {
    pub name: String,
    pub uid: String,
}

/// A decision and what it was made by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Authorization {
    pub decision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// The resource and the rule that settled it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Policy {
    /// `namespace/name/rule`.
    pub name: String,
    /// Hex SHA-256 of the resource's canonical spec.
    pub uid: String,
    /// `metadata.generation` of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One end of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Endpoint {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Database {
    pub name: String,
    /// The Connection, `namespace/name`.
    pub uid: String,
    pub type_id: u32,
    pub r#type: &'static str,
}

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct Named {
    pub name: String,
}

/// The command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct QueryInfo {
    pub query_string: String,
    pub name: String,
    /// Hex HMAC of the command under the store's digest key: the same command, the same text.
    pub uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the schema's own names")]
pub struct FindingInfo {
    pub uid: String,
    pub title: String,
    pub desc: String,
    pub types: Vec<String>,
    pub created_time: u64,
}
