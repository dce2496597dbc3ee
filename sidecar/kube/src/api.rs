//! The Kubernetes API as `chaperone-http` asks for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chaperone_enforce::Denial;
use chaperone_http::answer::About;
use chaperone_http::api::{Api, Asked, TextMasks, Unfit};
use chaperone_http::body::Body;
use chaperone_http::websocket::Messages;
use chaperone_policy::{ApiRequest, Masking, Operation, Protocol, Reason};
use hyper::Response;
use hyper::header::{HeaderMap, HeaderName};

use crate::attributes::{self, COMMANDS, RUNNING};
use crate::channels::Channels;
use crate::{accept, masks, status};

/// Refusals of commands that are remembered, and for how long.
const REMEMBERED: usize = 64;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// What a client of the old protocol can do about it (KEP 4006, kubectl 1.30 and before).
const NO_SPDY: &str = "SPDY is not served, as it cannot be recorded; use kubectl 1.31 or newer, or \
    set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true and KUBECTL_PORT_FORWARD_WEBSOCKETS=true";
/// What the channel protocols end in (Kubernetes, remotecommand, websocket.go).
pub(crate) const CHANNELS: &str = "channel.k8s.io";
const PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");

/// One API server.
#[derive(Debug, Default)]
pub struct KubernetesApi {
    /// kubectl answers a refused WebSocket by trying SPDY, and prints what that was told: it is told
    /// the same. By what was asked for.
    refused: Mutex<VecDeque<(Instant, String, Unfit)>>,
}

impl KubernetesApi {
    fn remember(&self, command: &str, denial: &Denial) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REMEMBERED {
            refused.pop_front();
        }
        let unfit = Unfit::new(denial.reason, status::words(denial));
        refused.push_back((Instant::now(), command.to_owned(), unfit));
    }

    fn remembered(&self, command: &str) -> Option<Unfit> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, _, unfit) = refused
            .iter()
            .rev()
            .find(|(at, known, _)| known == command && at.elapsed() < REMEMBERED_FOR)?;
        Some(unfit.clone())
    }

    /// What may leave HTTP: commands and tunnels over WebSocket, whose frames can be recorded.
    fn check_upgrade(
        &self,
        request: &ApiRequest,
        command: &str,
        fields: &mut HeaderMap,
    ) -> Result<(), Unfit> {
        let runs = RUNNING.contains(&request.subresource.as_str());
        let unsupported = |message: &str| Unfit::new(Reason::UnsupportedMessage, message);
        let to = fields
            .get("upgrade")
            .map(|value| value.as_bytes().to_ascii_lowercase());
        match to.as_deref() {
            Some(b"websocket") if runs => {}
            Some(b"spdy/3.1") if runs => {
                let told = self.remembered(command);
                return Err(told.unwrap_or_else(|| unsupported(NO_SPDY)));
            }
            _ => {
                return Err(unsupported(
                    "only commands, attaching and forwarded ports may leave HTTP, over WebSocket",
                ));
            }
        }
        // Packed frames could not be read, nor could streams in base64.
        fields.remove("sec-websocket-extensions");
        let offered = fields.get_all(&PROTOCOL).iter();
        let offered = offered.map(|value| value.to_str().unwrap_or_default());
        let offered: Vec<&str> = offered
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        if offered.iter().any(|name| name.contains("base64")) {
            return Err(unsupported(
                "the base64 forms of the channel protocols are not served",
            ));
        }
        // Told after the 101 only, the command would run already.
        let told_apart = |name: &&str| name.ends_with(CHANNELS);
        if COMMANDS.contains(&request.subresource.as_str())
            && (offered.is_empty() || !offered.iter().all(told_apart))
        {
            return Err(unsupported(
                "a command's streams are told apart by a channel protocol, which is to be offered, such as v5.channel.k8s.io",
            ));
        }
        Ok(())
    }
}

impl Api for KubernetesApi {
    fn ask(&self, asked: Asked<'_>) -> Result<Operation, Unfit> {
        let Asked {
            request,
            sent,
            fields,
            came,
            upgrade,
            places_masked,
        } = asked;
        let read = attributes::of(request, sent, came)?;
        // The agent's own is a dummy; the connection's is set when the request is sent.
        fields.remove("authorization");
        for (name, value) in came {
            // Left out as fields of identity, and decided on here.
            if name.as_str().starts_with("impersonate-") {
                fields.append(name.clone(), value.clone());
            }
        }
        if upgrade {
            self.check_upgrade(&read.request, &read.command, fields)?;
        } else if masks::holds_objects(&read.request) {
            accept::narrow(fields, !places_masked);
        }
        Ok(Operation {
            protocol: Protocol::Kubernetes(Arc::new(read.request)),
            accesses: read.accesses,
            command: read.command,
            parameters: Vec::new(),
        })
    }

    fn with_json(&self, operation: &mut Operation, json: serde_json::Value) {
        if let Protocol::Kubernetes(request) = &operation.protocol {
            let request = ApiRequest {
                object: Some(json),
                ..ApiRequest::clone(request)
            };
            operation.protocol = Protocol::Kubernetes(Arc::new(request));
        }
    }

    fn is_json(&self) -> bool {
        true
    }

    fn answer(
        &self,
        denial: &Denial,
        about: &About,
        operation: Option<&Operation>,
    ) -> Response<Body> {
        let request = operation.and_then(asked_for);
        if let (Some(request), Some(operation)) = (request, operation)
            && RUNNING.contains(&request.subresource.as_str())
        {
            self.remember(&operation.command, denial);
        }
        status::answer(denial, about, request)
    }

    fn masking(&self, operation: &Operation, masking: &Masking) -> Option<Masking> {
        Some(masks::of(asked_for(operation)?, masking))
    }

    fn masking_of_errors(&self, operation: &Operation, masking: &Masking) -> Option<Masking> {
        masks::of_errors(asked_for(operation)?, masking)
    }

    fn masks_messages(&self, operation: &Operation) -> bool {
        asked_for(operation).is_some_and(|request| COMMANDS.contains(&request.subresource.as_str()))
    }

    fn messages(
        &self,
        operation: &Operation,
        answer: &HeaderMap,
        masks: &TextMasks,
    ) -> Result<Option<Box<dyn Messages>>, Unfit> {
        let protocol = answer.get(&PROTOCOL).and_then(|value| value.to_str().ok());
        match Channels::new(protocol.unwrap_or_default(), masks) {
            _ if asked_for(operation).is_none() => Ok(None),
            Some(channels) => Ok(Some(Box::new(channels))),
            None => Err(Unfit::new(
                Reason::MaskUnsupported,
                "no channel protocol was agreed on, and other streams cannot be masked",
            )),
        }
    }
}

fn asked_for(operation: &Operation) -> Option<&ApiRequest> {
    match &operation.protocol {
        Protocol::Kubernetes(request) => Some(request),
        Protocol::Http(_) | Protocol::Postgres => None,
    }
}
