//! The committed tree, as an archive.

use std::io::{BufRead, Read};
use std::path::Path;
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};

use super::Error;

/// Where a source came from, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The commit's full id.
    pub commit: String,
    /// Its subject line.
    pub subject: String,
    /// Whether changes that are not committed were left out.
    pub dirty: bool,
}

/// Which commit stands in `dir`, and whether `dir` differs from it.
///
/// # Errors
/// [`Error::Git`] outside of a repository; [`Error::Dirty`] when changes are not allowed.
pub fn commit_of(dir: &Path, allow_dirty: bool) -> Result<Source, Error> {
    let head = text(git(dir, &["log", "-1", "--format=%H%n%s"])?);
    let (commit, subject) = head.split_once('\n').unwrap_or((&head, ""));
    let status = text(git(
        dir,
        &[
            "status",
            "--porcelain",
            "--untracked-files=normal",
            "--",
            ".",
        ],
    )?);
    let files: Vec<String> = status
        .lines()
        .map(|line| line.get(3..).unwrap_or(line).to_owned())
        .collect();
    if !files.is_empty() && !allow_dirty {
        return Err(Error::Dirty(files));
    }
    Ok(Source {
        commit: commit.to_owned(),
        subject: subject.trim().to_owned(),
        dirty: !files.is_empty(),
    })
}

/// The commit that `revision` names in `dir`: an id, a tag, a branch.
///
/// # Errors
/// [`Error::Git`] when it names none.
pub fn commit_named(dir: &Path, revision: &str) -> Result<Source, Error> {
    if revision.starts_with('-') {
        return Err(Error::Git(format!("`{revision}` is no revision")));
    }
    let commit = format!("{revision}^{{commit}}");
    let id = text(
        git(dir, &["rev-parse", "--verify", "--quiet", &commit])
            .map_err(|_| Error::Git(format!("`{revision}` names no commit here")))?,
    );
    let subject = text(git(dir, &["log", "-1", "--format=%s", &id])?);
    Ok(Source {
        commit: id,
        subject: subject.trim().to_owned(),
        dirty: false,
    })
}

/// The tree below `dir` as it is committed: a tar archive, the same for the same commit.
///
/// # Errors
/// [`Error::Git`] when there is no commit.
pub fn pack_head(dir: &Path) -> Result<Vec<u8>, Error> {
    pack_revision(dir, "HEAD")
}

/// The tree below `dir` as it is in `revision`.
///
/// # Errors
/// [`Error::Git`] when there is no such revision.
pub fn pack_revision(dir: &Path, revision: &str) -> Result<Vec<u8>, Error> {
    if revision.starts_with('-') {
        return Err(Error::Git(format!("`{revision}` is no revision")));
    }
    Ok(git(dir, &["archive", "--format=tar", revision, "."])?.stdout)
}

/// The same, as it is sent: gzip at its fastest, as artifacts are.
#[must_use]
pub fn compress(archive: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut gzip = flate2::GzBuilder::new()
        .mtime(0)
        .read(archive, flate2::Compression::fast());
    // Nothing of it leaves memory.
    let _ = gzip.read_to_end(&mut packed);
    packed
}

/// Reads an archive that may have been sent as it is, or compressed.
///
/// # Errors
/// From the reader.
pub fn plain<'a>(mut archive: impl BufRead + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    let is_gzip = archive.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(match is_gzip {
        true => Box::new(flate2::bufread::GzDecoder::new(archive)),
        false => Box::new(archive),
    })
}

/// Makes `dir` a repository of one more commit, of everything in it.
///
/// # Errors
/// [`Error::Git`] when git refuses.
pub fn commit_all(dir: &Path, subject: &str) -> Result<(), Error> {
    git(dir, &["init", "--quiet", "."])?;
    git(dir, &["add", "--all", "--force", "."])?;
    let who = [
        "-c",
        "user.name=Towpath",
        "-c",
        "user.email=towpath@localhost",
        "-c",
        "commit.gpgsign=false",
    ];
    let commit = [
        "commit",
        "--quiet",
        "--allow-empty",
        "--no-verify",
        "-m",
        subject,
    ];
    git(dir, &[&who[..], &commit[..]].concat()).map(drop)
}

fn git(dir: &Path, arguments: &[&str]) -> Result<Output, Error> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .output();
    match output {
        Err(error) => Err(Error::Git(format!("cannot be started: {error}"))),
        Ok(output) if !output.status.success() => Err(Error::Git(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
        Ok(output) => Ok(output),
    }
}

fn text(output: Output) -> String {
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}
