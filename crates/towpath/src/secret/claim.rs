//! Changing `tow.secrets.toml` without taking back what somebody else has changed meanwhile: a prompt, the overlap of a
//! rotation or a `git pull` may lie between the reading and the writing.

use std::path::Path;

use super::{Error, File};
use crate::state::Beside;

/// The right to write the file, given to one at a time.
#[derive(Debug)]
pub struct Claim(Beside);

impl Claim {
    /// Waits for whoever writes the file in the folder `root` now. `before` is what was read there, or written, last.
    ///
    /// # Errors
    /// [`Error::Changed`] when something else is there now, and as [`File::read`].
    pub fn of(root: &Path, before: Option<&File>) -> Result<Claim, Error> {
        let path = root.join(super::FILE);
        let beside = Beside::of(&path, None).map_err(|error| Error::Io(path, error))?;
        match File::read(root)?.as_ref() == before {
            true => Ok(Claim(beside)),
            false => Err(Error::Changed),
        }
    }

    /// Writes it, whole.
    ///
    /// # Errors
    /// When it cannot be written; the one before is there then.
    pub fn write(self, file: &File) -> Result<(), Error> {
        let text = file.text()?;
        let written = self.0.write(text.as_bytes());
        written.map_err(|error| Error::Io(super::FILE.into(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::Secrets;
    use super::*;

    #[test]
    fn nobody_takes_back_what_another_has_written() {
        let root = std::env::temp_dir().join(format!("tow-claim-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).unwrap();
        let (first, second) = (File::new("first"), File::new("second"));
        Claim::of(&root, None).unwrap().write(&first).unwrap();
        assert!(matches!(Claim::of(&root, None), Err(Error::Changed)));
        let claim = Claim::of(&root, Some(&first)).unwrap();
        claim.write(&second).unwrap();
        assert!(matches!(
            Claim::of(&root, Some(&first)),
            Err(Error::Changed)
        ));
        assert_eq!(File::read(&root).unwrap(), Some(second));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn of_many_at_once_each_change_is_there_or_was_refused() {
        let root = std::env::temp_dir().join(format!("tow-claims-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).unwrap();
        File::new("all").write(&root).unwrap();
        let writers = (0..6).map(|number| {
            let root = root.clone();
            std::thread::spawn(move || {
                loop {
                    let before = File::read(&root).unwrap().unwrap();
                    let mut after = before.clone();
                    let name = format!("e{number}");
                    after.environments.insert(name, Secrets::default());
                    match Claim::of(&root, Some(&before)) {
                        Ok(claim) => return claim.write(&after).unwrap(),
                        Err(Error::Changed) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.join().unwrap();
        }
        let file = File::read(&root).unwrap().unwrap();
        assert_eq!(file.environments.len(), 6);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
