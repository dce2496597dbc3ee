//! What kind of API a target is: what its requests ask for, how it says no, what is masked of it.

use std::fmt::Debug;
use std::sync::Arc;

use chaperone_enforce::Denial;
use chaperone_mask::{Detectors, Kind, Masker, StreamMask};
use chaperone_policy::{Masking, Operation, Protocol, Reason, Request};
use hyper::Response;
use hyper::header::HeaderMap;

use crate::answer::{self, About};
use crate::body::Body;
use crate::websocket::Messages;

/// A request that is not decided on, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The constant.
    pub reason: Reason,
    /// One sentence for the agent.
    pub message: String,
}

impl Unfit {
    /// For this reason, in these words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Unfit {
        Unfit {
            reason,
            message: message.into(),
        }
    }
}

/// A request in its normal form, before it has a meaning.
#[derive(Debug)]
pub struct Asked<'a> {
    /// As rules on HTTP would see it.
    pub request: &'a Request,
    /// Path and query as they are sent.
    pub sent: &'a str,
    /// Fields as they will be sent; may be narrowed.
    pub fields: &'a mut HeaderMap,
    /// Fields as they came.
    pub came: &'a HeaderMap,
    /// It wants to leave HTTP.
    pub upgrade: bool,
    /// The policy masks places in JSON.
    pub places_masked: bool,
}

/// What masks text after a 101. Places in JSON have no meaning there.
#[derive(Debug)]
pub struct TextMasks {
    /// What the agent gets masked, and the record with it.
    pub agent: Option<Detectors>,
    /// What is masked in the record alone: where only DryRun policies select.
    pub record: Option<Detectors>,
    /// What replaces.
    pub masker: Arc<Masker>,
}

impl TextMasks {
    /// For one stream that somebody looks at.
    pub fn stream(&self, detectors: &Detectors) -> StreamMask {
        StreamMask::new(Kind::Terminal, &Masking::default(), detectors, &self.masker)
    }

    /// Something is masked.
    pub fn is_armed(&self) -> bool {
        self.agent.is_some() || self.record.is_some()
    }
}

/// A kind of API over HTTP. It translates and nothing else.
pub trait Api: Debug + Send + Sync {
    /// What a request asks for.
    ///
    /// # Errors
    /// [`Unfit`]: nothing can allow it.
    fn ask(&self, asked: Asked<'_>) -> Result<Operation, Unfit>;

    /// The same with the JSON of its body.
    fn with_json(&self, operation: &mut Operation, json: serde_json::Value);

    /// Every body is JSON: one that is not cannot be judged by a rule that looks into it.
    fn is_json(&self) -> bool;

    /// A refusal in the API's own words; `operation` where it was understood.
    fn answer(
        &self,
        denial: &Denial,
        about: &About,
        operation: Option<&Operation>,
    ) -> Response<Body>;

    /// What is masked of this operation's bodies; `None` for exactly what the policy says.
    fn masking(&self, operation: &Operation, masking: &Masking) -> Option<Masking>;

    /// The same of an answer that says why it failed, which may quote what `masking` masks elsewhere:
    /// what [`Api::masking`] made, or the policy's. `None` for exactly that.
    fn masking_of_errors(&self, operation: &Operation, masking: &Masking) -> Option<Masking>;

    /// Whether text in what follows a 101 can be masked: else nothing leaves HTTP where it must be.
    fn masks_messages(&self, operation: &Operation) -> bool;

    /// How what follows a 101 with these fields is read; `None`: as bytes.
    ///
    /// # Errors
    /// [`Unfit`]: not in a way in which it could be masked.
    fn messages(
        &self,
        operation: &Operation,
        answer: &HeaderMap,
        masks: &TextMasks,
    ) -> Result<Option<Box<dyn Messages>>, Unfit>;
}

/// Whatever it is: requests are methods on paths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Api for Plain {
    fn ask(&self, asked: Asked<'_>) -> Result<Operation, Unfit> {
        let request = asked.request;
        let command = first_line(&request.method, &request.host, asked.sent);
        Ok(Operation::http(
            request.clone().into(),
            asked.upgrade,
            command,
        ))
    }

    fn with_json(&self, operation: &mut Operation, json: serde_json::Value) {
        if let Protocol::Http(request) = &operation.protocol {
            let request = Request {
                json: Some(json),
                ..Request::clone(request)
            };
            operation.protocol = Protocol::Http(request.into());
        }
    }

    fn is_json(&self) -> bool {
        false
    }

    fn answer(&self, denial: &Denial, about: &About, _: Option<&Operation>) -> Response<Body> {
        answer::answer(denial, about)
    }

    fn masking(&self, _: &Operation, _: &Masking) -> Option<Masking> {
        None
    }

    fn masking_of_errors(&self, _: &Operation, _: &Masking) -> Option<Masking> {
        None
    }

    fn masks_messages(&self, _: &Operation) -> bool {
        false
    }

    fn messages(
        &self,
        _: &Operation,
        _: &HeaderMap,
        _: &TextMasks,
    ) -> Result<Option<Box<dyn Messages>>, Unfit> {
        Ok(None)
    }
}

/// The first line, for records, approvers and rules.
pub fn first_line(method: &str, host: &str, sent: &str) -> String {
    format!("{method} {host}{sent}")
}
