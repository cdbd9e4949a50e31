//! Rotating the password of a database of ours: two users connect in turn, and act as the role that everything belongs
//! to. What is kept of the resource says which of them services are told of, and who is still to go.
//!
//! Each move may be made again after a crash: the user that comes in is there before anything says so, and the one that
//! goes is shut out before it is forgotten.

use serde::{Deserialize, Serialize};

use super::server::io;
use super::{Result, kept};
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::World;
use crate::release::failpoint::{Point, reach};
use crate::resource::kept::{self as store, Engine, Kept, Login, Password};
use crate::resource::postgres::{roles, said};

/// Who connects to a database, and who has connected before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginStatus {
    /// The user that services are told of when they start.
    pub user: String,
    /// The user before, which can still connect.
    pub previous: Option<String>,
    /// Whether the rotation under way goes back.
    #[serde(default)]
    pub back: bool,
    /// When the password was made, Unix milliseconds; 0 where that is not known.
    pub set_ms: i64,
    /// Instances that run and were told of the user before.
    pub behind: Vec<InstanceId>,
    /// Instances that run and were told of the user of now.
    pub has: Vec<InstanceId>,
    /// Sessions of the user before.
    pub sessions: i64,
}

/// A step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginMove {
    /// Let the other user in, and tell services of it from now on.
    Begin,
    /// Tell services of the user before again.
    TurnRound,
    /// Shut the user before out, which nobody uses any more.
    End,
    /// Shut the user before out, with its sessions: a planted fault.
    EndEarly,
}

fn failed(name: &str, error: &postgres::Error) -> Diagnostic {
    let text = format!(
        "the users of `{name}` could not be looked after: {}",
        said(error)
    );
    Diagnostic::error("resource::login", text)
        .note("whoever could connect before still can")
        .help("see that it runs: `tow ps`; then say the same again")
}

fn of_ours(world: &World, name: &str) -> Result<Kept> {
    let kept = kept(&world.state(), name)?;
    match kept.engine {
        Engine::Postgres => Ok(kept),
        Engine::Redis => Err(Diagnostic::error(
            "resource::login",
            format!("`{name}` is no database with users"),
        )),
    }
}

/// How it stands with the users of the resource `name`; `running` are the instances that run. Blocking.
///
/// # Errors
/// When it was never provided, or does not answer.
pub fn login(world: &World, name: &str, running: &[InstanceId]) -> Result<LoginStatus> {
    let kept = of_ours(world, name)?;
    let told = |password: &Password| {
        let told = running.iter().filter(|id| is_told(world, id, password));
        told.cloned().collect::<Vec<_>>()
    };
    let previous = kept.previous.as_ref();
    let sessions = previous.map(|old| roles::sessions(&kept, &old.user));
    Ok(LoginStatus {
        user: kept.user().to_owned(),
        previous: previous.map(|old| old.user.clone()),
        back: kept.back,
        set_ms: kept.set * 1000,
        behind: previous.map(|old| told(&old.password)).unwrap_or_default(),
        has: told(&kept.password),
        sessions: sessions
            .transpose()
            .map_err(|error| failed(name, &error))?
            .unwrap_or(0),
    })
}

/// Whether an instance was started with this password: it stands in what its shim was told, or its container.
fn is_told(world: &World, id: &InstanceId, password: &Password) -> bool {
    let dir = world.supervisor.places().run(id);
    let wanted = password.reveal().as_bytes();
    ["spec.json", "container.json"].iter().any(|file| {
        let text = std::fs::read(dir.join(file)).unwrap_or_default();
        text.windows(wanted.len()).any(|part| part == wanted)
    })
}

/// Makes a step. Blocking.
///
/// # Errors
/// What stands against it, or went wrong; it can be made again.
pub fn move_login(
    world: &World,
    name: &str,
    step: LoginMove,
    running: &[InstanceId],
) -> Result<()> {
    let kept = of_ours(world, name)?;
    match (step, kept.previous.clone()) {
        (LoginMove::Begin, None) => begin(world, name, kept),
        // Turned round twice it would go forward.
        (LoginMove::TurnRound, Some(old)) if !kept.back => turn_round(world, name, kept, old),
        (LoginMove::End, Some(old)) => {
            unused(world, name, running)?;
            end(world, name, kept, &old)
        }
        (LoginMove::EndEarly, Some(old)) => {
            let shut = roles::shut_out(&kept, &old.user)
                .and_then(|()| roles::end_sessions(&kept, &old.user));
            shut.map_err(|error| failed(name, &error))
        }
        // It was made before.
        (LoginMove::Begin | LoginMove::TurnRound, Some(_)) | (_, None) => Ok(()),
    }
}

fn begin(world: &World, name: &str, kept: Kept) -> Result<()> {
    let user = kept.other();
    let password = Password::random().map_err(|error| io(name, &error))?;
    let acts = roles::let_in(&kept, &user, &password).map_err(|error| failed(name, &error))?;
    if !acts {
        let text = format!("`{user}` of `{name}` does not act as `{}`", kept.name);
        return Err(Diagnostic::error("resource::login", text)
            .note("services go on as they were")
            .help("somebody has changed that role in the database: `ALTER ROLE ... RESET ALL`"));
    }
    let old = Login {
        user: kept.user().to_owned(),
        password: kept.password.clone(),
    };
    let next = Kept {
        login: Some(user),
        password,
        previous: Some(old),
        back: false,
        set: world.store.clock().wall_ms() / 1000,
        ..kept
    };
    write(world, name, &next)
}

/// The user before may be shut out already, where its end was cut off before it was written down.
fn turn_round(world: &World, name: &str, kept: Kept, old: Login) -> Result<()> {
    let let_in = roles::let_in_again(&kept, &old.user, &old.password);
    let_in.map_err(|error| failed(name, &error))?;
    let gone = Login {
        user: kept.user().to_owned(),
        password: kept.password.clone(),
    };
    let login = (old.user != kept.name).then_some(old.user);
    let next = Kept {
        login,
        password: old.password,
        previous: Some(gone),
        back: true,
        ..kept
    };
    write(world, name, &next)
}

/// The proof: no instance that runs was told of it, and the server has no session of it.
fn unused(world: &World, name: &str, running: &[InstanceId]) -> Result<()> {
    let status = login(world, name, running)?;
    if status.behind.is_empty() && status.sessions == 0 {
        return Ok(());
    }
    let ids: Vec<_> = status.behind.iter().map(ToString::to_string).collect();
    let user = status.previous.unwrap_or_default();
    let text = format!("`{user}` of `{name}` is in use");
    Err(Diagnostic::error("resource::login-in-use", text)
        .note(format!(
            "{} sessions; instances that were told of it: {}",
            status.sessions,
            if ids.is_empty() {
                "none".to_owned()
            } else {
                ids.join(", ")
            }
        ))
        .note("it was not shut out"))
}

fn end(world: &World, name: &str, kept: Kept, old: &Login) -> Result<()> {
    let shut = roles::shut_out(&kept, &old.user);
    shut.map_err(|error| failed(name, &error))?;
    reach("login", "shut-out", Point::After);
    let left = roles::sessions(&kept, &old.user).map_err(|error| failed(name, &error))?;
    if left > 0 {
        let text = format!(
            "somebody has connected to `{name}` as `{}` just now",
            old.user
        );
        return Err(Diagnostic::error("resource::login-in-use", text)
            .note("nobody can do so any more; those sessions go on")
            .help(
                "no instance of ours was told of it: find out who it is, then say the same again",
            ));
    }
    write(
        world,
        name,
        &Kept {
            previous: None,
            back: false,
            ..kept
        },
    )
}

fn write(world: &World, name: &str, kept: &Kept) -> Result<()> {
    store::write(&world.state(), name, kept).map_err(|error| io(name, &error))
}
