//! The gateway: alone on the request path of one environment.
//!
//! A process of one thread a core, each with its own runtime, its own connections to the instances and its own
//! counters, and one more thread for the control socket. What all of them follow is one [`api::Table`] of one epoch.
//! A *switch* puts a new table in its place; a *hold* keeps requests waiting while something else happens.
//!
//! Both rest on one protocol (`traffic`): a request adds itself to the count of the epoch it read, and then looks
//! whether that epoch is still in force; if not it takes itself out and begins again. So once the generation has been
//! raised, a count of zero means that nothing is under way and nothing will be.

pub mod answer;
pub mod api;
pub mod certificate;
pub mod control;

mod body;
mod connection;
mod desk;
mod edge;
mod exchange;
mod flight;
mod framing;
mod front;
mod handshake;
mod health;
mod hold;
mod keyring;
mod listen;
mod metrics;
mod pool;
mod process;
mod proxy;
mod random;
mod readiness;
mod request;
mod socket;
mod spelling;
mod store;
mod streams;
mod table;
mod target;
mod traffic;
mod trust;
mod tunnel;
mod validity;
mod worker;

pub use edge::is_origin;
pub use process::{Error, Limits, Options, Secure, run, run_within};
pub use trust::is_network;
