//! A command as the evidence and the approver see it.

use chaperone_evidence::Part;
use chaperone_policy::Operation;

pub use chaperone_evidence::Phase;

/// One command about to be decided on, with everything that is recorded of it.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// Where in the protocol's exchange it stands.
    pub phase: Phase,
    /// The verb for summaries: `DELETE`, `GET`, `exec`.
    pub verb: &'a str,
    /// What was decided on.
    pub operation: &'a Operation,
    /// The command's text with secrets masked: for records and approvers.
    pub text: &'a str,
    /// The parameters with secrets masked; `None` is NULL.
    pub parameters: &'a [Option<String>],
    /// The exact bytes an approval is bound to: text first, then each parameter with its format.
    pub exact: &'a [&'a [u8]],
    /// The frames as they are recorded: masked, in order.
    pub client: &'a [Part<'a>],
    /// The sequence of the intent that this one continues.
    pub refers_to: Option<u64>,
}
