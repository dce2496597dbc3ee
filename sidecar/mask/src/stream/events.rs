//! Server-sent events (WHATWG HTML, section 9.2): each is masked and given out once its empty line
//! has come, so that none waits for the next.

use super::json::Json;
use super::{MAX_HELD, Rules, Unmaskable};

/// What ends the streams of some APIs in place of an event.
const DONE: &str = "[DONE]";

#[derive(Debug, Default)]
pub(super) struct Events {
    /// The event so far, from its first line on.
    held: Vec<u8>,
    /// How much of it was searched for its end.
    searched: usize,
}

impl Events {
    pub(super) fn push(
        &mut self,
        rules: &mut Rules,
        piece: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        self.held.extend_from_slice(piece);
        while let Some(end) = self.end() {
            let rest = self.held.split_off(end);
            let event = std::mem::replace(&mut self.held, rest);
            self.searched = 0;
            mask_event(rules, &event, out)?;
        }
        self.searched = self.held.len().saturating_sub(3);
        match self.held.len() > MAX_HELD {
            true => Err(Unmaskable::TooLong),
            false => Ok(()),
        }
    }

    pub(super) fn finish(
        &mut self,
        rules: &mut Rules,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        let event = std::mem::take(&mut self.held);
        mask_event(rules, &event, out)
    }

    /// Past the empty line that ends the event, if it is there.
    fn end(&self) -> Option<usize> {
        let from = self.searched;
        let bytes = self.held.get(from..)?;
        let found = bytes.iter().enumerate().find_map(|(at, byte)| {
            let rest = bytes.get(at + 1..).unwrap_or_default();
            match byte {
                b'\n' if rest.starts_with(b"\n") => Some(at + 2),
                b'\n' if rest.starts_with(b"\r\n") => Some(at + 3),
                _ => None,
            }
        });
        found.map(|end| from + end)
    }
}

fn mask_event(rules: &mut Rules, event: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
    let text = std::str::from_utf8(event).map_err(|_| Unmaskable::NotJsonEvent)?;
    let mut data: Vec<&str> = Vec::new();
    let mut masked = String::with_capacity(text.len());
    let mut place = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        if bare.contains('\r') {
            // An ending of lines of its own, which another reader takes for one.
            return Err(Unmaskable::NotJsonEvent);
        }
        if let Some(value) = bare.strip_prefix("data:") {
            data.push(value.strip_prefix(' ').unwrap_or(value));
            place.get_or_insert(masked.len());
            continue;
        }
        match rules.detect(line) {
            Some(line) => masked.push_str(&line),
            None => masked.push_str(line),
        }
    }
    if let Some(place) = place {
        let payload = mask_data(rules, &data.join("\n"))?;
        let lines: String = payload
            .split('\n')
            .map(|line| format!("data: {line}\n"))
            .collect();
        masked.insert_str(place, &lines);
    }
    out.extend_from_slice(masked.as_bytes());
    Ok(())
}

fn mask_data(rules: &mut Rules, data: &str) -> Result<String, Unmaskable> {
    let mut out = Vec::with_capacity(data.len());
    let mut json = Json::default();
    let read = json.push(rules, data.as_bytes(), &mut out);
    match read.and_then(|()| json.finish(rules, &mut out)) {
        Ok(()) => String::from_utf8(out).map_err(|_| Unmaskable::NotJsonEvent),
        Err(Unmaskable::NotJson | Unmaskable::Unfinished) if data.trim() == DONE => {
            Ok(data.to_owned())
        }
        Err(Unmaskable::NotJson | Unmaskable::Unfinished) if !rules.masking.has_json_paths() => {
            Ok(rules.detect(data).unwrap_or_else(|| data.to_owned()))
        }
        Err(Unmaskable::NotJson | Unmaskable::Unfinished) => Err(Unmaskable::NotJsonEvent),
        Err(error) => Err(error),
    }
}
