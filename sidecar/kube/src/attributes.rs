//! A request as the API server's own authorisation sees it.
//!
//! The same reading of paths as `RequestInfoFactory.NewRequestInfo` of k8s.io/apiserver
//! (pkg/endpoints/request/requestinfo.go; Kubernetes, Authorization: Determine the request verb).
//! Where the API server would settle an ambiguity by taking the first of two, the request is
//! refused instead.

use chaperone_http::api::Unfit;
use chaperone_policy::{Access, ApiObject, ApiRequest, Reason, Request, api_access};
use hyper::header::HeaderMap;

/// Names that may stand more than once in a query: words of a command, forwarded ports.
const REPEATED: [&str; 2] = ["command", "ports"];
/// Subresources of namespaces, after which no resource follows.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];
/// Subresources of pods that run something or lead into it, whatever the method.
pub const RUNNING: [&str; 3] = ["exec", "attach", "portforward"];
/// Those of them whose streams are text that can be masked.
pub const COMMANDS: [&str; 2] = ["exec", "attach"];
const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
/// Most identities that one request may act as.
const MAX_IDENTITIES: usize = 64;

/// A request, and all that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// As conditions see it.
    pub request: ApiRequest,
    /// What must be covered.
    pub accesses: Vec<Access>,
    /// For people: `delete pods web in shop`.
    pub command: String,
}

/// Reads a request. `came` are its fields before those of identity were left out.
///
/// # Errors
/// [`Unfit`]: it could mean two things.
pub fn of(request: &Request, sent: &str, came: &HeaderMap) -> Result<Attributes, Unfit> {
    check_query(request)?;
    let mut api = ApiRequest {
        path: request.path.clone(),
        query: request.query.clone(),
        patch: patch(request).to_owned(),
        ..ApiRequest::default()
    };
    let object = match resource(request, &mut api)? {
        true => ApiObject::Resource {
            group: api.group.clone(),
            resource: match api.subresource.is_empty() {
                true => api.resource.clone(),
                false => format!("{}/{}", api.resource, api.subresource),
            },
            namespace: api.namespace.clone(),
            name: api.name.clone(),
        },
        false => {
            api.verb = request.method.to_ascii_lowercase();
            ApiObject::Path(request.path.clone())
        }
    };
    let baseline = is_discovery(&api, &object) || is_self_review(&api);
    let command = command(&api, &object, sent);
    let mut accesses = vec![api_access(&api.verb, object.clone(), baseline)];
    // What the API server asks for besides (Using RBAC Authorization: Privilege escalation
    // prevention). It asks only those who lack the rights themselves; here it takes its name.
    let writes = matches!(api.verb.as_str(), "create" | "update" | "patch");
    if writes && api.group == RBAC && api.subresource.is_empty() {
        match api.resource.as_str() {
            "roles" | "clusterroles" => accesses.push(api_access("escalate", object, false)),
            "rolebindings" | "clusterrolebindings" => {
                accesses.push(api_access("bind", object, false));
            }
            _ => {}
        }
    }
    accesses.extend(impersonated(came)?);
    Ok(Attributes {
        request: api,
        accesses,
        command,
    })
}

fn unfit(message: impl Into<String>) -> Unfit {
    Unfit::new(Reason::ProtocolViolation, message)
}

fn check_query(request: &Request) -> Result<(), Unfit> {
    for (position, (name, value)) in request.query.iter().enumerate() {
        let before = request.query.get(..position).unwrap_or_default();
        if !REPEATED.contains(&name.as_str()) && before.iter().any(|(known, _)| known == name) {
            return Err(unfit(format!(
                "`{name}` stands twice in the query, and only the first would count"
            )));
        }
        // The Python client writes `True`, and whatever is not false is true to the API server
        // (k8s.io/apimachinery, pkg/runtime/conversion.go).
        let known = ["true", "1", "false", "0", ""];
        if name == "watch" && !known.iter().any(|known| value.eq_ignore_ascii_case(known)) {
            return Err(unfit("`watch` in the query is neither true nor false"));
        }
    }
    Ok(())
}

fn query<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let mut pairs = request.query.iter();
    let (_, value) = pairs.find(|(known, _)| known == name)?;
    Some(value)
}

/// Fills in what the path says; false where it is no resource.
fn resource(request: &Request, api: &mut ApiRequest) -> Result<bool, Unfit> {
    let path = request.path.trim_matches('/');
    let all: Vec<&str> = path.split('/').collect();
    let mut parts = match all.as_slice() {
        ["api", rest @ ..] if rest.len() >= 2 => rest,
        ["apis", group, rest @ ..] if rest.len() >= 2 => {
            api.group = (*group).to_owned();
            rest
        }
        _ => return Ok(false),
    };
    let [version, rest @ ..] = parts else {
        return Ok(false);
    };
    api.version = (*version).to_owned();
    parts = rest;
    let verb = match parts {
        // Long deprecated, and still served (Kubernetes API, Watching resources by path).
        ["watch", rest @ ..] => {
            if request.method != "GET" {
                return Err(unfit("only GET watches"));
            }
            parts = rest;
            "watch"
        }
        ["proxy", ..] => return Err(unfit("paths under proxy/ are not served any more")),
        _ => match request.method.as_str() {
            "GET" | "HEAD" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            method => {
                let message = format!("{method} is no method of the Kubernetes API");
                return Err(Unfit::new(Reason::UnsupportedMessage, message));
            }
        },
    };
    if let ["namespaces", namespace, rest @ ..] = parts {
        api.namespace = (*namespace).to_owned();
        if rest
            .first()
            .is_some_and(|first| !NAMESPACE_SUBRESOURCES.contains(first))
        {
            parts = rest;
        }
    }
    let Some((resource, rest)) = parts.split_first() else {
        return Err(unfit("the path names no resource"));
    };
    api.resource = (*resource).to_owned();
    if let Some((name, rest)) = rest.split_first() {
        api.name = (*name).to_owned();
        api.subresource = rest
            .first()
            .map(|sub| (*sub).to_owned())
            .unwrap_or_default();
    }
    // What stands in the texts of evidence must be read one way.
    let plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let kind = |text: &str| plain(text) && !text.contains('.');
    if ![&api.name, &api.namespace]
        .into_iter()
        .all(|text| plain(text))
        || ![&api.resource, &api.subresource]
            .into_iter()
            .all(|text| kind(text))
        || !plain(&api.group)
    {
        return Err(unfit("the path holds characters that no name has"));
    }
    api.verb = verb.to_owned();
    if api.name.is_empty() && verb == "get" {
        let watches = query(request, "watch")
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        // `watch=` alone is true for one reader and false for another.
        if query(request, "watch") == Some("") {
            return Err(unfit("`watch` in the query has no value"));
        }
        let verb = if watches { "watch" } else { "list" };
        verb.clone_into(&mut api.verb);
    }
    if api.name.is_empty() && verb == "delete" {
        "deletecollection".clone_into(&mut api.verb);
    }
    if api.name.is_empty() && matches!(api.verb.as_str(), "list" | "watch") {
        api.name = only_name(request);
    }
    if api.group.is_empty() && api.resource == "pods" && RUNNING.contains(&api.subresource.as_str())
    {
        "create".clone_into(&mut api.verb);
    }
    if api.subresource == "exec" {
        let words = request.query.iter().filter(|(name, _)| name == "command");
        api.command = words.map(|(_, word)| word.clone()).collect();
    }
    Ok(true)
}

/// The one object that a list is narrowed to (Kubernetes, Field Selectors); empty for all.
fn only_name(request: &Request) -> String {
    let selector = query(request, "fieldSelector").unwrap_or_default();
    let plain = |text: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
        !text.is_empty() && text.bytes().all(known)
    };
    let name = selector
        .strip_prefix("metadata.name==")
        .or_else(|| selector.strip_prefix("metadata.name="));
    name.filter(|name| plain(name))
        .unwrap_or_default()
        .to_owned()
}

/// How a patch is written (Kubernetes API, Patch operations).
fn patch(request: &Request) -> &'static str {
    if request.method != "PATCH" {
        return "";
    }
    let mut fields = request.headers.iter();
    let kind = fields.find(|(name, _)| name == "content-type");
    let kind = kind.map(|(_, value)| value.split(';').next().unwrap_or_default().trim());
    match kind.unwrap_or_default() {
        "application/json-patch+json" => "json",
        "application/merge-patch+json" => "merge",
        "application/strategic-merge-patch+json" => "strategic",
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => "apply",
        _ => "other",
    }
}

/// What every client asks before it can ask anything (Kubernetes, API Discovery roles).
fn is_discovery(api: &ApiRequest, object: &ApiObject) -> bool {
    let ApiObject::Path(path) = object else {
        return false;
    };
    let path = path.trim_end_matches('/');
    let known = matches!(
        path,
        "/api" | "/apis" | "/version" | "/healthz" | "/livez" | "/readyz"
    ) || ["/api/", "/apis/", "/openapi/v2", "/openapi/v3"]
        .iter()
        .any(|prefix| path.starts_with(prefix));
    known && matches!(api.verb.as_str(), "get" | "head")
}

/// Questions about oneself, which change nothing (`kubectl auth can-i`, `whoami`).
fn is_self_review(api: &ApiRequest) -> bool {
    let known = matches!(
        (api.group.as_str(), api.resource.as_str()),
        (
            "authorization.k8s.io",
            "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
        ) | (AUTHENTICATION, "selfsubjectreviews")
    );
    known && api.verb == "create" && api.subresource.is_empty()
}

/// Whom the request acts as (Kubernetes, User impersonation).
fn impersonated(came: &HeaderMap) -> Result<Vec<Access>, Unfit> {
    let mut accesses = Vec::new();
    for (field, value) in came {
        let Some(what) = field.as_str().strip_prefix("impersonate-") else {
            continue;
        };
        let value = value.to_str().ok().filter(|value| !value.trim().is_empty());
        let value = value.ok_or_else(|| unfit("a field of impersonation is no text"))?;
        let (group, resource, namespace, name) = match what {
            "user" => match service_account(value) {
                Some((namespace, name)) => ("", "serviceaccounts".to_owned(), namespace, name),
                None => ("", "users".to_owned(), "", value),
            },
            "group" => ("", "groups".to_owned(), "", value),
            "uid" => (AUTHENTICATION, "uids".to_owned(), "", value),
            what => match what.strip_prefix("extra-") {
                Some(key) => (AUTHENTICATION, format!("userextras/{key}"), "", value),
                None => return Err(unfit("a field of impersonation is not known")),
            },
        };
        if accesses.len() >= MAX_IDENTITIES {
            return Err(unfit("the request acts as more than 64 identities"));
        }
        let object = ApiObject::Resource {
            group: group.to_owned(),
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        accesses.push(api_access("impersonate", object, false));
    }
    Ok(accesses)
}

fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// For people, and for those who approve: everything that is not in the body.
fn command(api: &ApiRequest, object: &ApiObject, sent: &str) -> String {
    let mut text = format!("{} {object}", api.verb);
    if api.subresource == "proxy" {
        text.push_str(&format!(" {}", api.path));
    }
    let words = &api.command;
    let container = api.query.iter().find(|(name, _)| name == "container");
    if RUNNING.contains(&api.subresource.as_str()) {
        if let Some((_, container)) = container {
            text.push_str(&format!(" container {container}"));
        }
        for (_, ports) in api.query.iter().filter(|(name, _)| name == "ports") {
            text.push_str(&format!(" port {ports}"));
        }
        if !words.is_empty() {
            text.push_str(" --");
        }
        for word in words {
            text.push(' ');
            text.push_str(&quoted(word));
        }
        return text;
    }
    if let Some((_, query)) = sent.split_once('?') {
        text.push_str(&format!(" ?{query}"));
    }
    text
}

/// A word as a shell would read it back.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests;
