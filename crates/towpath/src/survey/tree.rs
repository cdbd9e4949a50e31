//! The files of a project, read with care: what is huge, binary, no file at all or elsewhere is not read, and said.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::finding::{Finding, Findings, Place};

/// Longest file that is read, bytes. Those that are looked for are written by people.
pub const MAX_BYTES: u64 = 1 << 20;

/// Most entries of a folder that are looked at.
const MOST_ENTRIES: usize = 4096;

/// The folder of a project.
pub struct Tree {
    root: PathBuf,
    without: BTreeSet<String>,
    unread: RefCell<Vec<Finding>>,
    left: RefCell<Findings>,
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path from the project's folder.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl File {
    /// A line of it.
    pub fn at(&self, line: usize) -> Place {
        Place::new(&self.path, line)
    }

    /// The line that a text stands on first, else the whole file.
    pub fn find(&self, text: &str) -> Place {
        let line = self.text.lines().position(|line| line.contains(text));
        self.at(line.map_or(0, |at| at + 1))
    }

    /// The folder that it lies in; `.` for the project's own.
    pub fn dir(&self) -> &str {
        self.path.rsplit_once('/').map_or(".", |(dir, _)| dir)
    }
}

impl Tree {
    /// The project in a folder, but for the files `without`.
    ///
    /// # Errors
    /// The folder is not there, or is none.
    pub fn open(root: &Path, without: &[String]) -> std::io::Result<Self> {
        let root = root.canonicalize()?;
        std::fs::read_dir(&root)?;
        let without = without.iter().map(|path| tidy(path)).collect();
        Ok(Self {
            root,
            without,
            unread: RefCell::default(),
            left: RefCell::default(),
        })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The name of the folder.
    pub fn name(&self) -> String {
        let name = self.root.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// A file, if it is there and can be read; what stands against it is kept for [`Tree::unread`].
    pub fn read(&self, path: &str) -> Option<File> {
        let path = tidy(path);
        let full = self.root.join(&path);
        if self.without.contains(&path) || full.symlink_metadata().is_err() {
            return None;
        }
        match self.text(&full) {
            Ok(text) => Some(File { path, text }),
            Err(fault) => {
                self.refuse(&path, 0, &fault);
                None
            }
        }
    }

    /// Keeps that a file could not be understood.
    pub fn refuse(&self, path: &str, line: usize, fault: &str) {
        let place = Place::new(path, line);
        let found = Finding::at("not-read", &place, fault).help(format!(
            "mend it, or leave it out: `tow init --without {path}`"
        ));
        let mut unread = self.unread.borrow_mut();
        if !unread.contains(&found) {
            unread.push(found);
        }
    }

    /// Keeps that a part of a file is not read.
    pub fn leave(&self, place: &Place, text: &str) {
        self.left.borrow_mut().leave(place, text);
    }

    /// What is said of files as a whole.
    pub fn left(&self) -> Findings {
        self.left.take()
    }

    /// What could not be read.
    pub fn unread(self) -> Vec<Finding> {
        self.unread.into_inner()
    }

    fn text(&self, full: &Path) -> Result<String, String> {
        let real = full
            .canonicalize()
            .map_err(|_| "is a link that leads nowhere".to_owned())?;
        if !real.starts_with(&self.root) {
            return Err("is a link that leads out of the project".to_owned());
        }
        let found = real.metadata().map_err(|error| error.to_string())?;
        // A pipe would wait for somebody to write into it.
        if !found.is_file() {
            return Err("is no plain file".to_owned());
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&real).map_err(|error| error.to_string())?;
        let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err("is longer than 1 MiB".to_owned());
        }
        if bytes.contains(&0) {
            return Err("is binary: it holds a NUL".to_owned());
        }
        let text = String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".to_owned())?;
        Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
    }

    /// Whether there is a file, below the project's folder.
    pub fn is_file(&self, path: &str) -> bool {
        let path = tidy(path);
        !self.without.contains(&path) && self.inside(&path).is_some_and(|full| full.is_file())
    }

    /// Whether there is a folder, below the project's folder.
    pub fn is_dir(&self, path: &str) -> bool {
        self.inside(&tidy(path)).is_some_and(|full| full.is_dir())
    }

    fn inside(&self, path: &str) -> Option<PathBuf> {
        let real = self.root.join(path).canonicalize().ok()?;
        real.starts_with(&self.root).then_some(real)
    }

    /// The first of some names that is a file in a folder.
    pub fn first(&self, dir: &str, names: &[&str]) -> Option<String> {
        let paths = names.iter().map(|name| join(dir, name));
        paths.into_iter().find(|path| self.is_file(path))
    }

    /// The names in a folder, sorted; hidden ones are left out.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let folder = self.inside(&tidy(dir));
        let Some(entries) = folder.and_then(|folder| std::fs::read_dir(folder).ok()) else {
            return Vec::new();
        };
        let names = entries.take(MOST_ENTRIES).flatten();
        let mut names: Vec<_> = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    /// The folders in a folder that may be parts of the project: not what was installed or built, and no links.
    pub fn folders(&self, dir: &str) -> Vec<String> {
        const NOT: [&str; 12] = [
            "node_modules",
            "target",
            "vendor",
            "dist",
            "build",
            "venv",
            "docs",
            "examples",
            "example",
            "tests",
            "test",
            "e2e",
        ];
        let names = self.names(dir).into_iter();
        let names = names.filter(|name| !NOT.contains(&name.as_str()));
        let paths = names.map(|name| join(dir, &name));
        let is_folder = |path: &String| {
            let found = self.root.join(path).symlink_metadata();
            found.is_ok_and(|found| found.is_dir())
        };
        paths.filter(is_folder).collect()
    }
}

/// A path below a folder of the project, in its shortest form.
pub fn join(dir: &str, path: &str) -> String {
    tidy(&format!("{dir}/{path}"))
}

/// A path in its shortest form: `./a/../b/` is `b`, and the project's folder is `.`. What leads out of it does still.
pub fn tidy(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(step) => steps.extend(step.to_str()),
            Component::ParentDir if steps.last().is_some_and(|step| *step != "..") => {
                steps.pop();
            }
            Component::ParentDir => steps.push(".."),
            _ => {}
        }
    }
    match steps.is_empty() {
        true => ".".to_owned(),
        false => steps.join("/"),
    }
}

/// Whether a tidy path stays in the project.
pub fn is_inside(path: &str) -> bool {
    !path.starts_with('/') && path != ".." && !path.starts_with("../")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_their_shortest_form() {
        for (path, tidied) in [
            ("./a/../b/", "b"),
            (".", "."),
            ("", "."),
            ("a/..", "."),
            ("../a", "../a"),
            ("a/../../b", "../b"),
        ] {
            assert_eq!(tidy(path), tidied, "{path}");
        }
        assert!(!is_inside(&tidy("a/../../b")));
    }
}
