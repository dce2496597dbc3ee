//! The chart's admission policies look for the names that the injector writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use chaperone_inject::names;

const NAMES: &str = include_str!("../../../charts/chaperone/templates/_names.tpl");

#[test]
fn the_charts_names_are_the_injectors() {
    let (_, rest) = NAMES.split_once(r#"define "chaperone.names" -}}"#).unwrap();
    let (block, _) = rest.split_once("{{- end }}").unwrap();
    let found: BTreeMap<&str, &str> = block
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(": ").expect(line))
        .collect();
    let user = names::USER.to_string();
    let copied_purpose = format!("{}-purpose", names::COPIED_ANNOTATION);
    let expected = BTreeMap::from([
        ("governed", names::GOVERNED_LABEL),
        ("connections", names::CONNECTIONS_ANNOTATION),
        ("purpose", names::PURPOSE_ANNOTATION),
        ("copied", names::COPIED_ANNOTATION),
        ("copiedPurpose", copied_purpose.as_str()),
        ("retry", names::RETRY_ANNOTATION),
        ("injected", names::INJECTED_ANNOTATION),
        ("container", names::CONTAINER),
        ("user", user.as_str()),
        ("audience", chaperone_control::AUDIENCE),
        ("spoolVolume", names::SPOOL_VOLUME),
        ("spoolPath", names::SPOOL_PATH),
        ("tokenVolume", names::TOKEN_VOLUME),
        ("tokenPath", names::TOKEN_PATH),
        ("apiToken", names::API_TOKEN),
        ("trustVolume", names::TRUST_VOLUME),
        ("trustPath", names::TRUST_PATH),
        ("operatorEnv", names::OPERATOR_ENV),
        ("operatorCaEnv", names::OPERATOR_CA_ENV),
        ("listenEnv", names::LISTEN_ENV),
    ]);
    assert_eq!(found, expected);
}
