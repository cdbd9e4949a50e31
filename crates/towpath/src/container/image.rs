//! Images: which one is meant, and carrying one from an engine to another.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::{Engine, Error};

/// Longest time that an image takes to be loaded.
const LOADS: Duration = Duration::from_secs(3600);
/// The most of a description inside an archive that is read, bytes.
const DESCRIPTION: u64 = 4 << 20;

/// An image that an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is known by there, `sha256:...`.
    pub id: String,
    /// What registries know it by, `repo@sha256:...`.
    pub digests: Vec<String>,
}

impl Engine {
    /// The image of that name or id; `None` when it is not here.
    ///
    /// # Errors
    /// When the engine does not say.
    pub fn image(&self, name: &str) -> Result<Option<Found>, Error> {
        let format = "{{.Id}} {{json .RepoDigests}}";
        let said = match self.ask(&["image", "inspect", "--format", format, name]) {
            Ok(said) => said,
            Err(Error::Said(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (id, digests) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
        let id = match id.contains(':') {
            true => id.to_owned(),
            // Podman leaves it out.
            false => format!("sha256:{id}"),
        };
        let digests: Option<Vec<String>> = serde_json::from_str(digests).unwrap_or_default();
        Ok(Some(Found {
            id,
            digests: digests.unwrap_or_default(),
        }))
    }

    /// Writes an image as an archive; without names, so that loading it changes nobody's.
    ///
    /// # Errors
    /// When the engine fails, or `into` does.
    pub fn save(&self, id: &str, into: &mut impl Write) -> Result<(), Error> {
        let io = |error| Error::Io(self.program().to_owned(), error);
        let mut command = self.command(&["save", id]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(io)?;
        let copied = match child.stdout.take() {
            Some(mut out) => std::io::copy(&mut out, into),
            None => Ok(0),
        };
        if copied.is_err() {
            // It would wait for a reader for ever.
            let _ = child.kill();
        }
        let ended = child.wait_with_output().map_err(io)?;
        copied.map_err(io)?;
        match ended.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&ended.stderr);
                Err(Error::Said(format!("{}: {}", self.name(), said.trim())))
            }
        }
    }

    /// Loads an archive that [`Engine::save`] has written elsewhere, gzipped.
    ///
    /// # Errors
    /// When it would name images, or does not hold the image `id`.
    pub fn load(&self, archive: &Path, id: &str) -> Result<(), Error> {
        nameless(archive)?;
        let path = archive.to_string_lossy();
        let command = self.command(&["load", "--input", &path]);
        self.output(command, "", LOADS)?;
        match self.image(id)? {
            Some(found) if found.id == id => Ok(()),
            _ => Err(Error::Archive(format!("it holds another image than {id}"))),
        }
    }
}

/// Refuses an archive that brings names: it would take them from other images of the machine.
fn nameless(archive: &Path) -> Result<(), Error> {
    let io = |error| Error::Io(archive.to_owned(), error);
    let file = BufReader::new(File::open(archive).map_err(io)?);
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut is_described = false;
    for entry in tar.entries().map_err(io)? {
        let mut entry = entry.map_err(io)?;
        let path = entry.path_bytes().into_owned();
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        let is_description = match path {
            b"repositories" => return Err(Error::Archive("it names images".to_owned())),
            b"manifest.json" | b"index.json" => true,
            _ => false,
        };
        if !is_description {
            continue;
        }
        is_described = true;
        let mut text = String::new();
        let mut limited = (&mut entry).take(DESCRIPTION);
        limited.read_to_string(&mut text).map_err(io)?;
        let value = serde_json::from_str(&text);
        let value = value.map_err(|error| Error::Archive(error.to_string()))?;
        if names(&value) {
            return Err(Error::Archive("it names images".to_owned()));
        }
    }
    match is_described {
        true => Ok(()),
        false => Err(Error::Archive("it describes no image".to_owned())),
    }
}

/// Whether a description gives a name to anything.
fn names(value: &Value) -> bool {
    let is_name = |(key, value): (&String, &Value)| match key.as_str() {
        "RepoTags" => value.as_array().is_some_and(|tags| !tags.is_empty()),
        "io.containerd.image.name" | "org.opencontainers.image.ref.name" => true,
        _ => names(value),
    };
    match value {
        Value::Array(items) => items.iter().any(names),
        Value::Object(fields) => fields.iter().any(is_name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let file = format!("towpath-image-{}-{name}.tar.gz", std::process::id());
        let path = std::env::temp_dir().join(file);
        let gzip = flate2::write::GzEncoder::new(
            File::create(&path).unwrap(),
            flate2::Compression::fast(),
        );
        let mut tar = tar::Builder::new(gzip);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    /// A name, the files, and whether it is fine.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);

    #[test]
    fn an_archive_that_brings_names_is_refused() {
        let plain = r#"[{"Config":"a.json","RepoTags":null,"Layers":[]}]"#;
        let named = r#"[{"Config":"a.json","RepoTags":["debian:12"],"Layers":[]}]"#;
        let index = r#"{"manifests":[{"annotations":{"io.containerd.image.name":"debian:12"}}]}"#;
        let cases: [Case; 6] = [
            ("plain", &[("a.json", "{}"), ("manifest.json", plain)], true),
            ("named", &[("manifest.json", named)], false),
            ("dot", &[("./manifest.json", named)], false),
            (
                "index",
                &[("manifest.json", plain), ("index.json", index)],
                false,
            ),
            (
                "old",
                &[("manifest.json", plain), ("repositories", "{}")],
                false,
            ),
            ("empty", &[], false),
        ];
        for (name, files, good) in cases {
            let path = archive(name, files);
            let found = nameless(&path);
            assert_eq!(found.is_ok(), good, "{name}: {found:?}");
            std::fs::remove_file(path).unwrap();
        }
    }
}
