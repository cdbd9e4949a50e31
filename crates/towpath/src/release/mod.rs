//! Releases, and the engine that brings them into an environment and back.
//!
//! A *plan* is a list of *steps*, decided before anything is touched and written into the journal
//! as the first row of its *run*. The executor writes an intent before each step acts and a result
//! after it has; what the environment is can therefore always be folded from the rows (`fold`),
//! and an agent that starts finds the run that a crash cut off and goes on with it: the step whose
//! last row is an intent is probed, and applied again, which every step bears. What is done next is a
//! pure function of the fold (`next`). When a step fails, the steps before it are undone in the
//! reverse order of their intents, until the run has passed the first step with no way back, its
//! *pivot*: from then on it is finished, and a step that fails is tried again.

mod alive;
mod back;
mod baked;
mod collect;
mod containers;
pub mod database;
mod drift;
mod effect;
mod executor;
mod explain;
pub mod failpoint;
mod fold;
mod foreign;
mod gateway;
mod hold;
mod key;
mod lacks;
mod maintenance;
mod migrating;
pub mod next;
mod plan;
mod planner;
mod prepare;
mod record;
mod resources;
mod restart;
mod run;
mod schema;
mod scratch;
mod scripts;
mod secrets;
mod step;
mod toolchain;
mod trial;
mod tried;
mod trouble;
mod version;
mod way;
mod world;

pub use alive::{Asking, Seen, ask, prepare as ask_of};
pub use baked::carried;
pub use collect::{Collected, Garbage, doom, garbage, of_no_release, remove};
pub use drift::{Drift, addresses, declared, drift};
pub use effect::bakes::bake_ids;
pub use effect::images::image_id;
pub use executor::{Cancel, Outcome, resume};
pub use explain::{Explained, ExplainedStep};
pub use fold::{Ended, Environment, Illegal, Warm, fold};
pub use foreign::OLD_FAILS;
pub(crate) use foreign::{is_release_command, migrator_id};
pub use gateway::{
    GATEWAY, adopt_gateway, certificates, gateway, gateway_client, gateway_state, keep_table,
    tend_gateway,
};
pub use key::{SigningKey, verify};
pub use lacks::look as look_here;
pub use maintenance::{Maintenance, keep_maintenance, maintenance, set_maintenance};
pub use migrating::{Migrating, MigrationStatus, SchemaStatus, Tree, contract, migrate, schemas};
pub use plan::{Operation, Plan, Sabotage};
pub use planner::{Bring, Order, Refusal, bring, down, price, retire, roll_back};
pub use prepare::discard;
pub use record::{Record, platform};
pub use resources::{
    LoginMove, LoginStatus, instance as resource_instance, login, move_login,
    resume as resume_resources, version as resource_version,
};
pub use restart::restart;
pub use run::{OpenRun, Phase, StepState, Stuck};
pub use scripts::check_migrations;
pub use step::{Class, Presence, Side, Step};
pub(crate) use toolchain::home;
pub use trouble::ending;
pub use version::{Instance, Seed, Version};
pub(crate) use version::{millis, release_id};
pub use world::{OVERTAKEN, SUPERSEDED, World};
