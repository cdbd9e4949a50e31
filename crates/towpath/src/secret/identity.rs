//! Who can read and sign: an age key in a file only its user can read. The key that signs is made of it, so there is
//! one thing to keep, and it is an ordinary age identity.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use age::x25519;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::id::{hex, unhex};

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
        match path.exists() {
            true => Identity::read(path),
            false => {
                let made = Identity::of(x25519::Identity::generate());
                made.write(path)
                    .map_err(|error| Error::Io(path.to_owned(), error))?;
                Ok(made)
            }
        }
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

    fn write(&self, path: &Path) -> std::io::Result<()> {
        use std::io::Write;
        if let Some(folder) = path.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder)?;
        }
        let beside = path.with_extension("new");
        let _ = std::fs::remove_file(&beside);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        writeln!(
            file,
            "# Keep this to yourself: it opens secrets of Towpath."
        )?;
        writeln!(file, "{}", self.age.to_string().expose_secret())?;
        file.sync_all()?;
        // A second that was faster keeps its own.
        match std::fs::hard_link(&beside, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        std::fs::remove_file(&beside)
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
