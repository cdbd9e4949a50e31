//! What the steps act upon.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use towpath_shim::protocol::User;

use super::{Environment, Illegal, SigningKey};
use crate::config::Purpose;
use crate::diagnostic::Diagnostic;
use crate::resource::postgres::binaries;
use crate::state::{Blobs, Entry, Error, Row, Store};
use crate::supervise::Supervisor;

/// The run has gone on since somebody decided what to write about it.
pub const OVERTAKEN: &str = "state::overtaken";

/// Another agent has taken the state over.
pub const SUPERSEDED: &str = "state::superseded";

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
    /// Whether this is a rehearsal: it takes planted faults, and no address that was declared, its own or a resource's.
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
        Ok(self.fold()?.1.clone())
    }

    fn fold(&self) -> Result<MutexGuard<'_, (i64, Environment)>, Diagnostic> {
        let mut folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.store.rows(folded.0).map_err(state_trouble)?;
        for row in &rows {
            folded
                .1
                .apply(row)
                .map_err(|illegal| illegal_row(&illegal))?;
            folded.0 = row.seq;
        }
        Ok(folded)
    }

    /// Appends a row to the journal, if it may follow the rows that are there: whoever decided on
    /// it did so before, and the run may have gone on, or ended, since.
    ///
    /// # Errors
    /// With the code [`OVERTAKEN`] when it may not follow; nothing is written then.
    pub fn append(&self, entry: &Entry) -> Result<Row, Diagnostic> {
        // Kept until the row is there: nobody else's comes in between.
        let mut folded = self.fold()?;
        let mut next = folded.1.clone();
        let written = self.store.append_if(entry, &mut |row| {
            next = folded.1.clone();
            next.apply(row).map_err(|illegal| illegal.why)
        });
        let row = written.map_err(|error| match error {
            Error::Refused(why) => Diagnostic::error(OVERTAKEN, format!("too late: {why}"))
                .note("nothing was touched")
                .help(format!("see `tow status -e {}`", self.environment)),
            other => state_trouble(other),
        })?;
        *folded = (row.seq, next);
        Ok(row)
    }

    /// Whom builds run as, where that is not the agent itself: whom services run as. A rehearsal
    /// is of whoever started it, with the tools that they have.
    #[must_use]
    pub fn builder(&self) -> Option<User> {
        self.user.filter(|_| !self.rehearsal)
    }

    /// What manifests are read for here. Blocking.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        match self.rehearsal {
            false => Purpose::Real,
            true if binaries::find(None).is_some() => Purpose::Rehearsal,
            true => Purpose::RehearsalWithoutPostgres,
        }
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
pub(super) fn state_trouble(error: Error) -> Diagnostic {
    let code = match error {
        Error::Superseded { .. } => SUPERSEDED,
        _ => "state::failed",
    };
    Diagnostic::error(code, error.to_string())
}
