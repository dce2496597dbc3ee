//! Names, numbers and paths that injector, sidecar, admission policies and chart agree on.

/// Annotation: the Connections of a workload, `namespace/name` or `name`, separated by commas.
pub const CONNECTIONS_ANNOTATION: &str = "chaperone.dev/connections";
/// Annotation: why the workload runs.
pub const PURPOSE_ANNOTATION: &str = "chaperone.dev/purpose";
/// Annotation on a pod template: the value that was copied from the workload's own annotation.
pub const COPIED_ANNOTATION: &str = "chaperone.dev/copied";
/// Annotation on a pod template: the purpose that was copied from the workload's own annotation.
pub const COPIED_PURPOSE_ANNOTATION: &str = "chaperone.dev/copied-purpose";
/// Annotation on a workload, touched by the operator so that a refused pod is tried again.
pub const RETRY_ANNOTATION: &str = "chaperone.dev/retry";
/// Annotation on an injected pod: digest of what was injected.
pub const INJECTED_ANNOTATION: &str = "chaperone.dev/injected";
/// Label on a namespace: every pod is injected, and one that could escape is refused.
pub const GOVERNED_LABEL: &str = "chaperone.dev/governed";

/// The sidecar's container: a native sidecar, first among the init containers.
pub const CONTAINER: &str = "chaperone";
/// User and group of the sidecar; no other container of a governed pod may have it.
pub const USER: i64 = 17_337;
/// Container port of `/startz /readyz /livez /metrics`, on the pod's IP.
pub const ADMIN_PORT: u16 = 15_020;

/// Volume (emptyDir) that only the sidecar mounts: spool, state, the CA's key.
pub const SPOOL_VOLUME: &str = "chaperone-spool";
/// Where the sidecar mounts it.
pub const SPOOL_PATH: &str = "/var/lib/chaperone";
/// `sizeLimit` of the spool volume.
pub const SPOOL_LIMIT: &str = "96Mi";
/// Volume (projected): the token with audience `chaperone.dev`; only the sidecar mounts it.
pub const TOKEN_VOLUME: &str = "chaperone-token";
/// Where the sidecar mounts it; the token is the file `token`.
pub const TOKEN_PATH: &str = "/var/run/secrets/chaperone.dev";
/// Lifetime asked for the token, in seconds.
pub const TOKEN_SECONDS: i64 = 3600;
/// In [`TOKEN_PATH`], where a Connection says `serviceAccount: Self`: the pod's own token for the API
/// server, which no agent has.
pub const API_TOKEN: &str = "kubernetes";
/// Volume (emptyDir): CA files that the sidecar writes before its startup probe passes.
pub const TRUST_VOLUME: &str = "chaperone-trust";
/// Where all containers mount it; only the sidecar may write.
pub const TRUST_PATH: &str = "/etc/chaperone/trust";
/// `sizeLimit` of the trust volume.
pub const TRUST_LIMIT: &str = "4Mi";
/// In [`TRUST_PATH`]: the public roots and the pod's CA, PEM.
pub const TRUST_BUNDLE: &str = "ca-bundle.crt";
/// In [`TRUST_PATH`]: the pod's CA alone, PEM.
pub const TRUST_CA: &str = "ca.crt";

/// In [`TRUST_PATH`]: a kubeconfig with a context for each Kubernetes Connection.
pub const TRUST_KUBECONFIG: &str = "kubeconfig";
/// In [`TRUST_PATH`]: a folder with what in-cluster configuration reads, `token` (a dummy), `ca.crt`
/// (the pod's CA) and `namespace`.
pub const TRUST_SERVICE_ACCOUNT: &str = "serviceaccount";
/// Where in-cluster configuration reads them (client-go, rest/config.go).
pub const SERVICE_ACCOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Environment of the sidecar: `https://host:port` of the control API.
pub const OPERATOR_ENV: &str = "CHAPERONE_OPERATOR";
/// Environment of the sidecar: PEM of the CAs that the control API may be certified by.
pub const OPERATOR_CA_ENV: &str = "CHAPERONE_OPERATOR_CA";
/// Environment of the sidecar: `namespace/name=address:port`, separated by commas, in the order
/// of the annotation: where it listens for each Connection.
pub const LISTEN_ENV: &str = "CHAPERONE_LISTEN";
