//! A bucket, by the crate `object_store`, which signs (AWS Signature Version 4), tries again and reads
//! the answers. It speaks HTTP by our own connections: our TLS and CAs, and no special addresses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chaperone_crds::ObjectStoreBackend;
use chaperone_crds::audit_pack::{ACCESS_KEY_ID, SECRET, SECRET_ACCESS_KEY};
use chaperone_evidence::audit::MAX_PACK;
use chaperone_wire::{AllowSpecial, Resolver, TlsClient, TlsMode, TlsSettings};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStoreExt, RetryConfig};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::place::PlaceError;

/// Longest wait for the Secret.
const SECRET_DEADLINE: Duration = Duration::from_secs(5);
/// How often one request is tried again.
const RETRIES: usize = 3;
/// https (RFC 9110, section 4.2.2).
const HTTPS: u16 = 443;

/// What a bucket is used with.
pub struct Credentials {
    key_id: Zeroizing<String>,
    key: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// The id of a key, and the key.
    pub fn new(key_id: &str, key: &str) -> Credentials {
        Credentials {
            key_id: Zeroizing::new(key_id.to_owned()),
            key: Zeroizing::new(key.to_owned()),
        }
    }

    /// Those of the Secret that is for nothing else.
    pub(super) async fn read(secrets: &Api<Secret>) -> Result<Credentials, PlaceError> {
        let wrong = |why: String| PlaceError::Settings(format!("Secret {SECRET}: {why}"));
        let found = timeout(SECRET_DEADLINE, secrets.get(SECRET))
            .await
            .map_err(|_| wrong("the API server gave no answer in time".to_owned()))?
            .map_err(|error| wrong(error.to_string()))?;
        let data = found.data.unwrap_or_default();
        let text = |name: &str| {
            let value = data
                .get(name)
                .and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
            let value = value.map(str::trim).filter(|value| !value.is_empty());
            value.ok_or_else(|| wrong(format!("it has no {name}")))
        };
        Ok(Credentials::new(
            text(ACCESS_KEY_ID)?,
            text(SECRET_ACCESS_KEY)?,
        ))
    }
}

/// A bucket. Clones share it.
#[derive(Clone)]
pub(super) struct Objects {
    store: Arc<AmazonS3>,
    prefix: Option<String>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is inside knows its credentials.
        f.write_str("Objects(…)")
    }
}

impl Objects {
    /// The bucket that is named. Nothing is asked yet. One request and its answer take a third of
    /// `deadline` at most, and none is begun again after half of it.
    ///
    /// # Errors
    /// [`PlaceError::Settings`] where its CA or address is none.
    pub(super) fn new(
        spec: &ObjectStoreBackend,
        credentials: &Credentials,
        allow: AllowSpecial,
        deadline: Duration,
    ) -> Result<Objects, PlaceError> {
        let tls = TlsClient::new(&TlsSettings {
            mode: TlsMode::VerifyFull,
            ca_pem: spec.ca.as_ref().map(|pem| pem.clone().into_bytes()),
            identity: None,
        });
        let tls = tls.map_err(|error| PlaceError::Settings(error.to_string()))?;
        let service = Service {
            resolver: Arc::new(Resolver::new()),
            allow,
            deadline: deadline / 3,
            tls: Arc::new(tls.speaking(&[b"http/1.1"])),
        };
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: deadline / 2,
        };
        let store = AmazonS3Builder::new()
            .with_endpoint(&spec.endpoint)
            .with_region(&spec.region)
            .with_bucket_name(&spec.bucket)
            .with_access_key_id(credentials.key_id.as_str())
            .with_secret_access_key(credentials.key.as_str())
            // The bucket in the path: what speaks S3 at an address of its own knows no other way.
            .with_virtual_hosted_style_request(false)
            .with_retry(retry)
            .with_http_connector(service)
            .build()
            .map_err(|error| PlaceError::Settings(error.to_string()))?;
        Ok(Objects {
            store: Arc::new(store),
            prefix: spec.prefix.clone(),
        })
    }

    fn path(&self, name: &str) -> Path {
        match &self.prefix {
            Some(prefix) => Path::from(format!("{prefix}/{name}")),
            None => Path::from(name),
        }
    }

    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), PlaceError> {
        let path = self.path(name);
        let put = self.store.put(&path, bytes.into()).await;
        put.map(|_| ()).map_err(failed)
    }

    pub(super) async fn get(&self, name: &str, expected: u64) -> Result<Vec<u8>, PlaceError> {
        let found = self.store.get(&self.path(name)).await.map_err(failed)?;
        if found.meta.size != expected {
            let found = found.meta.size;
            return Err(PlaceError::Length { expected, found });
        }
        Ok(found.bytes().await.map_err(failed)?.to_vec())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), PlaceError> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: object_store::Error) -> PlaceError {
    match error {
        object_store::Error::NotFound { .. } => PlaceError::Missing,
        error => PlaceError::Store(error.to_string()),
    }
}

/// One connection for each request: there are few.
#[derive(Clone)]
struct Service {
    resolver: Arc<Resolver>,
    allow: AllowSpecial,
    deadline: Duration,
    tls: Arc<TlsClient>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl HttpConnector for Service {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Service {
    // What `async_trait` makes of it.
    fn call<'s, 'f>(
        &'s self,
        request: HttpRequest,
    ) -> BoxFuture<'f, Result<HttpResponse, HttpError>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let deadline = Instant::now() + self.deadline;
            match timeout_at(deadline, self.exchange(request, deadline)).await {
                Ok(answer) => answer,
                Err(late) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
            }
        })
    }
}

impl Service {
    async fn exchange(
        &self,
        request: HttpRequest,
        deadline: Instant,
    ) -> Result<HttpResponse, HttpError> {
        let connecting = |error| HttpError::new(HttpErrorKind::Connect, error);
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().cloned();
        let authority = authority
            .filter(|_| head.uri.scheme_str() == Some("https"))
            .ok_or_else(|| {
                let why = std::io::Error::other("only https is spoken");
                HttpError::new(HttpErrorKind::Unknown, why)
            })?;
        // An IPv6 address has brackets in a URL and none where it is dialled.
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(HTTPS);
        let tcp = chaperone_wire::connect(&self.resolver, host, port, self.allow, deadline).await;
        let tcp = tcp.map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?;
        let stream = self.tls.handshake(tcp, host, deadline).await;
        let stream = stream.map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(connecting)?;
        if !head.headers.contains_key(HOST) {
            let host = HeaderValue::from_str(authority.as_str());
            let host = host.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            head.headers.insert(HOST, host);
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path
            .parse()
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let request = Request::from_parts(head, body);
        let exchange = async {
            let answer = sender.send_request(request).await;
            let answer =
                answer.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_PACK).collect().await;
            let body =
                body.map_err(|error| HttpError::new_boxed(HttpErrorKind::Interrupted, error))?;
            let body = Full::new(body.to_bytes()).map_err(|never| match never {});
            Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
        };
        // The connection lives for this one exchange and ends with it.
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(HttpError::new(HttpErrorKind::Interrupted, error)),
            },
        }
    }
}
