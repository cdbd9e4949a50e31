//! The gateway as a process, between real sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod app;
mod client;
mod secure;
mod support;

mod control;
mod durability;
mod hold;
mod http2;
mod instances;
mod requests;
mod restart;
mod stall;
mod streams;
mod switch;
mod tls;
