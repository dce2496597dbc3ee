//! Tells the API server which authority our webhooks are certified by.

use std::sync::Arc;

use futures::StreamExt;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use tokio::sync::watch;
use tokio::time::sleep;

use super::RETRY;
use crate::context::Context;

/// A configuration whose webhooks have a name and a client configuration each.
trait Hooks: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send {
    fn hooks(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Hooks for MutatingWebhookConfiguration {
    fn hooks(&self) -> Vec<(&str, &WebhookClientConfig)> {
        let hooks = self.webhooks.iter().flatten();
        hooks
            .map(|hook| (hook.name.as_str(), &hook.client_config))
            .collect()
    }
}

impl Hooks for ValidatingWebhookConfiguration {
    fn hooks(&self) -> Vec<(&str, &WebhookClientConfig)> {
        let hooks = self.webhooks.iter().flatten();
        hooks
            .map(|hook| (hook.name.as_str(), &hook.client_config))
            .collect()
    }
}

/// Keeps `caBundle` right in both configurations; for the leader.
pub async fn keep(context: Context) {
    tokio::join!(
        keep_one::<MutatingWebhookConfiguration>(&context),
        keep_one::<ValidatingWebhookConfiguration>(&context),
    );
}

async fn keep_one<K: Hooks + 'static>(context: &Context) {
    let api: Api<K> = Api::all(context.client.clone());
    let name = &context.config.service;
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut seen = watcher(api.clone(), only)
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut authorities: watch::Receiver<Arc<Vec<String>>> = context.authorities.clone();
    let mut current: Option<K> = None;
    loop {
        let mut again = None;
        if let Some(configuration) = &current {
            let bundle = authorities.borrow_and_update().concat();
            if let Err(error) = correct(&api, name, configuration, &bundle).await {
                tracing::warn!(kind = %K::kind(&()), %error, "caBundle was not written");
                again = Some(RETRY);
            }
        }
        tokio::select! {
            changed = authorities.changed() => if changed.is_err() { return },
            event = seen.next() => match event {
                Some(Ok(configuration)) => current = Some(configuration),
                Some(Err(error)) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "watch failed, trying again");
                }
                None => return,
            },
            () = sleep(again.unwrap_or_default()), if again.is_some() => {}
        }
    }
}

async fn correct<K: Hooks>(
    api: &Api<K>,
    name: &str,
    configuration: &K,
    bundle: &str,
) -> Result<(), kube::Error> {
    let patch = patch(&configuration.hooks(), bundle);
    if bundle.is_empty() || patch.0.is_empty() {
        return Ok(());
    }
    let params = PatchParams::default();
    api.patch(name, &params, &Patch::<()>::Json(patch)).await?;
    tracing::info!(kind = %K::kind(&()), name, "caBundle written");
    Ok(())
}

/// One pair of operations for each webhook whose bundle is another; the names are tested, since
/// the list may have changed meanwhile.
fn patch(hooks: &[(&str, &WebhookClientConfig)], bundle: &str) -> JsonPatch {
    let wanted = ByteString(bundle.as_bytes().to_vec());
    let mut operations = Vec::new();
    for (position, (name, client)) in hooks.iter().enumerate() {
        if client.ca_bundle.as_ref() == Some(&wanted) {
            continue;
        }
        let Ok(value) = serde_json::to_value(&wanted) else {
            continue;
        };
        let place = position.to_string();
        operations.push(PatchOperation::Test(TestOperation {
            path: PointerBuf::from_tokens(["webhooks", &place, "name"]),
            value: (*name).into(),
        }));
        operations.push(PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(["webhooks", &place, "clientConfig", "caBundle"]),
            value,
        }));
    }
    JsonPatch(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let right = WebhookClientConfig {
            ca_bundle: Some(ByteString(b"pem".to_vec())),
            ..WebhookClientConfig::default()
        };
        let empty = WebhookClientConfig::default();
        assert!(patch(&[("a", &right)], "pem").0.is_empty());
        assert_eq!(patch(&[("a", &right), ("b", &empty)], "pem").0.len(), 2);
        assert_eq!(patch(&[("a", &right), ("b", &empty)], "new").0.len(), 4);
    }
}
