//! https beside programs of others: an issuer (`pebble`), clients (`h2load`, `curl`, `chromium`). `make tls` installs
//! them; one that is missing fails.
#![allow(missing_docs, clippy::print_stdout)]
#![allow(clippy::unwrap_used)] // in the helpers of tests as in the tests themselves

#[allow(dead_code)] // what other tests need
#[path = "../suite/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "../suite/machine.rs"]
mod machine;
#[path = "../suite/tls_client.rs"]
mod tls_client;

mod clients;
mod issuer;
mod pebble;
