//! The one form of a request that is decided on and sent.
//!
//! ```text
//! /a%2db/%C3%A9?q=%41  ─►  decided on: /a-b/é, q = A      sent: /a-b/%C3%A9?q=%41
//! ```
//!
//! Escapes are decoded once. What another reader could take for another path is refused, never
//! repaired: empty and dot segments, encoded slashes, escapes of escapes. Reserved characters that
//! came escaped stay so, since the two are not the same (RFC 3986, section 2.2); all else is sent
//! escaped exactly where it must be (section 6.2.2). The query is sent as it came.

use std::fmt;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Longest target of a request, in bytes.
pub const MAX_TARGET: usize = 32 * 1024;
/// Most pairs of a query.
const MAX_PAIRS: usize = 1000;

/// Why a request has no single meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguous(pub String);

impl fmt::Display for Ambiguous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn ambiguous<T>(why: impl Into<String>) -> Result<T, Ambiguous> {
    Err(Ambiguous(why.into()))
}

/// A path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Decoded, for rules.
    pub path: String,
    /// Decoded, for rules.
    pub query: Vec<(String, String)>,
    /// As it is sent: path and query in normal form.
    pub sent: String,
}

/// Reads a request's path and query.
///
/// # Errors
/// [`Ambiguous`]: readers differ on what it means.
pub fn target(path: &str, query: Option<&str>) -> Result<Target, Ambiguous> {
    if path.len().saturating_add(query.map_or(0, str::len)) > MAX_TARGET {
        return ambiguous("the target is longer than 32 KiB");
    }
    let Some(rest) = path.strip_prefix('/') else {
        return ambiguous("the path does not begin with a slash");
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let last = parts.len().saturating_sub(1);
    let mut decoded = String::with_capacity(path.len());
    let mut sent = String::with_capacity(path.len());
    for (position, part) in parts.into_iter().enumerate() {
        if part.is_empty() && position < last {
            return ambiguous("the path has an empty segment");
        }
        decoded.push('/');
        sent.push('/');
        segment(part, &mut decoded, &mut sent)?;
    }
    let pairs = match query {
        None => Vec::new(),
        Some(query) => {
            sent.push('?');
            sent.push_str(query);
            pairs(query)?
        }
    };
    Ok(Target {
        path: decoded,
        query: pairs,
        sent,
    })
}

fn segment(part: &str, decoded: &mut String, sent: &mut String) -> Result<(), Ambiguous> {
    let mut bytes = Vec::with_capacity(part.len());
    // Where in `bytes` a reserved character came escaped.
    let mut escaped = Vec::new();
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let byte = match byte {
            b'%' => {
                let code = after.get(..2).and_then(hex);
                let Some(code) = code else {
                    return ambiguous("the path has an escape that is none");
                };
                rest = after.get(2..).unwrap_or_default();
                escaped.push(bytes.len());
                code
            }
            byte if is_literal(byte) => byte,
            _ => return ambiguous("the path holds a character that must be escaped"),
        };
        match byte {
            b'/' | b'\\' => return ambiguous("the path has an escaped slash"),
            0..=0x1f | 0x7f => return ambiguous("the path has an escaped control character"),
            _ => bytes.push(byte),
        }
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return ambiguous("the path is not UTF-8 once its escapes are decoded");
    };
    // Some servers cut path parameters off before they look for dots.
    if matches!(text.split(';').next(), Some("." | "..")) {
        return ambiguous("the path has a dot segment");
    }
    if has_escape(&text) {
        return ambiguous("the path has an escape of an escape");
    }
    decoded.push_str(&text);
    for (at, byte) in text.bytes().enumerate() {
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let came_escaped = escaped.binary_search(&at).is_ok();
        if unreserved || (!came_escaped && is_literal(byte)) {
            sent.push(char::from(byte));
        } else {
            sent.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(())
}

/// What may stand in a segment unescaped: `pchar` of RFC 3986, section 3.3.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u8::from_str_radix(text, 16).ok().filter(|_| digits)
}

fn has_escape(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .windows(3)
        .any(|window| window.first() == Some(&b'%') && window.get(1..).and_then(hex).is_some())
}

/// `name=value&…` (WHATWG URL, application/x-www-form-urlencoded parsing). Servers differ on `;`.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Ambiguous> {
    if query.contains(';') {
        return ambiguous("the query holds a `;`, which some take for `&`; escape it as %3B");
    }
    if query.contains('#') {
        return ambiguous("the query holds a `#`");
    }
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() >= MAX_PAIRS {
            return ambiguous("the query has more than 1000 pairs");
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((form_text(name)?, form_text(value)?));
    }
    Ok(pairs)
}

fn form_text(text: &str) -> Result<String, Ambiguous> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let Some(code) = after.get(..2).and_then(hex) else {
                    return ambiguous("the query has an escape that is none");
                };
                rest = after.get(2..).unwrap_or_default();
                code
            }
            byte => byte,
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => ambiguous("the query is not UTF-8 once its escapes are decoded"),
    }
}

/// Host and port of an authority: the host in small letters without a dot at its end.
///
/// # Errors
/// [`Ambiguous`]: it holds user information or is no host.
pub fn authority(text: &str) -> Result<(String, Option<u16>), Ambiguous> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return ambiguous("the host is no address");
            };
            let port = after.strip_prefix(':');
            if port.is_none() && !after.is_empty() {
                return ambiguous("the host is no address");
            }
            (address, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || !host.bytes().all(name) || (host.contains(':') != text.starts_with('[')) {
        return ambiguous("the host is no name and no address");
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None | Some("") => None,
        Some(text) if digits(text) => match text.parse() {
            Ok(port) => Some(port),
            Err(_) => return ambiguous("the host's port is no number"),
        },
        Some(_) => return ambiguous("the host's port is no number"),
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// What the agent's fields say about the connection itself; the next hop has its own
/// (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// What the proxy says itself, or answers itself.
const OURS: [&str; 4] = ["host", "expect", "content-length", PURPOSE];
/// Who the agent says it is, or where it says it comes from: targets behind a gateway believe
/// these.
const IDENTITY: [&str; 12] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "remote-user",
    "x-remote-user",
    "x-user",
    "x-client-cert",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
];
const IDENTITY_PREFIXES: [&str; 6] = [
    "x-forwarded-",
    "x-remote-",
    "x-auth-request-",
    "x-ssl-client-",
    "impersonate-",
    "x-goog-iap-",
];
/// A second word on what the request is: nobody may decide on one method or path and have another
/// one run.
const OVERRIDES: [&str; 5] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];
/// Narrows the workload's purpose for the record (api.md, Annotations).
pub const PURPOSE: &str = "chaperone-purpose";

/// The fields that are decided on and sent, those of the connection and of identity left out.
///
/// # Errors
/// [`Ambiguous`]: a field gives the request a second meaning, or its name is read differently.
pub fn fields(sent: &HeaderMap, upgrade: bool) -> Result<HeaderMap, Ambiguous> {
    let named = connection_options(sent)?;
    let mut kept = HeaderMap::with_capacity(sent.keys_len());
    for (name, value) in sent {
        let text = name.as_str();
        if text.contains('_') {
            // CGI's heirs read it as a hyphen (RFC 3875, section 4.1.18), others drop it.
            return ambiguous(format!(
                "the name of the field {text} holds a `_`, which some read as `-`"
            ));
        }
        if OVERRIDES.contains(&text) {
            return ambiguous(format!(
                "the field {text} gives the request a second meaning"
            ));
        }
        let dropped = HOP_BY_HOP.contains(&text)
            || OURS.contains(&text)
            || IDENTITY.contains(&text)
            || IDENTITY_PREFIXES
                .iter()
                .any(|prefix| text.starts_with(prefix))
            || named.iter().any(|option| option == text);
        if !dropped {
            kept.append(name.clone(), value.clone());
        }
    }
    let trailers = sent.get_all("te").iter();
    if trailers
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.trim() == "trailers")
    {
        kept.insert("te", HeaderValue::from_static("trailers"));
    }
    if upgrade && let Some(protocol) = sent.get("upgrade") {
        kept.insert("connection", HeaderValue::from_static("upgrade"));
        kept.insert("upgrade", protocol.clone());
    }
    Ok(kept)
}

/// The fields of an answer that go on to the agent. Alternatives to this way are left out: they
/// would lead past the proxy (RFC 7838).
pub fn answer_fields(sent: &HeaderMap) -> HeaderMap {
    let named = connection_options(sent).unwrap_or_default();
    let dropped = |name: &HeaderName| {
        let text = name.as_str();
        HOP_BY_HOP.contains(&text) && text != "trailer"
            || text == "alt-svc"
            || named.iter().any(|option| option == text)
    };
    sent.iter()
        .filter(|(name, _)| !dropped(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn connection_options(fields: &HeaderMap) -> Result<Vec<String>, Ambiguous> {
    let mut options = Vec::new();
    for value in fields.get_all("connection") {
        let Ok(text) = value.to_str() else {
            return ambiguous("the field connection is no list of names");
        };
        let names = text
            .split(',')
            .map(|option| option.trim().to_ascii_lowercase());
        options.extend(names.filter(|option| !option.is_empty()));
    }
    Ok(options)
}

/// Fields as rules see them: each name once, its values joined.
///
/// # Errors
/// [`Ambiguous`]: a value is no text.
pub fn joined(fields: &HeaderMap) -> Result<Vec<(String, String)>, Ambiguous> {
    let mut joined: Vec<(String, String)> = Vec::with_capacity(fields.keys_len());
    for name in fields.keys() {
        let mut whole = String::new();
        for (position, value) in fields.get_all(name).iter().enumerate() {
            let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
                return ambiguous(format!("the field {name} is not UTF-8"));
            };
            if position > 0 {
                whole.push_str(", ");
            }
            whole.push_str(text);
        }
        joined.push((name.as_str().to_owned(), whole));
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn sent(path: &str) -> String {
        target(path, None).unwrap().sent
    }

    #[test]
    fn escapes_are_decoded_once_and_written_in_one_way() {
        let target = target("/a%2db/%c3%a9/x%3By;z/%20", Some("q=%41+b&c&&d=")).unwrap();
        assert_eq!(target.path, "/a-b/é/x;y;z/ ");
        assert_eq!(target.sent, "/a-b/%C3%A9/x%3By;z/%20?q=%41+b&c&&d=");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            target.query,
            [pair("q", "A b"), pair("c", ""), pair("d", "")]
        );
        assert_eq!(sent("/"), "/");
        assert_eq!(sent("/a/"), "/a/");
        assert_eq!(sent("/orders.v1.Orders/Get"), "/orders.v1.Orders/Get");
        assert_eq!(sent("/100%25"), "/100%25");
    }

    #[test]
    fn what_readers_differ_on_is_refused() {
        for path in [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e",
            "/%2E%2e/b",
            "/.%2e/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00b",
            "/a%0ab",
            "/a%7f",
            "/%",
            "/%4",
            "/%zz",
            "/%252e%252e/b",
            "/%25%32%65",
            "/a%c3%28",
            "/%ff",
            "/..;/b",
            "/..;x=y/b",
            "/.;a/b",
            "/a b",
            "/a<b",
            "/a\"b",
            "/a{b}",
            "/a|b",
            "/a^b",
            "/é",
            "/a[b]",
        ] {
            assert!(target(path, None).is_err(), "{path}");
        }
        for query in ["a;b", "a=%", "a=%4", "a=%ff", "a=%00", "a#b"] {
            assert!(target("/", Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let host = |text: &str| authority(text).ok();
        let is = |name: &str, port| Some((name.to_owned(), port));
        assert_eq!(host("API.Test"), is("api.test", None));
        assert_eq!(host("api.test.:8443"), is("api.test", Some(8443)));
        assert_eq!(host("[::1]:80"), is("::1", Some(80)));
        assert_eq!(host("a:"), is("a", None));
        for text in [
            "", "a@b", "a/b", "a:b", "a:99999", "a,b", "::1", "[::1", "[a]b", "a b", "a:+1", "é",
        ] {
            assert_eq!(host(text), None, "{text}");
        }
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
            (name.parse().unwrap(), value.parse().unwrap())
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn what_is_said_of_connections_and_identity_is_left_out() {
        let kept = fields(
            &map(&[
                ("connection", "close, X-Secret"),
                ("x-secret", "1"),
                ("x-forwarded-for", "10.0.0.1"),
                ("forwarded", "for=1"),
                ("x-remote-user", "root"),
                ("impersonate-user", "admin"),
                ("proxy-authorization", "x"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("expect", "100-continue"),
                ("accept", "a"),
                ("accept", "b"),
            ]),
            false,
        );
        let kept = kept.unwrap();
        let seen: Vec<_> = joined(&kept).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(seen, [pair("accept", "a, b"), pair("te", "trailers")]);
    }

    #[test]
    fn a_field_with_a_second_meaning_is_refused() {
        for name in [
            "x-http-method-override",
            "x-original-url",
            "x_forwarded_for",
            "content_type",
        ] {
            assert!(fields(&map(&[(name, "x")]), false).is_err(), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn the_form_that_is_sent_means_what_was_decided_on(path in "/([a-z.%0-9A-F;é]|%2[0-9A-F]|%[2-7][0-9A-F]){0,12}") {
            if let Ok(first) = target(&path, None) {
                let again = target(&first.sent, None).unwrap();
                prop_assert_eq!(&again.path, &first.path);
                prop_assert_eq!(again.sent, first.sent);
            }
        }
    }
}
