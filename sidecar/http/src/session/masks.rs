//! What of an answer is masked, whether it can be, and the same for what is recorded.

use std::sync::Arc;

use chaperone_evidence::Masked;
use chaperone_mask::{Counts, Detectors, Kind, Masker, StreamMask};
use chaperone_policy::{Masking, Operation, Policy};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::Connection;
use crate::api::TextMasks;
use crate::body::{self, Coding};

/// Longest request body that is decompressed for the record.
const MAX_RECORDED: usize = 1024 * 1024;

/// The masks of one exchange.
pub(super) struct Masks {
    policy: Policy,
    /// What the kind of API makes of the policy's masks, where that is something else.
    masking: Option<Masking>,
    record_masking: Option<Masking>,
    masker: Arc<Masker>,
    live: Detectors,
    recorded: Detectors,
}

/// Why a body cannot be masked.
pub(super) struct CannotMask(pub(super) String);

impl Masks {
    pub(super) fn new(
        connection: &Connection,
        policy: &Policy,
        operation: Option<&Operation>,
    ) -> Masks {
        let of = |masking| connection.api.masking(operation?, masking);
        Masks {
            policy: policy.clone(),
            masking: of(policy.masking()),
            // Elsewhere the record is masked as the answer is.
            record_masking: match policy.is_observing() {
                true => of(policy.record_masking()),
                false => None,
            },
            masker: Arc::clone(&connection.masker),
            live: detectors(policy.masking()),
            recorded: detectors(policy.record_masking()),
        }
    }

    /// The same, unless another policy than theirs holds by now.
    pub(super) fn under(
        self,
        connection: &Connection,
        policy: &Policy,
        operation: &Operation,
    ) -> Masks {
        match self.policy.digest() == policy.digest() {
            true => self,
            false => Masks::new(connection, policy, Some(operation)),
        }
    }

    /// An answer with this status has come. One that says why the request failed may quote what is masked
    /// elsewhere, unless it says no more than that something is not there, or is in the way.
    pub(super) fn answered(
        &mut self,
        status: StatusCode,
        connection: &Connection,
        operation: &Operation,
    ) {
        let fails = status.is_client_error() || status.is_server_error();
        if !fails || matches!(status, StatusCode::NOT_FOUND | StatusCode::CONFLICT) {
            return;
        }
        let of = |masking: &Masking| connection.api.masking_of_errors(operation, masking);
        if let Some(masking) = of(self.masking()) {
            self.masking = Some(masking);
        }
        if self.policy.is_observing()
            && let Some(masking) = of(self.record_masking())
        {
            self.record_masking = Some(masking);
        }
    }

    fn masking(&self) -> &Masking {
        self.masking.as_ref().unwrap_or(self.policy.masking())
    }

    fn record_masking(&self) -> &Masking {
        match (self.policy.is_observing(), &self.record_masking) {
            (true, Some(own)) => own,
            (true, None) => self.policy.record_masking(),
            (false, _) => self.masking(),
        }
    }

    /// The agent gets something masked, or the record does.
    pub(super) fn is_armed(&self) -> bool {
        self.masks_answers() || !self.record_masking().is_empty()
    }

    /// The agent gets values masked by where they are.
    pub(super) fn has_places(&self) -> bool {
        self.masking().has_json_paths()
    }

    /// The agent gets something masked.
    pub(super) fn masks_answers(&self) -> bool {
        !self.masking().is_empty()
    }

    /// What masks text after a 101.
    pub(super) fn of_messages(&self) -> TextMasks {
        let observes = self.policy.is_observing() && !self.recorded.is_empty();
        TextMasks {
            agent: (!self.live.is_empty()).then(|| self.live.clone()),
            record: observes.then(|| self.recorded.clone()),
            masker: Arc::clone(&self.masker),
        }
    }

    /// A text with whatever the detectors find replaced, if they find anything.
    pub(super) fn text_for_record(&self, text: &str) -> Option<String> {
        masked_text(&self.recorded, &self.masker, text)
    }

    /// Masks what detectors find in an answer's fields.
    pub(super) fn fields(&self, fields: &mut HeaderMap) {
        if self.live.is_empty() {
            return;
        }
        for (name, value) in fields.iter_mut() {
            if matches!(name.as_str(), "content-length" | "content-type" | "date") {
                continue;
            }
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            if let Some(masked) = masked_text(&self.live, &self.masker, &text) {
                *value = HeaderValue::from_str(&masked)
                    .unwrap_or_else(|_| HeaderValue::from_static(chaperone_mask::MARK));
            }
        }
    }

    /// What masks an answer with these fields on its way to the agent; `None` where nothing does.
    ///
    /// # Errors
    /// [`CannotMask`]: something is masked here, and this cannot be.
    pub(super) fn for_agent(&self, fields: &HeaderMap) -> Result<Option<StreamMask>, CannotMask> {
        if !self.masks_answers() {
            return Ok(None);
        }
        self.stream(self.masking(), &self.live, fields).map(Some)
    }

    /// What masks an answer for the record alone: where only DryRun policies select.
    pub(super) fn for_record(&self, fields: &HeaderMap) -> Result<Option<StreamMask>, CannotMask> {
        if !self.policy.is_observing() || self.record_masking().is_empty() {
            return Ok(None);
        }
        self.stream(self.record_masking(), &self.recorded, fields)
            .map(Some)
    }

    fn stream(
        &self,
        masking: &Masking,
        detectors: &Detectors,
        fields: &HeaderMap,
    ) -> Result<StreamMask, CannotMask> {
        let kind = kind(fields)?;
        if kind == Kind::Text && masking.has_json_paths() {
            return Err(CannotMask(
                "places in JSON are masked here, and the answer is text".to_owned(),
            ));
        }
        Ok(StreamMask::new(kind, masking, detectors, &self.masker))
    }

    /// A request's body as it may be recorded; `None` where it must be withheld.
    pub(super) async fn body_for_record(
        &self,
        bytes: &[u8],
        fields: &HeaderMap,
    ) -> Option<Vec<u8>> {
        let masking = self.record_masking();
        if masking.is_empty() {
            return Some(bytes.to_vec());
        }
        let coding = Coding::of(fields)?;
        let decoded = body::decode(bytes, coding, MAX_RECORDED).await.ok()?;
        let mut stream = self.stream(masking, &self.recorded, fields).ok()?;
        let mut out = Vec::new();
        stream.push(&decoded, &mut out).ok()?;
        stream.finish(&mut out).ok()?;
        Some(out)
    }
}

fn detectors(masking: &Masking) -> Detectors {
    let rules: Vec<_> = masking
        .detectors()
        .iter()
        .map(|rule| (rule.detector, rule.strategy))
        .collect();
    Detectors::new(&rules)
}

fn masked_text(detectors: &Detectors, masker: &Masker, text: &str) -> Option<String> {
    if detectors.is_empty() {
        return None;
    }
    match detectors.mask_text(masker, text, &mut Counts::default()) {
        std::borrow::Cow::Borrowed(_) => None,
        std::borrow::Cow::Owned(masked) => Some(masked),
    }
}

/// How a body is read, by its type (RFC 9110, section 8.3).
fn kind(fields: &HeaderMap) -> Result<Kind, CannotMask> {
    let cannot = |what: &str| Err(CannotMask(format!("{what} cannot be masked")));
    let Some(value) = fields.get(CONTENT_TYPE) else {
        return cannot("an answer without Content-Type");
    };
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let (name, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let charset = parameters
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("charset="));
    // In all of these, what detectors look for is written in the same bytes.
    let known = [
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "iso-8859-1",
        "latin1",
        "windows-1252",
    ];
    if charset.is_some_and(|charset| !known.contains(&charset.trim_matches('"'))) {
        return cannot("text in this charset");
    }
    match name.trim() {
        "application/json"
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/json-seq" => Ok(Kind::Json),
        "text/event-stream" => Ok(Kind::Events),
        "application/xml"
        | "application/javascript"
        | "application/x-javascript"
        | "application/x-www-form-urlencoded"
        | "application/yaml"
        | "application/x-yaml" => Ok(Kind::Text),
        name if name.ends_with("+json") => Ok(Kind::Json),
        name if name.ends_with("+xml") || name.starts_with("text/") => Ok(Kind::Text),
        name => cannot(name),
    }
}

/// The records of what was masked.
pub(super) fn counted(stream: &StreamMask) -> Vec<Masked> {
    stream
        .counts()
        .into_iter()
        .map(|(by, count)| Masked { by, count })
        .collect()
}
