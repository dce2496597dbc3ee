//! One sink's life: what its feed gives is sent until it has arrived.

use std::time::Duration;

use chaperone_crds::SinkEvents;
use chaperone_enforce::{Notice, NoticeKind};
use chaperone_evidence::Feed;
use chaperone_evidence::ocsf::{Class, Disposition, Event};
use chaperone_wire::Resolver;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::config::{Sink, To};
use super::file::{self, Lines};
use super::post::{Posted, post};
use super::{Ending, Shared, otlp};
use crate::pause::Pause;

/// Events that are sent together at most.
const MOST: usize = 200;
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two looks at a disk that refused.
const DISK_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Delivery {
    sink: Sink,
    shared: Shared,
    feed: Feed,
    resolver: Resolver,
    lines: Option<Lines>,
    pause: Pause,
    missing: u64,
}

/// What came of one attempt.
enum Sent {
    /// All arrived but so many, which it refused.
    All { refused: u64, why: String },
    /// None did, for good.
    Refused(String),
    /// They are to be sent again.
    Later {
        why: String,
        after: Option<Duration>,
    },
}

impl Delivery {
    pub(super) fn new(sink: Sink, shared: Shared, feed: Feed) -> Delivery {
        let lines = match &sink.to {
            To::File {
                path,
                max_bytes,
                keep,
            } => Some(Lines::new(path, *max_bytes, *keep)),
            _ => None,
        };
        Delivery {
            sink,
            shared,
            feed,
            resolver: Resolver::new(),
            lines,
            pause: Pause::up_to(LONGEST_PAUSE),
            missing: 0,
        }
    }

    /// Sends until it is to end.
    pub(super) async fn run(mut self, ending: &mut watch::Receiver<Ending>) {
        let mut stop = ending.clone();
        tokio::select! {
            () = self.send_all(ending) => {}
            // What was not said to be done is sent again.
            _ = stop.wait_for(|ending| *ending == Ending::Now) => {}
        }
    }

    async fn send_all(&mut self, ending: &mut watch::Receiver<Ending>) {
        loop {
            // Looked at first: what is there when it is to end is sent.
            let last = *ending.borrow_and_update() != Ending::No;
            let events = match self.feed.next(MOST) {
                Ok(events) => events,
                Err(error) => {
                    tracing::warn!(
                        sink = self.sink.name,
                        "what to send cannot be read: {error}"
                    );
                    sleep(DISK_PAUSE).await;
                    continue;
                }
            };
            self.say_what_is_missing();
            if events.is_empty() {
                if last {
                    return;
                }
                tokio::select! {
                    () = self.feed.more() => {}
                    changed = ending.changed() => if changed.is_err() {
                        return;
                    },
                }
                continue;
            }
            let wanted: Vec<Event> = events
                .into_iter()
                .filter(|event| wants(&self.sink.only, event))
                .map(|event| self.with_command(event))
                .collect();
            self.send(&wanted).await;
            while let Err(error) = self.feed.done() {
                tracing::warn!(
                    sink = self.sink.name,
                    "what was sent cannot be kept in mind: {error}"
                );
                sleep(DISK_PAUSE).await;
            }
        }
    }

    /// Sends these until each has arrived or was refused for good. Of several that are refused
    /// together, those that are to blame are found by halves.
    async fn send(&mut self, events: &[Event]) {
        let mut parts = vec![events];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.attempt(part).await {
                Sent::All { refused, why } => {
                    let count = part.len() as u64;
                    let refused = refused.min(count);
                    self.pause = Pause::up_to(LONGEST_PAUSE);
                    self.count("sent", count - refused);
                    if refused > 0 {
                        self.dead_letter(refused, &why, part);
                    }
                }
                Sent::Refused(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push(second);
                    parts.push(first);
                }
                Sent::Refused(why) => self.dead_letter(1, &why, part),
                Sent::Later { why, after } => {
                    self.shared.metrics.failed(&self.sink.name);
                    tracing::warn!(
                        sink = self.sink.name,
                        "events were not taken, and are sent again: {why}"
                    );
                    if let Some(after) = after {
                        sleep(after).await;
                    }
                    self.pause.wait().await;
                    parts.push(part);
                }
            }
        }
    }

    async fn attempt(&mut self, events: &[Event]) -> Sent {
        let sink = &self.sink;
        let Shared {
            subject,
            instance,
            allow,
            ..
        } = &self.shared;
        let written = match &sink.to {
            To::Webhook(_) => serde_json::to_vec(events),
            To::Otlp(_) => otlp::request(events, subject, instance),
            To::File { .. } | To::Stdout => lines(events),
        };
        let body = match written {
            Ok(body) => body,
            Err(error) => return Sent::Refused(error.to_string()),
        };
        match &sink.to {
            To::Webhook(server) => posted(post(server, &self.resolver, *allow, body).await, None),
            To::Otlp(server) => {
                let judge: Judge = otlp::rejected;
                posted(
                    post(server, &self.resolver, *allow, body).await,
                    Some(judge),
                )
            }
            To::File { .. } => match &mut self.lines {
                Some(lines) => local(lines.append(&body)),
                None => Sent::Refused("it has no file".to_owned()),
            },
            To::Stdout => local(file::print(&body)),
        }
    }

    /// Adds what a human may paste.
    fn with_command(&self, mut event: Event) -> Event {
        if event.metadata.event_code == "ApprovalRequested"
            && let Some(request) = &event.resource
        {
            let command = self.shared.approvals.command(&request.name);
            event
                .unmapped
                .insert("approve".to_owned(), Value::from(command));
        }
        event
    }

    fn count(&self, outcome: &str, events: u64) {
        self.shared.metrics.count(&self.sink.name, outcome, events);
    }

    fn dead_letter(&self, count: u64, why: &str, events: &[Event]) {
        self.count("dead_letter", count);
        let first = events.first();
        let uid = first.map_or("", |event| event.metadata.uid.as_str());
        tracing::error!(
            sink = self.sink.name,
            first = uid,
            count,
            "events were refused for good; the evidence has them: {why}"
        );
        let session = first.map_or("", |event| event.metadata.correlation_uid.as_str());
        self.tell(
            "SinkRefused",
            session,
            format!(
                "{count} events were refused by sink {}: {why}",
                self.sink.name
            ),
        );
    }

    fn say_what_is_missing(&mut self) {
        let more = self.feed.missing().saturating_sub(self.missing);
        if more == 0 {
            return;
        }
        self.missing = self.feed.missing();
        self.count("missing", more);
        tracing::error!(
            sink = self.sink.name,
            copies = more,
            "what the sink was to be told was not kept, as too much was unsent; the evidence has it"
        );
        self.tell(
            "SinkBehind",
            "",
            format!("sink {} was not told of everything", self.sink.name),
        );
    }

    fn tell(&self, reason: &str, session: &str, detail: String) {
        self.shared.notices.add(Notice {
            kind: NoticeKind::Finding,
            reason: reason.to_owned(),
            connection: "its sinks".to_owned(),
            session: session.to_owned(),
            detail,
            count: 1,
        });
    }
}

type Judge = fn(&[u8]) -> (u64, String);

fn posted(posted: Posted, judge: Option<Judge>) -> Sent {
    match posted {
        Posted::Arrived(answer) => {
            let (refused, why) = judge.map_or((0, String::new()), |judge| judge(&answer));
            Sent::All { refused, why }
        }
        Posted::Later { why, after } => Sent::Later { why, after },
        Posted::Refused(why) => Sent::Refused(why),
    }
}

fn local(written: std::io::Result<()>) -> Sent {
    match written {
        Ok(()) => Sent::All {
            refused: 0,
            why: String::new(),
        },
        Err(error) => Sent::Later {
            why: error.to_string(),
            after: None,
        },
    }
}

fn lines(events: &[Event]) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(events.len().saturating_mul(2048));
    for event in events {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Whether a sink that is limited to these is told of it.
fn wants(only: &[SinkEvents], event: &Event) -> bool {
    only.is_empty()
        || only.iter().any(|kind| match kind {
            SinkEvents::Approvals => event.class_uid == Class::UserAccess,
            SinkEvents::Findings => event.class_uid == Class::DetectionFinding,
            SinkEvents::Denials => {
                event.class_uid == Class::DatastoreActivity
                    && matches!(
                        event.disposition_id,
                        Disposition::Blocked | Disposition::Delayed
                    )
            }
        })
}
