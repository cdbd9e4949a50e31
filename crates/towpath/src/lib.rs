//! The product: what carries an application from one environment to the next.
//!
//! Modules stand in layers; each uses only those below it, and a test holds them to it. Nothing
//! here prints or ends the process: that is for the command.

pub mod agent;
pub mod backup;
pub mod boot;
pub mod build;
pub mod certificate;
pub mod clock;
pub mod config;
pub mod container;
pub mod diagnostic;
pub mod id;
pub mod link;
pub mod load;
pub mod manifest;
pub mod migrate;
pub mod release;
pub mod render;
pub mod resource;
pub mod secret;
pub mod setup;
pub mod state;
pub mod supervise;
pub mod survey;
