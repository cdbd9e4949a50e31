//! Of `tow secrets`.

use clap::{Args, Subcommand};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tow secrets set JWT_SECRET -e staging\n  tow secrets set JWT_SECRET -e staging < file\n  tow secrets rotate JWT_SECRET -e production\n  tow secrets people add bob age1... -e staging\n  tow secrets audit -e production --verify"
)]
pub struct Secrets {
    #[command(subcommand)]
    pub command: SecretsCommand,
}

#[derive(Subcommand)]
pub enum SecretsCommand {
    /// Set a secret: its value comes from a prompt, or from standard input.
    Set(Set),
    /// Print a secret.
    Get {
        /// Its name.
        name: String,
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV")]
        environment: String,
    },
    /// List secrets, without their values; also those that services ask for and nobody has set.
    List {
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV", default_value = "local")]
        environment: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put a new value in the place of a secret's while the old one is still good; goes on with one that was begun.
    Rotate(Rotate),
    /// Take a secret out.
    Remove {
        /// Its name.
        name: String,
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV")]
        environment: String,
    },
    /// Sign an environment's secrets as they are now: after a merge of two branches.
    Sign {
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV")]
        environment: String,
        /// Who may read them now, and could not when you looked last.
        #[arg(long = "reader", value_name = "NAME")]
        readers: Vec<String>,
    },
    /// Give the secrets the name that the application has in tow.toml now: all of them are encrypted and signed anew.
    Rename,
    /// Print what others need to let you read: your recipient, and the key of your signatures.
    Key,
    /// Who reads which environment.
    People(People),
    /// Who looked at which secret, and when.
    Audit {
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV", default_value = "local")]
        environment: String,
        /// Check that no row was changed, added, taken out or cut off.
        #[arg(long)]
        verify: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub struct Set {
    /// Its name: that of the environment variable.
    pub name: String,
    /// Environment.
    #[arg(short, long = "env", value_name = "ENV")]
    pub environment: String,
    /// Take the value from standard input or a prompt; what `set` does anyhow.
    #[arg(long)]
    pub stdin: bool,
    /// Taken only to be refused with a reason.
    #[arg(hide = true, num_args = 0..)]
    pub value: Vec<String>,
}

#[derive(Args)]
pub struct Rotate {
    /// Its name.
    pub name: String,
    /// Environment.
    #[arg(short, long = "env", value_name = "ENV")]
    pub environment: String,
    /// Take the new value from standard input or a prompt, instead of making a random one.
    #[arg(long, conflicts_with = "undo")]
    pub stdin: bool,
    /// Go back to the old value.
    #[arg(long)]
    pub undo: bool,
    /// Wait until the overlap is over, and revoke the old value then.
    #[arg(long)]
    pub wait: bool,
    /// Stop the version that is warm for the way back: it knows the old value only.
    #[arg(long)]
    pub end_window: bool,
    /// Rotate one that services know a single value of: the old one is refused from the switch on.
    #[arg(long)]
    pub interrupt: bool,
    /// A planted fault; only where the agent is a rehearsal's.
    #[arg(long, hide = true, value_parser = ["early-revoke"])]
    pub sabotage: Option<String>,
    /// Taken only to be refused with a reason.
    #[arg(hide = true, num_args = 0..)]
    pub value: Vec<String>,
}

#[derive(Args)]
pub struct People {
    #[command(subcommand)]
    pub command: Option<PeopleCommand>,
}

#[derive(Subcommand)]
pub enum PeopleCommand {
    /// Let somebody read an environment: a person, a CI; `agent` is the environment's own.
    Add {
        /// Name.
        name: String,
        /// What `tow secrets key` prints where they work, or an age recipient.
        contact: Option<String>,
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV")]
        environment: String,
    },
    /// Encrypt an environment's secrets to somebody no more.
    Remove {
        /// Name.
        name: String,
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV")]
        environment: String,
    },
}
