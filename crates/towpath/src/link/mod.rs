//! Reaching an agent on another machine, over the system's `ssh`.
//!
//! On the far side `tow agent dial` bridges its standard input and output to the agent's socket.
//! Before it does, it says in one line who speaks there ([`Preface`]): so a server without an
//! agent, a wrong version and a login file that prints something are told apart, and what follows
//! is the very API that a socket on this machine has.
//!
//! Each connection is one `ssh` child ([`Channel`]); all of them share one connection of ssh's own,
//! which stays for a minute after the last. No port is opened, and whose key may do what is for
//! sshd to say.

mod channel;
mod fault;
mod preface;
mod ssh;

pub use channel::Channel;
pub use fault::Fault;
pub use preface::{Malformed, Platform, Preface, Refused, Skew};
pub use ssh::{Manner, Rehearsal, Route, Ssh};

/// What this build speaks. It grows by one with every minor version that changes the API; builds
/// that are one apart work together.
pub const PROTOCOL: u32 = 1;
