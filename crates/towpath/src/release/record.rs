//! What a release is, wherever it goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::build::Source;
use crate::id::Digest;

/// The record of a release: immutable, signed by the environment that built it, the same text in
/// every environment that it reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The application.
    pub app: String,
    /// The environment that built it.
    pub built_in: String,
    /// The commit it was built from.
    pub source: Source,
    /// Digest of the source archive.
    pub tree: Digest,
    /// Digest of everything that went into the build; names its folder.
    pub build: Digest,
    /// Operating system, architecture and C library that it runs on.
    pub platform: String,
    /// The manifest, as typed.
    pub manifest: String,
    /// Digests of the artifacts: one a service, one a folder of migrations.
    pub artifacts: BTreeMap<String, Digest>,
}

/// What this machine runs: `linux-x86_64-gnu`.
#[must_use]
pub fn platform() -> String {
    crate::link::Platform::here().to_string()
}
