//! Containers, with engines that these tests start themselves: `dockerd`, each with its own data and
//! socket. `make containers` installs it and runs this in a network of its own, as root.
#![allow(missing_docs, clippy::print_stdout)]
#![allow(clippy::unwrap_used)] // in the helpers of tests as in the tests themselves

#[allow(dead_code)] // what other tests need
#[path = "../suite/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "../suite/load.rs"]
mod load;
#[allow(dead_code)]
#[path = "../suite/machine.rs"]
mod machine;

#[path = "../suite/trace.rs"]
mod trace;

mod application;
mod engine;
mod kills;
mod network;
mod release;
mod secrets;
