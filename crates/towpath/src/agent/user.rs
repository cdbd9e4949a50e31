//! Whom an environment's services run as.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use towpath_shim::protocol::User;

use crate::id::Digest;

/// The range that systemd sets aside for users without a name, so no person and no package has one.
const FIRST: u32 = 61_184;
const COUNT: u32 = 4_336;

/// Where the environments of a machine are.
const MACHINE: &str = "/var/lib/towpath";

/// A folder that the services' user cannot pass through.
#[derive(Debug)]
pub(super) struct Closed(pub PathBuf);

/// The user of the environment with the state directory `state`: none where services are the
/// operator's own (`local`) or the agent is not root; else one that no environment beside it has.
///
/// # Errors
/// [`Closed`] when that user could not reach its own files.
pub(super) fn user(environment: &str, state: &Path) -> Result<Option<User>, Closed> {
    if environment == "local" || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let closed = state
        .ancestors()
        .find(|dir| std::fs::metadata(dir).is_ok_and(|found| found.mode() & 0o001 == 0));
    if let Some(closed) = closed {
        return Err(Closed(closed.to_owned()));
    }
    let uid = kept(state).unwrap_or_else(|| choose(state));
    Ok(Some(User { uid, gid: uid }))
}

fn owner(state: &Path) -> Option<u32> {
    std::fs::metadata(state.join("data"))
        .ok()
        .map(|found| found.uid())
}

/// Who owns the data already.
fn kept(state: &Path) -> Option<u32> {
    owner(state).filter(|uid| (FIRST..FIRST + COUNT).contains(uid))
}

fn choose(state: &Path) -> u32 {
    let apps = state.parent().and_then(|app| app.parent());
    // Those of a rehearsal must not be those of a real environment either, which lie elsewhere.
    let all = apps.into_iter().chain([Path::new(MACHINE)]);
    let beside = all.flat_map(folders);
    let taken: BTreeSet<u32> = beside
        .flat_map(|app| folders(&app))
        .filter_map(|state| owner(&state))
        .collect();
    let digest = Digest::of(state.as_os_str().as_encoded_bytes()).0;
    let start = u32::from_be_bytes([0, digest[0], digest[1], digest[2]]) % COUNT;
    let free = (0..COUNT)
        .map(|step| FIRST + (start + step) % COUNT)
        .find(|uid| !taken.contains(uid));
    free.unwrap_or(FIRST + start)
}

fn folders(dir: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
