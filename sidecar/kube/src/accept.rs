//! Nothing is asked for that could not be masked: of what a client accepts, JSON and text stay.

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Narrows `Accept` of a request for objects. Tables stay only where `tables` says so: their cells
/// do not say which field they show (KEP 1040 and Kubernetes API, Receiving resources as Tables).
pub fn narrow(fields: &mut HeaderMap, tables: bool) {
    let mut kept: Vec<String> = Vec::new();
    for value in fields.get_all(ACCEPT) {
        let text = value.to_str().unwrap_or_default();
        kept.extend(text.split(',').filter_map(|part| one(part.trim(), tables)));
    }
    let value = match kept.is_empty() {
        true => JSON,
        false => HeaderValue::from_str(&kept.join(",")).unwrap_or(JSON),
    };
    fields.insert(ACCEPT, value);
}

fn one(part: &str, tables: bool) -> Option<String> {
    let mut pieces = part.split(';').map(str::trim);
    let kind = pieces.next().unwrap_or_default().to_ascii_lowercase();
    let table = pieces.any(|piece| piece.eq_ignore_ascii_case("as=table"));
    match kind.as_str() {
        "application/json" if table && !tables => None,
        "application/json" | "text/plain" => Some(part.to_owned()),
        "*/*" | "application/*" => Some("application/json".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn narrowed(accept: &[&str], tables: bool) -> String {
        let mut fields = HeaderMap::new();
        for value in accept {
            fields.append(ACCEPT, value.parse().unwrap());
        }
        narrow(&mut fields, tables);
        fields.get(ACCEPT).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn only_what_can_be_masked_is_asked_for() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let kubectl = format!("{table},application/json");
        assert_eq!(narrowed(&[&kubectl], true), kubectl);
        assert_eq!(narrowed(&[&kubectl], false), "application/json");
        let client_go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(narrowed(&[client_go], true), "application/json");
        for accept in [
            &["application/vnd.kubernetes.protobuf"][..],
            &["application/cbor", "application/yaml"],
            &["*/*"],
            &[],
            &["\u{7f}"][..0],
        ] {
            assert_eq!(narrowed(accept, true), "application/json", "{accept:?}");
        }
    }
}
