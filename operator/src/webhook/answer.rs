//! What a webhook says.

use chaperone_crds::ConditionReason;
use chaperone_inject::Refusal;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionResponse, AdmissionReview};
use serde_json::Value;

use super::Request;

/// Longest warning that an API server passes on whole.
const LONGEST_WARNING: usize = 256;

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    denial: Option<(ConditionReason, String)>,
    change: Option<(Value, Value)>,
    warnings: Vec<String>,
}

impl Answer {
    /// Nothing to say.
    pub(super) fn admitted() -> Answer {
        Answer::default()
    }

    /// Admitted with `before` changed to `after`.
    pub(super) fn changed(before: Value, after: Value, warnings: Vec<String>) -> Answer {
        Answer {
            change: Some((before, after)).filter(|(before, after)| before != after),
            warnings,
            denial: None,
        }
    }

    /// Admitted, with something to say.
    pub(super) fn warned(warnings: Vec<String>) -> Answer {
        Answer {
            warnings,
            ..Answer::default()
        }
    }

    /// Refused.
    pub(super) fn denied(reason: ConditionReason, message: impl Into<String>) -> Answer {
        Answer {
            denial: Some((reason, message.into())),
            ..Answer::default()
        }
    }

    /// The constant that is counted.
    pub(super) fn reason(&self) -> &'static str {
        match &self.denial {
            Some((reason, _)) => reason.as_str(),
            None => "Admitted",
        }
    }

    pub(super) fn denial(&self) -> Option<(ConditionReason, &str)> {
        let (reason, message) = self.denial.as_ref()?;
        Some((*reason, message))
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The object as it will be, if it changes.
    #[cfg(test)]
    pub(super) fn outcome(&self) -> Option<&Value> {
        self.change.as_ref().map(|(_, after)| after)
    }

    /// As the API server wants it.
    pub(super) fn into_review(self, request: &Request) -> AdmissionReview<DynamicObject> {
        let mut response = AdmissionResponse::from(request);
        if let Some((reason, message)) = self.denial {
            response = response.deny(format!("{}: {message}", reason.as_str()));
            response.result.code = 403;
            response.result.reason = reason.as_str().to_owned();
            return response.into_review();
        }
        let warnings = self.warnings.iter().map(|warning| shortened(warning));
        response.warnings = Some(warnings.collect()).filter(|all: &Vec<String>| !all.is_empty());
        if let Some((before, after)) = self.change {
            let patched = response
                .clone()
                .with_patch(json_patch::diff(&before, &after));
            response = match patched {
                Ok(response) => response,
                // Admitted without its change would be admitted uninjected.
                Err(error) => response.deny(format!("Internal: {error}")),
            };
        }
        response.into_review()
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        Answer::denied(refusal.reason(), refusal.to_string())
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_WARNING).collect();
    while short.len() > LONGEST_WARNING {
        short.pop();
    }
    short
}
