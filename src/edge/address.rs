//! Where a caller is: the socket's other end, or what a trusted proxy says of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use tonic::Request;

use crate::config::limits::ForwardedBy;

/// Callers that share an address are counted together: an IPv4 address, or the IPv6 network of 64
/// bits that one customer has all of. `None`: not known, all of them are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AddressClass(Option<IpAddr>);

impl AddressClass {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(Some(class(address.to_canonical())))
    }

    /// Not of this machine, and not of a network of machines that speak for others.
    pub(super) fn is_public(self) -> bool {
        match self.0 {
            None => false,
            Some(IpAddr::V4(v4)) => {
                // 100.64.0.0/10: between a provider's machines.
                let shared = Ipv4Addr::from_bits(v4.to_bits() & 0xffc0_0000);
                let within = v4.is_loopback() || v4.is_private() || v4.is_link_local();
                !within && shared != Ipv4Addr::new(100, 64, 0, 0)
            }
            Some(IpAddr::V6(v6)) => {
                let within = v6.is_unique_local() || v6.is_unicast_link_local();
                // A class has lost the last 64 bits, of which `::1` has its one.
                !within && !v6.is_unspecified()
            }
        }
    }
}

/// Who is believed about where callers are.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies {
    nets: Vec<IpNet>,
    by: ForwardedBy,
}

impl TrustedProxies {
    /// Addresses or networks; the text that is neither, if one is.
    pub(crate) fn parse(texts: &[String], by: ForwardedBy) -> Result<Self, String> {
        let nets: Result<Vec<IpNet>, String> = texts
            .iter()
            .map(|text| {
                let net = text.parse::<IpNet>().ok();
                let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
                net.or_else(address).ok_or_else(|| text.clone())
            })
            .collect();
        nets.map(|nets| Self { nets, by })
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// The class of the caller of a request.
    pub(crate) fn caller_of<T>(&self, request: &Request<T>) -> AddressClass {
        let name = match self.by {
            ForwardedBy::XForwardedFor => "x-forwarded-for",
            ForwardedBy::Forwarded => "forwarded",
        };
        let said = request.metadata().get_all(name);
        let said: Vec<&str> = said
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|element| node(self.by, element))
            .collect();
        let peer = request.remote_addr().map(|peer| peer.ip());
        AddressClass(peer.map(|peer| class(self.behind(peer, &said))))
    }

    /// From the socket outwards, as long as each speaker is one of ours: everything further left
    /// is the caller's own writing.
    fn behind(&self, peer: IpAddr, said: &[&str]) -> IpAddr {
        let mut caller = peer.to_canonical();
        for said in said.iter().rev() {
            if !self.has(caller) {
                break;
            }
            match address(said) {
                Some(address) => caller = address.to_canonical(),
                None => break,
            }
        }
        caller
    }
}

/// What one proxy's element says that its caller is; empty if it says nothing. No quoted text of an
/// address holds a comma or semicolon: what does is no address.
fn node(by: ForwardedBy, element: &str) -> &str {
    match by {
        ForwardedBy::XForwardedFor => element.trim(),
        ForwardedBy::Forwarded => element
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| name.eq_ignore_ascii_case("for"))
            .map_or("", |(_, value)| value.trim().trim_matches('"')),
    }
}

/// An address, alone, in brackets, or with a port; the names that proxies may use instead
/// (`unknown`, `_hidden`) are none.
fn address(said: &str) -> Option<IpAddr> {
    let bracketed = || {
        let (inner, _port) = said.strip_prefix('[')?.split_once(']')?;
        inner.parse().ok().map(IpAddr::V6)
    };
    let with_port = || {
        let (host, _port) = said.split_once(':')?;
        host.parse().ok().map(IpAddr::V4)
    };
    said.parse().ok().or_else(bracketed).or_else(with_port)
}

fn class(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn behind(by: ForwardedBy, peer: &str, said: &str) -> String {
        let proxies = ["10.0.0.0/8".into(), "::1".into()];
        let proxies = TrustedProxies::parse(&proxies, by).expect("nets");
        let said: Vec<&str> = said.split(',').map(|element| node(by, element)).collect();
        let caller = proxies.behind(peer.parse().expect("an address"), &said);
        class(caller).to_string()
    }

    #[test]
    fn only_proxies_of_ours_are_believed_and_only_what_they_saw() {
        for (peer, said, caller) in [
            ("203.0.113.7", "", "203.0.113.7"),
            ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
            ("10.0.0.1", "192.0.2.99, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, 10.2.3.4", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, junk", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "for=198.51.100.1", "10.0.0.1"),
            ("::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::ffff:203.0.113.7", "", "203.0.113.7"),
            ("2001:db8:1:2:ffff::1", "", "2001:db8:1:2::"),
        ] {
            let found = behind(ForwardedBy::XForwardedFor, peer, said);
            assert_eq!(found, caller, "{peer} {said}");
        }
    }

    #[test]
    fn the_standard_header_is_read_as_it_is_written() {
        for (peer, said, caller) in [
            ("203.0.113.7", "for=198.51.100.1", "203.0.113.7"),
            ("10.0.0.1", "for=198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "For=\"198.51.100.1:4711\"", "198.51.100.1"),
            (
                "10.0.0.1",
                "proto=https;for=198.51.100.1; by=10.0.0.1",
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                "for=\"[2001:db8:1:2::9]:4711\"",
                "2001:db8:1:2::",
            ),
            (
                "10.0.0.1",
                "for=192.0.2.99, for=198.51.100.1;proto=https, for=10.2.3.4",
                "198.51.100.1",
            ),
            ("10.0.0.1", "for=198.51.100.1, for=unknown", "10.0.0.1"),
            ("10.0.0.1", "for=198.51.100.1, for=_hidden", "10.0.0.1"),
            ("10.0.0.1", "for=198.51.100.1, by=10.0.0.1", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1", "10.0.0.1"),
        ] {
            let found = behind(ForwardedBy::Forwarded, peer, said);
            assert_eq!(found, caller, "{peer} {said}");
        }
    }

    #[test]
    fn customers_are_counted_and_machines_nearby_are_not() {
        let public = |text: &str| AddressClass::of(text.parse().expect("one")).is_public();
        for customer in ["203.0.113.7", "::ffff:203.0.113.7", "2001:db8::1"] {
            assert!(public(customer), "{customer}");
        }
        for nearby in ["127.0.0.1", "10.1.2.3", "192.168.0.9", "100.100.0.1"] {
            assert!(!public(nearby), "{nearby}");
        }
        for nearby in ["::1", "fd00::1", "fe80::1"] {
            assert!(!public(nearby), "{nearby}");
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        let texts = ["10.0.0.0/8".to_owned(), "proxy.example".to_owned()];
        let refused = TrustedProxies::parse(&texts, ForwardedBy::default());
        assert_eq!(refused.unwrap_err(), "proxy.example");
    }
}
