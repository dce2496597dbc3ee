//! An API that another server serves behind the API server: Kubernetes' own example of one.

use anyhow::{Result, ensure};
use chaperone_e2e::Scratch;
use chaperone_e2e::clients::Background;
use chaperone_e2e::cluster::chaperone::DATABASES;
use chaperone_e2e::cluster::{shared, unavailable};
use xtask::cluster::program;

use super::desk;

/// `NS` is the test's namespace, `ADDRESS` the node's.
const REGISTERED: &str = "
apiVersion: v1
kind: Service
metadata: {name: wardle}
spec: {ports: [{port: 7443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: wardle, labels: {kubernetes.io/service-name: wardle}}
addressType: IPv4
ports: [{port: 7443}]
endpoints: [{addresses: [ADDRESS]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1alpha1.wardle.example.com}
spec:
  group: wardle.example.com
  version: v1alpha1
  groupPriorityMinimum: 1000
  versionPriority: 15
  insecureSkipTLSVerify: true
  service: {namespace: NS, name: wardle, port: 7443}
---
# The API server has no certificate by which that one would believe who is asking.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: NS-wardle}
rules:
- {apiGroups: [wardle.example.com], resources: ['*'], verbs: ['*']}
- {nonResourceURLs: ['*'], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: NS-wardle}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NS-wardle}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:unauthenticated'}]
";

#[test]
fn an_aggregated_api_takes_its_own_name() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    let cluster = shared()?;
    let folder = Scratch::new("aggregated")?;
    let mut server = cluster.command(&program::folder()?.join("sample-apiserver"));
    let kubeconfig = cluster.kubeconfig();
    for flag in [
        "kubeconfig",
        "authentication-kubeconfig",
        "authorization-kubeconfig",
    ] {
        server.arg(format!("--{flag}={}", kubeconfig.display()));
    }
    server
        .arg(format!("--cert-dir={}", folder.path().display()))
        .arg(format!("--bind-address={}", cluster.address()))
        .args(["--secure-port=7443", "--etcd-servers=http://127.0.0.1:2379"])
        .arg("--authentication-skip-lookup");
    let mut server = Background::start(server, "")?;
    let namespace = &desk.shop.namespace;
    let registered = REGISTERED.replace("NS", desk.namespace());
    namespace.apply(&registered.replace("ADDRESS", cluster.address()))?;
    let flunder = "apiVersion: wardle.example.com/v1alpha1\nkind: Flunder\nmetadata: {name: one}\n";
    namespace.until("the aggregated API", || {
        let so_far = server.so_far()?;
        ensure!(so_far.code.is_none(), "it ended: {}", so_far.all());
        Ok(namespace.apply(flunder).ok())
    })?;

    // The rule `read` has `*` for groups and resources.
    let get = "kubectl get flunders.v1alpha1.wardle.example.com one -o name";
    desk.refused(get, "NotCovered")?;
    desk.refused(
        "kubectl get --raw /apis/wardle.example.com/v1alpha1/flunders",
        "NotCovered",
    )?;
    namespace.apply(&format!(
        "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: wardle}}\nspec:\n  \
         subjects: [{{serviceAccount: report-agent}}]\n  connections: [{DATABASES}/{0}-cluster]\n  rules:\n  \
         - {{name: flunders, action: Allow, kubernetes: {{verbs: [get, list], groups: [wardle.example.com], \
         resources: [flunders], namespaces: [{0}]}}}}\n",
        desk.namespace()
    ))?;
    let got = namespace.until("the policy", || {
        let said = desk.sh(get)?;
        Ok((said.code == Some(0)).then_some(said.out))
    })?;
    assert_eq!(got, "flunder.wardle.example.com/one\n");
    desk.refused("kubectl delete flunder one", "NotCovered")?;
    desk.refused("kubectl get fischers", "NotCovered")?;
    Ok(())
}
