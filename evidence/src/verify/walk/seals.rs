//! Seals: whose they are, whether they follow, and whether they hold what they commit to.

use super::*;

impl Walk<'_> {
    /// A seal that was removed and that what is there may be sealed under: its base has it.
    pub(super) fn seal_before(&mut self, attach: &Attach, body: &[u8]) {
        let held = Seal::decode(body)
            .ok()
            .filter(|seal| seal.attach == attach.id && Seal::signature_holds(body, &attach.public))
            .ok_or("its attach did not sign a seal that was removed")
            .and_then(|seal| self.unsealer.take(&seal));
        if let Err(why) = held {
            self.wrong(None, BreakReason::SealInvalid, why);
        }
    }

    pub(super) fn seal(&mut self, body: &[u8]) {
        let seal = match Seal::decode(body) {
            Ok(seal) => seal,
            Err(error) => return self.wrong(None, BreakReason::SealInvalid, error.to_string()),
        };
        let Some(life) = &mut self.current else {
            return self.wrong(
                None,
                BreakReason::EntryMisplaced,
                "a seal before any attach",
            );
        };
        if seal.attach != life.id || life.detached {
            let detail = format!("a seal of attach {} after attach {}", seal.attach, life.id);
            return self.wrong(None, BreakReason::EntryMisplaced, detail);
        }
        if !Seal::signature_holds(body, &life.public) {
            return self.wrong(
                None,
                BreakReason::SignatureInvalid,
                "its attach did not sign this seal",
            );
        }
        let number = life.seals.saturating_add(1);
        life.seals = number;
        if seal.number != number {
            let detail = format!("it is seal {}; seal {number} was to be next", seal.number);
            return self.wrong(None, BreakReason::SealInvalid, detail);
        }
        if let Err(why) = self.unsealer.take(&seal) {
            self.wrong(None, BreakReason::SealInvalid, why);
        }
    }
}
