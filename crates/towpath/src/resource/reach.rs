//! Which addresses are asked for somebody who writes a manifest. What a machine of a cloud is told about itself, its
//! credentials among it, is to be had at an address that only the machine reaches: the agent, which runs there, must
//! not be sent to it, by an address, by a name that leads there, or by a name that leads somewhere else the next time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Outside of the networks that are link-local: Alibaba Cloud, Oracle Cloud, Azure.
const ALONE: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// Amazon's, by IPv6.
const AMAZON: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Google's, by IPv6.
const GOOGLE: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Whether a cloud tells its machines about themselves there.
#[must_use]
pub fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ALONE.contains(&ip),
        IpAddr::V6(ip) => {
            let inner = within(ip).is_some_and(|ip| is_metadata(IpAddr::V4(ip)));
            inner || ip.is_unicast_link_local() || ip == AMAZON || ip == GOOGLE
        }
    }
}

/// The address of IPv4 that one of IPv6 stands for: mapped, compatible, by NAT64 or by 6to4.
fn within(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    let at = |from: usize| {
        Ipv4Addr::new(
            octets[from],
            octets[from + 1],
            octets[from + 2],
            octets[from + 3],
        )
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        _ => None,
    }
}

/// Where `host` is, all of it; and it is these that are to be asked, not the name again. Blocking.
///
/// # Errors
/// When it is nowhere, or where nobody is to be asked.
pub fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (host, port).to_socket_addrs();
    let found: Vec<SocketAddr> = found
        .map_err(|error| format!("{host} is not found: {error}"))?
        .collect();
    if let Some(place) = found.iter().find(|place| is_metadata(place.ip())) {
        return Err(refused(host, place.ip()));
    }
    match found.is_empty() {
        true => Err(format!("{host} is not found")),
        false => Ok(found),
    }
}

/// Why that is not asked.
#[must_use]
pub fn refused(host: &str, ip: IpAddr) -> String {
    let place = match host.parse() == Ok(ip) {
        true => host.to_owned(),
        false => format!("{host} ({ip})"),
    };
    format!("{place} is where clouds tell machines about themselves, and is not asked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_of_writing_it_leads_to_the_metadata() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            let ip: IpAddr = host.parse().expect("an address");
            assert!(is_metadata(ip), "{host}");
            assert!(addresses(host, 80).is_err(), "{host}");
        }
        // The resolver takes more ways than a parser does.
        for host in ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376"] {
            let found = addresses(host, 80);
            assert!(found.is_err(), "{host}: {found:?}");
        }
        for host in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "203.0.113.7",
            "2001:db8::1",
            "fd00::1",
        ] {
            let found = addresses(host, 5432);
            assert_eq!(
                found,
                Ok(vec![SocketAddr::new(host.parse().expect("one"), 5432)])
            );
        }
    }
}
