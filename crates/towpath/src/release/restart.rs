//! Starting what serves anew, in its own place: the same version beside itself, then the switch.

use super::planner::{Bring, Order, Result, bring};
use super::{Environment, Operation, Plan, Refusal, Side, Step, World};
use crate::diagnostic::Diagnostic;

/// Plans it. The warm version stays as it is, unless `ends_window`. Blocking.
///
/// # Errors
/// [`Refusal`] when nothing serves, and as [`bring`].
pub fn restart(
    world: &World,
    now: &Environment,
    ends_window: bool,
    order: Order<'_>,
) -> Result<Plan> {
    let live = now.live.as_ref().ok_or_else(|| nothing(world))?;
    let what = match live.release {
        Some(release) => Bring::Release(release),
        None => Bring::Tree {
            root: live.root.clone(),
            manifest: live.manifest.clone(),
        },
    };
    let order = Order {
        again: true,
        ..order
    };
    let mut plan = bring(world, now, Operation::Restart, what, order)?;
    if ends_window && now.warm.is_some() {
        let old = |step: &Step| *step == Step::Retire { side: Side::Old };
        let at = plan.steps.iter().position(old).unwrap_or(plan.steps.len());
        plan.steps.insert(at, Step::Retire { side: Side::Warm });
    }
    Ok(plan)
}

fn nothing(world: &World) -> Refusal {
    let text = format!("nothing serves in {}", world.environment);
    Refusal::Refused(Diagnostic::error("restart::nothing", text).note("nothing was touched"))
}
