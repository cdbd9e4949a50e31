//! The folder that a rehearsal works in: copies of the committed tree, and three states.

use std::path::{Path, PathBuf};

use towpath::agent::api::Trouble;
use towpath::build;
use towpath::config::{Config, Rehearse as Declared, Version};
use towpath::diagnostic::Diagnostic;

use crate::cli::commands::Rehearse;
use crate::place::App;

/// The folder.
pub struct Scratch {
    /// Its path.
    pub dir: PathBuf,
    app: PathBuf,
    declared: Declared,
}

fn trouble(error: &dyn std::fmt::Display) -> Trouble {
    let diagnostic = Diagnostic::error("rehearse::scratch", error.to_string())
        .note("nothing outside the scratch folder was touched");
    Trouble {
        exit: 1,
        diagnostic,
    }
}

impl Scratch {
    /// Makes the folder, with the first version in `source` and in `local`.
    pub fn make(app: &App, config: &Config, arguments: &Rehearse) -> Result<Scratch, Trouble> {
        let default =
            || std::env::temp_dir().join(format!("towpath-rehearsal-{}", std::process::id()));
        let dir = arguments.scratch.clone().unwrap_or_else(default);
        let dir = std::path::absolute(&dir).map_err(|error| trouble(&error))?;
        std::fs::create_dir(&dir)
            .map_err(|error| trouble(&format!("`{}`: {error}", dir.display())))?;
        let declared = config.rehearse.clone().ok_or_else(super::undeclared)?;
        let scratch = Scratch {
            dir,
            app: app.root.clone(),
            declared,
        };
        let made = scratch
            .lay(&scratch.declared.first, "first")
            .and_then(|()| {
                let tree = scratch.tree(&scratch.declared.first)?;
                build::unpack(&tree[..], &scratch.dir.join("local"))
                    .map_err(|error| trouble(&error))
            });
        if made.is_err() {
            scratch.remove();
        }
        made.map(|()| scratch)
    }

    /// The committed application.
    pub fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// The application that runs as a source tree.
    pub fn local(&self) -> PathBuf {
        self.dir.join("local")
    }

    /// The folder of the three states.
    pub fn states(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Commits the next version.
    pub fn lay_next(&self) -> Result<(), Trouble> {
        self.lay(&self.declared.next, "next")
    }

    /// Commits the broken version.
    pub fn lay_broken(&self) -> Result<(), Trouble> {
        self.lay(&self.declared.broken, "broken")
    }

    fn tree(&self, version: &Version) -> Result<Vec<u8>, Trouble> {
        let packed = match version {
            Version::Ref(revision) => build::pack_revision(&self.app, revision),
            Version::Head | Version::Overlay(_) => build::pack_head(&self.app),
        };
        packed.map_err(|error| Trouble {
            exit: 3,
            diagnostic: Diagnostic::error("rehearse::source", error.to_string())
                .note("nothing was touched")
                .help("a rehearsal is of a commit: make one"),
        })
    }

    fn lay(&self, version: &Version, subject: &str) -> Result<(), Trouble> {
        let (tree, source) = (self.tree(version)?, self.source());
        clear(&source).map_err(|error| trouble(&error))?;
        build::unpack(&tree[..], &source).map_err(|error| trouble(&error))?;
        if let Version::Overlay(folder) = version {
            let from = source.join(folder);
            if !from.is_dir() {
                return Err(trouble(&format!(
                    "the overlay `{}` is not in the commit",
                    folder.display()
                )));
            }
            overlay(&from, &source).map_err(|error| trouble(&error))?;
        }
        build::commit_all(&source, subject).map_err(|error| trouble(&error))
    }

    /// Removes the folder.
    pub fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Everything but the repository.
fn clear(dir: &Path) -> std::io::Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true if path.ends_with(".git") => {}
            true => std::fs::remove_dir_all(path)?,
            false => std::fs::remove_file(path)?,
        }
    }
    Ok(())
}

fn overlay(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let place = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            std::fs::create_dir_all(&place)?;
            overlay(&path, &place)?;
        } else {
            std::fs::copy(&path, &place)?;
        }
    }
    Ok(())
}
