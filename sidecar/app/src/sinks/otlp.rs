//! Events as log records of OpenTelemetry: OTLP/HTTP in JSON.
//!
//! Source: OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding" and "OTLP/HTTP Request"; the
//! messages of `opentelemetry/proto/logs/v1`. 64-bit integers are strings there.

use chaperone_evidence::ocsf::{Event, Severity};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_logs: [ResourceLogs<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    resource: Resource<'a>,
    scope_logs: [ScopeLogs<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    scope: Scope,
    log_records: Vec<LogRecord<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogRecord<'a> {
    time_unix_nano: String,
    severity_number: u32,
    severity_text: &'static str,
    body: Value<'a>,
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Value<'a> {
    StringValue(std::borrow::Cow<'a, str>),
    IntValue(String),
}

fn text<'a>(key: &'static str, value: impl Into<std::borrow::Cow<'a, str>>) -> Attribute<'a> {
    Attribute {
        key,
        value: Value::StringValue(value.into()),
    }
}

fn number<'a>(key: &'static str, value: u64) -> Attribute<'a> {
    Attribute {
        key,
        value: Value::IntValue(value.to_string()),
    }
}

/// The body of one request: each event is a record whose body is its JSON.
///
/// # Errors
/// Where an event cannot be written, which is a fault of the program.
pub(super) fn request(
    events: &[Event],
    subject: &str,
    instance: &str,
) -> serde_json::Result<Vec<u8>> {
    let records: serde_json::Result<Vec<LogRecord<'_>>> = events.iter().map(record).collect();
    serde_json::to_vec(&Request {
        resource_logs: [ResourceLogs {
            resource: Resource {
                attributes: vec![
                    text("service.name", "chaperone-sidecar"),
                    text("service.version", env!("CARGO_PKG_VERSION")),
                    text("service.instance.id", instance),
                    text("chaperone.subject", subject),
                ],
            },
            scope_logs: [ScopeLogs {
                scope: Scope {
                    name: "chaperone.ocsf",
                    version: chaperone_evidence::ocsf::VERSION,
                },
                log_records: records?,
            }],
        }],
    })
}

fn record(event: &Event) -> serde_json::Result<LogRecord<'_>> {
    // Numbers of the log data model, "Field: SeverityNumber".
    let severity_number = match event.severity_id {
        Severity::Informational => 9,
        Severity::Low => 10,
        Severity::Medium => 13,
        Severity::High => 17,
    };
    Ok(LogRecord {
        time_unix_nano: u128::from(event.time).saturating_mul(1_000_000).to_string(),
        severity_number,
        severity_text: event.severity,
        body: Value::StringValue(serde_json::to_string(event)?.into()),
        attributes: vec![
            // Semantic conventions, "log.record.uid": of two with the same, one may be dropped.
            text("log.record.uid", &event.metadata.uid),
            number("ocsf.class_uid", u64::from(event.class_uid.id())),
            text("ocsf.class_name", event.class_name),
            text("ocsf.event_code", &event.metadata.event_code),
            text("ocsf.correlation_uid", &event.metadata.correlation_uid),
            number("ocsf.sequence", event.metadata.sequence),
        ],
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    partial_success: PartialSuccess,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PartialSuccess {
    rejected_log_records: Count,
    error_message: String,
}

/// 64-bit integers may come as strings and as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Text(String),
    Number(u64),
}

impl Default for Count {
    fn default() -> Count {
        Count::Number(0)
    }
}

/// How many records of a request that was taken were rejected, and why. They must not be sent again
/// ("Partial Success").
pub(super) fn rejected(answer: &[u8]) -> (u64, String) {
    let answer: Answer = serde_json::from_slice(answer).unwrap_or_default();
    let PartialSuccess {
        rejected_log_records,
        error_message,
    } = answer.partial_success;
    let count = match rejected_log_records {
        Count::Number(count) => count,
        Count::Text(text) => text.parse().unwrap_or(0),
    };
    (count, error_message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_says_how_many_were_rejected() {
        for (answer, count, why) in [
            ("", 0, ""),
            ("{}", 0, ""),
            (r#"{"partialSuccess":{}}"#, 0, ""),
            (
                r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"old"}}"#,
                3,
                "old",
            ),
            (r#"{"partialSuccess":{"rejectedLogRecords":2}}"#, 2, ""),
        ] {
            assert_eq!(
                rejected(answer.as_bytes()),
                (count, why.to_owned()),
                "{answer}"
            );
        }
    }
}
