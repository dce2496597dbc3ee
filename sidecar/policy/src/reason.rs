//! One constant per outcome: the same string in the client's error, the record, the metric,
//! the Event and the status condition (architecture.md, invariant 4).

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Why an operation or a connection ended as it did.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// The constant, as users and machines read it.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name)),+ }
            }

            /// The reason named by `text`, if there is one.
            pub fn parse(text: &str) -> Option<Reason> {
                match text { $(stringify!($name) => Some(Reason::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// A rule allowed it.
    Allowed,
    /// The client baseline covered it.
    Baseline,
    /// Only DryRun policies select; forwarded and observed.
    Observed,
    /// A human approved it.
    Approved,
    /// A Deny rule matched.
    DeniedByRule,
    /// No policy selects this subject on this connection.
    NoPolicy,
    /// No rule covers an effect.
    NotCovered,
    /// A policy that selects this subject does not compile.
    PolicyInvalid,
    /// A rule's CEL condition failed to evaluate.
    ConditionFailed,
    /// The policy changed and no longer allows what runs.
    PolicyChanged,
    /// Waits for a human.
    ApprovalPending,
    /// A human said no.
    ApprovalDenied,
    /// Nobody answered in time.
    ApprovalExpired,
    /// The client went away or cancelled while it waited.
    ApprovalCancelled,
    /// The subject has too many requests pending.
    TooManyPending,
    /// The command is too large for a human to judge.
    TooLargeToApprove,
    /// The approval could not be asked for or redeemed.
    ApprovalUnavailable,
    /// A masked value would be written somewhere.
    MaskedFlow,
    /// A masked column would be compared or ordered by.
    MaskedPredicate,
    /// A value that carries a mask would be written back.
    MaskedWriteBack,
    /// A result that cannot be masked.
    MaskUnsupported,
    /// The catalog is not what was decided on.
    CatalogChanged,
    /// The search path is not known at this point.
    SearchPathUnknown,
    /// The text is not SQL that PostgreSQL's grammar accepts.
    Unparsable,
    /// The statement nests too deeply to be understood.
    TooComplex,
    /// The evidence could not be made durable.
    CannotRecord,
    /// A policy here selects by identity, and the agent presented no token, or may not yet.
    TokenRequired,
    /// The agent's token is not what its issuer signed, or not for here and now.
    TokenRefused,
    /// The token that the session began with has expired.
    TokenExpired,
    /// A limit of the policy or the connection.
    LimitExceeded,
    /// The session lasted as long as it may.
    SessionExpired,
    /// A finding closed the session, as its policy says.
    ClosedByFinding,
    /// The client broke the protocol.
    ProtocolViolation,
    /// A message that is never forwarded.
    UnsupportedMessage,
    /// A prepared statement of that name is not known: the server's own 26000.
    UnknownStatement,
    /// A portal of that name is not known: the server's own 34000.
    UnknownPortal,
    /// A startup parameter or setting that is not allowed.
    SettingDenied,
    /// The database asked for is not the connection's.
    DatabaseDenied,
    /// The host asked for is not the connection's, or the path lies outside of its URL.
    HostDenied,
    /// A rule looks into the body, or a human would have to, and it has no single reading.
    BodyUnreadable,
    /// The target cannot be reached.
    TargetUnreachable,
    /// The target ended or refused the session.
    TargetRefused,
    /// The target did not accept the connection's credential.
    TargetAuthentication,
    /// The target's TLS identity could not be verified.
    TargetTls,
    /// The target broke the protocol.
    TargetProtocol,
    /// The connection's credential, CA or reference is missing.
    RefNotFound,
    /// The connection is missing, or does not admit the workload's namespace.
    ConnectionNotFound,
    /// Two connections would listen on one address.
    ConnectionsCollide,
    /// Known, and not served by this version.
    Unsupported,
    /// The operator has not been heard of for longer than its last word is valid.
    SnapshotExpired,
    /// Too many sessions.
    TooManySessions,
    /// The sidecar is shutting down.
    ShuttingDown,
    /// The client cancelled.
    Cancelled,
    /// A fault of our own; nothing was forwarded.
    Internal,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
