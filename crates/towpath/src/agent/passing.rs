//! The agent of a rehearsal on a server, which is to leave nothing behind.
//!
//! When nobody has spoken to it for a while, because the link or whoever rehearses is gone, it goes
//! back with what is under way, takes everything down, and ends. An agent that ends while nothing
//! runs, told to or not, takes its state with it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::api::{Begin, What};
use super::{Agent, End, runs};
use crate::release::World;

/// Between looks at what is still to be taken down.
const LOOK: Duration = Duration::from_millis(500);

/// Looks at a folder that shims on their way out still write to.
const TRIES: u32 = 40;

/// When somebody spoke last.
pub(super) struct Heard(Mutex<Instant>);

impl Default for Heard {
    fn default() -> Heard {
        Heard(Mutex::new(Instant::now()))
    }
}

impl Heard {
    /// Somebody speaks.
    pub(super) fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when nobody has spoken for so long.
    async fn silence(&self, lasts: Duration) {
        loop {
            let end = self.last() + lasts;
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// Ends the agent, with everything it has started, once nobody has spoken to it for `lasts`.
pub(super) async fn watch(agent: Arc<Agent>, lasts: Duration) {
    agent.heard.silence(lasts).await;
    while !is_down(&agent.world) {
        take_down(&agent).await;
        sleep(LOOK).await;
    }
    agent.end(End::Exit);
}

/// A run that can go back does so first; one that cannot ends by itself. What is refused now is not
/// at the next look.
async fn take_down(agent: &Agent) {
    let actor = "towpath";
    let _ = runs::cancel(&agent.world, &agent.runs, actor);
    let down = Begin::new(What::Down, actor.to_owned());
    let _ = runs::begin(&agent.world, &agent.runs, down).await;
}

/// Whether nothing runs, and nothing is under way.
fn is_down(world: &World) -> bool {
    world.environment().is_ok_and(|now| {
        let of_versions = now.live.is_none() && now.warm.is_none() && now.gateway.is_none();
        now.open.is_none() && of_versions && now.provided.is_empty()
    })
}

/// Puts the state out of the way, unless something runs of which it is the only account. While the
/// agent can still be spoken to: who finds it gone is not to start another in its place.
pub(super) fn set_aside(world: &World) {
    if is_down(world) {
        let state = world.state();
        // What cannot be moved is left to whoever rehearses there next.
        let _ = std::fs::rename(&state, aside(&state));
    }
}

/// No environment has such a name.
fn aside(state: &Path) -> PathBuf {
    state.with_extension("gone")
}

/// Removes what was put out of the way, and the folders above it once they are empty.
pub(super) async fn remove(state: &Path) {
    let aside = aside(state);
    for _ in 0..TRIES {
        match std::fs::remove_dir_all(&aside) {
            Err(_) if aside.exists() => sleep(LOOK / 10).await,
            _ => break,
        }
    }
    for above in state.ancestors().skip(1).take(2) {
        let _ = std::fs::remove_dir(above);
    }
}
