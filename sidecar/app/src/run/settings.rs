//! The sidecar's environment, as the injector writes it, understood.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use chaperone_inject::names::{LISTEN_ENV, OPERATOR_CA_ENV, OPERATOR_ENV, TRUST_BUNDLE, TRUST_CA};

use crate::cli::Run;

/// What the process is started with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) operator: Operator,
    /// In the order of the pod's annotation; never empty.
    pub(crate) listen: Vec<Listen>,
    pub(crate) admin: SocketAddr,
    pub(crate) spool: PathBuf,
    pub(crate) trust: PathBuf,
    pub(crate) token: PathBuf,
    pub(crate) hosts: PathBuf,
    pub(crate) drain: Duration,
    pub(crate) max_sessions: usize,
}

/// Where the control API is, and who may certify it.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) ca_pem: String,
}

/// Where one Connection is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    /// `namespace/name`.
    pub(crate) connection: String,
    pub(crate) address: SocketAddr,
}

impl Settings {
    pub(crate) fn new(options: &Run) -> anyhow::Result<Settings> {
        let listen = listen(&options.listen)?;
        Ok(Settings {
            operator: operator(&options.operator, &options.operator_ca)?,
            listen,
            admin: options.admin,
            spool: options.spool.clone(),
            trust: options.trust.clone(),
            token: options.token.clone(),
            hosts: options.hosts.clone(),
            drain: Duration::from_secs(options.drain_seconds),
            max_sessions: options.max_sessions,
        })
    }

    pub(crate) fn trust_bundle(&self) -> PathBuf {
        self.trust.join(TRUST_BUNDLE)
    }

    pub(crate) fn trust_ca(&self) -> PathBuf {
        self.trust.join(TRUST_CA)
    }

    /// Every distinct address.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for listen in &self.listen {
            if !addresses.contains(&listen.address) {
                addresses.push(listen.address);
            }
        }
        addresses
    }
}

fn operator(url: &str, ca_pem: &str) -> anyhow::Result<Operator> {
    let usage = || format!("{OPERATOR_ENV} must be https://HOST:PORT, not {url:?}");
    let authority = url.strip_prefix("https://").with_context(usage)?;
    let (host, port) = authority.rsplit_once(':').with_context(usage)?;
    let port = port.parse().with_context(usage)?;
    if host.is_empty() || host.contains(['/', '@', '?', '#']) {
        bail!(usage());
    }
    if ca_pem.trim().is_empty() {
        bail!("{OPERATOR_CA_ENV} is empty; it must hold the operator's CA in PEM");
    }
    Ok(Operator {
        host: host.to_owned(),
        port,
        ca_pem: ca_pem.to_owned(),
    })
}

fn listen(text: &str) -> anyhow::Result<Vec<Listen>> {
    let usage = |entry: &str| {
        format!("{LISTEN_ENV} must be NAMESPACE/NAME=ADDRESS:PORT, by commas; {entry:?} is not")
    };
    let mut listens: Vec<Listen> = Vec::new();
    for entry in text.split(',').map(str::trim) {
        let (connection, address) = entry.split_once('=').with_context(|| usage(entry))?;
        let address: SocketAddr = address.parse().with_context(|| usage(entry))?;
        let named = connection
            .split_once('/')
            .is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
        if !named {
            bail!(usage(entry));
        }
        // Whoever reaches a listener is taken for the agent.
        if !is_loopback(address.ip()) {
            bail!(
                "SettingDenied: {LISTEN_ENV} names {address}; only loopback addresses are served"
            );
        }
        if listens.iter().any(|listen| listen.connection == connection) {
            bail!("{LISTEN_ENV} names {connection} twice");
        }
        listens.push(Listen {
            connection: connection.to_owned(),
            address,
        });
    }
    Ok(listens)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_environment_is_understood_or_refused_with_its_name() {
        let good = listen("databases/orders=127.0.0.2:5432,shop/api=127.0.0.3:80").unwrap();
        assert_eq!(good.len(), 2);
        assert_eq!(good.first().unwrap().connection, "databases/orders");
        for bad in [
            "",
            "orders=127.0.0.2:5432",
            "/orders=127.0.0.2:5432",
            "a/b=127.0.0.2",
            "a/b=10.0.0.1:5432",
            "a/b=0.0.0.0:5432",
            "a/b=127.0.0.2:5432,a/b=127.0.0.3:5432",
        ] {
            let error = listen(bad).unwrap_err().to_string();
            assert!(error.contains(LISTEN_ENV), "{bad}: {error}");
        }
        assert!(operator("https://chaperone-operator.chaperone-system.svc:8443", "x").is_ok());
        for (url, ca) in [
            ("http://operator:8443", "x"),
            ("https://operator", "x"),
            ("https://operator:8443/path", "x"),
            ("https://user@operator:8443", "x"),
            ("https://operator:8443", " "),
        ] {
            assert!(operator(url, ca).is_err(), "{url}");
        }
    }
}
