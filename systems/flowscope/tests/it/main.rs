//! FlowScope from outside: the program and the worker as processes, on databases of their own, over loopback.

// Helpers of tests are not tests to clippy, and a panic is how they fail.
#![allow(clippy::unwrap_used)]

mod connection;
mod harness;
mod http;
mod live;
mod migrations;
mod outage;
mod page;
mod prompts;
mod server;
mod service;
mod sessions;
mod traces;
mod worker;
