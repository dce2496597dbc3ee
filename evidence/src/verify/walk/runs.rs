//! Runs: whose they are, whether they follow, and every frame in them.

use super::*;

impl Walk<'_> {
    pub(super) fn run(&mut self, signed: &SignedRun<'_>) {
        let run = &signed.run;
        let place = Some((run.session, run.first));
        let Some(current) = &self.current else {
            return self.wrong(
                place,
                BreakReason::EntryMisplaced,
                "a run before any attach",
            );
        };
        if run.signer != current.id || current.detached {
            let detail = format!("a run of attach {} after attach {}", run.signer, current.id);
            return self.wrong(place, BreakReason::EntryMisplaced, detail);
        }
        let mut problem = None;
        if !signed.signature_holds(&current.public) {
            problem = Some((
                BreakReason::SignatureInvalid,
                "its attach did not sign this run".to_owned(),
            ));
        } else if !signed.payload_matches() {
            let detail = format!(
                "records {} to {} are not what was signed",
                run.first,
                run.last()
            );
            problem = Some((BreakReason::RunChanged, detail));
        }
        let own = run.attach == current.id;
        let known = self
            .previous
            .as_ref()
            .is_some_and(|life| life.id == run.attach);
        if problem.is_none() && (run.recovered == own || (!own && !known)) {
            problem = Some((
                BreakReason::EntryMisplaced,
                "it belongs to another attach".to_owned(),
            ));
        }
        let seals = 1..=current.seals;
        if problem.is_none() && run.sealed.is_some_and(|it| !seals.contains(&it.seal)) {
            let detail = "the seal it names is not there".to_owned();
            problem = Some((BreakReason::SealInvalid, detail));
        }
        let opened = match problem {
            None => self.open(signed),
            Some(problem) => Err(problem),
        };
        let frames = match opened {
            Ok(frames) => frames,
            Err((reason, detail)) => {
                self.wrong(place, reason, detail);
                return self.skip(run);
            }
        };
        let accepted = self.accept(run, own);
        match frames {
            Some(frames) if !self.is_blind(run, own) => {
                if accepted && self.wanted(run.session) {
                    self.frames(run, own, &frames);
                } else {
                    self.skip_accepted(run, own, &frames);
                }
            }
            frames => self.skip_sealed(run, own, frames.as_deref()),
        }
    }

    /// Its frames; none where they are sealed and there is no key.
    fn open(&self, signed: &SignedRun<'_>) -> Result<Option<Vec<u8>>, (BreakReason, String)> {
        let wrong = |reason, detail: &str| Err((reason, detail.to_owned()));
        match self.unsealer.frames(signed) {
            Frames::Clear(frames) => Ok(Some(frames)),
            Frames::Sealed => Ok(None),
            Frames::WrongKey => wrong(
                BreakReason::KeyMismatch,
                "the key that was given for this session does not open it",
            ),
            Frames::Broken => wrong(
                BreakReason::SealBroken,
                "its sealed frames do not open under its session's key",
            ),
            Frames::Malformed(error) => wrong(BreakReason::RunChanged, error.0),
        }
    }

    fn is_blind(&mut self, run: &Run, own: bool) -> bool {
        self.life(own)
            .and_then(|life| life.sessions.get(&run.ordinal))
            .is_some_and(|session| session.blind)
    }

    pub(super) fn wanted(&self, session: SessionId) -> bool {
        match self.selection {
            Selection::All => true,
            Selection::Session(wanted) => *wanted == session,
        }
    }

    pub(super) fn life(&mut self, own: bool) -> Option<&mut Life> {
        if own {
            self.current.as_mut()
        } else {
            self.previous.as_mut()
        }
    }

    /// Whether a run follows what its session has. What is wrong is said here.
    pub(super) fn accept(&mut self, run: &Run, own: bool) -> bool {
        let Some(life) = self.life(own) else {
            return false;
        };
        life.active = true;
        let attach = life.id;
        let mut problem = None;
        if run.first == 0 {
            if run.ordinal != life.highest + 1 {
                problem = Some(if run.ordinal > life.highest {
                    let detail = format!(
                        "session {} of attach {attach} is not there",
                        life.highest + 1
                    );
                    (BreakReason::SessionMissing, detail)
                } else {
                    (
                        BreakReason::RecordsRepeated,
                        format!("session {} began before", run.ordinal),
                    )
                });
            } else if run.previous_hash != NO_HASH {
                problem = Some((
                    BreakReason::ChainBroken,
                    "it chains to records before the first".to_owned(),
                ));
            }
            if run.ordinal > life.highest {
                life.highest = run.ordinal;
                life.sessions
                    .insert(run.ordinal, Session::new(run.session, attach, run.ordinal));
                self.report.sessions += 1;
            }
        } else {
            problem = match life.sessions.get_mut(&run.ordinal) {
                None if run.ordinal <= life.highest => Some((
                    BreakReason::RecordsRepeated,
                    "its session has ended before".to_owned(),
                )),
                None => {
                    life.highest = run.ordinal;
                    Some((
                        BreakReason::SessionMissing,
                        "the beginning of its session is not there".to_owned(),
                    ))
                }
                Some(session) if session.broken => None,
                Some(session) if session.id != run.session => Some((
                    BreakReason::ChainBroken,
                    format!("its session is {}", session.id),
                )),
                Some(session) if session.next < run.first => {
                    let detail = format!(
                        "records {} to {} are not there",
                        session.next,
                        run.first - 1
                    );
                    session.broken = true;
                    Some((BreakReason::RecordsMissing, detail))
                }
                Some(session) if session.next > run.first => Some((
                    BreakReason::RecordsRepeated,
                    format!("record {} was to be next", session.next),
                )),
                Some(session) if session.hash != Some(run.previous_hash) => {
                    session.broken = true;
                    Some((
                        BreakReason::ChainBroken,
                        "it does not chain to the records before it".to_owned(),
                    ))
                }
                Some(_) => None,
            };
        }
        let ok = problem.is_none();
        if let Some((reason, detail)) = problem {
            self.wrong(Some((run.session, run.first)), reason, detail);
        } else if run.first > 0 {
            self.goes_on(run, own);
        }
        ok && self
            .life(own)
            .and_then(|life| life.sessions.get(&run.ordinal))
            .is_some_and(|s| !s.broken)
    }

    /// Counts a session whose beginning was removed, with the first run of it that is there.
    fn goes_on(&mut self, run: &Run, own: bool) {
        let begins = self
            .life(own)
            .and_then(|life| life.sessions.get(&run.ordinal))
            .filter(|session| !session.broken && session.begins_at() == run.first)
            .map(Session::begins_at);
        if let Some(begins) = begins.filter(|begins| *begins > 0) {
            self.report.sessions += 1;
            let detail = format!(
                "records 0 to {} are removed; what later ones say of them is not proven",
                begins - 1
            );
            self.report.note(None, Some(run.session), detail);
        }
    }

    pub(super) fn frames(&mut self, run: &Run, own: bool, bytes: &[u8]) {
        self.report.bytes += bytes.len() as u64;
        let mut rest = bytes;
        let (mut count, mut first_wall, mut last_wall) = (0u32, 0, 0);
        while !rest.is_empty() {
            let (frame, after) = match frame::read(rest) {
                Ok(read) => read,
                Err(error) => {
                    let place = Some((run.session, run.first.saturating_add(u64::from(count))));
                    return self.give_up(
                        run,
                        own,
                        place,
                        BreakReason::RecordInvalid,
                        error.to_string(),
                    );
                }
            };
            rest = after;
            if count == 0 {
                first_wall = frame.header.wall_ns;
            }
            last_wall = frame.header.wall_ns;
            count = count.saturating_add(1);
            let place = (run.session, frame.header.sequence);
            if let Err((reason, detail)) = self.frame(own, run.ordinal, &frame, place) {
                return self.give_up(run, own, Some(place), reason, detail);
            }
        }
        let (hash, ended) = self
            .life(own)
            .and_then(|life| life.sessions.get(&run.ordinal))
            .map_or((None, false), |s| (s.hash, s.ended));
        let place = Some((run.session, run.last()));
        if count != run.count || hash != Some(run.last_hash) {
            let detail = "the run's frames do not give its last hash".to_owned();
            self.give_up(run, own, place, BreakReason::ChainBroken, detail);
        } else if (first_wall, last_wall) != (run.first_wall_ns, run.last_wall_ns) {
            self.wrong(
                place,
                BreakReason::RunChanged,
                "its times are not those of its records",
            );
        } else if run.sealed.is_some_and(|sealed| sealed.ends != ended) {
            self.wrong(
                place,
                BreakReason::RunChanged,
                "its session ends in another record than it says",
            );
        }
    }

    pub(super) fn frame(
        &mut self,
        own: bool,
        ordinal: u64,
        frame: &frame::Frame<'_>,
        place: (SessionId, u64),
    ) -> Result<(), (BreakReason, String)> {
        let Some(life) = self.life(own) else {
            return Ok(());
        };
        let Some(session) = life.sessions.get_mut(&ordinal) else {
            return Ok(());
        };
        match session.frame(frame)? {
            Said::Nothing => {}
            Said::Started { previous, own } => {
                let expected = std::mem::replace(&mut life.last_start, own);
                // After a session that is missing its hash is not known.
                if previous != expected && !(ordinal > 1 && expected == NO_HASH) {
                    let detail = "the session before it is not the one it names".to_owned();
                    return Err((BreakReason::SessionMissing, detail));
                }
            }
            Said::Gap(detail) => self.report.note(None, Some(place.0), detail),
        }
        self.report.records += 1;
        Ok(())
    }

    pub(super) fn give_up(
        &mut self,
        run: &Run,
        own: bool,
        place: Option<(SessionId, u64)>,
        reason: BreakReason,
        detail: String,
    ) {
        self.wrong(place, reason, detail);
        if let Some(session) = self
            .life(own)
            .and_then(|life| life.sessions.get_mut(&run.ordinal))
        {
            session.broken = true;
        }
    }

    /// A run that cannot be believed: its session is broken from here on.
    pub(super) fn skip(&mut self, run: &Run) {
        let own = self
            .current
            .as_ref()
            .is_some_and(|life| life.id == run.attach);
        let Some(life) = self.life(own) else { return };
        life.last_start = if run.first == 0 {
            NO_HASH
        } else {
            life.last_start
        };
        if run.first == 0 && run.ordinal == life.highest + 1 {
            life.highest = run.ordinal;
            life.sessions
                .insert(run.ordinal, Session::new(run.session, life.id, run.ordinal));
        }
        if let Some(session) = life.sessions.get_mut(&run.ordinal) {
            session.broken = true;
        }
    }

    /// A run that nobody here can read, or that follows one: what its header says is held against
    /// the rest.
    fn skip_sealed(&mut self, run: &Run, own: bool, frames: Option<&[u8]>) {
        let ends = match (&run.sealed, frames) {
            (Some(sealed), _) => sealed.ends,
            (None, frames) => ends(frames.unwrap_or_default()),
        };
        let wanted = self.wanted(run.session);
        let Some(life) = self.life(own) else { return };
        if run.first == 0 {
            life.last_start = NO_HASH;
        }
        let Some(session) = life
            .sessions
            .get_mut(&run.ordinal)
            .filter(|session| !session.broken)
        else {
            return;
        };
        session.next = run.last().saturating_add(1);
        session.hash = Some(run.last_hash);
        session.ended = ends;
        let first = !std::mem::replace(&mut session.blind, true);
        if first && wanted {
            self.report.is_sealed(run.session);
        }
    }

    /// A run whose frames are not looked at: only its clear header moves the session on.
    pub(super) fn skip_accepted(&mut self, run: &Run, own: bool, bytes: &[u8]) {
        let start = frame::read(bytes)
            .ok()
            .filter(|(frame, _)| frame.header.sequence == 0)
            .map(|(frame, _)| frame::chain(None, frame.bytes));
        let Some(life) = self.life(own) else { return };
        if let Some(start) = start {
            life.last_start = start;
        }
        if let Some(session) = life
            .sessions
            .get_mut(&run.ordinal)
            .filter(|session| !session.broken)
        {
            session.next = run.last().saturating_add(1);
            session.hash = Some(run.last_hash);
            session.ended = ends(bytes);
        }
    }
}

/// Whether the last of these frames ends its session.
pub(super) fn ends(mut frames: &[u8]) -> bool {
    let mut kind = 0;
    while let Ok((frame, rest)) = frame::read(frames) {
        kind = frame.header.kind;
        frames = rest;
    }
    kind == crate::codec::SESSION_END
}
