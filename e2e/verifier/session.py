"""What must hold within one session, frame after frame."""

from wire import Break, Malformed
from entries import require
from records import chained, read_body, read_header


class Session:
    """A session as far as its frames were read."""

    def __init__(self, identity, attach, ordinal):
        self.id = identity
        self.attach = attach
        self.ordinal = ordinal
        self.next = 0
        self.chain = None
        self.ended = False
        # Not all of it could be opened: from there on only headers are looked at.
        self.blind = False
        # Of each intent: whether commands may follow it.
        self.intents = {}
        # How often each approval is granted and not redeemed, and which intent redeemed which.
        self.granted = {}
        self.redeemed = {}
        # The hash that its SessionStart names.
        self.previous_start = None
        # The first record behind a tombstone: what is before it is taken as said.
        self.behind = 0

    @classmethod
    def tail(cls, identity, attach, ordinal, last, chain):
        """A session whose records up to this one are gone."""
        session = cls(identity, attach, ordinal)
        session.next = session.behind = last + 1
        session.chain = chain
        return session

    @property
    def last(self):
        return max(self.next - 1, 0)

    def follows(self, first, before):
        """A run of frames begins where the session stands."""
        require(first <= self.next, "RecordsMissing", f"{self.next} was next", self.id, first)
        require(first >= self.next, "RecordsRepeated", f"{self.next} was next", self.id, first)
        require(before == (self.chain or bytes(32)), "ChainBroken",
                "the chain before is another", self.id, first)

    def take(self, raw):
        """One more frame, whole; the name of its kind."""
        frame = read_header(raw)
        at = frame.sequence
        try:
            require(frame.ordinal == self.ordinal, "RecordInvalid", f"ordinal {frame.ordinal}")
            require(at <= self.next, "RecordsMissing", f"{self.next} was next")
            require(at >= self.next, "RecordsRepeated", f"{self.next} was next")
            require(not self.ended, "RecordInvalid", "after the session's end")
            kind, body = read_body(frame.kind, frame.body)
            require((at == 0) == (kind == "SessionStart"), "RecordInvalid", f"{kind} at {at}")
            RULES.get(kind, lambda *_: None)(self, body, at)
        except Malformed as error:
            raise Break("RecordInvalid", str(error), self.id, at) from error
        except Break as found:
            raise found.placed(self.id, at)
        self.chain = chained(self.chain, raw)
        self.next += 1
        return kind

    def session_start(self, body, _at):
        require(body["session"] == self.id and body["attach"] == self.attach,
                "RecordInvalid", "it names another session")
        self.previous_start = body["previous"]

    def intent(self, body, at):
        served = {body["asked"], "Synced" if body["asked"] == "Replicated" else body["asked"]}
        require(body["served"] in served, "RecordInvalid", "served otherwise than asked")
        decision = body["decision"]
        name, verdict = decision["approval"], decision["verdict"]
        redeems = name is not None and verdict != "Deny"
        if redeems:
            granted = self.granted.get(name, 0) > 0 or self.behind > 0
            require(granted, "ApprovalMissing", f"no {name} to redeem")
            self.granted[name] = self.granted.get(name, 1) - 1
            self.redeemed[at] = name
        require(name is not None or decision["reason"] != "Approved", "ApprovalMissing",
                "approved by nothing it names")
        self.intents[at] = redeems or verdict in ("Allow", "Observe")

    def client(self, body, _at):
        named = body["intent"]
        if body["class"] == "Control":
            require(named == 0, "RecordInvalid", f"control that names {named}")
            return
        if named < self.behind:
            return
        require(named in self.intents, "CommandWithoutIntent", f"{named} is no intent before it")
        require(body["class"] == "Refused" or self.intents[named], "CommandWithoutIntent",
                f"{named} lets nothing through")

    def outcome(self, body, _at):
        named = body["intent"]
        known = named in self.intents or named < self.behind
        require(known, "OutcomeWithoutIntent", f"{named} is no intent before it")
        redeemed = self.redeemed.pop(named, None)
        if redeemed is not None and body["status"] == "NotForwarded":
            self.granted[redeemed] += 1

    def approval(self, body, _at):
        if body["event"] == "Granted":
            self.granted[body["request"]] = self.granted.get(body["request"], 0) + 1

    def session_end(self, body, at):
        count = body["totals"]["records"]
        require(count == at, "RecordInvalid", f"counts {count} records before it")
        self.ended = True


RULES = {
    "SessionStart": Session.session_start,
    "Intent": Session.intent,
    "Client": Session.client,
    "Outcome": Session.outcome,
    "Approval": Session.approval,
    "SessionEnd": Session.session_end,
}
