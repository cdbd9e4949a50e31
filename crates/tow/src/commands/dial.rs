//! The far side of a link: standard input and output become a connection to an agent.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};
use towpath::agent::api::Trouble;
use towpath::agent::dial::{self, Absent, Wanted};
use towpath::link::{Preface, Refused};

use super::{Ending, rehearsals};
use crate::cli::Cli;
use crate::cli::commands::{Dial, Only};
use crate::place::{self, Rehearsal};
use crate::{connect, version};

/// A boot unit brings an agent back within this; one that becomes another build is away for less.
const COMES_BACK: Duration = Duration::from_secs(2);

/// One that is started here may first have to adopt, and to replace a gateway.
const COMES_UP: Duration = Duration::from_secs(30);

/// `tow agent dial`.
pub async fn dial(cli: &Cli, arguments: &Dial) -> Ending {
    let wanted = Wanted {
        app: arguments.app.clone(),
        environment: arguments.environment.clone(),
        key: arguments
            .only
            .map(|Only::Deploy| arguments.key.clone().unwrap_or_default()),
        rehearsal: rehearsals::of(arguments)?,
    };
    let tow = std::env::current_exe().unwrap_or_default();
    let input = file(std::io::stdin().as_fd())?;
    let mut output = file(std::io::stdout().as_fd())?;
    let found = reach(cli, &wanted).await;
    let (preface, stream) = match found {
        Ok((stream, preface)) => (preface, Some(stream)),
        Err(absent) => {
            let refused: Refused = absent.refused(&wanted);
            (dial::refusal(&wanted, refused, version(), tow), None)
        }
    };
    let io = |error: std::io::Error| super::inner::failed(&error);
    output
        .write_all(preface.line().as_bytes())
        .await
        .map_err(io)?;
    output.flush().await.map_err(io)?;
    match stream {
        // An end in the middle is for whoever has dialled to see.
        Some(stream) => {
            let _ = dial::bridge(input, output, stream).await;
            Ok(0)
        }
        None => Ok(preface.trouble.map_or(1, |refused| refused.exit)),
    }
}

fn file(end: BorrowedFd<'_>) -> Result<File, Trouble> {
    let own = end
        .try_clone_to_owned()
        .map_err(|error| super::inner::failed(&error))?;
    Ok(File::from_std(own.into()))
}

type Reached = (tokio::net::UnixStream, Preface);

/// The agent, which is started where that is this user's to do and nobody else does.
async fn reach(cli: &Cli, wanted: &Wanted) -> Result<Reached, Absent> {
    let state = match &wanted.rehearsal {
        Some(rehearsal) => dial::find(&[rehearsals::state(cli, wanted, rehearsal)])?,
        None => dial::find(&states(cli, wanted))?,
    };
    let began = Instant::now();
    let mut child: Option<Child> = None;
    loop {
        let absent = match dial::connect(&state, wanted.key.as_deref()).await {
            Ok((stream, hello)) => {
                let tow = std::env::current_exe().unwrap_or_default();
                return Ok((stream, dial::preface(wanted, hello, &state, tow)));
            }
            Err(absent) => absent,
        };
        let Absent::Agent { own, .. } = absent else {
            return Err(absent);
        };
        let waited = began.elapsed();
        if waited > COMES_BACK && !own || waited > COMES_UP {
            return Err(absent);
        }
        if own && waited > grace(wanted, &state) && !is_starting(&mut child) {
            child = Some(start(wanted, &state).ok_or(absent)?);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Where a boot unit may be at it, it is waited for.
fn grace(wanted: &Wanted, state: &Path) -> Duration {
    let ran_before = state.join("state.db").exists();
    if ran_before && wanted.rehearsal.is_none() {
        COMES_BACK
    } else {
        Duration::ZERO
    }
}

fn is_starting(child: &mut Option<Child>) -> bool {
    let running = |child: &mut Child| matches!(child.try_wait(), Ok(None));
    child.as_mut().is_some_and(running)
}

fn start(wanted: &Wanted, state: &Path) -> Option<Child> {
    let rehearsal = wanted.rehearsal.clone();
    let rehearsal = rehearsal.map_or(Rehearsal::None, Rehearsal::There);
    connect::start(&wanted.app, &wanted.environment, state, &rehearsal).ok()
}

/// Where the state may be: where it was said to be, else the machine's, else this user's.
fn states(cli: &Cli, wanted: &Wanted) -> Vec<PathBuf> {
    let bases = match &cli.state {
        Some(states) => vec![states.clone()],
        None => vec![PathBuf::from("/var/lib/towpath"), place::machine_states()],
    };
    let below = |base: PathBuf| base.join(&wanted.app).join(&wanted.environment);
    bases.into_iter().map(below).collect()
}
