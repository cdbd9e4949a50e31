//! One value, encrypted: what it is stands inside, because age itself binds a text to nothing.

use std::io::Write;
use std::str::FromStr;

use age::x25519;
use age::{Encryptor, Recipient};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{Error, Identity, Value};

/// First line of what is encrypted.
const HEAD: &str = "towpath secret 1";

/// Which value it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label<'a> {
    pub project: &'a str,
    pub environment: &'a str,
    pub key: &'a str,
    pub version: u32,
}

impl Label<'_> {
    fn head(&self) -> String {
        let Label {
            project,
            environment,
            key,
            version,
        } = self;
        format!("{HEAD}\n{project}\n{environment}\n{key}\n{version}\n")
    }
}

/// Encrypts a value to `recipients`, each `age1...`.
pub(super) fn seal(label: Label<'_>, value: &Value, recipients: &[&str]) -> Result<String, Error> {
    let failed = |why: &dyn std::fmt::Display| Error::Form(format!("`{}`: {why}", label.key));
    let parsed = recipients
        .iter()
        .map(|one| x25519::Recipient::from_str(one));
    let parsed: Vec<x25519::Recipient> =
        parsed.collect::<Result<_, _>>().map_err(|e| failed(&e))?;
    let recipients = parsed.iter().map(|one| one as &dyn Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(|error| failed(&error))?;
    let mut sealed = Vec::new();
    let mut writer = encryptor
        .wrap_output(&mut sealed)
        .map_err(|error| failed(&error))?;
    let written = writer
        .write_all(label.head().as_bytes())
        .and_then(|()| writer.write_all(value.reveal().as_bytes()));
    written.map_err(|error| failed(&error))?;
    writer.finish().map_err(|error| failed(&error))?;
    Ok(STANDARD_NO_PAD.encode(sealed))
}

/// Decrypts a value that is said to be `label`.
pub(super) fn open(label: Label<'_>, sealed: &str, identity: &Identity) -> Result<Value, Error> {
    let closed = || Error::Closed(label.key.to_owned());
    let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| closed())?;
    let mut plain = age::decrypt(&identity.age, &sealed).map_err(|_| closed())?;
    let head = label.head();
    let value = match plain.strip_prefix(head.as_bytes()) {
        Some(value) => Value::new(value.to_vec()),
        None => Err(Error::Swapped(label.key.to_owned())),
    };
    age::secrecy::zeroize::Zeroize::zeroize(&mut plain);
    value
}
