//! What the steps act upon.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use towpath_shim::protocol::User;

use super::{Environment, Illegal, SigningKey};
use crate::diagnostic::Diagnostic;
use crate::state::{Blobs, Store};
use crate::supervise::Supervisor;

/// Everything that belongs to one environment on its machine.
pub struct World {
    /// Name of the application.
    pub app: String,
    /// Name of the environment.
    pub environment: String,
    /// Its state.
    pub store: Store,
    /// Its processes.
    pub supervisor: Arc<Supervisor>,
    /// Its blobs.
    pub blobs: Blobs,
    /// Its key.
    pub key: SigningKey,
    /// Whom its services run as.
    pub user: Option<User>,
    /// The build of this program.
    pub version: String,
    /// Whether this is a rehearsal: it takes planted faults, and no address that was declared.
    pub rehearsal: bool,
    /// The journal as far as it was folded: its last row's number, and what came of it.
    pub folded: Mutex<(i64, Environment)>,
}

impl World {
    /// The environment as the journal tells it. What was folded before is kept, so that a long
    /// journal is read once and not at every question.
    ///
    /// # Errors
    /// When the journal cannot be read or folded.
    pub fn environment(&self) -> Result<Environment, Diagnostic> {
        let mut folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.store.rows(folded.0).map_err(state_trouble)?;
        for row in &rows {
            folded
                .1
                .apply(row)
                .map_err(|illegal| illegal_row(&illegal))?;
            folded.0 = row.seq;
        }
        Ok(folded.1.clone())
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.store.dir().to_owned()
    }
}

fn illegal_row(illegal: &Illegal) -> Diagnostic {
    Diagnostic::error("state::illegal", illegal.to_string())
        .note("nothing was changed")
        .help("keep `state.db` as it is and report this; services go on running")
}

/// A failure of the state itself.
pub(super) fn state_trouble(error: crate::state::Error) -> Diagnostic {
    Diagnostic::error("state::failed", error.to_string())
}
