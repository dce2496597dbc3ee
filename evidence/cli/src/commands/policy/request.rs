//! A request that is only thought of, in the form that a sidecar would decide on.

use std::collections::BTreeMap;

use chaperone_http::api::{self, Api};
use chaperone_http::normal;
use chaperone_policy::{Operation, Request};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::cli::PolicyTestArgs;
use crate::error::CliError;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// `POST /v1/orders?limit=1`.
    request: String,
    /// By name in small letters.
    headers: BTreeMap<String, String>,
    json: Option<serde_json::Value>,
}

impl Asked {
    /// From the command line.
    pub(super) fn of(args: &PolicyTestArgs) -> Result<Asked, CliError> {
        let mut headers = BTreeMap::new();
        for header in &args.headers {
            let (name, value) = header.split_once(':').ok_or_else(|| {
                CliError::Usage(format!("'{header}' is no field; write NAME: VALUE"))
            })?;
            headers.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        let json = match &args.json {
            None => None,
            Some(text) => {
                let value = chaperone_http::body::json(text.as_bytes());
                Some(value.map_err(|error| CliError::Usage(format!("--json: {error}")))?)
            }
        };
        let request = args.request.as_deref().unwrap_or_default();
        Ok(Asked::new(request, headers, json))
    }

    /// Fields by whatever case.
    pub(super) fn new(
        request: &str,
        headers: BTreeMap<String, String>,
        json: Option<serde_json::Value>,
    ) -> Asked {
        let headers = headers.into_iter();
        Asked {
            request: request.to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect(),
            json,
        }
    }

    /// As it would be decided on, over a connection to this host; or why it would be refused.
    pub(super) fn operation(
        &self,
        api: &dyn Api,
        host: &str,
    ) -> Result<Result<Operation, String>, CliError> {
        let text = self.request.as_str();
        let wrong = || CliError::Usage(format!("'{text}' is no request; write METHOD PATH"));
        let (method, target) = text.split_once(' ').ok_or_else(wrong)?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let target = match normal::target(path, query) {
            Ok(target) => target,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let headers = self.headers.iter();
        let request = Request {
            method: method.to_owned(),
            host: host.to_owned(),
            path: target.path,
            query: target.query,
            headers: headers
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            json: None,
        };
        let mut fields = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            fields.insert(name, HeaderValue::try_from(value).map_err(|_| wrong())?);
        }
        let came = fields.clone();
        let asked = api::Asked {
            request: &request,
            sent: &target.sent,
            fields: &mut fields,
            came: &came,
            upgrade: self.headers.contains_key("upgrade"),
            places_masked: false,
        };
        let operation = api.ask(asked).map(|mut operation| {
            if let Some(json) = self.json.clone() {
                api.with_json(&mut operation, json);
            }
            operation
        });
        Ok(operation.map_err(|unfit| unfit.message))
    }
}
