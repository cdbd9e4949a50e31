//! How far a transfer is, for whoever waits longer than a moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use towpath::agent::Progress;

use crate::out;

/// What takes less is not spoken of.
const MOMENT: Duration = Duration::from_secs(2);

/// Time between two lines where nobody watches a bar.
const EVERY: Duration = Duration::from_secs(5);

/// A transfer under way; a bar of it is gone when this is dropped.
pub struct Carrying {
    bar: ProgressBar,
    progress: Progress,
}

impl Carrying {
    /// Of `what`; says nothing at all when `quiet`.
    pub fn new(what: &'static str, quiet: bool) -> Carrying {
        let bar = ProgressBar::hidden();
        let template = "  {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        let (began, said) = (Instant::now(), Mutex::new(None::<Instant>));
        let shown = bar.clone();
        let progress = move |done: u64, total: u64| {
            if quiet || began.elapsed() < MOMENT {
                return;
            }
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if out::is_watched() {
                if said.is_none() {
                    shown.set_draw_target(ProgressDrawTarget::stderr());
                }
                shown.set_length(total);
                shown.set_position(done);
            } else if said.is_none_or(|last| last.elapsed() >= EVERY) {
                out::note(format!("  {what}: {} of {}", size(done), size(total)));
            } else {
                return;
            }
            *said = Some(Instant::now());
        };
        Carrying {
            bar,
            progress: Arc::new(progress),
        }
    }

    /// Whom to tell.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes, in the unit that a person would take.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} KB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}
