//! Both bodies of an exchange: read, masked, recorded, and written on, one piece at a time.
//!
//! Nothing is collected here. A piece of the request is recorded before it is sent on, a piece of
//! the answer after it was masked. Reading stops where the other side does not keep up.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant as Moment;

use bytes::Bytes;
use chaperone_enforce::{Denial, Session as Flow};
use chaperone_evidence::{Masked, Outcome, OutcomeStatus, Part, Permit};
use chaperone_mask::StreamMask;
use chaperone_policy::{Operation, Reason, Verdict};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::exchange::{After, Permitted, Wanted, announced};
use super::masks::{CannotMask, Masks, counted};
use super::{Agent, Lane, tunnel};
use crate::answer::About;
use crate::body::{Body, Coding, CutOff, Frames, Room, Source};
use crate::normal;
use crate::record::{self, Recorded, Writing};
use crate::server::{self, Route, Speak, end_body, forward_body};
use crate::websocket::MessageError;

/// Records that may wait to be written while a body flows, in bytes.
const UNWRITTEN: usize = 256 * 1024;
/// Fields that describe bytes which a mask changes.
const OF_THE_BYTES: [&str; 9] = [
    "accept-ranges",
    "content-digest",
    "content-encoding",
    "content-length",
    "content-md5",
    "content-range",
    "digest",
    "etag",
    "repr-digest",
];

/// Why an exchange stopped before its end.
enum Stop {
    /// The agent went away.
    Gone,
    /// The target did not finish.
    Target(String),
    /// The proxy stopped it.
    Ours(Denial),
}

impl Stop {
    fn ours(reason: Reason, message: impl Into<String>) -> Stop {
        Stop::Ours(Denial::new(reason, message))
    }
}

/// The rest of a request's body on its way to the target.
struct Upload {
    from: Incoming,
    to: Frames,
    pending: Option<Option<Result<Bytes, CutOff>>>,
    /// What is recorded of it is only its length.
    withheld: bool,
}

impl Upload {
    /// A piece, and room for it. `None` for the piece: all was read. Cancel-safe.
    async fn ready(&mut self) -> (Result<Room, CutOff>, Option<Result<Bytes, CutOff>>) {
        use http_body_util::BodyExt;
        while self.pending.is_none() {
            self.pending = match self.from.frame().await {
                None => Some(None),
                Some(Err(_)) => Some(Some(Err(CutOff))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => Some(Some(Ok(data))),
                    // Trailers of requests mean nothing to anybody; they are left out.
                    _ => None,
                },
            };
        }
        let room = self.to.room().await;
        (room, self.pending.take().flatten())
    }
}

/// The answer on its way to the agent.
struct Download {
    from: Source,
    to: Frames,
    pending: Option<Option<std::io::Result<Frame<Bytes>>>>,
}

impl Download {
    async fn ready(&mut self) -> (Result<Room, CutOff>, Option<std::io::Result<Frame<Bytes>>>) {
        if self.pending.is_none() {
            self.pending = Some(self.from.next().await);
        }
        let room = self.to.room().await;
        (room, self.pending.take().flatten())
    }
}

/// One permitted request, to its end.
pub(super) async fn relay(
    agent: &Agent,
    lane: &mut Lane,
    permitted: Permitted,
    upgrade: OnUpgrade,
    answer_to: oneshot::Sender<Response<Body>>,
) -> After {
    let Permitted {
        wanted,
        masks,
        permit,
        approved,
    } = permitted;
    let sequence = permit.sequence();
    let begun = Moment::now();
    let mut relay = Relay {
        agent,
        masks,
        operation: wanted.operation.clone(),
        approved,
        answer_to: Some(answer_to),
        status: None,
        bytes: 0,
        unsent: false,
        ended: None,
    };
    let result = relay.run(lane, wanted, permit, upgrade).await;
    let (status, denial) = match result {
        Ok(()) => {
            let failed = relay
                .status
                .is_some_and(|status| status.is_client_error() || status.is_server_error())
                || matches!(relay.ended, Some((_, false)));
            match failed {
                true => (OutcomeStatus::Failed, None),
                false => (OutcomeStatus::Completed, None),
            }
        }
        Err(Stop::Gone) => (OutcomeStatus::Cancelled, Some(None)),
        Err(Stop::Target(why)) => {
            let denial = Denial::new(Reason::TargetRefused, why);
            (OutcomeStatus::Failed, Some(Some(denial)))
        }
        Err(Stop::Ours(denial)) => match relay.unsent {
            true => (OutcomeStatus::NotForwarded, Some(Some(denial))),
            false => (OutcomeStatus::Failed, Some(Some(denial))),
        },
    };
    let detail = match (&denial, relay.status, relay.ended.take()) {
        (Some(Some(denial)), _, _) => denial.reason.as_str().to_owned(),
        (_, _, Some((ended, _))) => ended,
        (_, Some(status), None) => status.as_u16().to_string(),
        (_, None, None) => String::new(),
    };
    let outcome = Outcome {
        intent: sequence,
        status,
        detail,
        rows: 0,
        bytes: relay.bytes,
        duration: begun.elapsed(),
    };
    if lane.flow.record().outcome(outcome).is_err() {
        let denial = Denial::new(
            Reason::CannotRecord,
            "the end of an exchange could not be recorded",
        );
        return After::End(Some(denial));
    }
    match denial {
        None => After::Reuse,
        Some(denial) => {
            // Nothing was sent of an answer: the agent is told. Else its body breaks off.
            let told = relay.answer_to.take().zip(denial.as_ref());
            if let Some((answer_to, denial)) = told {
                let about = About {
                    session: Some(lane.flow.id().to_owned()),
                    close: !agent.two,
                    ..About::default()
                };
                let api = &agent.connection.api;
                let operation = Some(&relay.operation);
                let _ = answer_to.send(api.answer(denial, &about, operation));
            }
            After::End(denial)
        }
    }
}

struct Relay<'a> {
    agent: &'a Agent,
    masks: Masks,
    operation: Operation,
    /// A human let it through: that it would be held again does not stop it.
    approved: bool,
    answer_to: Option<oneshot::Sender<Response<Body>>>,
    status: Option<StatusCode>,
    /// Sent to the agent, of the body.
    bytes: u64,
    /// The target cannot have seen any of it.
    unsent: bool,
    /// What was said at the end of a tunnel, and whether it succeeded.
    ended: Option<(String, bool)>,
}

impl Relay<'_> {
    async fn run(
        &mut self,
        lane: &mut Lane,
        wanted: Wanted,
        permit: Permit,
        upgrade: OnUpgrade,
    ) -> Result<(), Stop> {
        let agent = self.agent;
        let connection = &agent.connection;
        let Wanted {
            mut understood,
            body,
            collected,
            ..
        } = wanted;
        let mut fields = std::mem::take(&mut understood.fields);
        let length = announced(&body, &mut fields);
        if self.masks.is_armed() {
            // What comes in parts or packed is harder to mask; packed it is unpacked all the same.
            fields.insert("accept-encoding", HeaderValue::from_static("identity"));
            fields.remove("range");
            fields.remove("if-range");
        }
        let (mut upload, sent) = match collected {
            Some(bytes) => (
                None,
                if bytes.is_empty() {
                    Body::default()
                } else {
                    Body::from(bytes)
                },
            ),
            None => {
                let (to, sent) = Body::flow(length);
                let upload = Upload {
                    from: body,
                    to,
                    pending: None,
                    withheld: self.masks.is_armed(),
                };
                (Some(upload), sent)
            }
        };
        let request = Request::builder()
            .method(understood.request.method.as_str())
            .uri(understood.sent.as_str())
            .body(sent);
        let Ok(mut request) = request else {
            self.unsent = true;
            return Err(Stop::ours(
                Reason::Internal,
                "the request could not be written again",
            ));
        };
        *request.headers_mut() = fields;
        let speak = match (understood.grpc && agent.two, agent.two) {
            (true, _) => Speak::Two,
            (false, true) => Speak::Either,
            (false, false) => Speak::One,
        };
        let route = Route {
            target: &connection.target,
            credential: connection.credential.as_ref(),
            resolver: &connection.resolver,
            allow_special: connection.allow_special,
            tasks: &agent.drivers,
            shared: &agent.shared,
            deadline: Instant::now() + connection.bounds.connect,
        };
        let mut way = std::mem::take(&mut lane.way);
        let response = {
            let forwarding = server::forward(permit, &mut way, route, speak, request);
            self.until_answered(&mut lane.flow, forwarding, &mut upload)
                .await?
        };
        lane.way = way;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if !understood.upgrade {
                return Err(Stop::ours(
                    Reason::TargetProtocol,
                    "the target left HTTP unasked",
                ));
            }
            lane.way = server::Way::default();
            return self.tunnel(&mut lane.flow, response, upgrade).await;
        }
        let result = self
            .answer(
                &mut lane.flow,
                &understood.request.method,
                understood.upgrade,
                response,
                &mut upload,
            )
            .await;
        if upload.is_some() {
            // The target answered without reading all: what is left would stand before the next.
            lane.way = server::Way::default();
        }
        result
    }

    /// Sends the rest of the request until the answer begins.
    async fn until_answered(
        &mut self,
        flow: &mut Flow,
        forwarding: impl Future<Output = Result<Response<Incoming>, server::ServerError>>,
        upload: &mut Option<Upload>,
    ) -> Result<Response<Incoming>, Stop> {
        let mut forwarding = pin!(forwarding);
        let mut changes = flow.changes();
        let mut drain = self.agent.drain.clone();
        loop {
            let Some(answer_to) = &mut self.answer_to else {
                return Err(Stop::Gone);
            };
            let quiet = Instant::now() + self.agent.connection.bounds.quiet;
            tokio::select! {
                response = &mut forwarding => return response.map_err(|error| {
                    self.unsent = error.is_unsent();
                    Stop::ours(error.reason(), error.to_string())
                }),
                () = answer_to.closed() => return Err(Stop::Gone),
                changed = changes.changed() => {
                    if changed.is_ok() {
                        changes.borrow_and_update();
                        self.recheck(flow)?;
                    }
                }
                () = drain.expired() => return Err(shutting_down()),
                () = sleep_until(quiet) => return Err(Stop::ours(Reason::TargetRefused, "the target did not answer in time")),
                done = next_up(upload, flow) => match done {
                    Ok(true) => { *upload = None; }
                    Ok(false) => {}
                    Err(stop) => return Err(stop),
                },
            }
            flush(flow).await?;
        }
    }

    /// A policy change reached this exchange.
    fn recheck(&mut self, flow: &mut Flow) -> Result<(), Stop> {
        let before = flow.policy().digest().to_owned();
        if !flow.refresh().map_err(Stop::Ours)? || flow.policy().digest() == before {
            return Ok(());
        }
        let now = flow.decide_again(&self.operation).verdict;
        let runs_on = match now {
            Verdict::Allow | Verdict::Observe => true,
            Verdict::Hold => self.approved,
            Verdict::Deny => false,
        };
        let masks = Masks::new(&self.agent.connection, flow.policy(), Some(&self.operation));
        // What flows is masked as the policy said when it began: under other masks it must begin anew.
        if !runs_on || masks.is_armed() || self.masks.is_armed() {
            return Err(Stop::ours(
                Reason::PolicyChanged,
                "the policy changed, and this exchange began under another",
            ));
        }
        Ok(())
    }

    /// Begins the answer to the agent.
    fn send(&mut self, status: StatusCode, fields: HeaderMap, body: Body) -> Result<(), Stop> {
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = fields;
        let sent = self
            .answer_to
            .take()
            .is_some_and(|answer_to| answer_to.send(answer).is_ok());
        match sent {
            true => Ok(()),
            false => Err(Stop::Gone),
        }
    }

    async fn answer(
        &mut self,
        flow: &mut Flow,
        method: &str,
        close: bool,
        response: Response<Incoming>,
        upload: &mut Option<Upload>,
    ) -> Result<(), Stop> {
        let (parts, incoming) = response.into_parts();
        let status = parts.status;
        self.status = Some(status);
        let connection = &self.agent.connection;
        self.masks.answered(status, connection, &self.operation);
        let mut fields = normal::answer_fields(&parts.headers);
        let empty =
            incoming.is_end_stream() || method == "HEAD" || matches!(status.as_u16(), 204 | 304);
        let cannot = |CannotMask(why)| Stop::ours(Reason::MaskUnsupported, why);
        let (mut live, mut recorded) = match empty {
            true => (None, Recording::AsSent),
            false => {
                let live = self.masks.for_agent(&fields).map_err(cannot)?;
                let recorded = match self.masks.for_record(&fields) {
                    Ok(None) => Recording::AsSent,
                    Ok(Some(mask)) => Recording::Masked(Box::new(mask)),
                    Err(_) => Recording::Withheld,
                };
                (live, recorded)
            }
        };
        if matches!(recorded, Recording::Masked(_)) && Coding::of(&fields) != Some(Coding::Identity)
        {
            recorded = Recording::Withheld;
        }
        let from = match (&live, Coding::of(&fields)) {
            (None, _) => Source::Frames(incoming),
            (Some(_), Some(coding)) => Source::decoded(incoming, coding),
            (Some(_), None) => {
                return Err(cannot(CannotMask(
                    "an answer in this encoding cannot be masked".to_owned(),
                )));
            }
        };
        if live.is_some() {
            for name in OF_THE_BYTES {
                fields.remove(name);
            }
        } else if self.masks.masks_answers() {
            fields.remove("accept-ranges");
        }
        self.masks.fields(&mut fields);
        if close {
            fields.insert("connection", HeaderValue::from_static("close"));
        }
        self.write_head(flow, status, &fields, !empty)?;
        let length = fields
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let (to, body) = match empty {
            true => (None, Body::default()),
            false => {
                let (to, body) = Body::flow(length);
                (Some(to), body)
            }
        };
        self.send(status, fields, body)?;
        let Some(to) = to else {
            return Ok(());
        };
        let download = Download {
            from,
            to,
            pending: None,
        };
        let result = self
            .flow_on(flow, download, &mut live, &mut recorded, upload)
            .await;
        // Whoever stops reading before the end was given what he read.
        let told = self.told(flow, &live);
        result.and(told)
    }

    fn write_head(
        &self,
        flow: &mut Flow,
        status: StatusCode,
        fields: &HeaderMap,
        body: bool,
    ) -> Result<(), Stop> {
        let mask = |text: &str| self.masks.text_for_record(text);
        let head = record::answer(status, fields, &self.writing(&mask, body));
        keep(flow, &head)
    }

    fn writing<'w>(
        &'w self,
        mask: &'w (dyn Fn(&str) -> Option<String> + Sync),
        body: bool,
    ) -> Writing<'w> {
        let credential = self.agent.connection.credential.as_ref();
        Writing {
            credential: credential.map(|credential| credential.header.as_str()),
            mask,
            body,
        }
    }

    async fn flow_on(
        &mut self,
        flow: &mut Flow,
        mut download: Download,
        live: &mut Option<StreamMask>,
        recorded: &mut Recording,
        upload: &mut Option<Upload>,
    ) -> Result<(), Stop> {
        let mut changes = flow.changes();
        let mut drain = self.agent.drain.clone();
        loop {
            let quiet = Instant::now() + self.agent.connection.bounds.quiet;
            let next = tokio::select! {
                changed = changes.changed() => {
                    if changed.is_ok() {
                        changes.borrow_and_update();
                        self.recheck(flow)?;
                    }
                    None
                }
                () = drain.expired() => return Err(shutting_down()),
                () = sleep_until(quiet) => {
                    return Err(Stop::ours(Reason::TargetRefused, "the target fell silent"));
                }
                // The agent may stop sending what nobody waits for any more.
                done = next_up(upload, flow) => {
                    if done.unwrap_or(true) {
                        *upload = None;
                    }
                    None
                }
                next = download.ready() => Some(next),
            };
            let Some((room, piece)) = next else {
                flush(flow).await?;
                continue;
            };
            let room = room.map_err(|CutOff| Stop::Gone)?;
            let trailers = match piece {
                Some(Err(error)) => return Err(broken(&error, live.is_some())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let data = self.masked(flow, live, recorded, Some(data))?;
                        if !data.is_empty() {
                            room.frame(Frame::data(data));
                        }
                        flush(flow).await?;
                        continue;
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => Some(trailers),
                        Err(_) => continue,
                    },
                },
                None => None,
            };
            // The end: what the mask held back, then the trailers, if there are any.
            let rest = self.masked(flow, live, recorded, None)?;
            let last = match trailers {
                Some(trailers) => Some(self.trailers(flow, trailers)?),
                None => {
                    keep_bytes(flow, record::LAST_CHUNK)?;
                    None
                }
            };
            let mut frames: Vec<Frame<Bytes>> = Vec::new();
            if !rest.is_empty() {
                frames.push(Frame::data(rest));
            }
            frames.extend(last.map(Frame::trailers));
            let mut room = Some(room);
            for frame in frames {
                match room.take() {
                    Some(room) => room.frame(frame),
                    None => download
                        .to
                        .room()
                        .await
                        .map_err(|CutOff| Stop::Gone)?
                        .frame(frame),
                }
            }
            match room {
                Some(room) => room.end(),
                None => end_body(&download.to).await,
            }
            return Ok(());
        }
    }

    /// A piece as the agent gets it, recorded; at the end of the body what the mask held back.
    fn masked(
        &mut self,
        flow: &mut Flow,
        live: &mut Option<StreamMask>,
        recorded: &mut Recording,
        data: Option<Bytes>,
    ) -> Result<Bytes, Stop> {
        let cannot = |error: chaperone_mask::Unmaskable| {
            Stop::ours(Reason::MaskUnsupported, error.to_string())
        };
        let data = match live {
            None => data.unwrap_or_default(),
            Some(mask) => {
                let mut out = Vec::new();
                match &data {
                    Some(data) => mask.push(data, &mut out).map_err(cannot)?,
                    None => mask.finish(&mut out).map_err(cannot)?,
                }
                out.into()
            }
        };
        let count = data.len() as u64;
        let limit = flow.policy().limits().bytes_per_minute;
        if count > 0 && !flow.shared().rates.bytes(count, limit) {
            return Err(Stop::ours(
                Reason::LimitExceeded,
                "more bytes in this minute than the policy allows",
            ));
        }
        self.bytes = self.bytes.saturating_add(count);
        recorded.keep(flow, &data)?;
        Ok(data)
    }

    fn trailers(&self, flow: &mut Flow, mut trailers: HeaderMap) -> Result<HeaderMap, Stop> {
        trailers = normal::answer_fields(&trailers);
        self.masks.fields(&mut trailers);
        let mask = |text: &str| self.masks.text_for_record(text);
        keep(
            flow,
            &record::trailers(&trailers, &self.writing(&mask, false)),
        )?;
        Ok(trailers)
    }

    /// Records and counts what was masked.
    fn told(&self, flow: &mut Flow, live: &Option<StreamMask>) -> Result<(), Stop> {
        tell_masked(flow, live.iter().flat_map(counted))
    }

    async fn tunnel(
        &mut self,
        flow: &mut Flow,
        response: Response<Incoming>,
        agent: OnUpgrade,
    ) -> Result<(), Stop> {
        self.status = Some(response.status());
        let api = Arc::clone(&self.agent.connection.api);
        let masks = self.masks.of_messages();
        let messages = api
            .messages(&self.operation, response.headers(), &masks)
            .map_err(|unfit| Stop::ours(unfit.reason, unfit.message))?;
        let mut response = response;
        let target = hyper::upgrade::on(&mut response);
        let mut fields = normal::answer_fields(response.headers());
        fields.insert("connection", HeaderValue::from_static("upgrade"));
        if let Some(protocol) = response.headers().get("upgrade") {
            fields.insert("upgrade", protocol.clone());
        }
        self.masks.fields(&mut fields);
        self.write_head(flow, response.status(), &fields, false)?;
        self.send(response.status(), fields, Body::default())?;
        let (Ok(agent), Ok(target)) = (agent.await, target.await) else {
            return Err(Stop::Gone);
        };
        let mut tunnel = tunnel::Tunnel::new(agent, target, messages);
        let result = self.tunnelled(flow, &mut tunnel).await;
        if let Err(Stop::Ours(denial)) = &result {
            tunnel.farewell(flow, denial).await;
        }
        let told = tell_masked(flow, tunnel.masked());
        result.and(told)
    }

    async fn tunnelled(
        &mut self,
        flow: &mut Flow,
        tunnel: &mut tunnel::Tunnel,
    ) -> Result<(), Stop> {
        let mut changes = flow.changes();
        let mut drain = self.agent.drain.clone();
        loop {
            // Kept up to date, as whoever breaks the tunnel off may have been told all.
            self.ended = tunnel.ended();
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_ok() {
                        changes.borrow_and_update();
                        self.recheck(flow)?;
                    }
                }
                () = drain.expired() => return Err(shutting_down()),
                step = tunnel.ready() => match step {
                    None => return Ok(()),
                    Some(step) => {
                        let count = tunnel.keep(flow, step).map_err(|error| match error {
                            tunnel::Broken::Record(error) => unkept(error),
                            tunnel::Broken::Messages(error) => {
                                let reason = match error {
                                    MessageError::NotWebSocket(_) => Reason::ProtocolViolation,
                                    _ => Reason::MaskUnsupported,
                                };
                                Stop::ours(reason, error.to_string())
                            }
                        })?;
                        self.bytes = self.bytes.saturating_add(count);
                    }
                }
            }
            flush(flow).await?;
        }
    }
}

/// The answer ended early: the target's fault, or that of what it is packed in.
fn broken(error: &std::io::Error, masked: bool) -> Stop {
    let from_target = error
        .get_ref()
        .is_some_and(|inner| inner.is::<hyper::Error>());
    match masked && !from_target {
        true => Stop::ours(Reason::MaskUnsupported, "the answer cannot be decompressed"),
        false => Stop::Target(format!("the answer broke off: {error}")),
    }
}

/// How the bytes of an answer's body are recorded.
enum Recording {
    AsSent,
    /// Only DryRun policies mask: the agent gets what the record does not hold.
    Masked(Box<StreamMask>),
    Withheld,
}

impl Recording {
    /// A piece of a body; an empty one is its end.
    fn keep(&mut self, flow: &mut Flow, data: &[u8]) -> Result<(), Stop> {
        match self {
            Recording::AsSent if data.is_empty() => Ok(()),
            Recording::AsSent => {
                let start = format!("{:x}\r\n", data.len());
                let parts = [start.as_bytes(), data, b"\r\n"].map(Part::from);
                flow.record().server(&parts).map_err(unkept)
            }
            Recording::Withheld if data.is_empty() => Ok(()),
            Recording::Withheld => keep(flow, &record::withheld_chunk(data.len())),
            Recording::Masked(mask) => {
                let mut out = Vec::new();
                let done = match data.is_empty() {
                    true => mask.finish(&mut out),
                    false => mask.push(data, &mut out),
                };
                match done {
                    Ok(()) if out.is_empty() => Ok(()),
                    Ok(()) => keep(flow, &record::chunk(&out)),
                    Err(_) => {
                        *self = Recording::Withheld;
                        self.keep(flow, data)
                    }
                }
            }
        }
    }
}

/// Sends the next piece of a request's body on; true once all of it was. Waits for ever where
/// there is none. Cancel-safe: nothing is awaited once a piece was taken.
async fn next_up(upload: &mut Option<Upload>, flow: &mut Flow) -> Result<bool, Stop> {
    let Some(upload) = upload else {
        return std::future::pending().await;
    };
    let withheld = upload.withheld;
    let (room, piece) = upload.ready().await;
    // The target reads no more, and has its reasons in the answer.
    let Ok(room) = room else { return Ok(true) };
    match piece {
        None => {
            let last = Part::from(record::LAST_CHUNK);
            // Not a byte of it is sent, but that it ended is.
            let _permit = flow.record().control(&[last]).map_err(unkept)?;
            room.end();
            Ok(true)
        }
        Some(Err(CutOff)) => Err(Stop::Gone),
        Some(Ok(piece)) => {
            let permit = if withheld {
                let chunk = record::withheld_chunk(piece.len());
                flow.record().control(&[chunk.part()])
            } else {
                let start = format!("{:x}\r\n", piece.len());
                let parts = [start.as_bytes(), &piece, b"\r\n"].map(Part::from);
                flow.record().control(&parts)
            };
            forward_body(permit.map_err(unkept)?, room, piece);
            Ok(false)
        }
    }
}

fn tell_masked(flow: &mut Flow, masked: impl IntoIterator<Item = Masked>) -> Result<(), Stop> {
    let mut count = 0_u64;
    for masked in masked {
        count = count.saturating_add(masked.count);
        flow.record().masked(masked).map_err(unkept)?;
    }
    flow.passed(0, count);
    Ok(())
}

fn keep(flow: &mut Flow, recorded: &Recorded) -> Result<(), Stop> {
    flow.record().server(&[recorded.part()]).map_err(unkept)
}

fn keep_bytes(flow: &mut Flow, bytes: &[u8]) -> Result<(), Stop> {
    flow.record().server(&[bytes.into()]).map_err(unkept)
}

async fn flush(flow: &mut Flow) -> Result<(), Stop> {
    match flow.record().buffered() > UNWRITTEN {
        true => flow.record().flush().await.map_err(unkept),
        false => Ok(()),
    }
}

fn unkept(error: chaperone_evidence::RecordError) -> Stop {
    Stop::ours(
        Reason::CannotRecord,
        format!("the evidence of this exchange cannot be kept, so it ends: {error}"),
    )
}

fn shutting_down() -> Stop {
    Stop::ours(Reason::ShuttingDown, "the sidecar is shutting down")
}
