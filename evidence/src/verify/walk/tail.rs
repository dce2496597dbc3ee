//! The log's end: the copy of the newest head, the spool, and what nobody ended.

use super::runs::ends;
use super::*;

impl Walk<'_> {
    /// The copy of the newest head must name nothing that is not there.
    pub(super) fn latest(&mut self) {
        self.file = Path::new(LATEST).to_path_buf();
        let Some(bytes) = &self.log.latest else {
            // Only the very first attach can have died before it was written.
            let first = self
                .current
                .as_ref()
                .is_none_or(|life| life.ordinal == 1 && !life.active);
            if !first {
                self.wrong(
                    None,
                    BreakReason::AttachMissing,
                    "the copy of the newest head is not there",
                );
            }
            return;
        };
        let parsed = segment::parse_latest(bytes).and_then(|(attach, head)| {
            let head = match head {
                Some(raw) => Some((Head::decode(raw.body)?, Head::hash(raw.body))),
                None => None,
            };
            Ok((Attach::decode(attach.body)?, attach.body, head))
        });
        let (attach, body, head) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.wrong(None, BreakReason::SegmentChanged, error.to_string()),
        };
        let life = [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .find(|life| life.id == attach.id && life.body == body);
        let Some(life) = life else {
            let signed = self
                .keys
                .log
                .is_some_and(|key| Attach::signature_holds(body, &key));
            let detail = if signed {
                format!(
                    "attach {} ({}) is not in the log, or not among its last",
                    attach.ordinal, attach.id
                )
            } else {
                "the attach it copies is not one the log key signed".to_owned()
            };
            return self.wrong(None, BreakReason::AttachMissing, detail);
        };
        let newest = self.current.as_ref().map(|current| current.id) == Some(life.id);
        let superseded = !newest
            && self
                .current
                .as_ref()
                .is_some_and(|current| current.active || !current.heads.is_empty());
        let there = head.as_ref().is_none_or(|(head, hash)| {
            let index = head.number.wrapping_sub(1).wrapping_sub(life.earlier_heads);
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            life.heads.get(index) == Some(hash)
        });
        if superseded && !self.log.live {
            self.wrong(
                None,
                BreakReason::HeadInvalid,
                "it copies an attach that is not the newest",
            );
        } else if !there {
            self.wrong(
                None,
                BreakReason::TailMissing,
                "the head it copies is not in the log",
            );
        }
    }

    pub(super) fn spool(&mut self) {
        if let Some(error) = &self.log.spool_error {
            let detail = format!("the spool cannot be read: {error}");
            self.report
                .note(Some(PathBuf::from(spool::FOLDER)), None, detail);
        }
        let log = self.log;
        for file in &log.spool {
            self.file = log.relative(&file.path);
            let own = self
                .current
                .as_ref()
                .is_some_and(|life| life.id == file.attach);
            let known = own
                || self
                    .previous
                    .as_ref()
                    .is_some_and(|life| life.id == file.attach);
            if !known {
                if self.report.attaches.contains(&file.attach) {
                    continue;
                }
                let detail = format!("attach {} of this spool is not in the log", file.attach);
                self.wrong(None, BreakReason::AttachMissing, detail);
                continue;
            }
            let (batches, torn) = file.batches();
            for batch in &batches {
                self.batch(own, batch);
            }
            if let Some((at, why)) = torn {
                let detail = format!("unproven from byte {at} on: {why}");
                self.report.note(Some(self.file.clone()), None, detail);
            }
        }
    }

    /// Frames that no segment has yet.
    pub(super) fn batch(&mut self, own: bool, batch: &Found<'_>) {
        let Some(life) = self.life(own) else { return };
        let attach = life.id;
        if batch.first == 0 && batch.ordinal > life.highest {
            if batch.ordinal != life.highest + 1 {
                let detail = format!(
                    "session {} of attach {attach} is not there",
                    life.highest + 1
                );
                return self.wrong(None, BreakReason::SessionMissing, detail);
            }
            let Some(id) = spool::session_id(batch) else {
                return;
            };
            life.highest = batch.ordinal;
            life.sessions
                .insert(batch.ordinal, Session::new(id, attach, batch.ordinal));
            self.report.sessions += 1;
        }
        let Some(life) = self.life(own) else { return };
        let Some(session) = life.sessions.get_mut(&batch.ordinal) else {
            return;
        };
        if session.broken || batch.first < session.next {
            return;
        }
        let (id, next, hash) = (session.id, session.next, session.hash);
        let follows = batch.first == 0 || hash == Some(batch.previous);
        if session.blind && follows && batch.first == next {
            session.next = batch.first.saturating_add(u64::from(batch.count));
            session.hash = Some(batch.last_hash);
            session.ended = ends(batch.frames);
            return;
        }
        let place = Some((id, batch.first));
        if batch.first > next {
            let detail = format!("records {next} to {} are not in the spool", batch.first - 1);
            self.report.note(Some(self.file.clone()), Some(id), detail);
            return;
        }
        if !follows {
            return self.wrong(
                place,
                BreakReason::ChainBroken,
                "it does not chain to the records before it",
            );
        }
        let before = self.report.records;
        let mut rest = batch.frames;
        while let Ok((frame, after)) = frame::read(rest) {
            rest = after;
            if !self.wanted(id) {
                continue;
            }
            let place = (id, frame.header.sequence);
            if let Err((reason, detail)) = self.frame(own, batch.ordinal, &frame, place) {
                return self.wrong(Some(place), reason, detail);
            }
        }
        self.report.unproven += self.report.records - before;
    }

    pub(super) fn finish(&mut self) {
        if let Some(life) = self.previous.take() {
            self.interrupted(&life);
        }
        let Some(life) = self.current.take() else {
            return;
        };
        if self.log.live && !life.detached {
            let open = life
                .sessions
                .values()
                .filter(|session| !session.ended)
                .count();
            self.report.note(
                None,
                None,
                format!("attach {} is recording; {open} sessions are open", life.id),
            );
        } else if !life.detached {
            let detail = format!(
                "attach {} did not detach; what follows its last head is not proven",
                life.id
            );
            self.report.note(None, None, detail);
            self.interrupted(&life);
        } else {
            self.interrupted(&life);
        }
    }
}
