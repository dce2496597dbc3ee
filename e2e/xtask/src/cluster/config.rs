//! The files that the node's daemons read. Paths are as the node sees them.

use std::path::Path;

use crate::cluster::node::{ADDRESS, STATE};
use crate::image::ready_made::PAUSE;

/// Service addresses; the API server takes the first, the DNS the tenth.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The DNS's service address.
pub(super) const DNS: &str = "10.96.0.10";
const PODS: &str = "10.88.0.0/16";

/// Where the CNI plugins are: Debian's place, or their own.
pub fn cni_plugins() -> Option<&'static str> {
    ["/usr/lib/cni", "/opt/cni/bin"]
        .into_iter()
        .find(|folder| Path::new(folder).join("bridge").is_file())
}

/// containerd's configuration.
pub(super) fn containerd(snapshotter: &str, plugins: &str) -> String {
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE no sandbox starts otherwise.
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{STATE}/config/cni"
"#
    )
}

/// The pods' network.
pub(super) fn cni() -> String {
    format!(
        r#"{{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {{
      "type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{PODS}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
"#
    )
}

/// The kubelet's configuration.
pub(super) fn kubelet() -> String {
    // Restarts back off by a second and not by minutes, and changed ConfigMaps arrive in seconds:
    // tests wait for both. Disk pressure of the host is no business of a throw-away node.
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {STATE}/pki/ca.crt}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {STATE}/pki/kubelet.crt
tlsPrivateKeyFile: {STATE}/pki/kubelet.key
address: {ADDRESS}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
evictionHard: {{memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}}
imageGCHighThresholdPercent: 100
clusterDNS: [{DNS}]
clusterDomain: cluster.local
resolvConf: {STATE}/config/resolv.conf
maxPods: 100
syncFrequency: 5s
nodeStatusUpdateFrequency: 4s
featureGates: {{KubeletCrashLoopBackOffMax: true}}
crashLoopBackOff: {{maxContainerRestartPeriod: 1s}}
shutdownGracePeriod: 0s
"#
    )
}

/// kube-proxy's configuration. Connection tracking limits are the host's to set.
pub(super) fn proxy() -> String {
    format!(
        r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: {PODS}
clientConnection: {{kubeconfig: {STATE}/pki/proxy.kubeconfig}}
hostnameOverride: node1
nodePortAddresses: [primary]
nftables: {{minSyncPeriod: 0s, syncPeriod: 10s}}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"#
    )
}

/// The DNS: the cluster's names, those of `config/hosts`, and at once a no for everything else,
/// so that no client waits for the internet.
pub(super) fn corefile() -> String {
    format!(
        r#".:53 {{
    bind {ADDRESS}
    errors
    ready {ADDRESS}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {STATE}/pki/dns.kubeconfig
        pods insecure
        ttl 1
    }}
    hosts {STATE}/config/hosts {{
        ttl 1
        reload 1s
        fallthrough
    }}
    file {STATE}/config/nothing .
}}
"#
    )
}

/// A root zone with no names in it.
pub(super) const EMPTY_ZONE: &str = ". 60 IN SOA nowhere. nobody. 1 7200 1800 86400 1\n";

/// What is applied to every new cluster: the DNS's rights and its service.
pub(super) fn objects() -> String {
    format!(
        r#"apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: system:coredns}}
rules:
- {{apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}}
- {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: system:coredns}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: system:coredns}}]
---
apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system}}
spec:
  clusterIP: {DNS}
  ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: kube-dns, namespace: kube-system, labels: {{kubernetes.io/service-name: kube-dns}}}}
addressType: IPv4
endpoints: [{{addresses: ["{ADDRESS}"]}}]
ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
"#
    )
}
