//! Where a caller is: the socket's other end, or what a trusted proxy says of it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use tonic::Request;

/// Callers that share an address are counted together: an IPv4 address, or the IPv6 network of 64
/// bits that one customer has all of. `None`: not known, all of them are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AddressClass(Option<IpAddr>);

/// Whose `x-forwarded-for` is believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Addresses or networks; the text that is neither, if one is.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, String> {
        let nets: Result<Vec<IpNet>, String> = texts
            .iter()
            .map(|text| {
                let net = text.parse::<IpNet>().ok();
                let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
                net.or_else(address).ok_or_else(|| text.clone())
            })
            .collect();
        nets.map(Self)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The class of the caller of a request.
    pub(crate) fn caller_of<T>(&self, request: &Request<T>) -> AddressClass {
        let forwarded = request.metadata().get_all("x-forwarded-for");
        let forwarded: Vec<&str> = forwarded
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let peer = request.remote_addr().map(|peer| peer.ip());
        AddressClass(peer.map(|peer| class(self.behind(peer, &forwarded))))
    }

    /// From the socket outwards, as long as each speaker is one of ours: everything further left
    /// is the caller's own writing.
    fn behind(&self, peer: IpAddr, forwarded: &[&str]) -> IpAddr {
        let mut caller = peer.to_canonical();
        for said in forwarded.iter().rev() {
            if !self.has(caller) {
                break;
            }
            match said.parse::<IpAddr>() {
                Ok(address) => caller = address.to_canonical(),
                Err(_) => break,
            }
        }
        caller
    }
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

    fn behind(peer: &str, forwarded: &str) -> String {
        let proxies = TrustedProxies::parse(&["10.0.0.0/8".into(), "::1".into()]).expect("nets");
        let forwarded: Vec<&str> = forwarded.split(',').map(str::trim).collect();
        let caller = proxies.behind(peer.parse().expect("an address"), &forwarded);
        class(caller).to_string()
    }

    #[test]
    fn only_proxies_of_ours_are_believed_and_only_what_they_saw() {
        for (peer, forwarded, caller) in [
            ("203.0.113.7", "", "203.0.113.7"),
            ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "192.0.2.99, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, 10.2.3.4", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, junk", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::ffff:203.0.113.7", "", "203.0.113.7"),
            ("2001:db8:1:2:ffff::1", "", "2001:db8:1:2::"),
        ] {
            assert_eq!(behind(peer, forwarded), caller, "{peer} {forwarded}");
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        let texts = ["10.0.0.0/8".to_owned(), "proxy.example".to_owned()];
        assert_eq!(TrustedProxies::parse(&texts).unwrap_err(), "proxy.example");
    }
}
