//! The API server of a kubeconfig's context, asked from code that waits.

use std::error::Error;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::cli::ClusterArgs;
use crate::error::CliError;

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(15);
/// How long an answer may take: a page of the log is tens of megabytes.
const READ: Duration = Duration::from_secs(120);

/// A cluster to ask.
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
    /// The namespace the user gave.
    pub(crate) namespace: Option<String>,
    /// The path of the operator's Service, once it was asked for.
    pub(super) operator: OnceCell<String>,
}

impl Cluster {
    /// The cluster of the context that was named, or of the current one. Nothing is asked yet.
    pub(crate) fn connect(options: &ClusterArgs) -> Result<Cluster, CliError> {
        // rustls knows which provider to use where there is one; a second call changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut config = runtime.block_on(configuration(options))?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(READ);
        if options.impersonate.is_some() {
            config
                .auth_info
                .impersonate
                .clone_from(&options.impersonate);
        }
        if !options.impersonate_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(options.impersonate_groups.clone());
        }
        let url = config.cluster_url.to_string();
        // The client's own queue is a task of the runtime.
        let client = runtime
            .block_on(async { Client::try_from(config) })
            .map_err(|error| CliError::Cluster {
                what: format!("no client can be made for {url}"),
                why: chain(&error),
            })?;
        Ok(Cluster {
            runtime,
            client,
            namespace: options.namespace.clone(),
            operator: OnceCell::new(),
        })
    }

    /// To ask with.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Waits for an answer.
    pub(crate) fn wait<F: Future>(&self, question: F) -> F::Output {
        self.runtime.block_on(question)
    }
}

async fn configuration(options: &ClusterArgs) -> Result<Config, CliError> {
    let context = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    let read = match &options.kubeconfig {
        Some(path) => match Kubeconfig::read_from(path) {
            Ok(file) => Config::from_custom_kubeconfig(file, &context).await,
            Err(error) => Err(error),
        },
        None => Config::from_kubeconfig(&context).await,
    };
    match read {
        Ok(config) => Ok(config),
        // In a pod there is no file, and the pod's own account.
        Err(error) if options.kubeconfig.is_none() && options.context.is_none() => {
            Config::incluster().map_err(|_| no_cluster(&error))
        }
        Err(error) => Err(no_cluster(&error)),
    }
}

fn no_cluster(error: &KubeconfigError) -> CliError {
    CliError::NoCluster(chain(error))
}

/// What the API server's refusal to `what` means for the user.
pub(crate) fn api_failure(what: &str, error: &kube::Error) -> CliError {
    let why = match error {
        kube::Error::Api(status) if status.code == 401 => {
            "the API server does not know you; log in again".to_owned()
        }
        kube::Error::Api(status) if status.is_forbidden() => format!(
            "you may not ({}); ask for the ClusterRole chaperone-auditor, or chaperone-approver to answer requests",
            status.message
        ),
        kube::Error::Api(status) if status.code == 404 && is_unserved(&status.message) => {
            "the cluster does not know such resources: Chaperone is not installed there, or is older than this plugin"
                .to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        other => format!("{}; is it the right --context?", chain(other)),
    };
    CliError::Cluster {
        what: format!("cannot {what}"),
        why,
    }
}

/// What an API server says of a path that leads nowhere; of an object it names the object.
fn is_unserved(message: &str) -> bool {
    message.is_empty()
        || message.contains("page not found")
        || message.contains("could not find the requested resource")
}

/// An error and what it came from, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
