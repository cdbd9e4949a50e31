//! Services after a reboot: each starts after those it needs, once they are ready or their time is
//! over. What was already running, as after an agent's death, is not kept waiting by that.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::adopt;
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::{Version, World};
use crate::supervise::Process;

/// The instances of one service.
struct Turn {
    processes: Vec<Process>,
    /// Whether another service needs it.
    is_needed: bool,
}

/// Tends `processes`, which are of `version`, in the order of needs.
///
/// # Errors
/// When the version cannot be resolved.
pub(super) fn start(
    world: &Arc<World>,
    version: &Version,
    processes: BTreeMap<InstanceId, Process>,
) -> Result<(), Diagnostic> {
    let turns = turns(world, version, processes)?;
    let world = world.clone();
    // The agent answers meanwhile.
    tokio::spawn(async move {
        for turn in turns {
            take(&world, turn).await;
        }
    });
    Ok(())
}

fn turns(
    world: &World,
    version: &Version,
    processes: BTreeMap<InstanceId, Process>,
) -> Result<Vec<Turn>, Diagnostic> {
    let config = version.config(&world.environment)?;
    let turn = |name: &String| Turn {
        processes: processes
            .values()
            .filter(|process| process.service == *name)
            .cloned()
            .collect(),
        is_needed: config
            .services
            .values()
            .any(|service| service.needs.contains(name)),
    };
    Ok(config.order.iter().map(turn).collect())
}

async fn take(world: &World, turn: Turn) {
    // A run that has begun meanwhile may have stopped it.
    let wanted = world.environment().map(|now| adopt::wanted(&now));
    for process in &turn.processes {
        if wanted
            .as_ref()
            .is_ok_and(|wanted| wanted.contains(&process.id))
        {
            world.supervisor.tend(process.clone());
        }
    }
    if turn.is_needed {
        for process in &turn.processes {
            // One that does not become ready in its time keeps nobody waiting for longer.
            let _ = world.supervisor.ready(process).await;
        }
    }
}
