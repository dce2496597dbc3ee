//! An agent that uses kube-rs, configured by what is in its pod and nothing else: one thing of each
//! kind in a namespace, a line printed for each.
#![allow(clippy::print_stdout)]

use std::pin::pin;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::WatchEvent;
use kube::{Client, Config, Error};
use serde_json::{Value, from_value, json};

const NAME: &str = "of-kube-rs";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let namespace = std::env::args().nth(1).context("NAMESPACE")?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::try_from(Config::incluster()?)?;
    objects(client.clone(), &namespace).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let secret = secrets.get("db").await.context("secret")?;
    let password = secret.data.and_then(|mut data| data.remove("password"));
    let password = password.context("no password")?.0;
    println!("secret {}", String::from_utf8_lossy(&password));
    let elsewhere: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    let refused = elsewhere.delete(NAME, &DeleteParams::default()).await;
    let Err(Error::Api(status)) = refused else {
        bail!("no Status: {refused:?}");
    };
    let (reason, _) = status.message.split_once(':').unwrap_or_default();
    println!("denied {} {} {reason}", status.code, status.reason);
    Ok(())
}

async fn objects(client: Client, namespace: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let wanted: Value =
        json!({"metadata": {"name": NAME, "namespace": namespace}, "data": {"x": "one"}});
    let made = maps
        .create(&PostParams::default(), &from_value(wanted)?)
        .await;
    let made = made.context("create")?;
    let version = made.metadata.resource_version.unwrap_or_default();
    let only = WatchParams::default().fields(&format!("metadata.name={NAME}"));
    let mut watch = pin!(maps.watch(&only, &version).await.context("watch")?);
    let got = maps.get(NAME).await.context("get")?;
    println!("got {}", x(&got));
    let patch = Patch::Merge(json!({"data": {"x": "two"}}));
    let patched = maps.patch(NAME, &PatchParams::default(), &patch).await;
    patched.context("patch")?;
    let list = maps.list(&ListParams::default()).await.context("list")?;
    for one in list.items {
        if one.metadata.name.as_deref() == Some(NAME) {
            println!("listed {}", x(&one));
        }
    }
    let deleted = maps.delete(NAME, &DeleteParams::default()).await;
    deleted.context("delete")?;
    for _ in 0..2 {
        let event = watch.try_next().await?.context("the watch ended")?;
        let kind = match event {
            WatchEvent::Modified(_) => "MODIFIED",
            WatchEvent::Deleted(_) => "DELETED",
            _ => "something else",
        };
        println!("watched {kind}");
    }
    Ok(())
}

fn x(map: &ConfigMap) -> &str {
    let data = map.data.as_ref().and_then(|data| data.get("x"));
    data.map_or("nothing", String::as_str)
}
