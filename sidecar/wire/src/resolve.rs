//! From a Connection's host to addresses, by DNS alone.
//!
//! The hosts file is never read: in `hosts` mode the pod's own /etc/hosts points the target's name
//! at this sidecar, which would then dial itself (architecture.md, Libraries).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::{AllowSpecial, ConnectError, SpecialAddress};

/// How many addresses of one name are tried at most.
const MAX_ADDRESSES: usize = 16;

/// Resolves names with the nameservers, search list and ndots of /etc/resolv.conf, which is read
/// at the first name (a literal address needs none). Cheap to clone; clones share the cache.
#[derive(Clone, Default)]
pub struct Resolver {
    dns: Arc<OnceCell<TokioResolver>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("loaded", &self.dns.initialized())
            .finish()
    }
}

impl Resolver {
    /// A resolver that has read nothing yet.
    pub fn new() -> Resolver {
        Resolver::default()
    }

    /// A resolver with given nameservers, search list and options instead of the system's. The
    /// hosts file stays off whatever the options say.
    ///
    /// # Errors
    /// [`ConnectError::Dns`] for a configuration that no resolver can be made of.
    pub fn with_config(
        config: ResolverConfig,
        options: ResolverOpts,
    ) -> Result<Resolver, ConnectError> {
        let dns = without_hosts_file(config, options).map_err(|message| ConnectError::Dns {
            host: "any host".to_owned(),
            message,
        })?;
        Ok(Resolver {
            dns: Arc::new(OnceCell::new_with(Some(dns))),
        })
    }

    /// The addresses of `host`, which may be a literal (IPv6 with or without brackets). One
    /// special address among them refuses them all: such an answer is not an honest one.
    ///
    /// # Errors
    /// [`ConnectError`], never an empty list.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        allow: AllowSpecial,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Some(addresses) = literal(host, allow)? {
            return Ok(addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, port))
                .collect());
        }
        let name = Name::from_utf8(host).map_err(|_| ConnectError::NotAName {
            host: host.to_owned(),
        })?;
        let dns_error = |message: String| ConnectError::Dns {
            host: host.to_owned(),
            message,
        };
        let dns = self
            .dns
            .get_or_try_init(|| async { from_system() })
            .await
            .map_err(dns_error)?;
        let lookup = timeout_at(deadline, dns.lookup_ip(name))
            .await
            .map_err(|_| ConnectError::TimedOut {
                target: format!("{host}:{port}"),
                stage: "resolving",
            })?
            .map_err(|error| dns_error(error.to_string()))?;
        let mut addresses = Vec::new();
        for address in lookup.iter() {
            if let Some(kind) = SpecialAddress::of(address) {
                return Err(ConnectError::Special {
                    host: host.to_owned(),
                    address,
                    kind,
                });
            }
            if addresses.len() < MAX_ADDRESSES {
                addresses.push(SocketAddr::new(address, port));
            }
        }
        if addresses.is_empty() {
            return Err(dns_error("the name has no address".to_owned()));
        }
        Ok(addresses)
    }
}

/// The addresses `host` stands for without DNS; `None` when it is a name.
fn literal(host: &str, allow: AllowSpecial) -> Result<Option<Vec<IpAddr>>, ConnectError> {
    if host.is_empty() {
        return Err(ConnectError::NotAName {
            host: host.to_owned(),
        });
    }
    if host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
        && allow == AllowSpecial::LiteralLoopback
    {
        return Ok(Some(vec![
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ]));
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let Ok(address) = bare.parse::<IpAddr>() else {
        return Ok(None);
    };
    match SpecialAddress::of(address) {
        None => Ok(Some(vec![address])),
        Some(SpecialAddress::Loopback) if allow == AllowSpecial::LiteralLoopback => {
            Ok(Some(vec![address]))
        }
        Some(kind) => Err(ConnectError::Special {
            host: host.to_owned(),
            address,
            kind,
        }),
    }
}

fn from_system() -> Result<TokioResolver, String> {
    let (config, options) =
        read_system_conf().map_err(|error| format!("/etc/resolv.conf: {error}"))?;
    without_hosts_file(config, options)
}

fn without_hosts_file(
    config: ResolverConfig,
    mut options: ResolverOpts,
) -> Result<TokioResolver, String> {
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // The cache is keyed by the few targets of this sidecar.
    options.cache_size = 64;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| error.to_string())
}
