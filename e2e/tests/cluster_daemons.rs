//! The cluster's daemons one by one: tests of outages may end them and start them again, and what
//! such tests take for granted is so.

use anyhow::{Result, ensure};
use chaperone_e2e::cluster::{self, Namespace};
use serde_json::Value;
use xtask::cluster::Component;
use xtask::image::ready_made::ReadyMade;

/// One after the other in one test, as each takes the ground from under any other's feet.
#[test]
fn pods_outlive_every_daemon() -> Result<()> {
    if cluster::unavailable() {
        return Ok(());
    }
    let (cluster, namespace) = (cluster::shared()?, Namespace::new("daemons")?);
    let image = cluster::image(ReadyMade::Busybox)?;
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
             terminationGracePeriodSeconds: 0\n  \
             containers: [{{name: main, image: \"{image}\", command: [sleep, infinity]}}]\n"
        )
    };
    namespace.apply(&pod("early"))?;
    namespace.wait_until_ready("early")?;
    let container = || -> Result<Value> {
        let pod = namespace.kubectl().json(&["pod", "early"])?;
        Ok(pod
            .pointer("/status/containerStatuses/0/containerID")
            .cloned()
            .unwrap_or_default())
    };
    let before = container()?;

    cluster.stop(Component::Scheduler, "KILL")?;
    namespace.apply(&pod("late"))?;
    let late = namespace.kubectl().json(&["pod", "late"])?;
    ensure!(late.pointer("/spec/nodeName").is_none(), "{late}");
    cluster.start(Component::Scheduler)?;
    namespace.wait_until_ready("late")?;

    for component in [
        Component::ApiServer,
        Component::Etcd,
        Component::Containerd,
        Component::Kubelet,
        Component::ControllerManager,
        Component::Proxy,
        Component::Dns,
    ] {
        cluster.stop(component, "KILL")?;
        if component == Component::ApiServer {
            ensure!(namespace.kubectl().run(&["get", "pods"])?.code != Some(0));
        }
        cluster.start(component)?;
    }
    ensure!(container()? == before && !before.is_null(), "{before}");
    let name = format!("after-{}", namespace.name());
    namespace.apply(&pod(&name))?;
    namespace.wait_until_ready(&name)
}
