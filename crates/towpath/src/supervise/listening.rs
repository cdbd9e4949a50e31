//! The listening TCP sockets of the caller's network, asked of the kernel by sock_diag(7).
//!
//! `/proc/net/tcp` lists every connection of the machine, and to read it the kernel walks the table of all of them: too
//! much for what every probe asks, where a gateway has tens of thousands that wait for their end.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// A listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listening {
    pub port: u16,
    pub uid: u32,
    pub inode: u64,
}

/// Of what linux/netlink.h, linux/sock_diag.h and net/tcp_states.h define.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TCP_LISTEN: u32 = 10;
const IPPROTO_TCP: u8 = 6;

/// Bytes of `nlmsghdr`, of it with `inet_diag_req_v2`, and of `inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
const MESSAGE: usize = 72;

/// Those of IPv4 and of IPv6.
///
/// # Errors
/// Where the kernel does not tell: it was built without, or something between it and the caller does not know it.
pub(super) fn listening() -> io::Result<Vec<Listening>> {
    let kind = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    let kernel = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, kind.0, kind.1, kernel)?;
    // The kernel answers at once; what only looks like it must not be waited for.
    set_socket_timeout(
        &socket,
        Timeout::Recv,
        Some(std::time::Duration::from_secs(1)),
    )?;
    let mut found = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        dump(&socket, family, &mut found)?;
    }
    Ok(found)
}

fn dump(socket: &OwnedFd, family: AddressFamily, found: &mut Vec<Listening>) -> io::Result<()> {
    let family = u8::try_from(family.as_raw()).map_err(io::Error::other)?;
    send(socket, &request(family), SendFlags::empty())?;
    // The kernel puts as many into one answer as 32 KiB hold.
    let mut buffer = vec![0; 1 << 15];
    loop {
        let (length, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Err(unclear());
        }
        while !rest.is_empty() {
            let length = number(rest, 0).ok_or_else(unclear)? as usize;
            let (kind, flags) = (short(rest, 4), short(rest, 6));
            let body = rest.get(HEADER..length).ok_or_else(unclear)?;
            if flags.is_none_or(|flags| flags & NLM_F_DUMP_INTR != 0) {
                return Err(io::Error::other("the sockets changed meanwhile"));
            }
            match kind {
                Some(NLMSG_DONE) => return Ok(()),
                Some(SOCK_DIAG_BY_FAMILY) => found.push(message(body).ok_or_else(unclear)?),
                Some(NLMSG_ERROR) => {
                    let code = number(body, 0).ok_or_else(unclear)?.cast_signed();
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn unclear() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no answer of sock_diag(7)")
}

fn request(family: u8) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    let length = u32::try_from(REQUEST).unwrap_or_default();
    put(0, &length.to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    put(HEADER, &[family, IPPROTO_TCP]);
    put(HEADER + 4, &(1_u32 << TCP_LISTEN).to_ne_bytes());
    request
}

/// The port is in network order, as it is on the wire.
fn message(body: &[u8]) -> Option<Listening> {
    let body = body.get(..MESSAGE)?;
    let port = short(body, 4).map(u16::from_be)?;
    let (uid, inode) = (number(body, 64)?, number(body, 68)?);
    Some(Listening {
        port,
        uid,
        inode: inode.into(),
    })
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}
