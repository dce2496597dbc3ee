//! What the chart's admission policies refuse, and what they let pass, on a real API server with
//! the chart installed and its webhooks left out: so whatever is refused here is refused with the
//! operator down, too.
//!
//! Every case is one line of threat-model rows 1 to 6 and 9 to 11. Requests are dry runs by an
//! impersonated user unless something has to exist.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod approvals;
mod cases;
mod chart;
mod evidence;
mod exec;
mod grants;
mod operator;
mod pods;
mod tokens;
