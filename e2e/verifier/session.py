"""What must hold within one session, frame after frame."""

from wire import Break, Malformed
from entries import require
from records import chained, read_frame

LETS_THROUGH = ("Allow", "Observe")


class Session:
    """A session as far as its frames were read."""

    def __init__(self, identity, ordinal):
        self.id = identity
        self.ordinal = ordinal
        self.next = 0
        self.chain = None
        self.ended = False
        # Of each intent: whether commands may follow it, and the approval it redeems.
        self.intents = {}
        self.granted = {}
        self.frames_bytes = 0

    @property
    def last(self):
        return self.next - 1

    def follows(self, first, before):
        """A run or batch of frames begins where the session stands."""
        require(first <= self.next, "RecordsMissing",
                f"record {first} comes after {self.last}", self.id, self.next)
        require(first >= self.next, "RecordsRepeated",
                f"record {first} comes after {self.last}", self.id, first)
        require(before == (self.chain or bytes(32)), "ChainBroken",
                "the chain before is another", self.id, first)

    def take(self, raw, expected_start=None):
        """One more frame, whole and in order."""
        at = self.next
        try:
            frame = read_frame(raw)
        except Malformed as error:
            raise Break("RecordInvalid", str(error), self.id, at) from error
        require(frame.ordinal == self.ordinal, "RecordInvalid", "of another session", self.id, at)
        require(frame.sequence == at, "RecordInvalid", f"says {frame.sequence}", self.id, at)
        self.rules(frame, at)
        self.chain = chained(self.chain, raw)
        self.next += 1
        self.frames_bytes += len(raw)
        return frame

    def rules(self, frame, at):
        kind, body = frame.kind, frame.body
        require((at == 0) == (kind == "SessionStart"), "RecordInvalid",
                f"record {at} is {kind}", self.id, at)
        require(not self.ended, "RecordInvalid", "after the session's end", self.id, at)
        if kind == "Intent":
            self.intent(body, at)
        elif kind == "Client" and body["class"] == "Command":
            require(body["intent"] in self.intents and self.intents[body["intent"]][0],
                    "CommandWithoutIntent", f"names record {body['intent']}", self.id, at)
        elif kind == "Outcome":
            self.outcome(body, at)
        elif kind == "Approval" and body["event"] == "Granted":
            self.granted[body["request"]] = True
        elif kind == "SessionEnd":
            require(body["totals"]["records"] == at, "RecordInvalid",
                    f"counts {body['totals']['records']} records before it", self.id, at)
            self.ended = True

    def intent(self, body, at):
        decision = body["decision"]
        lets_through = decision["verdict"] in LETS_THROUGH
        redeems = decision["approval"] if lets_through else None
        if redeems is not None:
            require(self.granted.get(redeems, False), "ApprovalMissing",
                    f"no {redeems} to redeem", self.id, at)
            self.granted[redeems] = False
        self.intents[at] = (lets_through, redeems)

    def outcome(self, body, at):
        named = self.intents.get(body["intent"])
        require(named is not None, "OutcomeWithoutIntent",
                f"names record {body['intent']}", self.id, at)
        if body["status"] == "NotForwarded" and named[1] is not None:
            self.granted[named[1]] = True
