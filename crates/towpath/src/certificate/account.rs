//! The account with an issuer: made at the first order, kept for its owner's eyes.

use std::fs;
use std::path::{Path, PathBuf};

use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};

use super::Error;
use super::http::Http;
use crate::config::Acme;
use crate::state::Beside;

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

fn file(dir: &Path) -> PathBuf {
    dir.join("account.json")
}

/// The account with this issuer: the one that is kept, or a new one.
pub(super) async fn open(dir: &Path, acme: &Acme) -> Result<Account, Error> {
    let builder = Account::builder_with_http(Box::new(Http::new(acme)?));
    if let Some(kept) = kept(dir).filter(|kept| kept.directory == acme.directory) {
        return Ok(builder.from_credentials(kept.credentials).await?);
    }
    let contact = acme.contact.as_ref().map(|mail| format!("mailto:{mail}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder.create(&new, acme.directory.clone(), None).await?;
    let kept = Kept {
        directory: acme.directory.clone(),
        credentials,
    };
    let io = |error| Error::Io(file(dir), error);
    let text = serde_json::to_vec(&kept).map_err(|error| io(error.into()))?;
    write(&file(dir), &text).map_err(io)?;
    Ok(account)
}

/// The issuer does not know it any more.
pub(super) fn forget(dir: &Path) {
    let _ = fs::remove_file(file(dir));
}

fn kept(dir: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(file(dir)).ok()?).ok()
}

/// Written whole, and never for anybody else to read.
fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    Beside::of(path, Some(0o600))?.write(text)
}
