//! Addresses that are never a target (threat-model.md, row 8).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which special addresses a Connection may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllowSpecial {
    /// None: how it is in a cluster.
    #[default]
    Nothing,
    /// Loopback written as an address, or as the name `localhost`: how it is standalone.
    /// A name that DNS resolves to loopback stays refused.
    LiteralLoopback,
}

/// Why an address is special.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialAddress {
    /// 127.0.0.0/8, ::1 (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
    Loopback,
    /// 0.0.0.0/8, :: : on Linux another spelling of loopback.
    Unspecified,
    /// 169.254.0.0/16, fe80::/10 (RFC 3927, RFC 4291): neighbours and cloud metadata.
    LinkLocal,
    /// fd00:ec2::/32, where Amazon's instance metadata lives.
    Metadata,
    /// Multicast and broadcast.
    Multicast,
}

impl fmt::Display for SpecialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpecialAddress::Loopback => "a loopback address",
            SpecialAddress::Unspecified => "an unspecified address",
            SpecialAddress::LinkLocal => "a link-local address",
            SpecialAddress::Metadata => "a metadata address",
            SpecialAddress::Multicast => "a multicast or broadcast address",
        })
    }
}

impl SpecialAddress {
    /// What is special about `address`, if anything. IPv4 inside IPv6 (mapped, RFC 4291 section
    /// 2.5.5; NAT64, RFC 6052) is judged as IPv4.
    pub fn of(address: IpAddr) -> Option<SpecialAddress> {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => match embedded_v4(v6) {
                Some(v4) => of_v4(v4),
                None => of_v6(v6),
            },
        }
    }
}

fn of_v4(address: Ipv4Addr) -> Option<SpecialAddress> {
    let [first, ..] = address.octets();
    if address.is_loopback() {
        Some(SpecialAddress::Loopback)
    } else if first == 0 {
        Some(SpecialAddress::Unspecified)
    } else if address.is_link_local() {
        Some(SpecialAddress::LinkLocal)
    } else if address.is_multicast() || address.is_broadcast() {
        Some(SpecialAddress::Multicast)
    } else {
        None
    }
}

fn of_v6(address: Ipv6Addr) -> Option<SpecialAddress> {
    let [first, second, ..] = address.segments();
    if address.is_loopback() {
        Some(SpecialAddress::Loopback)
    } else if address.is_unspecified() {
        Some(SpecialAddress::Unspecified)
    } else if address.is_unicast_link_local() {
        Some(SpecialAddress::LinkLocal)
    } else if (first, second) == (0xfd00, 0x0ec2) {
        Some(SpecialAddress::Metadata)
    } else if address.is_multicast() {
        Some(SpecialAddress::Multicast)
    } else {
        None
    }
}

fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    match address.segments() {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_spelling_of_a_special_address_is_seen() {
        for (text, kind) in [
            ("127.0.0.1", SpecialAddress::Loopback),
            ("127.8.9.10", SpecialAddress::Loopback),
            ("::1", SpecialAddress::Loopback),
            ("::ffff:127.0.0.1", SpecialAddress::Loopback),
            ("0.0.0.0", SpecialAddress::Unspecified),
            ("0.1.2.3", SpecialAddress::Unspecified),
            ("::", SpecialAddress::Unspecified),
            ("169.254.169.254", SpecialAddress::LinkLocal),
            ("::ffff:169.254.169.254", SpecialAddress::LinkLocal),
            ("64:ff9b::169.254.169.254", SpecialAddress::LinkLocal),
            ("fe80::1", SpecialAddress::LinkLocal),
            ("febf::1", SpecialAddress::LinkLocal),
            ("fd00:ec2::254", SpecialAddress::Metadata),
            ("224.0.0.1", SpecialAddress::Multicast),
            ("255.255.255.255", SpecialAddress::Multicast),
            ("ff02::1", SpecialAddress::Multicast),
        ] {
            assert_eq!(
                SpecialAddress::of(text.parse().unwrap()),
                Some(kind),
                "{text}"
            );
        }
        for text in [
            "10.0.0.1",
            "192.168.1.1",
            "1.1.1.1",
            "fd12::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(SpecialAddress::of(text.parse().unwrap()), None, "{text}");
        }
    }
}
