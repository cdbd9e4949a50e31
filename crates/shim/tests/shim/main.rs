//! Real shims with real children, one process tree for each test.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may fail, and figures are printed"
)]

mod control;
mod end;
mod handed;
mod harness;
mod listen;
mod log;
mod start;
