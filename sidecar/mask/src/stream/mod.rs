//! Masks over bodies that flow by: pushed piece by piece, cut anywhere, never collected.
//!
//! ```text
//! pieces ─► json   values by their place, detectors over strings, names and numbers
//!        ─► events server-sent events: each one's data as JSON or text, as soon as it is whole
//!        ─► text   detectors over a window, or for a terminal up to where a match may be open
//! ```
//!
//! What is held back is bounded: a JSON token, an event, a window. What cannot be followed is an
//! error, and nothing after it is given out.

mod events;
mod json;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_policy::Masking;

use crate::{Counts, Detectors, Masker};

use self::events::Events;
use self::json::Json;
use self::text::Text;

/// Longest token of JSON, and longest event, in bytes.
const MAX_HELD: usize = 1024 * 1024;

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One JSON document or several, one after the other (RFC 8259, NDJSON).
    Json,
    /// `text/event-stream` (WHATWG HTML, Server-sent events).
    Events,
    /// Text in a charset whose first half is ASCII.
    Text,
    /// The same as somebody looks at it: given out as soon as no match can be open in it.
    Terminal,
}

/// The body cannot be followed, so nothing more of it may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmaskable {
    /// It is not what its type says.
    #[error("the body is no JSON that can be masked")]
    NotJson,
    /// A single value or event, or what may be a secret in a text, is longer than can be held.
    #[error("a value is longer than can be masked")]
    TooLong,
    /// It nests deeper than can be followed.
    #[error("the body nests too deeply to be masked")]
    TooDeep,
    /// An event's data is no JSON, and places in JSON are masked.
    #[error("an event is no JSON, and places in JSON are masked")]
    NotJsonEvent,
    /// It did not come to an end.
    #[error("the body ended in the middle of a value")]
    Unfinished,
}

/// Masks one body.
#[derive(Debug)]
pub struct StreamMask {
    rules: Rules,
    state: State,
    failed: Option<Unmaskable>,
}

#[derive(Debug)]
enum State {
    Json(Json),
    Events(Events),
    Text(Text),
}

/// What is looked for, and how often it was found.
#[derive(Debug)]
struct Rules {
    masking: Masking,
    detectors: Detectors,
    masker: Arc<Masker>,
    found: Counts,
    /// By the rule that masked a place.
    places: BTreeMap<String, u64>,
}

impl Rules {
    fn count_place(&mut self, rule: String) {
        let count = self.places.entry(rule).or_default();
        *count = count.saturating_add(1);
    }

    /// A text with what detectors find replaced, if they find anything.
    fn detect(&mut self, text: &str) -> Option<String> {
        if self.detectors.is_empty() {
            return None;
        }
        match self
            .detectors
            .mask_text(&self.masker, text, &mut self.found)
        {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(masked) => Some(masked),
        }
    }
}

impl StreamMask {
    /// For one body of this kind.
    pub fn new(
        kind: Kind,
        masking: &Masking,
        detectors: &Detectors,
        masker: &Arc<Masker>,
    ) -> StreamMask {
        let rules = Rules {
            masking: match masking.has_json_paths() {
                true => masking.clone(),
                false => Masking::default(),
            },
            detectors: detectors.clone(),
            masker: Arc::clone(masker),
            found: Counts::default(),
            places: BTreeMap::new(),
        };
        StreamMask {
            rules,
            state: match kind {
                Kind::Json => State::Json(Json::default()),
                Kind::Events => State::Events(Events::default()),
                Kind::Text => State::Text(Text::default()),
                Kind::Terminal => State::Text(Text::watched()),
            },
            failed: None,
        }
    }

    /// Takes the next piece, and appends to `out` what can be given out by now.
    ///
    /// # Errors
    /// [`Unmaskable`], now and from now on: what is in `out` may be used, nothing more comes.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let result = match &mut self.state {
            State::Json(json) => json.push(&mut self.rules, piece, out),
            State::Events(events) => events.push(&mut self.rules, piece, out),
            State::Text(text) => text.push(&mut self.rules, piece, out),
        };
        self.failed = result.err();
        result
    }

    /// The body has ended: appends what was held back.
    ///
    /// # Errors
    /// [`Unmaskable`]: it ended where it may not.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let result = match &mut self.state {
            State::Json(json) => json.finish(&mut self.rules, out),
            State::Events(events) => events.finish(&mut self.rules, out),
            State::Text(text) => {
                text.finish(&mut self.rules, out);
                Ok(())
            }
        };
        self.failed = result.err();
        result
    }

    /// What masked how much: rules by place, detectors by name.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let places = self.rules.places.iter();
        let found = self.rules.found.iter();
        places
            .map(|(rule, count)| (rule.clone(), *count))
            .chain(found.map(|(detector, count)| (format!("{detector:?}"), count)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
