//! What a rule on HTTP matches: methods, hosts, and paths by their segments.

use chaperone_crds::HttpRule;

use crate::UPGRADE;
use crate::pattern::Glob;

/// Deepest path that a pattern may have: each `**` can cost a walk over the rest of the path.
const MAX_DEEP: usize = 2;
/// Methods that are never forwarded: TRACE would echo the connection's credential (RFC 9110,
/// section 9.3.8), and CONNECT asks for another target.
const NEVER: [&str; 2] = ["CONNECT", "TRACE"];

/// The requests a rule speaks about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    /// `*` was written.
    any_method: bool,
    methods: Vec<String>,
    /// Empty: any.
    hosts: Vec<Glob>,
    /// Empty: any.
    paths: Vec<PathPattern>,
}

impl Requests {
    /// `refuse` is told the field and what is wrong with it.
    pub(crate) fn compile(rule: &HttpRule, refuse: &mut dyn FnMut(String, String)) -> Requests {
        let mut requests = Requests::default();
        if rule.methods.is_empty() {
            let message = "without a method the rule can never match".to_owned();
            refuse("methods".to_owned(), message);
        }
        for (position, method) in rule.methods.iter().enumerate() {
            match method.as_str() {
                "*" => requests.any_method = true,
                name if name == UPGRADE || is_method(name) => {
                    requests.methods.push(name.to_owned());
                }
                name => {
                    let why = match NEVER.contains(&name) {
                        true => "is never forwarded, so the rule can never match",
                        false => {
                            "is no method; write it in capitals, `*` for every one, or Upgrade"
                        }
                    };
                    refuse(format!("methods[{position}]"), format!("`{name}` {why}"));
                }
            }
        }
        for (position, host) in rule.hosts.iter().enumerate() {
            if host.is_empty() || host.contains([':', '/']) || host.to_ascii_lowercase() != *host {
                let message = format!("`{host}` is no host; write its name in small letters alone");
                refuse(format!("hosts[{position}]"), message);
            }
            requests.hosts.push(Glob::new(host));
        }
        for (position, path) in rule.paths.iter().enumerate() {
            match PathPattern::parse(path) {
                Ok(pattern) => requests.paths.push(pattern),
                Err(why) => refuse(format!("paths[{position}]"), format!("`{path}` {why}")),
            }
        }
        requests
    }

    pub(crate) fn matches(&self, method: &str, host: &str, path: &str) -> bool {
        // Leaving HTTP is asked for by name.
        let named = || self.methods.iter().any(|known| known == method);
        ((self.any_method && method != UPGRADE) || named())
            && (self.hosts.is_empty() || self.hosts.iter().any(|glob| glob.matches(host)))
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path)))
    }

    /// The first segments of its paths, where each is one text: for the index.
    pub(crate) fn firsts(&self) -> Option<Vec<&str>> {
        if self.paths.is_empty() {
            return None;
        }
        self.paths.iter().map(PathPattern::first).collect()
    }
}

fn is_method(name: &str) -> bool {
    !NEVER.contains(&name)
        && !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        })
}

/// A path of patterns, one a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PathPattern(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    One(Glob),
    /// `**`: any number of segments, none too.
    Deep,
}

impl PathPattern {
    fn parse(text: &str) -> Result<PathPattern, &'static str> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("does not begin with a slash, so it can never match");
        };
        if text.contains(['%', '?', '#', '\\']) || text.chars().any(char::is_control) {
            return Err("holds a query or an escape; write the path alone, and decoded");
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let last = parts.len().saturating_sub(1);
        let mut segments = Vec::with_capacity(parts.len());
        for (position, part) in parts.into_iter().enumerate() {
            match part {
                "" if position < last => return Err("has an empty segment, so it can never match"),
                "." | ".." => return Err("has a dot segment, so it can never match"),
                "**" => segments.push(Segment::Deep),
                part if part.contains("**") => {
                    return Err("has `**` inside a segment; it stands for whole segments");
                }
                part => segments.push(Segment::One(Glob::new(part))),
            }
        }
        let deep = segments.iter().filter(|segment| **segment == Segment::Deep);
        if deep.count() > MAX_DEEP {
            return Err("has more than two `**`");
        }
        Ok(PathPattern(segments))
    }

    fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else {
            return false;
        };
        let segments: Vec<&str> = rest.split('/').collect();
        matches_from(&self.0, &segments)
    }

    /// The first segment, where it is only one text.
    fn first(&self) -> Option<&str> {
        match self.0.first() {
            Some(Segment::One(Glob::Exact(text))) => Some(text),
            _ => None,
        }
    }
}

fn matches_from(pattern: &[Segment], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((Segment::Deep, after)), _) => {
            (0..=path.len()).any(|skip| matches_from(after, path.get(skip..).unwrap_or_default()))
        }
        (Some((Segment::One(_), _)), None) => false,
        (Some((Segment::One(glob), after)), Some((segment, rest))) => {
            // What ends with a slash is another resource: only an empty pattern is for it.
            let empty = segment.is_empty();
            (!empty || *glob == Glob::Exact("".into()))
                && glob.matches(segment)
                && matches_from(after, rest)
        }
    }
}

/// The first segment of a path: what the index looks it up by.
pub(crate) fn first(path: &str) -> &str {
    let rest = path.strip_prefix('/').unwrap_or(path);
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn a_star_stays_inside_its_segment() {
        assert!(matches("/v1/orders/*", "/v1/orders/7"));
        assert!(matches("/v1/ord*/7", "/v1/orders/7"));
        assert!(!matches("/v1/orders/*", "/v1/orders/7/refunds"));
        assert!(!matches("/v1/orders/*", "/v1/orders/"));
        assert!(!matches("/v1/orders", "/v1/orders/"));
        assert!(matches("/v1/orders/", "/v1/orders/"));
        assert!(matches("/", "/"));
    }

    #[test]
    fn two_stars_stand_for_any_number_of_segments() {
        for path in ["/v1", "/v1/", "/v1/a", "/v1/a/b/c/"] {
            assert!(matches("/v1/**", path), "{path}");
        }
        assert!(!matches("/v1/**", "/v10"));
        assert!(matches("/**/admin/**", "/a/b/admin"));
        assert!(!matches("/**/admin/**", "/a/badmin/x"));
        assert!(matches("/**", "/"));
    }

    #[test]
    fn a_path_that_can_never_match_is_refused() {
        for text in [
            "v1",
            "",
            "/a//b",
            "/a/./b",
            "/a/..",
            "/a%20b",
            "/a?b",
            "/a**",
            "/**/a/**/b/**",
        ] {
            assert!(PathPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn leaving_http_is_asked_for_by_name() {
        let rule = |methods: &[&str]| HttpRule {
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            ..HttpRule::default()
        };
        let compile = |methods: &[&str]| {
            let mut wrong = Vec::new();
            let compiled = Requests::compile(&rule(methods), &mut |list, _| wrong.push(list));
            (compiled, wrong)
        };
        let (any, _) = compile(&["*"]);
        assert!(any.matches("PROPFIND", "h", "/") && !any.matches(UPGRADE, "h", "/"));
        let (named, _) = compile(&["GET", "Upgrade"]);
        assert!(named.matches(UPGRADE, "h", "/") && !named.matches("POST", "h", "/"));
        for method in ["get", "TRACE", "CONNECT", "upgrade", "A B"] {
            assert_eq!(compile(&[method]).1, ["methods[0]"], "{method}");
        }
    }
}
