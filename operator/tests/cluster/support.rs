//! One operator in this process, and a shop with an injected pod.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use chaperone_control::{Refusal, StreamEvent};
use chaperone_crds::{AccessPolicy, ApprovalRequest, Connection};
use chaperone_inject::{Operator, Plan, Reference, Sidecar, Target, inject};
use chaperone_operator::cli::{Cli, Command, Config};
use chaperone_operator::context::{Context, Stores};
use chaperone_operator::control;
use chaperone_operator::metrics::Metrics;
use chaperone_operator::references::References;
use clap::Parser;
use http_body_util::BodyExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::Service;

pub const IMAGE: &str = "registry.example/chaperone-sidecar:0.1.0";
pub const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIBAAAA\nBBBB\n-----END CERTIFICATE-----\n";

pub struct Lab {
    pub client: Client,
    pub context: Context,
    pub references: References,
    pub router: Router,
    pub leading: watch::Sender<bool>,
    /// Ends with this process unless a Drop does it first.
    pub tasks: JoinSet<()>,
    _authorities: watch::Sender<Arc<Vec<String>>>,
}

pub fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

pub async fn apply<K>(api: &Api<K>, object: &K) -> K
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let mut object = serde_json::to_value(object).unwrap();
    object["apiVersion"] = K::api_version(&()).into_owned().into();
    object["kind"] = K::kind(&()).into_owned().into();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let force = PatchParams::apply("test").force();
    api.patch(&name, &force, &Patch::Apply(&object))
        .await
        .unwrap()
}

/// Waits for something to come about.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    look: impl Fn() -> F,
) -> T {
    let until = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "in {within:?} not: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

impl Lab {
    pub async fn start() -> Lab {
        Lab::start_with(config()).await
    }

    /// One with other settings.
    pub async fn start_with(config: Config) -> Lab {
        let client = Client::try_default()
            .await
            .expect("KUBECONFIG names a cluster");
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for text in [
            include_str!("../../../crds/generated/accesspolicies.yaml"),
            include_str!("../../../crds/generated/approvalrequests.yaml"),
            include_str!("../../../crds/generated/auditcheckpoints.yaml"),
            include_str!("../../../crds/generated/auditpacks.yaml"),
            include_str!("../../../crds/generated/auditsegments.yaml"),
            include_str!("../../../crds/generated/auditstores.yaml"),
            include_str!("../../../crds/generated/connections.yaml"),
            include_str!("../../../crds/generated/identityproviders.yaml"),
            include_str!("../../../crds/generated/sessions.yaml"),
            include_str!("../../../crds/generated/unsealrequests.yaml"),
        ] {
            let definition: CustomResourceDefinition = yaml(text);
            apply(&definitions, &definition).await;
            let name = definition.name_any();
            eventually(
                "the resource is served",
                Duration::from_secs(20),
                || async {
                    let found = definitions.get(&name).await.unwrap();
                    found.status?.conditions?.into_iter().find(|condition| {
                        condition.type_ == "Established" && condition.status == "True"
                    })
                },
            )
            .await;
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for name in ["chaperone-system", "chaperone-audit"] {
            apply(
                &namespaces,
                &yaml(&format!("{{metadata: {{name: {name}}}}}")),
            )
            .await;
        }
        let mut tasks = JoinSet::new();
        let stores = Stores::watch(&client, config.allow_special_targets, &mut tasks);
        let (authorities, held) = watch::channel(Arc::new(vec![CA.to_owned()]));
        let (leading, leads) = watch::channel(false);
        let context = Context {
            client: client.clone(),
            config: Arc::new(config),
            stores,
            metrics: Metrics::new().unwrap(),
            authorities: held,
            leading: leads,
        };
        context.stores.ready().await;
        let references = References::new(client.clone(), context.config.clone());
        let router = control::router(&context, references.clone(), &mut tasks).unwrap();
        Lab {
            client,
            context,
            references,
            router,
            leading,
            tasks,
            _authorities: authorities,
        }
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// A namespace that did not exist before.
    pub async fn namespace(&self, prefix: &str) -> String {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let made: Namespace = yaml(&format!(
            "{{metadata: {{generateName: {prefix}-, labels: {{team: shop}}}}}}"
        ));
        let made = namespaces
            .create(&PostParams::default(), &made)
            .await
            .unwrap();
        let name = made.name_any();
        let accounts: Api<ServiceAccount> = self.api(&name);
        apply(&accounts, &yaml("{metadata: {name: report}}")).await;
        name
    }

    pub async fn connection(&self, namespace: &str, name: &str, host: &str) -> Connection {
        let secrets: Api<Secret> = self.api(namespace);
        let secret = "{metadata: {name: agent}, stringData: {username: agent, password: hunter2}}";
        apply(&secrets, &yaml(secret)).await;
        let connection: Connection = yaml(&format!(
            "
apiVersion: chaperone.dev/v1alpha1
kind: Connection
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  postgres:
    host: {host}
    database: postgres
    tls: {{mode: Disable}}
    credential: {{secret: {{name: agent}}}}
  consumers: {{namespaceSelector: {{matchLabels: {{team: shop}}}}}}
"
        ));
        let made = apply(&self.api(namespace), &connection).await;
        self.seen(|lab| lab.context.stores.connection(namespace, name).map(|_| ()))
            .await;
        made
    }

    pub async fn policy(&self, namespace: &str, name: &str, connection: &str, rules: &str) {
        let policy: AccessPolicy = yaml(&format!(
            "
apiVersion: chaperone.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  subjects: [{{serviceAccount: report}}]
  connections: ['{connection}']
  rules: {rules}
"
        ));
        apply(&self.api(namespace), &policy).await;
    }

    async fn seen<T>(&self, look: impl Fn(&Lab) -> Option<T>) -> T {
        eventually("the watch shows it", Duration::from_secs(10), || async {
            look(self)
        })
        .await
    }

    /// An injected pod that never runs.
    pub async fn pod(&self, namespace: &str, name: &str, connection: &Connection) -> Pod {
        let reference = Reference {
            namespace: connection.namespace().unwrap(),
            name: connection.name_any(),
        };
        let pod: Value = yaml(&format!(
            "
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: report}}
  annotations: {{chaperone.dev/connections: '{reference}'}}
spec:
  serviceAccountName: report
  schedulingGates: [{{name: example.com/never}}]
  containers: [{{name: agent, image: 'registry.example/agent:1', command: [sleep, infinity]}}]
"
        ));
        let plan = Plan {
            namespace: namespace.to_owned(),
            targets: vec![Target::of(reference, &connection.spec).unwrap()],
            operator: Operator {
                url: self.context.config.operator_url(),
                authorities: CA.to_owned(),
            },
            sidecar: Sidecar {
                image: IMAGE.to_owned(),
                resources: None,
            },
            purpose: None,
        };
        let injected: Pod = serde_json::from_value(inject(&pod, &plan).unwrap().pod).unwrap();
        self.create_pod(namespace, &injected).await
    }

    pub async fn create_pod(&self, namespace: &str, pod: &Pod) -> Pod {
        self.api(namespace)
            .create(&PostParams::default(), pod)
            .await
            .unwrap()
    }

    /// What kubelet asks for when it projects a token into a pod; without a pod, what a user
    /// with `create` on `serviceaccounts/token` could ask for.
    pub async fn token(&self, namespace: &str, pod: Option<&Pod>, audience: &str) -> String {
        let accounts: Api<ServiceAccount> = self.api(namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                bound_object_ref: pod.map(|pod| BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                expiration_seconds: Some(3600),
            },
            ..TokenRequest::default()
        };
        let made = accounts
            .create_token_request("report", &PostParams::default(), &request)
            .await
            .unwrap();
        made.status.unwrap().token
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &impl Serialize,
    ) -> axum::response::Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(serde_json::to_vec(body).unwrap()))
            .unwrap();
        self.router.clone().call(request).await.unwrap()
    }

    /// The answer, or why there is none.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &impl Serialize,
    ) -> Result<T, (StatusCode, Refusal)> {
        let response = self.request(method, path, token, body).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        match status.is_success() {
            true => Ok(serde_json::from_slice(&bytes).unwrap()),
            false => Err((status, serde_json::from_slice(&bytes).unwrap())),
        }
    }

    pub async fn approval(&self, namespace: &str, name: &str) -> ApprovalRequest {
        self.api(namespace).get(name).await.unwrap()
    }
}

pub fn config() -> Config {
    let cli = Cli::parse_from(["chaperone-operator", "run", "--sidecar-image", IMAGE]);
    match cli.command {
        Command::Run(config) => *config,
        Command::Uninstall(_) => unreachable!(),
    }
}

/// The next line of a stream; `None` at its end.
pub async fn next(body: &mut Body, within: Duration) -> Option<StreamEvent> {
    let frame = timeout(within, body.frame())
        .await
        .unwrap_or_else(|_| panic!("no line in {within:?}"))?;
    let bytes: Bytes = frame.unwrap().into_data().unwrap();
    assert_eq!(bytes.last(), Some(&b'\n'));
    Some(serde_json::from_slice(&bytes).unwrap())
}
