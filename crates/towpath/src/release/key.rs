//! The key that an environment signs its releases with.

use std::path::Path;

use ed25519_dalek::{Signature, Signer, SigningKey as Secret, VerifyingKey};

use crate::id::{hex, unhex};
use crate::state::write_whole;

/// The environment's own key, in a file only its user can read.
pub struct SigningKey(Secret);

impl SigningKey {
    /// Reads the key of the state directory `state`, or makes one.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(state: &Path) -> std::io::Result<SigningKey> {
        use std::os::unix::fs::PermissionsExt;
        let path = state.join("signing.key");
        if let Ok(bytes) = std::fs::read(&path) {
            let bytes: [u8; 32] = bytes
                .try_into()
                .map_err(|_| std::io::Error::other("signing.key is not 32 bytes"))?;
            return Ok(SigningKey(Secret::from_bytes(&bytes)));
        }
        let mut bytes = [0u8; 32];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        write_whole(&path, &bytes)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
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
