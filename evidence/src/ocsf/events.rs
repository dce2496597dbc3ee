//! From one session's records to its events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chaperone_policy::Verdict;
use serde_json::{Map, Value};

use super::VERSION;
use super::model::{
    Action, Activity, Actor, Authorization, Class, Database, Disposition, Endpoint, Event,
    Evidences, FindingInfo, Idp, Metadata, Named, Policy, Product, QueryInfo, Session, Severity,
    Status, User,
};
use crate::codec::{self, Malformed, Put, Reader};
use crate::delegate::DelegateRecord;
use crate::read::Shown;
use crate::record::{
    Approval, ApprovalEvent, DecisionRecord, Gap, IntentRecord, Outcome, OutcomeStatus, Phase,
    Record, SessionEnd, Totals,
};
use crate::scan::Origin;

/// Commands that are waited for at most; the oldest is then told without its outcome.
const MAX_WAITING: usize = 4_096;

/// Makes the events of one session.
#[derive(Debug)]
pub struct Events {
    origin: Arc<Origin>,
    delegate: Option<DelegateRecord>,
    /// Events so far.
    told: u64,
    /// Commands whose outcome is not known yet, by their sequence.
    waiting: BTreeMap<u64, (u64, Box<IntentRecord>)>,
    /// Values masked since the last outcome.
    masked: u64,
    /// The command that was held last: what an approval is asked for.
    held: Option<Box<IntentRecord>>,
}

impl Events {
    /// For the records of this session.
    pub fn new(origin: Arc<Origin>) -> Events {
        let delegate = origin.start.delegate.as_deref();
        Events {
            delegate: delegate.and_then(DelegateRecord::parse),
            origin,
            told: 0,
            waiting: BTreeMap::new(),
            masked: 0,
            held: None,
        }
    }

    /// Writes what it takes to go on from here, besides the origin.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        let put = |out: &mut Vec<u8>, record: &IntentRecord| {
            let mut body = Vec::with_capacity(256);
            codec::encode(&Record::Intent(Box::new(record.clone())), &mut body);
            out.put_len(body.len());
            out.put(&body);
        };
        out.put_u64(self.told);
        out.put_u64(self.masked);
        out.put_len(self.waiting.len());
        for (sequence, (wall_ns, record)) in &self.waiting {
            out.put_u64(*sequence);
            out.put_u64(*wall_ns);
            put(out, record);
        }
        out.put_len(usize::from(self.held.is_some()));
        if let Some(record) = &self.held {
            put(out, record);
        }
    }

    /// Goes on where another left off.
    pub(crate) fn resume(origin: Arc<Origin>, r: &mut Reader<'_>) -> Result<Events, Malformed> {
        let read = |r: &mut Reader<'_>| match codec::decode(codec::INTENT, r.bytes()?)? {
            Record::Intent(record) => Ok(record),
            _ => Err(Malformed("a command that is none")),
        };
        let mut events = Events::new(origin);
        events.told = r.u64()?;
        events.masked = r.u64()?;
        for _ in 0..r.few(20, MAX_WAITING + 1)? {
            let (sequence, wall_ns) = (r.u64()?, r.u64()?);
            events.waiting.insert(sequence, (wall_ns, read(r)?));
        }
        for _ in 0..r.few(4, 1)? {
            events.held = Some(read(r)?);
        }
        Ok(events)
    }

    /// Tells that the records from sequence `first` to before `next` could not be told of. They are
    /// counted as one event each, so that the numbers have the gap as well.
    pub(crate) fn missing(&mut self, first: u64, next: u64) -> Event {
        let detail = format!(
            "the records from {first} to before {next} were not exported; the evidence has them"
        );
        self.told = self.told.saturating_add(next.saturating_sub(first));
        let wall_ns = self.origin.started_ns;
        self.finding((first, wall_ns), "ExportGap", &detail, Severity::High)
    }

    /// Takes the next record, and gives the events that it completes.
    pub fn take(&mut self, shown: &Shown) -> Vec<Event> {
        let at = (shown.sequence, shown.wall_ns);
        match &shown.record {
            Record::SessionStart(_) => vec![self.started(at)],
            Record::Intent(record) => self.intent(at, record),
            Record::Outcome(outcome) => self.outcome(at, outcome).into_iter().collect(),
            Record::Approval(approval) => vec![self.approval(at, approval)],
            Record::Finding(finding) => {
                vec![self.finding(at, &finding.kind, &finding.detail, Severity::High)]
            }
            Record::Gap(gap) => vec![self.gap(at, gap)],
            Record::Masked(masked) => {
                self.masked = self.masked.saturating_add(masked.count);
                Vec::new()
            }
            Record::SessionEnd(end, totals) => {
                let mut events = self.finish();
                events.push(self.ended(at, end, totals));
                events
            }
            Record::Client { .. }
            | Record::Server(_)
            | Record::Proxy { .. }
            | Record::PolicyChanged(_) => Vec::new(),
        }
    }

    /// Commands whose outcome never came: of a session that was interrupted, or is open.
    pub fn finish(&mut self) -> Vec<Event> {
        let waiting = std::mem::take(&mut self.waiting);
        let left = waiting.into_iter();
        left.map(|(sequence, (wall_ns, record))| self.command((sequence, wall_ns), &record, None))
            .collect()
    }

    fn started(&mut self, at: Place) -> Event {
        let start = Arc::clone(&self.origin);
        let start = &start.start;
        let mut event = self.event(
            at,
            Class::AuthorizeSession,
            ASSIGN_PRIVILEGES,
            "SessionStart",
        );
        event.message = format!(
            "{} began a session over {} to {}",
            start.subject, start.connection, start.target
        );
        event.user = Some(self.agent());
        event.session = Some(self.session());
        event.privileges = vec![format!(
            "{} under {}",
            start.connection, start.policy_digest
        )];
        event.set_status(Status::Success);
        for (name, value) in [
            ("purpose", start.purpose.clone()),
            ("protocol", Some(start.protocol.clone())),
            // Sessions of one attach have ordinals without gaps: one of which nothing came is missed.
            ("attach", Some(self.origin.attach.to_string())),
            ("ordinal", Some(self.origin.ordinal.to_string())),
        ] {
            event.also(name, value.map(Value::from));
        }
        // Said by the client, and proven by nothing.
        let claimed: Map<String, Value> = start
            .claims
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.clone())))
            .collect();
        event.also(
            "claimed",
            (!claimed.is_empty()).then_some(Value::Object(claimed)),
        );
        event
    }

    fn intent(&mut self, at: Place, record: &IntentRecord) -> Vec<Event> {
        let intent = &record.intent;
        let runs = matches!(intent.phase, Phase::Command | Phase::Execute);
        if !lets_through(&intent.decision) {
            if intent.decision.verdict == Verdict::Hold {
                self.held = Some(Box::new(record.clone()));
            }
            return vec![self.command(at, record, None)];
        }
        if !runs {
            return Vec::new();
        }
        self.waiting.insert(at.0, (at.1, Box::new(record.clone())));
        if self.waiting.len() <= MAX_WAITING {
            return Vec::new();
        }
        let oldest = self.waiting.pop_first();
        let told = oldest
            .map(|(sequence, (wall_ns, record))| self.command((sequence, wall_ns), &record, None));
        told.into_iter().collect()
    }

    fn outcome(&mut self, _: Place, outcome: &Outcome) -> Option<Event> {
        let (wall_ns, record) = self.waiting.remove(&outcome.intent)?;
        Some(self.command((outcome.intent, wall_ns), &record, Some(outcome)))
    }

    /// A command with the decision on it, at the time of the decision.
    fn command(&mut self, at: Place, record: &IntentRecord, outcome: Option<&Outcome>) -> Event {
        let intent = &record.intent;
        let decision = &intent.decision;
        let code = decision.reason.as_str();
        let activity = activity_of(&intent.accesses);
        let mut event = self.event(at, Class::DatastoreActivity, activity, code);
        event.metadata.is_truncated = record.truncated;
        let through = lets_through(decision);
        let masked = if through {
            std::mem::take(&mut self.masked)
        } else {
            0
        };
        event.decided(decision, masked > 0);
        let authorization = Authorization {
            decision: verdict(decision.verdict).to_owned(),
            policy: event.policy.clone(),
        };
        if let Some(actor) = &mut event.actor {
            actor.authorizations = vec![authorization];
        }
        event.message = format!(
            "{}: {} of {}, {code}",
            verdict(decision.verdict),
            intent.summary,
            self.origin.start.subject
        );
        self.place(&mut event);
        let mut relations = intent.accesses.iter().filter_map(|access| relation(access));
        let settled = decision.access.as_deref().and_then(relation);
        event.table = settled.or(relations.next()).map(|name| Named {
            name: name.to_owned(),
        });
        event.query_info = Some(QueryInfo {
            query_string: intent.command.clone(),
            name: intent.summary.clone(),
            uid: hex::encode(intent.digest),
            bytes: outcome.map(|outcome| outcome.bytes),
        });
        event.status_detail = (!through).then(|| code.to_owned());
        event.set_status(if through {
            Status::Unknown
        } else {
            Status::Failure
        });
        if let Some(outcome) = outcome {
            event.came_out(outcome);
        }
        let parameters = intent.parameters.iter().cloned().map(Value::from).collect();
        for (name, value) in [
            ("accesses", Some(Value::from(intent.accesses.clone()))),
            (
                "parameters",
                Some(Value::Array(parameters)).filter(|_| !intent.parameters.is_empty()),
            ),
            ("approval", decision.approval.clone().map(Value::from)),
            ("rows", outcome.map(|outcome| Value::from(outcome.rows))),
            ("masked_values", (masked > 0).then(|| Value::from(masked))),
        ] {
            event.also(name, value);
        }
        event
    }

    fn approval(&mut self, at: Place, approval: &Approval) -> Event {
        let (what, action, disposition, status) = match approval.event {
            ApprovalEvent::Requested => (
                "is asked for",
                Action::Denied,
                Disposition::Delayed,
                Status::Unknown,
            ),
            ApprovalEvent::ReviewedApprove => (
                "was reviewed: yes",
                Action::Allowed,
                Disposition::Approved,
                Status::Success,
            ),
            ApprovalEvent::ReviewedDeny => (
                "was reviewed: no",
                Action::Denied,
                Disposition::Rejected,
                Status::Failure,
            ),
            ApprovalEvent::Granted => (
                "is granted",
                Action::Allowed,
                Disposition::Approved,
                Status::Success,
            ),
            ApprovalEvent::Denied => (
                "is denied",
                Action::Denied,
                Disposition::Rejected,
                Status::Failure,
            ),
            ApprovalEvent::Expired => (
                "has expired",
                Action::Denied,
                Disposition::Blocked,
                Status::Failure,
            ),
            ApprovalEvent::Cancelled => (
                "is cancelled",
                Action::Denied,
                Disposition::Blocked,
                Status::Failure,
            ),
        };
        let code = format!("Approval{:?}", approval.event);
        let mut event = self.event(at, Class::UserAccess, ASSIGN_PRIVILEGES, &code);
        event.act(action, disposition);
        event.set_status(status);
        event.status_detail = (!approval.reason.is_empty()).then(|| approval.reason.clone());
        event.user = Some(self.agent());
        if let Some(reviewer) = &approval.reviewer {
            event.actor = Some(Actor {
                user: User {
                    name: reviewer.clone(),
                    uid: reviewer.clone(),
                    type_id: 1,
                    r#type: "User",
                },
                session: self.session(),
                idp: None,
                invoked_by: None,
                authorizations: Vec::new(),
            });
            event.also("authenticated", Some(Value::from(approval.authenticated)));
        }
        event.message = format!("{} {what}", approval.request);
        if approval.event == ApprovalEvent::Requested
            && let Some(held) = self.held.take()
        {
            let intent = &held.intent;
            event.message = format!(
                "{} asks for approval of: {}",
                self.origin.start.subject, intent.summary
            );
            for (name, value) in [
                ("command", Value::from(intent.command.clone())),
                ("parameters", Value::from(intent.parameters.clone())),
                ("accesses", Value::from(intent.accesses.clone())),
                (
                    "connection",
                    Value::from(self.origin.start.connection.clone()),
                ),
            ] {
                event.also(name, Some(value));
            }
        }
        event.privileges = vec![format!("{}/{}", approval.policy, approval.rule)];
        event.resource = Some(Named {
            name: approval.request.clone(),
        });
        event.policy = Some(Policy {
            name: format!("{}/{}", approval.policy, approval.rule),
            uid: approval.rule_digest.clone(),
            version: None,
        });
        event
    }

    fn gap(&mut self, at: Place, gap: &Gap) -> Event {
        let detail = format!(
            "{} records ({} bytes) could not be kept: {}",
            gap.records, gap.bytes, gap.why
        );
        self.finding(at, "EvidenceGap", &detail, Severity::High)
    }

    fn finding(&mut self, at: Place, kind: &str, detail: &str, severity: Severity) -> Event {
        let mut event = self.event(at, Class::DetectionFinding, Activity(1, "Create"), kind);
        event.severity(severity);
        event.act(Action::Observed, Disposition::Detected);
        // Of a finding, 1 is New.
        event.status_id = Some(Status::Success);
        event.status = Some("New");
        event.message = detail.to_owned();
        event.src_endpoint = None;
        // A finding has an actor only under the profile `host`.
        event.evidences = event
            .actor
            .take()
            .map(|actor| Evidences { actor })
            .into_iter()
            .collect();
        event.finding_info = Some(FindingInfo {
            uid: event.metadata.uid.clone(),
            title: kind.to_owned(),
            desc: detail.to_owned(),
            types: vec![kind.to_owned()],
            created_time: event.time,
        });
        event
    }

    fn ended(&mut self, at: Place, end: &SessionEnd, totals: &Totals) -> Event {
        let code = end.reason.map_or("SessionEnd", |reason| reason.as_str());
        let mut event = self.event(
            at,
            Class::DatastoreActivity,
            Activity(99, "Disconnect"),
            code,
        );
        self.place(&mut event);
        event.message = format!("the session ended: {:?}", end.cause);
        event.status_detail = (!end.detail.is_empty()).then(|| end.detail.clone());
        event.act(Action::Observed, Disposition::Logged);
        for (name, number) in [
            ("events", self.told),
            ("records", totals.records),
            ("forwarded", totals.forwarded),
            ("refused", totals.refused),
            ("rows", totals.rows),
        ] {
            event.also(name, Some(Value::from(number)));
        }
        event
    }

    /// What all events have.
    fn event(
        &mut self,
        (sequence, wall_ns): Place,
        class: Class,
        activity: Activity,
        code: &str,
    ) -> Event {
        self.told += 1;
        let Activity(activity_id, activity_name) = activity;
        let id = self.origin.id;
        Event {
            category_uid: class.id() / 1_000,
            category_name: match class {
                Class::DetectionFinding => "Findings",
                Class::AuthorizeSession | Class::UserAccess => "Identity & Access Management",
                Class::DatastoreActivity => "Application Activity",
            },
            class_uid: class,
            class_name: class.caption(),
            activity_id,
            activity_name,
            type_uid: class.id() * 100 + activity_id,
            severity_id: Severity::Informational,
            severity: Severity::Informational.caption(),
            time: milliseconds(wall_ns),
            metadata: Metadata {
                version: VERSION,
                product: Product {
                    name: "Chaperone",
                    vendor_name: "Chaperone",
                    version: env!("CARGO_PKG_VERSION"),
                },
                profiles: ["security_control"],
                uid: format!("{id}/{sequence}"),
                sequence: self.told,
                correlation_uid: id.to_string(),
                event_code: code.to_owned(),
                log_name: "chaperone evidence",
                is_truncated: false,
            },
            message: String::new(),
            actor: Some(Actor {
                user: self.agent(),
                session: self.session(),
                idp: self.delegate.as_ref().map(|delegate| Idp {
                    name: delegate.provider.clone(),
                    uid: delegate.issuer.clone(),
                }),
                invoked_by: self.delegate.as_ref().map(DelegateRecord::describe),
                authorizations: Vec::new(),
            }),
            src_endpoint: Some(Endpoint {
                name: self.origin.start.subject.clone(),
                port: None,
            }),
            dst_endpoint: None,
            user: None,
            session: None,
            privileges: Vec::new(),
            resource: None,
            database: None,
            table: None,
            query_info: None,
            finding_info: None,
            evidences: Vec::new(),
            status_id: None,
            status: None,
            status_code: None,
            status_detail: None,
            duration: None,
            action_id: Action::Allowed,
            action: Action::Allowed.caption(),
            disposition_id: Disposition::Allowed,
            disposition: Disposition::Allowed.caption(),
            policy: None,
            unmapped: Map::new(),
        }
    }

    /// Where the command went.
    fn place(&self, event: &mut Event) {
        let start = &self.origin.start;
        let (address, database) = start
            .target
            .split_once('/')
            .unwrap_or((start.target.as_str(), start.connection.as_str()));
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        event.dst_endpoint = Some(Endpoint {
            name: host.to_owned(),
            port: port.parse().ok(),
        });
        event.database = Some(Database {
            name: database.to_owned(),
            uid: start.connection.clone(),
            type_id: 1,
            r#type: "Relational",
        });
    }

    fn agent(&self) -> User {
        User {
            name: self.origin.start.subject.clone(),
            uid: self.origin.start.subject.clone(),
            type_id: 4,
            r#type: "Service",
        }
    }

    fn session(&self) -> Session {
        Session {
            uid: self.origin.id.to_string(),
            created_time: milliseconds(self.origin.started_ns),
        }
    }
}

/// Sequence and wall time of a record.
type Place = (u64, u64);

/// Of classes 3003 and 3005.
const ASSIGN_PRIVILEGES: Activity = Activity(1, "Assign Privileges");

impl Event {
    fn also(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.unmapped.insert(name.to_owned(), value);
        }
    }

    fn severity(&mut self, severity: Severity) {
        (self.severity_id, self.severity) = (severity, severity.caption());
    }

    fn act(&mut self, action: Action, disposition: Disposition) {
        (self.action_id, self.action) = (action, action.caption());
        (self.disposition_id, self.disposition) = (disposition, disposition.caption());
    }

    fn set_status(&mut self, status: Status) {
        (self.status_id, self.status) = (Some(status), Some(status.caption()));
    }

    fn decided(&mut self, decision: &DecisionRecord, masked: bool) {
        let through = if masked {
            Action::Modified
        } else {
            Action::Allowed
        };
        let (severity, action, disposition) = match decision.verdict {
            Verdict::Allow if decision.approval.is_some() => {
                (Severity::Low, through, Disposition::Approved)
            }
            Verdict::Allow => (Severity::Informational, through, Disposition::Allowed),
            Verdict::Observe => (Severity::Low, Action::Observed, Disposition::Logged),
            Verdict::Hold if decision.approval.is_some() => {
                (Severity::Low, through, Disposition::Approved)
            }
            Verdict::Hold => (Severity::Low, Action::Denied, Disposition::Delayed),
            Verdict::Deny => (Severity::Medium, Action::Denied, Disposition::Blocked),
        };
        self.severity(severity);
        self.act(action, disposition);
        self.policy = (!decision.policy.is_empty()).then(|| Policy {
            name: format!("{}/{}", decision.policy, decision.rule),
            uid: decision.rule_digest.clone(),
            version: Some(decision.generation.to_string()),
        });
    }

    fn came_out(&mut self, outcome: &Outcome) {
        self.duration = u64::try_from(outcome.duration.as_millis()).ok();
        self.status_code = (!outcome.detail.is_empty()).then(|| outcome.detail.clone());
        let status = match outcome.status {
            OutcomeStatus::Completed => Status::Success,
            OutcomeStatus::Failed | OutcomeStatus::Cancelled => Status::Failure,
            OutcomeStatus::Unknown => Status::Unknown,
            OutcomeStatus::NotForwarded => {
                self.act(Action::Denied, Disposition::Error);
                Status::Failure
            }
        };
        self.set_status(status);
        self.status_detail = Some(format!("{:?}", outcome.status));
    }
}

/// Whether a command was forwarded under this decision.
fn lets_through(decision: &DecisionRecord) -> bool {
    match decision.verdict {
        Verdict::Allow | Verdict::Observe => true,
        Verdict::Hold => decision.approval.is_some(),
        Verdict::Deny => false,
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "Allow",
        Verdict::Deny => "Deny",
        Verdict::Hold => "Hold",
        Verdict::Observe => "Observe",
    }
}

/// The gravest thing that a command does, in the class's words.
fn activity_of(accesses: &[String]) -> Activity {
    const GRAVEST_FIRST: [(&[&str], Activity); 5] = [
        (&["SchemaDestroy", "Delete"], Activity(7, "Delete")),
        (&["SchemaCreate"], Activity(6, "Create")),
        (
            &["SchemaAlter", "Modify", "Privilege"],
            Activity(2, "Update"),
        ),
        (&["Write", "BulkLoad"], Activity(5, "Write")),
        (&["Read", "BulkExport"], Activity(1, "Read")),
    ];
    let does = |effects: &[&str]| {
        let mut found = accesses
            .iter()
            .filter_map(|access| access.split_once(" on "));
        found.any(|(effect, object)| effects.contains(&effect) && object != "session")
    };
    GRAVEST_FIRST
        .iter()
        .find(|(effects, _)| does(effects))
        .map_or(Activity(4, "Query"), |(_, activity)| *activity)
}

/// The relation that an access names: `public.orders` of `Read on public.orders`.
fn relation(access: &str) -> Option<&str> {
    let (_, object) = access.split_once(" on ")?;
    // Of all other objects the kind comes first, or they end so.
    let word = object.split(' ').next().unwrap_or_default();
    let other = object.ends_with("()") || object.ends_with(" (unresolved)");
    (word.contains('.') && !other).then_some(object)
}

fn milliseconds(ns: u64) -> u64 {
    u64::try_from(Duration::from_nanos(ns).as_millis()).unwrap_or(u64::MAX)
}
