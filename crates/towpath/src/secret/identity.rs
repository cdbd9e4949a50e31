//! Who can read and sign: an age key in a file only its user can read. The key that signs is made of it, so there is
//! one thing to keep, and it is an ordinary age identity.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use age::x25519;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::id::{hex, unhex};
use crate::state::Beside;

/// A private key.
pub struct Identity {
    pub(super) age: x25519::Identity,
    signing: SigningKey,
}

/// What others need to know of an identity: `age1...`, and behind a dot the key that checks its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// To whom values are encrypted.
    pub recipient: String,
    /// Whose signatures count; `None` for one that only reads.
    pub key: Option<String>,
}

impl Identity {
    /// Reads the identity in the file `path`.
    ///
    /// # Errors
    /// When it cannot be read, others can read it, or it holds no age key.
    pub fn read(path: &Path) -> Result<Identity, Error> {
        let io = |error| Error::Io(path.to_owned(), error);
        let text = std::fs::read_to_string(path).map_err(io)?;
        let mode = std::fs::metadata(path).map_err(io)?.permissions().mode();
        if mode & 0o077 != 0 {
            let why = format!(
                "others can read `{}`: run `chmod 600` on it",
                path.display()
            );
            return Err(Error::Form(why));
        }
        let mut lines = text.lines().map(str::trim);
        let line = lines.find(|line| line.starts_with("AGE-SECRET-KEY-"));
        let age = line.and_then(|line| x25519::Identity::from_str(line).ok());
        let age =
            age.ok_or_else(|| Error::Form(format!("`{}` holds no age identity", path.display())))?;
        Ok(Identity::of(age))
    }

    /// Reads the identity in the file `path`, or makes one there.
    ///
    /// # Errors
    /// As [`Identity::read`], and when it cannot be written.
    pub fn open(path: &Path) -> Result<Identity, Error> {
        if path.symlink_metadata().is_err() {
            make(path).map_err(|error| Error::Io(path.to_owned(), error))?;
        }
        Identity::read(path)
    }

    fn of(age: x25519::Identity) -> Identity {
        // Apart from every other use of the same key.
        let mut seed = Sha256::new();
        seed.update(b"towpath signs secrets\n");
        seed.update(age.to_string().expose_secret().as_bytes());
        Identity {
            signing: SigningKey::from_bytes(&seed.finalize().into()),
            age,
        }
    }

    /// What others need to know of it.
    #[must_use]
    pub fn contact(&self) -> Contact {
        Contact {
            recipient: self.age.to_public().to_string(),
            key: Some(hex(self.signing.verifying_key().as_bytes())),
        }
    }

    /// Its signature of `text`, hexadecimal.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        hex(&self.signing.sign(text.as_bytes()).to_bytes())
    }
}

/// Makes one in the file `path`; one that somebody else has made meanwhile stays.
fn make(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
    }
    let beside = Beside::of(path, Some(0o600))?;
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let age = x25519::Identity::generate().to_string();
    let text = format!(
        "# Keep this to yourself: it opens secrets of Towpath.\n{}\n",
        age.expose_secret()
    );
    beside.write(text.as_bytes())
}

/// Whether `signature` is of `text` by `key`, both hexadecimal.
#[must_use]
pub fn verify(text: &str, signature: &str, key: &str) -> bool {
    let check = || {
        let key = VerifyingKey::from_bytes(&unhex(key)?.try_into().ok()?).ok()?;
        let signature = Signature::from_bytes(&unhex(signature)?.try_into().ok()?);
        key.verify_strict(text.as_bytes(), &signature).ok()
    };
    check().is_some()
}

impl Contact {
    /// Reads `age1...` or `age1....KEY`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Contact> {
        let (recipient, key) = match text.split_once('.') {
            Some((recipient, key)) => (recipient, Some(key)),
            None => (text, None),
        };
        x25519::Recipient::from_str(recipient).ok()?;
        let is_key = |key: &str| unhex(key).is_some_and(|bytes| bytes.len() == 32);
        key.is_none_or(is_key).then(|| Contact {
            recipient: recipient.to_owned(),
            key: key.map(str::to_owned),
        })
    }
}

impl std::fmt::Display for Contact {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.recipient)?;
        match &self.key {
            Some(key) => write!(formatter, ".{key}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each has the one that is in the file: what is encrypted to another is lost.
    #[test]
    fn whoever_asks_first_at_once_has_the_same_identity() {
        let folder = std::env::temp_dir().join(format!("tow-identity-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        for round in 0..20 {
            let path = folder.join(format!("{round}/identity"));
            let asked: Vec<_> = (0..4)
                .map(|_| {
                    let path = path.clone();
                    std::thread::spawn(move || Identity::open(&path).unwrap().contact())
                })
                .collect();
            let kept: Vec<_> = asked.into_iter().map(|one| one.join().unwrap()).collect();
            let there = Identity::read(&path).unwrap().contact();
            assert!(kept.iter().all(|one| *one == there), "{round}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
