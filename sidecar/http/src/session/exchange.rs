//! One request: understood, decided on, perhaps held, permitted, forwarded; or refused.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use chaperone_enforce::{Command, Denial, Phase, Start};
use chaperone_evidence::{Part, Permit};
use chaperone_mask::carries_mark;
use chaperone_policy::{Decision, Durability, Operation, Reason, Verdict};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use tokio::sync::oneshot;

use super::masks::Masks;
use super::understand::{Understood, is_grpc, understand};
use super::{Agent, Lane, hold, relay};
use crate::answer::About;
use crate::api::{Unfit, first_line};
use crate::body::{self, Body, BodyError, Coding};
use crate::normal::PURPOSE;
use crate::record::{self, Recorded, Writing};
use crate::server::Way;

/// Fields in which a retry may differ from what was approved: what a client's machinery makes up
/// anew for each request, and no target acts on.
const VOLATILE: [&str; 9] = [
    "baggage",
    "date",
    // What kubectl was called with, and which call it is (KEP 859).
    "kubectl-command",
    "kubectl-session",
    "sec-websocket-key",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-request-id",
];
/// Longest text of a refused request that is kept.
const MAX_SHOWN: usize = 4096;

/// What becomes of a lane after an exchange.
pub(super) enum After {
    /// It serves the next.
    Reuse,
    /// Its session ends.
    End(Option<Denial>),
}

/// What hyper asks for every request. The exchange runs in a task of its own, which outlives this
/// future: the evidence has its end whatever the agent does.
pub(super) async fn handle(
    agent: Arc<Agent>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (sender, receiver) = oneshot::channel();
    let tasks = agent.tasks.clone();
    tasks.spawn(run(Arc::clone(&agent), request, sender));
    Ok(receiver.await.unwrap_or_else(|_| {
        let denial = Denial::new(Reason::Internal, "a fault of the proxy ended this request");
        agent
            .connection
            .api
            .answer(&denial, &About::default(), None)
    }))
}

async fn run(
    agent: Arc<Agent>,
    request: Request<Incoming>,
    answer_to: oneshot::Sender<Response<Body>>,
) {
    let (lane, answer_to) = match lane(&agent, request.headers()).await {
        Ok(lane) => (lane, answer_to),
        Err(denial) => {
            let about = About {
                grpc: agent.two && is_grpc(request.headers()),
                ..About::default()
            };
            let _ = answer_to.send(agent.connection.api.answer(&denial, &about, None));
            return;
        }
    };
    let mut lane = lane;
    match exchange(&agent, &mut lane, request, answer_to).await {
        After::Reuse => {
            // What is not written now is with the next exchange, at the latest with the end.
            let _ = lane.flow.record().flush_if_free();
            agent.lanes().push(lane);
        }
        After::End(denial) => lane.end(denial.as_ref()).await,
    }
}

/// A lane for a request with these fields: one that is free, or a new session.
async fn lane(agent: &Agent, fields: &HeaderMap) -> Result<Lane, Denial> {
    let enforcement = &agent.connection.enforcement;
    let subject = &agent.connection.subject;
    let text = |name: &str| {
        let value = fields.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut start = Start {
        claims: BTreeMap::new(),
        purpose: Some(text(PURPOSE)).filter(|purpose| !purpose.is_empty() && purpose.len() < 1024),
        token: None,
    };
    let client = text(USER_AGENT.as_str());
    if !client.is_empty() && client.len() < 1024 {
        start.claims.insert("user-agent".to_owned(), client);
    }
    let Some(accepting) = enforcement.accepting(subject) else {
        return match agent.free_lane(None) {
            Some(lane) => Ok(lane),
            None => open(agent, start, None).await,
        };
    };
    let presented = text("authorization");
    let presented = presented
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("bearer "))
        .and_then(|_| presented.get(7..))
        .unwrap_or_default()
        .trim();
    let mut token = [0; 32];
    token.copy_from_slice(digest(&SHA256, presented.as_bytes()).as_ref());
    if let Some(lane) = agent.free_lane(Some(token)) {
        return Ok(lane);
    }
    match accepting.verify(presented).await {
        Ok(verified) => start.token = Some(verified),
        Err(mut denial) => {
            denial.hint = Some("send it as Authorization: Bearer …".to_owned());
            return Err(enforcement.refuse_token(subject, start, denial).await);
        }
    }
    open(agent, start, Some(token)).await
}

async fn open(agent: &Agent, start: Start, token: Option<[u8; 32]>) -> Result<Lane, Denial> {
    let subject = Arc::clone(&agent.connection.subject);
    let flow = agent.connection.enforcement.open(subject, start).await?;
    Ok(Lane {
        flow,
        token,
        way: Way::default(),
    })
}

/// A request with its body as far as it had to be read.
pub(super) struct Wanted {
    pub(super) understood: Understood,
    pub(super) operation: Operation,
    pub(super) body: Incoming,
    /// The whole body, where it was collected.
    pub(super) collected: Option<Vec<u8>>,
}

/// One that may go on.
pub(super) struct Permitted {
    pub(super) wanted: Wanted,
    pub(super) masks: Masks,
    pub(super) permit: Permit,
    /// A human let it through: that it would be held again does not stop it.
    pub(super) approved: bool,
}

async fn exchange(
    agent: &Agent,
    lane: &mut Lane,
    mut request: Request<Incoming>,
    mut answer_to: oneshot::Sender<Response<Body>>,
) -> After {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let ended = match lane.flow.refresh() {
        Err(denial) => Some(denial),
        Ok(_) => lane.flow.overdue(),
    };
    if let Some(denial) = ended {
        let about = About {
            session: Some(lane.flow.id().to_owned()),
            close: !agent.two,
            ..About::default()
        };
        let _ = answer_to.send(agent.connection.api.answer(&denial, &about, None));
        return After::End(Some(denial));
    }
    let (understood, operation) = match understand(
        agent,
        &parts,
        !body.is_end_stream(),
        lane.token.is_some(),
        lane.flow.policy().masking().has_json_paths(),
    ) {
        Ok(understood) => understood,
        Err(unfit) => return refuse_unfit(agent, lane, &parts, unfit, answer_to).await,
    };
    let mut wanted = Wanted {
        operation,
        understood,
        body,
        collected: None,
    };
    let refusal =
        |lane: &Lane, (reason, message): (Reason, String)| lane.flow.deny(reason, None, &message);
    let masks = Masks::new(
        &agent.connection,
        lane.flow.policy(),
        Some(&wanted.operation),
    );
    let looked = look_into(agent, lane, &masks, &mut wanted).await;
    let mut decision = match looked {
        Ok(()) => lane.flow.decide(&wanted.operation),
        Err(why) => refusal(lane, why),
    };
    if decision.verdict == Verdict::Hold && wanted.collected.is_none() {
        let most = agent.connection.bounds.approvable;
        if let Err(error) = collect(agent, &mut wanted, most).await {
            let why = match error {
                BodyError::TooLong(_) => (Reason::TooLargeToApprove, error.to_string()),
                error => (Reason::BodyUnreadable, error.to_string()),
            };
            decision = refusal(lane, why);
        }
    }
    let held = decision.verdict == Verdict::Hold;
    let record = Record::new(agent, &masks, &wanted, held).await;
    let whole = wanted.collected.as_deref().unwrap_or_default();
    if held && whole.len() > agent.connection.bounds.approvable {
        let why = "the body is longer than a human is asked about".to_owned();
        decision = refusal(lane, (Reason::TooLargeToApprove, why));
    }
    let exact = record.exact(&wanted);
    let exact: Vec<&[u8]> = exact.iter().map(Vec::as_slice).collect();
    let parts_of_record = record.parts();
    let operation = &wanted.operation;
    let command = Command {
        phase: Phase::Command,
        verb: &wanted.understood.request.method,
        operation,
        text: &record.text,
        parameters: &record.parameters,
        exact: &exact,
        client: &parts_of_record,
        refers_to: None,
    };
    let permitted = match decision.verdict {
        Verdict::Deny => Err((lane.flow.refuse(&decision, &command).await, None)),
        Verdict::Allow | Verdict::Observe => {
            let permit = lane.flow.permit(&decision, &command).await;
            permit.map_err(|denial| (denial, None))
        }
        Verdict::Hold => {
            hold::hold(agent, lane, &decision, operation, &command, &mut answer_to).await
        }
    };
    drop(parts_of_record);
    match permitted {
        Ok(permit) => {
            let policy = lane.flow.policy();
            let masks = masks.under(&agent.connection, policy, &wanted.operation);
            let permitted = Permitted {
                wanted,
                masks,
                permit,
                approved: held,
            };
            relay::relay(agent, lane, permitted, upgrade, answer_to).await
        }
        Err((denial, request)) => {
            let about = About {
                session: Some(lane.flow.id().to_owned()),
                request,
                rule: rule_of(&decision),
                grpc: agent.two && wanted.understood.grpc,
                // The guard stopped reading where the upgrade began.
                close: wanted.understood.upgrade,
            };
            let unkept = denial.reason == Reason::CannotRecord;
            let api = &agent.connection.api;
            let _ = answer_to.send(api.answer(&denial, &about, Some(operation)));
            match unkept {
                true => After::End(Some(denial)),
                false => After::Reuse,
            }
        }
    }
}

pub(super) fn rule_of(decision: &Decision) -> Option<(String, String)> {
    let rule = decision.rule.as_ref()?;
    Some((rule.policy.clone(), rule.rule.clone()))
}

/// A request that has no single meaning, or one that nothing can allow: recorded as it was written,
/// and answered.
async fn refuse_unfit(
    agent: &Agent,
    lane: &mut Lane,
    parts: &Parts,
    unfit: Unfit,
    answer_to: oneshot::Sender<Response<Body>>,
) -> After {
    let masks = Masks::new(&agent.connection, lane.flow.policy(), None);
    let written = first_line(parts.method.as_str(), "", &parts.uri.to_string());
    let shown: String = written.chars().take(MAX_SHOWN).collect();
    let text = masks.text_for_record(&shown).unwrap_or(shown);
    let operation = Operation {
        protocol: chaperone_policy::Protocol::Http(Arc::default()),
        accesses: Vec::new(),
        command: String::new(),
        parameters: Vec::new(),
    };
    let command = Command {
        phase: Phase::Command,
        verb: parts.method.as_str(),
        operation: &operation,
        text: &text,
        parameters: &[],
        exact: &[written.as_bytes()],
        client: &[],
        refers_to: None,
    };
    let decision = Decision {
        durability: Durability::Written,
        ..lane.flow.deny(unfit.reason, None, &unfit.message)
    };
    let denial = lane.flow.refuse(&decision, &command).await;
    let close = unfit.reason == Reason::ProtocolViolation && !agent.two;
    let about = About {
        session: Some(lane.flow.id().to_owned()),
        grpc: agent.two && is_grpc(&parts.headers),
        close: close || parts.headers.contains_key("upgrade"),
        ..About::default()
    };
    let _ = answer_to.send(agent.connection.api.answer(&denial, &about, None));
    After::Reuse
}

/// Reads the body where a rule or a mask needs it.
async fn look_into(
    agent: &Agent,
    lane: &Lane,
    masks: &Masks,
    wanted: &mut Wanted,
) -> Result<(), (Reason, String)> {
    let reads_json = lane.flow.policy().reads_json(&wanted.operation);
    let armed = masks.is_armed();
    let api = &agent.connection.api;
    if wanted.understood.upgrade && armed && !api.masks_messages(&wanted.operation) {
        let message = "what follows an Upgrade cannot be masked".to_owned();
        return Err((Reason::MaskUnsupported, message));
    }
    if wanted.body.is_end_stream() {
        wanted.collected = Some(Vec::new());
        return Ok(());
    }
    let most = agent.connection.bounds.collected;
    let known = wanted.body.size_hint().exact();
    let short =
        known.is_some_and(|length| usize::try_from(length).is_ok_and(|length| length <= most));
    // RFC 6902, section 6: it may say where a value is to be taken from.
    let patches = masks.has_places() && type_holds(&wanted.understood.fields, "json-patch");
    let needed = reads_json || patches || (armed && short);
    if !needed {
        return Ok(());
    }
    let unreadable = |error: BodyError| (Reason::BodyUnreadable, error.to_string());
    collect(agent, wanted, most).await.map_err(unreadable)?;
    let fields = &wanted.understood.fields;
    let bytes = wanted.collected.as_deref().unwrap_or_default();
    let decoded = match Coding::of(fields) {
        Some(coding) => body::decode(bytes, coding, most).await,
        None => Err(BodyError::Undecodable),
    };
    let decoded = match decoded {
        Ok(decoded) => decoded,
        // It is needed for the record alone, which withholds it.
        Err(_) if !reads_json && !patches => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    let writes = !matches!(
        wanted.understood.request.method.as_str(),
        "GET" | "HEAD" | "OPTIONS"
    );
    // Protobuf is no text, and holds values as they are.
    if armed && writes && carries_mark(&String::from_utf8_lossy(&decoded)) {
        let message = "a value in it carries a mask, and writing it would destroy the real one";
        return Err((Reason::MaskedWriteBack, message.to_owned()));
    }
    if !reads_json && !patches {
        return Ok(());
    }
    let says_json = type_holds(fields, "json");
    let looks_so = matches!(decoded.trim_ascii_start().first(), Some(b'{' | b'['));
    match body::json(&decoded) {
        Ok(value) if patches && moves_values(&value) => {
            let message = "it copies or moves a value of an object in which some are masked";
            return Err((Reason::MaskedFlow, message.to_owned()));
        }
        Ok(value) if reads_json => api.with_json(&mut wanted.operation, value),
        Ok(_) => {}
        Err(error) if patches || says_json || looks_so || api.is_json() => {
            return Err(unreadable(error));
        }
        Err(_) => {}
    }
    Ok(())
}

/// Whether a body says of its type that it is, or is made of, this.
fn type_holds(fields: &HeaderMap, what: &str) -> bool {
    let mut types = fields.get_all(CONTENT_TYPE).iter();
    types.any(|value| {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        text.contains(what)
    })
}

/// RFC 6902, sections 4.4 and 4.5: what is masked where it is would be shown where it gets to.
fn moves_values(patch: &serde_json::Value) -> bool {
    let steps = patch.as_array().into_iter().flatten();
    let mut names = steps.map(|step| step.get("op").and_then(|op| op.as_str()));
    names.any(|op| matches!(op, Some("copy" | "move")))
}

async fn collect(agent: &Agent, wanted: &mut Wanted, most: usize) -> Result<(), BodyError> {
    let collecting = body::collect(&mut wanted.body, most);
    let deadline = agent.connection.bounds.collect;
    let bytes = tokio::time::timeout(deadline, collecting).await;
    wanted.collected = Some(bytes.unwrap_or(Err(BodyError::CutOff))?);
    Ok(())
}

/// A request as evidence and approvers see it.
struct Record {
    text: String,
    parameters: Vec<Option<String>>,
    head: Recorded,
    body: Option<Recorded>,
}

impl Record {
    async fn new(agent: &Agent, masks: &Masks, wanted: &Wanted, held: bool) -> Record {
        let Wanted {
            understood,
            operation,
            body,
            collected,
        } = wanted;
        let has_body = match collected {
            Some(bytes) => !bytes.is_empty(),
            None => !body.is_end_stream(),
        };
        let mask = |text: &str| masks.text_for_record(text);
        let credential = agent.connection.credential.as_ref();
        let writing = Writing {
            credential: credential.map(|credential| credential.header.as_str()),
            mask: &mask,
            body: has_body,
        };
        let request = &understood.request;
        let head = record::request(
            &request.method,
            &understood.sent,
            &request.host,
            &understood.fields,
            &writing,
        );
        let shown = match collected {
            Some(bytes) if !bytes.is_empty() => {
                Some(masks.body_for_record(bytes, &understood.fields).await)
            }
            _ => None,
        };
        let mut parameters = Vec::new();
        if held {
            // What runs is more than its first line: the approver reads all of it.
            for (name, value) in &request.headers {
                let value = masks
                    .text_for_record(value)
                    .unwrap_or_else(|| value.clone());
                parameters.push(Some(format!("{name}: {value}")));
            }
            if let Some(shown) = &shown {
                parameters.push(Some(match shown {
                    Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    None => "(a body that cannot be shown)".to_owned(),
                }));
            }
        }
        let length = collected.as_ref().map_or(0, Vec::len);
        Record {
            text: masks
                .text_for_record(&operation.command)
                .unwrap_or_else(|| operation.command.clone()),
            parameters,
            head,
            body: shown.map(|shown| match shown {
                Some(bytes) => record::chunk(&bytes),
                None => record::withheld_chunk(length),
            }),
        }
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = vec![self.head.part()];
        if let Some(body) = &self.body {
            parts.push(body.part());
            parts.push(Part::from(record::LAST_CHUNK));
        }
        parts
    }

    /// What an approval is bound to: everything that is sent but for [`VOLATILE`].
    fn exact(&self, wanted: &Wanted) -> Vec<Vec<u8>> {
        let understood = &wanted.understood;
        let mut exact = vec![
            understood.request.method.clone().into_bytes(),
            understood.request.host.clone().into_bytes(),
            understood.sent.clone().into_bytes(),
        ];
        for (name, value) in &understood.fields {
            if !VOLATILE.contains(&name.as_str()) {
                exact.push(name.as_str().as_bytes().to_vec());
                exact.push(value.as_bytes().to_vec());
            }
        }
        exact.push(wanted.collected.clone().unwrap_or_default());
        exact
    }
}

/// The length that a request's fields announce, if its body is to be sent in as many bytes.
pub(super) fn announced(body: &Incoming, fields: &mut HeaderMap) -> Option<u64> {
    fields.remove(CONTENT_LENGTH);
    body.size_hint().exact()
}
