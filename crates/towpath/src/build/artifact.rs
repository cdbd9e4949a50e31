//! What is carried on of a build: the files of one service, as one archive.

use std::io::Write;
use std::path::{Path, PathBuf};

use tar::{Builder, Header, HeaderMode};

use super::Error;

/// Packs `paths` (below `folder`; `.` for all of it) into a tar archive whose bytes depend on names,
/// modes and contents alone. Compressed with gzip at its fastest.
///
/// # Errors
/// [`Error::NoArtifact`] when a path is not there; [`Error::Hostile`] when a link on the way to it
/// leads out of `folder`.
pub fn pack(folder: &Path, paths: &[PathBuf], into: impl Write) -> Result<(), Error> {
    let io = |error| Error::Io(folder.to_owned(), error);
    let gzip = flate2::GzBuilder::new()
        .mtime(0)
        .write(into, flate2::Compression::fast());
    let mut archive = Builder::new(gzip);
    archive.mode(HeaderMode::Deterministic);
    archive.follow_symlinks(false);
    for path in paths {
        if !folder.join(path).exists() {
            return Err(Error::NoArtifact(path.clone()));
        }
        if let Some(above) = path.parent() {
            super::inside(folder, above)?;
        }
        append(&mut archive, folder, path).map_err(io)?;
    }
    archive
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .map_err(io)?;
    Ok(())
}

fn append(archive: &mut Builder<impl Write>, folder: &Path, path: &Path) -> std::io::Result<()> {
    let full = folder.join(path);
    let found = full.symlink_metadata()?;
    if !found.is_dir() {
        return archive.append_path_with_name(&full, path);
    }
    if path != Path::new(".") {
        let mut header = Header::new_gnu();
        header.set_metadata_in_mode(&found, HeaderMode::Deterministic);
        archive.append_data(&mut header, path, std::io::empty())?;
    }
    let mut names: Vec<_> = std::fs::read_dir(&full)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    for name in names {
        if name != ".git" && name != super::BUILT {
            let below = if path == Path::new(".") {
                PathBuf::from(&name)
            } else {
                path.join(&name)
            };
            append(archive, folder, &below)?;
        }
    }
    Ok(())
}
