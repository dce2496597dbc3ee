//! Sinks as they are configured, with their references read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chaperone_crds::{AuditSink, AuditStore, HttpSink, SinkEvents, audit_sink, audit_store};
use chaperone_manifests::{Located, Manifests, Problem};
use chaperone_wire::{TlsClient, TlsMode, TlsSettings};
use hyper::Uri;
use hyper::header::HeaderValue;

/// https and http (RFC 9110, section 4.2).
const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// A sink that can be told something.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    pub(crate) name: String,
    pub(crate) only: Vec<SinkEvents>,
    pub(crate) to: To,
    /// Changes when anything does; of the secret only its hash.
    fingerprint: [u8; 32],
}

impl PartialEq for Sink {
    fn eq(&self, other: &Sink) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// Where to.
#[derive(Debug, Clone)]
pub(crate) enum To {
    Webhook(Server),
    Otlp(Server),
    File {
        path: PathBuf,
        max_bytes: u64,
        keep: u8,
    },
    Stdout,
}

/// A server that is posted to.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As the field Host has it.
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) tls: TlsClient,
    /// Marked as sensitive: invisible to Debug.
    pub(crate) authorization: Option<HeaderValue>,
}

impl Sink {
    /// A sink, with the value that its `authorizationKey` names.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub(crate) fn new(
        spec: &AuditSink,
        authorization: Option<&[u8]>,
    ) -> Result<Sink, (&'static str, String)> {
        let to = match (&spec.webhook, &spec.otlp, &spec.file) {
            (Some(http), _, _) => To::Webhook(server(http, "webhook", authorization)?),
            (None, Some(http), _) => To::Otlp(server(http, "otlp", authorization)?),
            (None, None, Some(file)) => To::File {
                path: PathBuf::from(&file.path),
                max_bytes: file.max_bytes.get(),
                keep: file.keep,
            },
            (None, None, None) => To::Stdout,
        };
        let digest = |bytes: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut fingerprint = [0; 32];
        let secret = digest(authorization.unwrap_or_default());
        let all = digest(format!("{spec:?}{:?}", secret.as_ref()).as_bytes());
        fingerprint.copy_from_slice(all.as_ref());
        Ok(Sink {
            name: spec.name.clone(),
            only: spec.only.clone(),
            to,
            fingerprint,
        })
    }
}

fn server(
    spec: &HttpSink,
    field: &'static str,
    authorization: Option<&[u8]>,
) -> Result<Server, (&'static str, String)> {
    let wrong = |why: &str| (field, format!("its url {why}"));
    let uri: Uri = spec.url.parse().map_err(|_| wrong("is none"))?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong("is neither https:// nor http://")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
    let (host, port) = chaperone_http::normal::authority(authority.as_str())
        .map_err(|error| wrong(&error.to_string()))?;
    let authorization = match (&spec.authorization_key, authorization) {
        (None, _) => None,
        (Some(key), None) => {
            let why = format!(
                "there is no Secret {}/{} with key {key:?}",
                audit_store::NAMESPACE,
                audit_sink::SECRET
            );
            return Err((field, why));
        }
        // Else whoever is on the way could read it.
        (Some(_), Some(_)) if !secure => return Err(wrong("must be https:// with a secret")),
        (Some(key), Some(value)) => {
            let mut value = HeaderValue::from_bytes(value.trim_ascii_end()).map_err(|_| {
                (
                    field,
                    format!("the value of {key:?} holds what no field may"),
                )
            })?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    let tls = TlsClient::new(&TlsSettings {
        mode: if secure {
            TlsMode::VerifyFull
        } else {
            TlsMode::Disable
        },
        ca_pem: spec.ca.as_ref().map(|pem| pem.clone().into_bytes()),
        identity: None,
    })
    .map_err(|error| (field, error.to_string()))?;
    Ok(Server {
        host,
        port: port.unwrap_or(if secure { HTTPS } else { HTTP }),
        authority: authority.to_string(),
        path: uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        tls: tls.speaking(&[b"http/1.1"]),
        authorization,
    })
}

/// The sinks of a folder of manifests; those that cannot be used are left out.
pub(crate) fn of_manifests(manifests: &Manifests) -> Vec<Sink> {
    read(manifests).into_iter().filter_map(Result::ok).collect()
}

/// What is wrong with the sinks of a folder.
pub(crate) fn problems(manifests: &Manifests) -> Vec<Problem> {
    read(manifests)
        .into_iter()
        .filter_map(Result::err)
        .collect()
}

fn read(manifests: &Manifests) -> Vec<Result<Sink, Problem>> {
    let none = BTreeMap::new();
    let at = (
        audit_store::NAMESPACE.to_owned(),
        audit_sink::SECRET.to_owned(),
    );
    let secret = manifests.secrets.get(&at).unwrap_or(&none);
    let mut read = Vec::new();
    for store in &manifests.audit_stores {
        if store.name != audit_store::NAME {
            let why = format!("there is one AuditStore, {:?}", audit_store::NAME);
            read.push(Err(store.problem("metadata.name", why)));
            continue;
        }
        if store.value.spec.seal.is_some() {
            let why = "standalone, --seal-for says whom evidence is sealed for";
            read.push(Err(store.problem("spec.seal", why)));
        }
        for (index, spec) in store.value.spec.sinks.iter().enumerate() {
            read.push(one(store, index, spec, secret));
        }
    }
    read
}

fn one(
    store: &Located<AuditStore>,
    index: usize,
    spec: &AuditSink,
    secret: &BTreeMap<String, chaperone_manifests::SecretBytes>,
) -> Result<Sink, Problem> {
    let value = spec.authorization_key().and_then(|key| secret.get(key));
    Sink::new(spec, value.map(|value| value.expose()))
        .map_err(|(field, why)| store.problem(&format!("spec.sinks[{index}].{field}"), why))
}
