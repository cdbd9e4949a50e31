//! The key that an environment signs its releases with.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ed25519_dalek::{Signature, Signer, SigningKey as Secret, VerifyingKey};

use crate::id::{hex, unhex};
use crate::state::Beside;

/// The environment's own key, in a file only its user can read.
pub struct SigningKey(Secret);

impl SigningKey {
    /// Reads the key of the state directory `state`, or makes one where there is none.
    ///
    /// # Errors
    /// When it cannot be read or written, or is none.
    pub fn open(state: &Path) -> std::io::Result<SigningKey> {
        let path = state.join("signing.key");
        let bytes = match read(&path)? {
            Some(bytes) => bytes,
            None => made(&path)?,
        };
        let bytes: [u8; 32] = bytes
            .try_into()
            .map_err(|_| std::io::Error::other("signing.key is not 32 bytes"))?;
        Ok(SigningKey(Secret::from_bytes(&bytes)))
    }

    /// The public half, hexadecimal.
    #[must_use]
    pub fn public(&self) -> String {
        hex(self.0.verifying_key().as_bytes())
    }

    /// The signature of `text`, hexadecimal.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        hex(&self.0.sign(text.as_bytes()).to_bytes())
    }
}

/// The key in the file `path`. One that others could read, as a crash of an earlier release may have left it, is theirs
/// no more.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if file.metadata()?.mode() & 0o077 != 0 {
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Makes one; one that somebody else has made meanwhile stays.
fn made(path: &Path) -> std::io::Result<Vec<u8>> {
    let beside = Beside::of(path, Some(0o600))?;
    if let Some(bytes) = read(path)? {
        return Ok(bytes);
    }
    let mut bytes = [0u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    beside.write(&bytes)?;
    Ok(bytes.to_vec())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_by_its_user_alone() {
        let state = std::env::temp_dir().join(format!("tow-key-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir(&state).unwrap();
        let path = state.join("signing.key");
        let mode = || path.metadata().unwrap().mode() & 0o777;
        let first = SigningKey::open(&state).unwrap().public();
        assert_eq!(mode(), 0o600);
        // As one is that was killed before it had closed it.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(SigningKey::open(&state).unwrap().public(), first);
        assert_eq!(mode(), 0o600);
        // What is there and cannot be read is not written over.
        std::fs::rename(&path, state.join("kept")).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(SigningKey::open(&state).is_err());
        assert!(path.symlink_metadata().unwrap().is_symlink());
        std::fs::remove_dir_all(&state).unwrap();
    }
}
