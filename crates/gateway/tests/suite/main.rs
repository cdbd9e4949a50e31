//! The gateway as a process, between real sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod app;
mod client;
mod secure;
mod support;

mod cache;
mod control;
mod durability;
mod edge;
mod hold;
mod http2;
mod instances;
mod maintenance;
mod readiness;
mod requests;
mod restart;
mod stall;
mod streams;
mod switch;
mod tls;
