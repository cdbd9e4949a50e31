//! Which environments there are, and when that may have changed.

use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::Readable;
use crate::manifest::form::is_name;

/// One environment of the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Environment {
    /// Name of the application.
    pub app: String,
    /// Name of the environment.
    pub name: String,
    /// The state directory.
    pub state: PathBuf,
}

/// The state root, watched.
pub(super) struct Watch {
    states: PathBuf,
    inotify: Readable,
}

impl Watch {
    pub(super) fn new(states: &Path) -> io::Result<Watch> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Watch {
            states: states.to_owned(),
            inotify: super::readable(inotify)?,
        })
    }

    /// The environments there are now. Each folder is watched before it is read, so what appears
    /// meanwhile is seen here or told later.
    pub(super) fn environments(&self) -> io::Result<Vec<Environment>> {
        self.watch(&self.states)?;
        let mut found = Vec::new();
        for (app, dir) in folders(&self.states)? {
            // One that is removed at this moment has no environments.
            let listed = self.watch(&dir).and_then(|()| folders(&dir));
            for (name, state) in listed.unwrap_or_default() {
                let app = app.clone();
                found.push(Environment { app, name, state });
            }
        }
        Ok(found)
    }

    fn watch(&self, dir: &Path) -> io::Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(self.inotify.get_ref(), dir, flags)?;
        Ok(())
    }

    /// Returns when something has appeared.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        let mut guard = self.inotify.readable().await?;
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(guard.get_inner(), &mut space);
        // What it was is not asked: everything is looked at again.
        let end = loop {
            if let Err(error) = events.next() {
                break error;
            }
        };
        guard.clear_ready();
        match end {
            Errno::AGAIN => Ok(()),
            error => Err(error.into()),
        }
    }
}

/// Folders whose names an application or an environment can have; links are none.
fn folders(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)?.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name().into_string().unwrap_or_default();
        if is_dir && is_name(&name) {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::Watch;

    #[tokio::test]
    async fn an_environment_that_appears_is_told_and_what_is_none_is_left_out() {
        let states = std::env::temp_dir().join(format!("tow-boot-{}", std::process::id()));
        std::fs::create_dir_all(states.join("notes/staging")).expect("a folder");
        std::fs::create_dir_all(states.join("Notes/staging")).expect("a folder");
        std::fs::write(states.join("notes/file"), "").expect("a file");
        std::os::unix::fs::symlink("staging", states.join("notes/link")).expect("a link");
        let mut watch = Watch::new(&states).expect("inotify");
        let names = |watch: &Watch| -> Vec<String> {
            let found = watch.environments().expect("a folder");
            found
                .into_iter()
                .map(|one| one.app + "/" + &one.name)
                .collect()
        };
        assert_eq!(names(&watch), ["notes/staging"]);
        std::fs::create_dir_all(states.join("other/production")).expect("a folder");
        watch.changed().await.expect("an event");
        let mut now = names(&watch);
        now.sort();
        assert_eq!(now, ["notes/staging", "other/production"]);
        std::fs::create_dir(states.join("notes/production")).expect("a folder");
        watch.changed().await.expect("an event");
        assert_eq!(names(&watch).len(), 3);
        std::fs::remove_dir_all(&states).expect("a folder");
    }
}
