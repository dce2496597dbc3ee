//! What a request means: its normal form, checked against the connection it came on.

use chaperone_policy::{Operation, Reason, Request};
use hyper::Version;
use hyper::header::{HOST, HeaderMap};
use hyper::http::request::Parts;

use super::Agent;
use crate::api::{Asked, Unfit};
use crate::guard::REFUSED_METHOD;
use crate::normal::{self, Ambiguous};

/// A request in its normal form.
pub(super) struct Understood {
    /// As rules see it.
    pub(super) request: Request,
    /// Path and query as they are sent.
    pub(super) sent: String,
    /// Fields as they are sent, without Host and credential.
    pub(super) fields: HeaderMap,
    /// It wants to leave HTTP.
    pub(super) upgrade: bool,
    /// It is gRPC.
    pub(super) grpc: bool,
}

impl From<Ambiguous> for Unfit {
    fn from(error: Ambiguous) -> Unfit {
        unfit(Reason::ProtocolViolation, error.0)
    }
}

fn unfit(reason: Reason, message: impl Into<String>) -> Unfit {
    Unfit::new(reason, message)
}

/// Whether the agent speaks gRPC (gRPC over HTTP2, Requests).
pub(super) fn is_grpc(fields: &HeaderMap) -> bool {
    let value = fields
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    value.is_some_and(|value| {
        let rest = value.strip_prefix("application/grpc");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
    })
}

pub(super) fn understand(
    agent: &Agent,
    parts: &Parts,
    has_body: bool,
    token: bool,
    places_masked: bool,
) -> Result<(Understood, Operation), Unfit> {
    let method = parts.method.as_str();
    if method == REFUSED_METHOD {
        let why = agent.refused.as_ref().and_then(|refused| refused.reason());
        return Err(unfit(
            Reason::ProtocolViolation,
            why.unwrap_or("the request is not HTTP"),
        ));
    }
    let capitals = |byte: u8| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    if !method.bytes().all(capitals) {
        return Err(unfit(
            Reason::ProtocolViolation,
            "the method is not written in capitals",
        ));
    }
    if matches!(method, "CONNECT" | "TRACE") {
        let message = format!("{method} is never forwarded");
        return Err(unfit(Reason::UnsupportedMessage, message));
    }
    let host = checked_host(agent, parts)?;
    let uri = &parts.uri;
    if method == "OPTIONS" && uri.path() == "*" {
        return Err(unfit(
            Reason::UnsupportedMessage,
            "OPTIONS * is never forwarded",
        ));
    }
    let target = normal::target(uri.path(), uri.query())?;
    let connection = &agent.connection;
    if !connection.target.covers(&target.path) {
        let message = format!(
            "the connection is for paths under {}",
            connection.target.prefix
        );
        return Err(unfit(Reason::HostDenied, message));
    }
    // An offer of HTTP/2 may be left alone (RFC 9110, section 7.8).
    let mut offers = 0_usize;
    let mut upgrade = false;
    for value in parts.headers.get_all("upgrade") {
        offers = offers.saturating_add(1);
        upgrade |= !value.as_bytes().eq_ignore_ascii_case(b"h2c");
    }
    let can = !agent.two && parts.version == Version::HTTP_11 && !has_body && offers == 1;
    if upgrade && !can {
        return Err(unfit(
            Reason::ProtocolViolation,
            "leaving HTTP takes one Upgrade in HTTP/1.1, in a request without a body",
        ));
    }
    let mut fields = normal::fields(&parts.headers, upgrade)?;
    if token {
        // It was for us.
        fields.remove("authorization");
    }
    if let Some(credential) = &connection.credential {
        fields.remove(&credential.header);
        fields.remove("authorization");
    }
    let request = Request {
        method: method.to_owned(),
        host,
        path: target.path,
        query: target.query,
        headers: normal::joined(&fields)?,
        json: None,
    };
    let asked = Asked {
        request: &request,
        sent: &target.sent,
        fields: &mut fields,
        came: &parts.headers,
        upgrade,
        places_masked,
    };
    let operation = connection.api.ask(asked)?;
    let understood = Understood {
        request,
        sent: target.sent,
        grpc: is_grpc(&fields),
        fields,
        upgrade,
    };
    Ok((understood, operation))
}

/// The target is the Connection's, whatever the request says; what it says must be that one. Gives
/// the target's host.
fn checked_host(agent: &Agent, parts: &Parts) -> Result<String, Unfit> {
    let target = &agent.connection.target;
    let mut said: Vec<&str> = Vec::new();
    let mut fields = parts.headers.get_all(HOST).iter();
    if let Some(field) = fields.next() {
        let text = field.to_str();
        said.push(text.map_err(|_| unfit(Reason::ProtocolViolation, "Host is no text"))?);
    }
    if fields.next().is_some() {
        return Err(unfit(
            Reason::ProtocolViolation,
            "there is not exactly one Host",
        ));
    }
    // `:authority` in HTTP/2, absolute form in HTTP/1.1.
    said.extend(parts.uri.authority().map(|authority| authority.as_str()));
    if said.is_empty() {
        return Err(unfit(
            Reason::ProtocolViolation,
            "the request names no host",
        ));
    }
    // Where agents are offered encryption, it is what the target's URL says: what a client does with
    // a request, such as which cookies it sends, depends on the scheme.
    let offered = agent.connection.tls.is_some();
    if offered && agent.encrypted != target.secure {
        let (wanted, came) = match target.secure {
            true => ("https", "unencrypted"),
            false => ("http", "encrypted"),
        };
        let message = format!(
            "the connection is for {wanted}://{}, and the request came {came}",
            target.authority()
        );
        return Err(unfit(Reason::HostDenied, message));
    }
    for text in said {
        let (host, port) = normal::authority(text)?;
        let is_target = host == target.name() || target.hosts.contains(&host);
        let port_fits =
            port.is_none_or(|port| port == target.port || port == agent.listener.port());
        // Standalone, agents are pointed at the listener itself.
        let is_listener = agent.listener.ip().is_loopback()
            && (host == "localhost" || host.parse() == Ok(agent.listener.ip()));
        if !(is_target || is_listener) || !port_fits {
            let message = format!(
                "the request is for {text}, and the connection for {}",
                target.authority()
            );
            return Err(unfit(Reason::HostDenied, message));
        }
        if let Some(name) = &agent.server_name
            && *name != host
        {
            let message =
                format!("the request is for {text}, and its TLS handshake was for {name}");
            return Err(unfit(Reason::HostDenied, message));
        }
    }
    Ok(target.name().to_owned())
}
