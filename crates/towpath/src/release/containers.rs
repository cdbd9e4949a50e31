//! What a plan needs of an engine of containers.

use super::Refusal;
use super::planner::Result;
use crate::config::Config;
use crate::container::{self, Engine};

/// The services that run in containers: in a source tree, those without a command for it.
pub(super) fn containers(config: &Config, dev: bool) -> Vec<String> {
    let contained = |name: &&String| {
        let service = &config.services[*name];
        service.container.is_some() && !(dev && service.dev.is_some())
    };
    config.order.iter().filter(contained).cloned().collect()
}

/// Whoever needs an engine is told before anything is touched. Blocking.
///
/// # Errors
/// [`Refusal::Failed`] when there is none that answers.
pub(super) fn engine(containers: &[String]) -> Result<()> {
    let Some(first) = containers.first() else {
        return Ok(());
    };
    let answers = Engine::find().and_then(|engine| engine.answers());
    answers.map_err(|error| {
        Refusal::Failed(
            container::missing(&error)
                .note(format!("`{first}` runs in a container"))
                .note("nothing was touched"),
        )
    })
}
