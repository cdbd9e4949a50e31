//! Networks whose word is taken for who a client is.

use std::net::{IpAddr, SocketAddr};

use hyper::header::HeaderMap;

use crate::request::FORWARDED_FOR;

/// A network, as `10.0.0.0/8`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    base: u128,
    mask: u128,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(bits), |length| length.parse::<u32>().ok())?;
        if length > bits {
            return None;
        }
        // IPv4 stands in the last 32 bits.
        let mask = u128::MAX.checked_shl(bits - length).unwrap_or(0);
        let mask = if address.is_ipv4() {
            mask | !0 << 32
        } else {
            mask
        };
        let base = number(address);
        (base & !mask == 0).then_some(Self { base, mask })
    }

    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        number(address) & self.mask == self.base
    }
}

/// Who asks: the peer; or, behind proxies that are believed, the last of the addresses they name that is not one of
/// theirs. What stands further to the left anybody may have written.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    let values = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut named = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    while trusts(client) {
        let Some(next) = named.next().and_then(address) else {
            break;
        };
        client = next;
    }
    client
}

/// An address as proxies write it: with a port or without, of IPv6 in brackets or without.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let parsed = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let parsed = parsed.or_else(|| text.parse::<SocketAddr>().ok().map(|both| both.ip()));
    parsed.map(|address| address.to_canonical())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether this is a network, as [`crate::api::Front`] wants it.
#[must_use]
pub fn is_network(text: &str) -> bool {
    Network::parse(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ];
        for (network, address, wanted) in cases {
            let held = Network::parse(network)
                .unwrap()
                .holds(address.parse().unwrap());
            assert_eq!(held, wanted, "{address} in {network}");
        }
    }

    #[test]
    fn a_client_is_the_last_that_proxies_name_and_that_is_none_of_them() {
        let proxies = Network::parse("10.0.0.0/8").unwrap();
        let cases: [(&str, &[&str], &str); 9] = [
            // Who is no proxy may say what they like.
            ("203.0.113.9", &["1.2.3.4"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.2.3.4, 203.0.113.9"], "203.0.113.9"),
            (
                "10.0.0.1",
                &["1.2.3.4", "203.0.113.9, 10.0.0.2"],
                "203.0.113.9",
            ),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1, [10.0.0.3]"], "2001:db8::1"),
            ("10.0.0.1", &["1.2.3.4, unknown"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
        ];
        for (peer, said, wanted) in cases {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(FORWARDED_FOR, value.parse().unwrap());
            }
            let found = client(peer.parse().unwrap(), &headers, |one| proxies.holds(one));
            assert_eq!(found.to_string(), wanted, "{peer} {said:?}");
        }
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0/8",
            "a/8",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
