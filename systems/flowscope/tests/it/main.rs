//! FlowScope from outside: the program and the worker as processes, on databases of their own, over loopback.

// Helpers of tests are not tests to clippy, and a panic is how they fail.
#![allow(clippy::unwrap_used)]

mod harness;
mod http;
mod live;
mod migrations;
mod page;
mod prompts;
mod service;
mod sessions;
mod traces;
mod worker;
