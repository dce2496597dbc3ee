//! Serving certificates: the leader keeps them in a Secret, every replica follows it.
//!
//! ```text
//! leader: material ─renew─► Secret chaperone-operator-tls
//! all:    watch ─► resolver (new handshakes)   ─► authorities (injected into pods)
//! leader: authorities ─► caBundle of the webhook configurations
//! ```

pub mod ca_bundle;
mod material;
mod resolver;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::time::sleep;

pub use material::{Authority, Material, MaterialError, renew};
pub use resolver::{Resolver, ResolverError};
pub use secret::{NAME as SECRET, write as to_secret};

use crate::admin::Readiness;
use crate::context::Context;

/// Between two looks at the Secret: how long a deleted one stays away, at most.
const LOOK: Duration = Duration::from_secs(30);
/// After a failure.
const RETRY: Duration = Duration::from_secs(3);

/// Why the Secret is not as it should be.
#[derive(Debug, thiserror::Error)]
enum MaintainError {
    #[error("secret {SECRET} cannot be read or written: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Material(#[from] MaterialError),
}

/// Makes the Secret and renews what is in it in time; for the leader.
pub async fn maintain(context: Context) {
    let api = Api::namespaced(context.client.clone(), &context.config.namespace);
    let names = names(&context.config.service, &context.config.namespace);
    loop {
        let pause = match look(&api, &names).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "serving certificate");
                RETRY
            }
        };
        sleep(pause).await;
    }
}

async fn look(api: &Api<Secret>, names: &[String]) -> Result<(), MaintainError> {
    let old = api.get_opt(SECRET).await?;
    let material = old.as_ref().and_then(secret::read);
    if old.is_some() && material.is_none() {
        tracing::warn!("secret {SECRET} cannot be understood and is made anew");
    }
    // A pair that does not fit together cannot be served with, however long it is valid.
    let material = material.filter(|material| match Resolver::default().load(material) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "made anew");
            false
        }
    });
    let Some(new) = renew(material.as_ref(), names, Timestamp::now())? else {
        return Ok(());
    };
    let params = PostParams::default();
    let fresh = old.is_none();
    let wanted = secret::write(&new, old);
    // The resource version makes this a compare-and-swap: of two leaders one fails.
    match fresh {
        true => api.create(&params, &wanted).await?,
        false => api.replace(SECRET, &params, &wanted).await?,
    };
    tracing::info!(ends = %new.ends, "serving certificate made");
    Ok(())
}

/// Loads the Secret whenever it changes; for every replica.
pub async fn follow(
    context: Context,
    resolver: Arc<Resolver>,
    authorities: watch::Sender<Arc<Vec<String>>>,
    readiness: Readiness,
) {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.config.namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={SECRET}"));
    let mut seen = watcher(api, only)
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(event) = seen.next().await {
        let secret = match event {
            Ok(secret) => secret,
            Err(error) => {
                tracing::warn!(%error, "watch of secret {SECRET} failed, trying again");
                continue;
            }
        };
        let Some(material) = secret::read(&secret) else {
            continue;
        };
        if let Err(error) = resolver.load(&material) {
            tracing::warn!(%error, "the certificate before it stays");
            continue;
        }
        context
            .metrics
            .certificate_end
            .set(material.ends.as_second());
        let bundle = material.authorities();
        authorities.send_if_modified(|old| {
            let changed = **old != bundle;
            if changed {
                *old = Arc::new(bundle);
            }
            changed
        });
        readiness.certificate_loaded();
        tracing::info!(ends = %material.ends, "serving certificate loaded");
    }
}

/// What the API server and sidecars dial.
fn names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc.cluster.local"),
    ]
}
