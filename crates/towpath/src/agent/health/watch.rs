//! One resource, asked again and again. A question follows the answer to the one before, or its time-out: behind a
//! resource that hangs there is never more than one, and at most one thread that waits for a file system.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::{Resource, Steady};
use crate::release::{Asking, Seen, World, ask, ask_of};

/// Longest pause before a resource that has failed for the first time is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// What its answers have come to.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Whether it is well; `None` before that is known.
    pub well: Option<bool>,
    /// What came instead of the last answer.
    pub error: Option<String>,
    /// What it said beside.
    pub seen: Seen,
    passes: u32,
    failures: u32,
}

impl Found {
    /// Takes an answer in; how long to wait until the next question.
    fn judge(&mut self, steady: &Steady, answer: Result<Seen, String>) -> Duration {
        match answer {
            Ok(seen) => {
                (self.passes, self.failures) = (self.passes + 1, 0);
                self.seen = seen;
                if self.passes >= steady.passes {
                    (self.well, self.error) = (Some(true), None);
                }
            }
            Err(error) => {
                (self.passes, self.failures) = (0, self.failures + 1);
                (self.error, self.seen) = (Some(error), Seen::default());
                if self.failures >= steady.failures {
                    self.well = Some(false);
                }
            }
        }
        let is_doubtful = (self.well == Some(true)) == (self.failures > 0);
        match is_doubtful || self.well.is_none() {
            true => steady.every.min(AGAIN),
            false => steady.every,
        }
    }
}

/// A resource that is asked for as long as this lives.
pub(super) struct Watch {
    resource: Resource,
    found: Arc<Mutex<Found>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to ask; `None` where it is not to be asked.
    pub fn start(world: &Arc<World>, name: &str, resource: &Resource) -> Option<Watch> {
        let steady = resource.alive.clone()?;
        let found = Arc::new(Mutex::new(Found::default()));
        let asker = Asker {
            world: world.clone(),
            name: name.to_owned(),
            resource: resource.clone(),
            steady,
            found: found.clone(),
            pending: None,
            made: false,
        };
        Some(Watch {
            resource: resource.clone(),
            found,
            task: tokio::spawn(asker.run()),
        })
    }

    /// Whether it asks just this.
    pub fn is_of(&self, resource: &Resource) -> bool {
        self.resource == *resource
    }

    pub fn found(&self) -> Found {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Asker {
    world: Arc<World>,
    name: String,
    resource: Resource,
    steady: Steady,
    found: Arc<Mutex<Found>>,
    /// What blocks, and was given up waiting for: it is not begun a second time.
    pending: Option<JoinHandle<Asking>>,
    /// Whether its file was seen.
    made: bool,
}

impl Asker {
    async fn run(mut self) {
        loop {
            let limit = self.steady.timeout;
            let answer = timeout(limit, self.once()).await;
            let answer = answer
                .unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())));
            let pause = {
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                found.judge(&self.steady, answer)
            };
            sleep(pause).await;
        }
    }

    async fn once(&mut self) -> Result<Seen, String> {
        let (world, name, resource) = (&self.world, &self.name, &self.resource);
        let begun = self.pending.get_or_insert_with(|| {
            let (state, user) = (world.state(), world.user);
            let (name, resource) = (name.clone(), resource.clone());
            tokio::task::spawn_blocking(move || ask_of(&state, &name, &resource, user))
        });
        let asking = begun.await;
        self.pending = None;
        let asking = asking.map_err(|_| "it panicked; this is a bug".to_owned())?;
        match &asking {
            Asking::Answered(Ok(())) => self.made = true,
            Asking::NotMade if self.made => return Err("its file is not there any more".to_owned()),
            _ => {}
        }
        ask(asking).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_none_and_one_answer_is_enough() {
        let seconds = Duration::from_secs;
        let steady = Steady {
            passes: 1,
            failures: 2,
            every: seconds(2),
            timeout: seconds(2),
        };
        let (well, ill) = (Ok(Seen::default()), Err("nothing listens there".to_owned()));
        let mut found = Found::default();
        assert_eq!(found.judge(&steady, ill.clone()), AGAIN);
        assert_eq!(found.well, None);
        assert_eq!(found.judge(&steady, well.clone()), seconds(2));
        assert_eq!((found.well, &found.error), (Some(true), &None));
        assert_eq!(found.judge(&steady, ill.clone()), AGAIN);
        assert_eq!(found.well, Some(true));
        assert_eq!(found.judge(&steady, ill.clone()), seconds(2));
        assert_eq!(found.well, Some(false));
        assert!(found.error.is_some());
        assert_eq!(found.judge(&steady, well), seconds(2));
        assert_eq!((found.well, found.error), (Some(true), None));
    }
}
