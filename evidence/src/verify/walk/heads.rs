//! Heads: what a signed head names must be there.

use super::*;

impl Walk<'_> {
    pub(super) fn head(&mut self, segment: &Segment<'_>, entry: &RawEntry<'_>) {
        let body = entry.body;
        let head = match Head::decode(body) {
            Ok(head) => head,
            Err(error) => return self.wrong(None, BreakReason::HeadInvalid, error.to_string()),
        };
        let Some(life) = &self.current else {
            return self.wrong(
                None,
                BreakReason::EntryMisplaced,
                "a head before any attach",
            );
        };
        if head.attach != life.id || life.detached {
            let detail = format!("a head of attach {} after attach {}", head.attach, life.id);
            return self.wrong(None, BreakReason::EntryMisplaced, detail);
        }
        if !Head::signature_holds(body, &life.public) {
            return self.wrong(
                None,
                BreakReason::SignatureInvalid,
                "its attach did not sign this head",
            );
        }
        let number = life.signed_heads().saturating_add(1);
        let previous = life.heads.last().copied().unwrap_or(NO_HASH);
        if head.number != number || head.previous != previous {
            let detail = format!("it is head {}; head {number} was to be next", head.number);
            self.wrong(None, BreakReason::HeadInvalid, detail);
        }
        // First what is missing: that the log is not what it was follows from it.
        self.claims(&head);
        if head.segment != segment.number || head.before != segment.before(entry) {
            self.wrong(
                None,
                BreakReason::SegmentOutOfOrder,
                "the log before this head is not what it was",
            );
        }
        if let Some(life) = &mut self.current {
            life.heads.push(Head::hash(body));
            life.detached = head.detach;
            for closed in &head.closed {
                // Its end was removed, and this head is what says so.
                if let Some(session) = life.sessions.get_mut(&closed.ordinal) {
                    session.ended |= session.end_is_unknown();
                }
            }
            life.sessions.retain(|_, session| !session.ended);
        }
    }

    /// Everything a head names must be there, and everything that is there it must name.
    pub(super) fn claims(&mut self, head: &Head) {
        let Some(life) = &self.current else { return };
        let mut found = Vec::new();
        if head.highest > life.highest {
            let detail = format!(
                "sessions {} to {} are not there",
                life.highest + 1,
                head.highest
            );
            found.push((None, BreakReason::SessionMissing, detail));
        } else if head.highest < life.highest {
            let detail = format!(
                "it names {} sessions, there are {}",
                head.highest, life.highest
            );
            found.push((None, BreakReason::HeadInvalid, detail));
        }
        for (tails, ended) in [(&head.open, false), (&head.closed, true)] {
            for tail in tails {
                if let Some((reason, detail)) = claim(tail, ended, life) {
                    found.push((Some((tail.session, tail.sequence)), reason, detail));
                }
            }
        }
        let named = |ordinal: u64| {
            [&head.open, &head.closed].iter().any(|tails| {
                tails
                    .binary_search_by_key(&ordinal, |tail| tail.ordinal)
                    .is_ok()
            })
        };
        for (ordinal, session) in &life.sessions {
            if !named(*ordinal) && !session.broken {
                let place = Some((session.id, session.next.saturating_sub(1)));
                found.push((
                    place,
                    BreakReason::HeadInvalid,
                    "the head does not name this session".to_owned(),
                ));
            }
        }
        for (place, reason, detail) in found {
            self.wrong(place, reason, detail);
        }
    }
}

fn claim(tail: &Tail, ended: bool, life: &Life) -> Option<(BreakReason, String)> {
    let Some(session) = life.sessions.get(&tail.ordinal) else {
        return Some((
            BreakReason::SessionMissing,
            "a head names this session, and it is not there".to_owned(),
        ));
    };
    if session.broken {
        return None;
    }
    let last = session.next.saturating_sub(1);
    if session.id != tail.session {
        return Some((
            BreakReason::HeadInvalid,
            format!("session {} has this place", session.id),
        ));
    }
    if last < tail.sequence {
        return Some((
            BreakReason::TailMissing,
            format!("the session ends at record {last}"),
        ));
    }
    let end_fits = session.ended == ended || session.end_is_unknown();
    if last > tail.sequence || session.hash != Some(tail.hash) || !end_fits {
        return Some((
            BreakReason::HeadInvalid,
            "the head says otherwise of this session".to_owned(),
        ));
    }
    None
}
