//! The command, from outside: real processes, real sockets, real kills.
//!
//! `TOWPATH_KILL_ALL=1` kills at every point, and at many moments; `UPDATE=1` writes the committed
//! texts anew; `KEEP=1` leaves the folder of a test that failed.
#![allow(missing_docs, clippy::print_stdout)]
#![allow(clippy::unwrap_used)] // in the helpers of tests as in the tests themselves

mod access;
mod again;
mod baked;
mod boot;
mod builder;
mod canary;
mod carry;
mod config;
mod container;
mod contract;
mod crash;
mod cut;
mod damage;
mod databases;
mod doctor;
mod engines;
mod failure;
mod first_hour;
#[allow(dead_code)] // what `make tls` needs
mod fixture;
mod foreign;
mod foreign_database;
mod gc;
mod health;
mod hold;
mod https;
mod init;
mod jobs;
mod key;
mod kill;
mod leaving;
mod link;
mod listen;
mod load;
mod looking;
mod machine;
mod maintenance;
mod matrix;
mod migrate;
mod migrate_database;
mod probes;
mod readers;
mod rehearse;
mod room;
mod rotate;
mod rotate_database;
mod rotation;
mod secrets;
mod setup;
mod snapshot;
mod storage;
mod stuck;
#[allow(dead_code)]
mod tls_client;
mod trace;
mod upgrade;
mod whole;
