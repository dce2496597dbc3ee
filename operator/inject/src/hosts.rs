//! Under which names an agent may know a target, and which loopback address they get.

use std::net::{IpAddr, Ipv4Addr};

use crate::annotation::{is_label, is_name};
use crate::names::ADMIN_PORT;
use crate::{Refusal, Target};

/// The cluster's DNS domain where the host does not say: the default of every distribution.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// A distinct host among the targets of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// 127.0.0.(2+i).
    pub(crate) address: Ipv4Addr,
    /// Every name of it that `/etc/hosts` can hold; none for an IP address.
    pub(crate) names: Vec<String>,
    /// What makes two targets the same host.
    keys: Vec<String>,
}

/// The distinct hosts of these targets, and for each target which of them it is.
///
/// # Errors
/// [`Refusal::ConnectionsCollide`], or [`Refusal::Reserved`] for the sidecar's own port.
pub(crate) fn assign(
    targets: &[Target],
    namespace: &str,
) -> Result<(Vec<Host>, Vec<Ipv4Addr>), Refusal> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    for forms in grouped(targets, namespace) {
        hosts.push(Host::new(loopback(hosts.len()), forms));
    }
    for target in targets {
        if target.port == ADMIN_PORT {
            return Err(Refusal::Reserved {
                what: format!("port {ADMIN_PORT} of Connection {}", target.reference),
                remedy: "let the target listen on another port",
            });
        }
        let forms = forms(&target.host, namespace);
        let host = hosts.iter().find(|host| host.is(&forms));
        let address = host.map_or(Ipv4Addr::LOCALHOST, |host| host.address);
        let taken = targets.iter().zip(&addresses).find(|(other, taken)| {
            **taken == address && other.port == target.port && !other.differs_by_pin(target)
        });
        if let Some((other, _)) = taken {
            return Err(Refusal::ConnectionsCollide {
                first: other.reference.to_string(),
                second: target.reference.to_string(),
            });
        }
        addresses.push(address);
    }
    Ok((hosts, addresses))
}

/// All forms of each distinct host, in the order of the targets. Two targets are of one host where
/// they share a name, of themselves or by a third one's: in `/etc/hosts` a name leads to one address.
fn grouped(targets: &[Target], namespace: &str) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    for target in targets {
        let mut own = forms(&target.host, namespace);
        for name in &target.names {
            own.extend(forms(name, namespace));
        }
        let shares = |group: &Vec<String>| group.iter().any(|form| own.contains(form));
        // In the place of the first, so that an address stays while targets are added.
        let place = groups.iter().position(shares).unwrap_or(groups.len());
        let (joined, mut apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(shares);
        apart.insert(place, deduplicated(joined.into_iter().flatten().chain(own)));
        groups = apart;
    }
    groups
}

fn deduplicated(forms: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for form in forms {
        if !seen.contains(&form) {
            seen.push(form);
        }
    }
    seen
}

/// 127.0.0.(2+i). Annotations are bounded far below the 253 that fit.
fn loopback(position: usize) -> Ipv4Addr {
    let last = u8::try_from(position).unwrap_or(u8::MAX).saturating_add(2);
    Ipv4Addr::new(127, 0, 0, last)
}

impl Host {
    fn new(address: Ipv4Addr, forms: Vec<String>) -> Host {
        let aliasable = |form: &&String| {
            is_name(form)
                && form.parse::<IpAddr>().is_err()
                && *form != "localhost"
                && !form.ends_with(".localhost")
        };
        Host {
            address,
            names: forms.iter().filter(aliasable).cloned().collect(),
            keys: forms,
        }
    }

    /// Whether one of these forms is its.
    pub(crate) fn is(&self, forms: &[String]) -> bool {
        self.keys.iter().any(|key| forms.contains(key))
    }
}

/// Every form of a host's name that a pod of `namespace` may use for it, the written one first.
///
/// A Service is known as `name`, `name.namespace`, `name.namespace.svc` and with the cluster's
/// domain; an agent may have any of them hard-coded.
pub fn forms(host: &str, namespace: &str) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        return vec![address.to_string()];
    }
    let host = host.trim_end_matches('.').to_owned();
    let labels: Vec<&str> = host.split('.').collect();
    let (service, domain) = if let Some((service, domain)) = host.split_once(".svc.") {
        (service.to_owned(), domain)
    } else if let Some(service) = host.strip_suffix(".svc") {
        (service.to_owned(), CLUSTER_DOMAIN)
    } else if labels.len() == 1 {
        (format!("{host}.{namespace}"), CLUSTER_DOMAIN)
    } else if labels.len() == 2 {
        (host.clone(), CLUSTER_DOMAIN)
    } else {
        return vec![host];
    };
    let Some((name, of)) = service.rsplit_once('.') else {
        return vec![host];
    };
    if !is_label(of) {
        return vec![host];
    }
    let mut forms = vec![
        host.clone(),
        format!("{service}.svc.{domain}"),
        format!("{service}.svc"),
        service.clone(),
    ];
    if of == namespace {
        forms.push(name.to_owned());
    }
    deduplicated(forms.into_iter())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::{Protocol, Reference};

    fn target(name: &str, host: &str, port: u16, database: Option<&str>) -> Target {
        Target {
            reference: Reference {
                namespace: "databases".to_owned(),
                name: name.to_owned(),
            },
            protocol: Protocol::Postgres,
            host: host.to_owned(),
            port,
            database: database.map(str::to_owned),
            names: Vec::new(),
        }
    }

    #[test]
    fn a_service_is_known_by_every_form_of_its_name() {
        let full = ["orders.db.svc.cluster.local", "orders.db.svc", "orders.db"];
        assert_eq!(forms("Orders.db.svc.cluster.local.", "shop"), full);
        let mut short = forms("orders.db", "db");
        short.sort();
        assert_eq!(
            short,
            [
                "orders",
                "orders.db",
                "orders.db.svc",
                "orders.db.svc.cluster.local"
            ]
        );
        assert_eq!(forms("db.example.com", "shop"), ["db.example.com"]);
        assert_eq!(forms("10.1.2.3", "shop"), ["10.1.2.3"]);
        assert_eq!(
            forms("pg-0.pg.db.svc", "shop")[2],
            "pg-0.pg.db",
            "a StatefulSet's pod"
        );
    }

    #[test]
    fn targets_of_one_host_share_an_address_and_others_do_not() {
        let targets = [
            target("a", "orders.db.svc.cluster.local", 5432, None),
            target("b", "orders.db", 5433, None),
            target("c", "10.0.0.9", 5432, None),
        ];
        let (hosts, addresses) = assign(&targets, "shop").unwrap();
        assert_eq!(addresses[0], Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(addresses[0], addresses[1]);
        assert_eq!(addresses[2], Ipv4Addr::new(127, 0, 0, 3));
        assert_eq!(hosts.len(), 2);
        assert!(hosts[1].names.is_empty());
    }

    #[test]
    fn one_host_and_port_twice_is_refused_unless_both_pin_another_database() {
        let collide = |first: Option<&str>, second: Option<&str>| {
            let targets = [
                target("a", "orders.db", 5432, first),
                target("b", "orders.db.svc", 5432, second),
            ];
            assign(&targets, "shop").is_err()
        };
        assert!(collide(None, None));
        assert!(collide(Some("x"), None));
        assert!(collide(Some("x"), Some("x")));
        assert!(!collide(Some("x"), Some("y")));
    }

    #[test]
    fn an_apis_other_names_lead_to_it_and_to_nothing_else() {
        let api = |name: &str, host: &str, port: u16, names: &[&str]| Target {
            protocol: Protocol::Http,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..target(name, host, port, None)
        };
        let targets = [
            target("db", "orders.db", 5432, None),
            api("pay", "api.pay.example", 443, &["Www.pay.test", "10.7.7.7"]),
            api("stock", "10.1.2.3", 8443, &["www.stock.test"]),
        ];
        let (hosts, addresses) = assign(&targets, "shop").unwrap();
        assert_eq!(hosts.len(), 3);
        assert_eq!(hosts[1].names, ["api.pay.example", "www.pay.test"]);
        assert_eq!(hosts[2].names, ["www.stock.test"]);
        assert_eq!(addresses[2], Ipv4Addr::new(127, 0, 0, 4));
        // A name that two share joins them, and their ports tell them apart or do not.
        for (port, fits) in [(8443, true), (443, false)] {
            let mut targets = targets.clone();
            targets[2] = api("stock", "10.1.2.3", port, &["www.pay.test"]);
            assert_eq!(assign(&targets, "shop").is_ok(), fits, "{port}");
        }
        // The third joins the first two, whose ports are then one another's.
        let bridge = |port: u16| {
            let targets = [
                api("a", "a.test", 443, &[]),
                api("b", "b.test", port, &[]),
                api("c", "c.test", 8080, &["a.test", "b.test"]),
            ];
            assign(&targets, "shop").map(|(hosts, addresses)| (hosts.len(), addresses))
        };
        assert_eq!(
            bridge(444).unwrap(),
            (1, vec![Ipv4Addr::new(127, 0, 0, 2); 3])
        );
        let refusal = bridge(443).unwrap_err();
        assert_eq!(refusal.reason().as_str(), "ConnectionsCollide");
        assert!(refusal.to_string().contains("spec.http.hosts"), "{refusal}");
    }
}
