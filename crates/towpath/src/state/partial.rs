//! A blob that comes in from elsewhere, over a link that may break.
//!
//! What has come stays in a file of its own, below a name that nothing else reads, and the next
//! connection goes on behind it. Only when everything is there is it read back, and becomes a blob
//! if it is the one that was announced; so neither a torn file nor a hostile sender can make one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::Digest as _;

use super::blobs::sync_dir;
use super::{Blobs, Error};
use crate::id::Digest;

/// A blob on its way in. What has come is kept when this is dropped.
pub struct Partial {
    blobs: Blobs,
    digest: Digest,
    file: File,
    number: u64,
}

impl Partial {
    pub(super) fn open(blobs: &Blobs, digest: Digest, offset: u64) -> Result<Partial, Error> {
        let path = blobs.partial_path(digest);
        let io = |error| Error::Io(path.clone(), error);
        std::fs::create_dir_all(blobs.dir().join("partial")).map_err(io)?;
        let mut receivers = blobs.receivers();
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        let have = file.metadata().map_err(io)?.len();
        if offset > have {
            return Err(Error::Offset { offset, have });
        }
        file.set_len(offset).map_err(io)?;
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        let number = receivers.get(&digest).map_or(0, |number| number + 1);
        receivers.insert(digest, number);
        drop(receivers);
        Ok(Partial {
            blobs: blobs.clone(),
            digest,
            file,
            number,
        })
    }

    /// Adds what has come.
    ///
    /// # Errors
    /// [`Error::Replaced`] when a later connection goes on with it; from the file system.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let receivers = self.blobs.receivers();
        if receivers.get(&self.digest) != Some(&self.number) {
            return Err(Error::Replaced);
        }
        self.file.write_all(bytes).map_err(|error| {
            let path = self.blobs.partial_path(self.digest);
            Error::Io(path, error)
        })
    }

    /// Makes a blob of it: everything has come. Blocking.
    ///
    /// # Errors
    /// [`Error::Digest`] when it is not what was announced, and nothing is kept then;
    /// [`Error::Replaced`]; from the file system.
    pub fn finish(self) -> Result<Digest, Error> {
        let path = self.blobs.partial_path(self.digest);
        let io = |error| Error::Io(path.clone(), error);
        self.file.sync_all().map_err(io)?;
        let found = digest_of(&path).map_err(io)?;
        let receivers = self.blobs.receivers();
        if receivers.get(&self.digest) != Some(&self.number) {
            return Err(Error::Replaced);
        }
        if found != self.digest {
            std::fs::remove_file(&path).map_err(io)?;
            return Err(Error::Digest);
        }
        std::fs::rename(&path, self.blobs.path(self.digest)).map_err(io)?;
        sync_dir(self.blobs.dir()).map_err(io)?;
        Ok(self.digest)
    }
}

fn digest_of(path: &Path) -> std::io::Result<Digest> {
    let (mut file, mut hash) = (File::open(path)?, sha2::Sha256::new());
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest(hash.finalize().into())),
            read => hash.update(&piece[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> (Folder, Blobs) {
            let dir =
                std::env::temp_dir().join(format!("towpath-partial-{name}-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("blobs")).unwrap();
            (Folder(dir.clone()), Blobs::new(&dir))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_has_come_stays_and_counts_only_when_it_is_whole() {
        let (_folder, blobs) = Folder::new("whole");
        let digest = Digest::of(b"abcdef");
        blobs.receive(digest, 0).unwrap().add(b"abc").unwrap();
        assert_eq!((blobs.has(digest), blobs.has_part(digest)), (false, 3));
        let mut rest = blobs.receive(digest, 3).unwrap();
        rest.add(b"def").unwrap();
        assert_eq!(rest.finish().unwrap(), digest);
        assert_eq!((blobs.has(digest), blobs.has_part(digest)), (true, 0));
    }

    #[test]
    fn what_is_torn_or_another_never_becomes_a_blob() {
        let (_folder, blobs) = Folder::new("torn");
        let digest = Digest::of(b"abcdef");
        blobs.receive(digest, 0).unwrap().add(b"abX").unwrap();
        let mut rest = blobs.receive(digest, 3).unwrap();
        rest.add(b"def").unwrap();
        assert!(matches!(rest.finish(), Err(Error::Digest)));
        assert_eq!((blobs.has(digest), blobs.has_part(digest)), (false, 0));
        let short = blobs.receive(digest, 0).unwrap();
        assert!(matches!(short.finish(), Err(Error::Digest)));
        assert!(matches!(
            blobs.receive(digest, 1),
            Err(Error::Offset { offset: 1, have: 0 })
        ));
    }

    #[test]
    fn a_connection_that_broke_writes_no_more_once_another_goes_on() {
        let (_folder, blobs) = Folder::new("replaced");
        let digest = Digest::of(b"abcdef");
        let mut first = blobs.receive(digest, 0).unwrap();
        first.add(b"abc").unwrap();
        let mut second = blobs.receive(digest, 2).unwrap();
        assert!(matches!(first.add(b"xyz"), Err(Error::Replaced)));
        assert!(matches!(first.finish(), Err(Error::Replaced)));
        second.add(b"cdef").unwrap();
        assert_eq!(second.finish().unwrap(), digest);
    }

    #[test]
    fn only_what_nobody_goes_on_with_is_removed() {
        let (folder, blobs) = Folder::new("tidy");
        let digest = Digest::of(b"abcdef");
        blobs.receive(digest, 0).unwrap().add(b"abc").unwrap();
        std::fs::write(folder.0.join("blobs/incoming-1"), b"x").unwrap();
        let now = crate::clock::Clock::system().wall_ms();
        blobs.tidy();
        blobs.forget_parts(now, 60_000);
        assert_eq!(blobs.has_part(digest), 3);
        assert!(!folder.0.join("blobs/incoming-1").exists());
        blobs.forget_parts(now + 3_600_000, 60_000);
        assert_eq!(blobs.has_part(digest), 0);
    }
}
