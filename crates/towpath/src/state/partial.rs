//! A blob that comes in from elsewhere, over a link that may break.
//!
//! What has come stays in a file of its own, below a name that nothing else reads, and the next
//! connection goes on behind it. Only when everything is there is it read back, and becomes a blob
//! if it is the one that was announced; so neither a torn file nor a hostile sender can make one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::Digest as _;

use super::room::{Limit, room, weight};
use super::whole::sync_dir;
use super::{Blobs, Error};
use crate::id::Digest;

/// The disk is looked at anew after so many bytes: others write to it too.
const LOOKS: u64 = 4 << 20;

/// A blob on its way in. What has come is kept when this is dropped.
pub struct Partial {
    blobs: Blobs,
    digest: Digest,
    file: File,
    number: u64,
    /// What has come.
    bytes: u64,
    /// What may come at most.
    most: u64,
    /// When the disk is looked at next.
    look: u64,
}

/// Who receives a blob now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiver {
    /// Only the latest has it.
    number: u64,
    /// The bytes that it may come to; 0 when nobody sends.
    promised: u64,
}

impl Partial {
    pub(super) fn open(
        blobs: &Blobs,
        digest: Digest,
        offset: u64,
        limit: Limit,
    ) -> Result<Partial, Error> {
        let path = blobs.partial_path(digest);
        let io = |error| Error::Io(path.clone(), error);
        std::fs::create_dir_all(blobs.dir().join("partial")).map_err(io)?;
        let mut receivers = blobs.receivers();
        let most = match most(blobs, &receivers, digest, offset, limit) {
            Ok(most) => most,
            Err(error) => {
                let is_coming = |receiver: &Receiver| receiver.promised > 0;
                if !receivers.get(&digest).is_some_and(is_coming) {
                    let _ = std::fs::remove_file(&path);
                }
                return Err(error);
            }
        };
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
        let number = receivers
            .get(&digest)
            .map_or(0, |receiver| receiver.number + 1);
        let promised = limit.size.or(limit.share.map(|_| most)).unwrap_or(offset);
        receivers.insert(digest, Receiver { number, promised });
        drop(receivers);
        Ok(Partial {
            blobs: blobs.clone(),
            digest,
            file,
            number,
            bytes: offset,
            most,
            look: offset,
        })
    }

    /// Adds what has come.
    ///
    /// # Errors
    /// [`Error::Replaced`] when a later connection goes on with it; [`Error::Room`] and
    /// [`Error::Share`] when it is too much, and nothing is kept then; from the file system.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let receivers = self.blobs.receivers();
        if !self.is_latest(&receivers) {
            return Err(Error::Replaced);
        }
        let path = self.blobs.partial_path(self.digest);
        let io = |error| Error::Io(path.clone(), error);
        self.bytes += bytes.len() as u64;
        let over = match self.bytes >= self.look {
            _ if self.bytes > self.most => Some(Error::Share { left: self.most }),
            true => {
                let left = room(self.blobs.dir()).map_err(io)?;
                self.look = self.bytes + LOOKS.min(left / 2);
                (left < bytes.len() as u64).then_some(Error::Room { left })
            }
            false => None,
        };
        match over {
            None => self.file.write_all(bytes).map_err(io),
            Some(over) => {
                std::fs::remove_file(&path).map_err(io)?;
                Err(over)
            }
        }
    }

    fn is_latest(&self, receivers: &Receivers) -> bool {
        let latest = receivers.get(&self.digest);
        latest.is_some_and(|receiver| receiver.number == self.number)
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
        let blobs = self.blobs.clone();
        let receivers = blobs.receivers();
        if !self.is_latest(&receivers) {
            return Err(Error::Replaced);
        }
        if found != self.digest {
            std::fs::remove_file(&path).map_err(io)?;
            return Err(Error::Digest);
        }
        std::fs::rename(&path, self.blobs.path(self.digest)).map_err(io)?;
        sync_dir(self.blobs.dir()).map_err(io)?;
        drop(receivers);
        self.blobs.touch(self.digest);
        Ok(self.digest)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut receivers = self.blobs.receivers();
        if let Some(receiver) = receivers.get_mut(&self.digest)
            && receiver.number == self.number
        {
            receiver.promised = 0;
        }
    }
}

/// The receivers there are and were, by what they receive.
pub(super) type Receivers = BTreeMap<Digest, Receiver>;

/// How many bytes a blob may come to, beside all others that are coming in.
fn most(
    blobs: &Blobs,
    receivers: &Receivers,
    digest: Digest,
    offset: u64,
    limit: Limit,
) -> Result<u64, Error> {
    let (mut weighs, mut promised) = (0, 0);
    for (other, have) in blobs.parts() {
        if other != digest {
            let whole = receivers.get(&other).map_or(0, |other| other.promised);
            weighs += weight(have.max(whole));
            promised += whole.saturating_sub(have);
        }
    }
    let share = limit.share.map(|share| share.saturating_sub(weighs));
    let most = share.unwrap_or(u64::MAX);
    if weight(limit.size.unwrap_or(0)) > most {
        return Err(Error::Share { left: most });
    }
    let io = |error| Error::Io(blobs.dir().to_owned(), error);
    let left = room(blobs.dir()).map_err(io)?.saturating_sub(promised);
    if limit.size.unwrap_or(0).saturating_sub(offset) > left {
        return Err(Error::Room { left });
    }
    Ok(limit.size.unwrap_or(most))
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
    use crate::clock::Clock;

    const ANY: Limit = Limit {
        size: None,
        share: None,
    };

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> (Folder, Blobs) {
            let dir =
                std::env::temp_dir().join(format!("towpath-partial-{name}-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("blobs")).unwrap();
            (Folder(dir.clone()), Blobs::new(&dir, Clock::system()))
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
        blobs.receive(digest, 0, ANY).unwrap().add(b"abc").unwrap();
        assert_eq!((blobs.has(digest), blobs.has_part(digest)), (false, 3));
        let mut rest = blobs.receive(digest, 3, ANY).unwrap();
        rest.add(b"def").unwrap();
        assert_eq!(rest.finish().unwrap(), digest);
        assert_eq!((blobs.has(digest), blobs.has_part(digest)), (true, 0));
    }

    #[test]
    fn what_is_torn_or_another_never_becomes_a_blob() {
        let (_folder, blobs) = Folder::new("torn");
        let digest = Digest::of(b"abcdef");
        blobs.receive(digest, 0, ANY).unwrap().add(b"abX").unwrap();
        let mut rest = blobs.receive(digest, 3, ANY).unwrap();
        rest.add(b"def").unwrap();
        assert!(matches!(rest.finish(), Err(Error::Digest)));
        assert_eq!((blobs.has(digest), blobs.has_part(digest)), (false, 0));
        let short = blobs.receive(digest, 0, ANY).unwrap();
        assert!(matches!(short.finish(), Err(Error::Digest)));
        assert!(matches!(
            blobs.receive(digest, 1, ANY),
            Err(Error::Offset { offset: 1, have: 0 })
        ));
    }

    #[test]
    fn a_connection_that_broke_writes_no_more_once_another_goes_on() {
        let (_folder, blobs) = Folder::new("replaced");
        let digest = Digest::of(b"abcdef");
        let mut first = blobs.receive(digest, 0, ANY).unwrap();
        first.add(b"abc").unwrap();
        let mut second = blobs.receive(digest, 2, ANY).unwrap();
        assert!(matches!(first.add(b"xyz"), Err(Error::Replaced)));
        assert!(matches!(first.finish(), Err(Error::Replaced)));
        second.add(b"cdef").unwrap();
        assert_eq!(second.finish().unwrap(), digest);
    }

    #[test]
    fn what_is_too_much_is_refused_and_nothing_of_it_is_kept() {
        let (folder, blobs) = Folder::new("share");
        let one = |text: &str| Digest::of(text.as_bytes());
        let limit = |size, share| Limit { size, share };
        let refused =
            |digest, limit| matches!(blobs.receive(digest, 0, limit), Err(Error::Share { .. }));
        let mib = 1 << 20;
        assert!(refused(one("a"), limit(Some(mib + 1), Some(mib))));
        assert_eq!(blobs.parts(), []);
        // What another connection was promised is not there for a second one, until it is over.
        let first = blobs.receive(one("a"), 0, limit(Some(mib), Some(mib)));
        assert!(refused(one("b"), limit(Some(1), Some(mib))));
        assert!(refused(one("b"), limit(None, Some(mib))));
        drop(first);
        let small = limit(Some(1), Some(mib));
        drop(blobs.receive(one("b"), 0, small).unwrap());
        // More than was announced, and more than is left when nothing was.
        for (limit, most) in [(limit(Some(3), None), 3), (limit(None, Some(mib)), mib)] {
            std::fs::remove_dir_all(folder.0.join("blobs/partial")).unwrap();
            let mut part = blobs.receive(one("c"), 0, limit).unwrap();
            part.add(&vec![0; usize::try_from(most).unwrap()]).unwrap();
            assert!(matches!(part.add(b"x"), Err(Error::Share { .. })));
            assert_eq!(blobs.has_part(one("c")), 0);
        }
        assert!(matches!(
            blobs.receive(one("d"), 0, limit(Some(1 << 60), None)),
            Err(Error::Room { .. })
        ));
        assert_eq!(blobs.has_part(one("d")), 0);
    }

    #[test]
    fn only_what_nobody_goes_on_with_is_removed() {
        let (folder, blobs) = Folder::new("tidy");
        let digest = Digest::of(b"abcdef");
        blobs.receive(digest, 0, ANY).unwrap().add(b"abc").unwrap();
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
