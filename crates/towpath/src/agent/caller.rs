//! Who talks to the agent, and what they may ask.
//!
//! The agent's own user and root may ask everything; operators, who may do less by themselves than an
//! agent of root, may not have it read or run what they name on its machine. A *key* is one that a server's ssh lets in for deployments alone:
//! it comes over a socket of its own, so what it may do is decided here, and not by what it says. A
//! route that is not named in [`Caller::may`] is none of its business.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::answer::{Failure, forbidden};
use super::api::{Begin, HealthStatus, Status, What};
use super::routes::Action;
use crate::diagnostic::Diagnostic;
use crate::manifest::form::is_name;
use crate::state::Row;

/// Longest wait for a key's name.
const SAYS_WHO: Duration = Duration::from_secs(5);

/// Notes of a failure that begin like this hold what a service has logged.
const LOGGED: &str = "its last lines:";

/// What a key's blobs may take that no release needs, bytes: what it sends for a deployment has to
/// fit, and the disk is not its own.
const SHARE: u64 = 4 << 30;

/// Who talks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// The agent's own user, or root.
    Own,
    /// A member of the group of operators, where the agent is root's.
    Operator,
    /// A key that may deploy, by its name.
    Key(String),
}

/// What a connection of a key begins with.
pub(super) fn greeting(name: &str) -> String {
    format!("key {name}\n")
}

impl Caller {
    /// Hears which key it is; nothing behind its name is read.
    pub(super) async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Option<Caller> {
        let line = async {
            let mut line = Vec::new();
            loop {
                match stream.read_u8().await.ok()? {
                    b'\n' => return Some(line),
                    byte if line.len() < 64 => line.push(byte),
                    _ => return None,
                }
            }
        };
        let line = timeout(SAYS_WHO, line).await.ok().flatten()?;
        let name = String::from_utf8(line).ok()?;
        let name = name.strip_prefix("key ").filter(|name| is_name(name))?;
        Some(Caller::Key(name.to_owned()))
    }

    /// Whether it may ask that at all.
    pub(super) fn may(&self, action: Action) -> bool {
        match self {
            Caller::Own | Caller::Operator => true,
            Caller::Key(_) => matches!(
                action,
                Action::Hello
                    | Action::Status
                    | Action::Releases
                    | Action::Begin
                    | Action::Rows
                    | Action::Cancel
                    | Action::Accept
                    | Action::LookForBlob
                    | Action::ReceiveBlob
                    | Action::TakeSecrets
            ),
        }
    }

    /// How much the blobs may take that belong to no release, bytes; `None`: all there is.
    pub(super) fn share(&self) -> Option<u64> {
        match self {
            Caller::Own | Caller::Operator => None,
            Caller::Key(_) => Some(SHARE),
        }
    }

    /// Under whose name the journal has what it does: a key's own, whatever it says.
    pub(super) fn actor(&self, said: String) -> String {
        match self {
            Caller::Own | Caller::Operator => said,
            Caller::Key(name) => format!("key {name}"),
        }
    }

    /// A key begins what brings a release in, and nothing else.
    pub(super) fn admit(&self, asked: &Begin) -> Result<(), Failure> {
        match (self, &asked.what) {
            // It would read a folder of this machine with the agent's rights.
            (Caller::Operator, What::Up { .. }) => Err(self.refusal("run a source tree here")),
            (Caller::Operator, What::Migrate { tree, .. }) => self.admit_tree(tree.is_some()),
            (Caller::Own | Caller::Operator, _)
            | (Caller::Key(_), What::Deploy { .. } | What::Promote { .. }) => Ok(()),
            (Caller::Key(_), _) => Err(self.refusal("begin this")),
        }
    }

    /// A tree is a folder of this machine, read with the agent's rights.
    pub(super) fn admit_tree(&self, is_tree: bool) -> Result<(), Failure> {
        match self {
            Caller::Operator if is_tree => Err(self.refusal("look into a source tree here")),
            _ => Ok(()),
        }
    }

    /// Which program the agent becomes, with all its rights, is not for everybody to say.
    pub(super) fn admit_program(&self, asked: &Path, installed: &Path) -> Result<(), Failure> {
        match self {
            Caller::Own => Ok(()),
            Caller::Operator if asked == installed => Ok(()),
            _ => Err(self.refusal("have the agent become another program than the installed one")),
        }
    }

    /// A run is a key's own business when it has begun it.
    pub(super) fn own(&self, actor: &str) -> Result<(), Failure> {
        match self {
            Caller::Key(_) if actor != self.actor(String::new()) => {
                Err(self.refusal("look at or cancel a run of somebody else"))
            }
            _ => Ok(()),
        }
    }

    /// What it is told that it may not.
    pub(super) fn refusal(&self, what: &str) -> Failure {
        let who = self.actor("an operator".to_owned());
        forbidden(
            Diagnostic::error("agent::not-allowed", format!("{who} may not {what}"))
                .note(match self {
                    Caller::Key(_) => {
                        "it may bring a release into this environment, and follow that"
                    }
                    _ => "only root may, on the machine itself",
                })
                .note("nothing was touched")
                .help("have somebody do it who has the environment's own access"),
        )
    }

    /// The status without what services say.
    pub(super) fn status(&self, mut status: Status) -> Status {
        if let Caller::Key(_) = self {
            for instance in &mut status.instances {
                instance.error = None;
            }
            status.health = status.health.map(HealthStatus::quiet);
            if let Some(failure) = status.run.as_mut().and_then(|run| run.failure.as_mut()) {
                quieten(failure);
            }
        }
        status
    }

    /// A row without what services have logged; what a build says is about what the key has sent.
    pub(super) fn row(&self, mut row: Row) -> Row {
        if let Caller::Key(_) = self
            && let Ok(mut failure) = serde_json::from_value::<Diagnostic>(row.data.clone())
        {
            quieten(&mut failure);
            row.data = serde_json::to_value(failure).unwrap_or(Value::Null);
        }
        row
    }
}

fn quieten(failure: &mut Diagnostic) {
    if failure.code == "build::failed" {
        return;
    }
    let notes = failure.notes.len();
    failure.notes.retain(|note| !note.starts_with(LOGGED));
    if failure.notes.len() < notes {
        failure
            .notes
            .push("what it has logged is not shown to a key for deployments".to_owned());
    }
}
