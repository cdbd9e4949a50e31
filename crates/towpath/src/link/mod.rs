//! Reaching an agent on another machine, over the system's `ssh`.
//!
//! On the far side `tow agent dial` bridges its standard input and output to the agent's socket.
//! Before it does, it says in one line who speaks there ([`Preface`]): so a server without an
//! agent, a wrong version and a login file that prints something are told apart, and what follows
//! is the very API that a socket on this machine has.

mod preface;

pub use preface::{Malformed, Platform, Preface, Refused, Skew};

/// What this build speaks. It grows by one with every minor version that changes the API; builds
/// that are one apart work together.
pub const PROTOCOL: u32 = 1;
