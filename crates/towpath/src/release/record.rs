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
    /// Digests of the artifacts: one a service, one a folder of migrations, one an image that no
    /// registry has.
    pub artifacts: BTreeMap<String, Digest>,
    /// By environment, digests of the artifacts that stand there in the place of those above: their builds take
    /// in what differs from one environment to the next.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baked: BTreeMap<String, BTreeMap<String, Digest>>,
    /// The images of its containers, by service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, Image>,
}

impl Record {
    /// The artifacts that it consists of in `environment`.
    #[must_use]
    pub fn artifacts_in(&self, environment: &str) -> BTreeMap<String, Digest> {
        let mut artifacts = self.artifacts.clone();
        artifacts.extend(self.baked.get(environment).cloned().unwrap_or_default());
        artifacts
    }
}

/// The image of a service's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What it is known by where the release was made.
    pub id: String,
    /// `repo@sha256:...`, which every machine can have from a registry; without it the image is
    /// carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// The name of an image's archive among the artifacts.
#[must_use]
pub(super) fn image_artifact(service: &str) -> String {
    format!("images/{service}")
}

/// Whether an artifact is files to be unpacked, and not an image for the engine.
#[must_use]
pub(super) fn is_files(artifact: &str) -> bool {
    !artifact.starts_with("images/")
}

/// What this machine runs: `linux-x86_64-gnu`.
#[must_use]
pub fn platform() -> String {
    crate::link::Platform::here().to_string()
}
