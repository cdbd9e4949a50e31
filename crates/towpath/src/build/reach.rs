//! What a user who is nobody else can reach: by the modes of files, as the kernel looks at them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use towpath_shim::protocol::User;

const READS: u32 = 4;
const WRITES: u32 = 2;
const PASSES: u32 = 1;

/// Whether a user can run a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It can.
    There,
    /// It lies at `program`, and the user cannot pass, or run, `closed`.
    Closed {
        /// Where it lies.
        program: PathBuf,
        /// What keeps the user out.
        closed: PathBuf,
    },
    /// No folder of the search path has it.
    Missing,
}

/// Looks for `program` in the folders of `path`, a search path, as `user` would.
#[must_use]
pub fn look(program: &str, path: &str, user: User) -> Reach {
    let mut first = Reach::Missing;
    for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
        let program = folder.join(program);
        let runs = |found: std::fs::Metadata| found.is_file() && found.mode() & 0o111 != 0;
        if !std::fs::metadata(&program).is_ok_and(runs) {
            continue;
        }
        match (closed(&program, PASSES, user), &first) {
            (None, _) => return Reach::There,
            (Some(closed), Reach::Missing) => first = Reach::Closed { program, closed },
            _ => {}
        }
    }
    first
}

/// Whether `user` can read `path`, and go into it when it is a folder.
#[must_use]
pub fn reaches(path: &Path, user: User) -> bool {
    let wanted = if path.is_dir() { READS | PASSES } else { READS };
    closed(path, wanted, user).is_none()
}

/// Whether `user` can make files in the folder `path`.
#[must_use]
pub fn writes(path: &Path, user: User) -> bool {
    closed(path, WRITES | PASSES, user).is_none()
}

/// The first thing on the way to `path`, or `path` itself, that keeps the user out.
fn closed(path: &Path, wanted: u32, user: User) -> Option<PathBuf> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let passes = |path: &Path| {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        let closed = above
            .into_iter()
            .rev()
            .find(|folder| !may(folder, PASSES, user));
        closed.map(Path::to_owned)
    };
    passes(path)
        .or_else(|| passes(&real))
        .or_else(|| (!may(&real, wanted, user)).then_some(real))
}

fn may(path: &Path, wanted: u32, user: User) -> bool {
    std::fs::metadata(path).is_ok_and(|found| {
        let shift = match (found.uid() == user.uid, found.gid() == user.gid) {
            (true, _) => 6,
            (_, true) => 3,
            _ => 0,
        };
        (found.mode() >> shift) & wanted == wanted
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const STRANGER: User = User {
        uid: 61_999,
        gid: 61_999,
    };

    #[test]
    fn a_program_in_a_closed_folder_is_named_with_that_folder() {
        let top = std::env::temp_dir().join(format!("towpath-reach-{}", std::process::id()));
        let (home, open) = (top.join("home"), top.join("open"));
        for folder in [home.join("bin"), open.clone()] {
            std::fs::create_dir_all(&folder).unwrap();
        }
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for folder in [&top, &home.join("bin"), &open] {
            mode(folder, 0o755);
        }
        std::fs::write(home.join("bin/tool"), "").unwrap();
        mode(&home.join("bin/tool"), 0o755);
        mode(&home, 0o700);
        let real = top.canonicalize().unwrap();
        std::os::unix::fs::symlink(home.join("bin/tool"), open.join("link")).unwrap();
        let path = format!("{}:{}", home.join("bin").display(), open.display());
        let said = ["tool", "link", "none"].map(|name| look(name, &path, STRANGER));
        mode(&home, 0o755);
        let then = look("tool", &path, STRANGER);
        std::fs::remove_dir_all(&top).unwrap();
        let closed = |program: PathBuf, closed: PathBuf| Reach::Closed { program, closed };
        assert_eq!(said[0], closed(home.join("bin/tool"), home.clone()));
        assert_eq!(said[1], closed(open.join("link"), real.join("home")));
        assert_eq!((&said[2], then), (&Reach::Missing, Reach::There));
    }
}
