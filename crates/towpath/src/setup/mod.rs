//! Making a machine ready for environments: look, plan, act, and say what is missing.
//!
//! What there is comes from one script that only reads ([`look`]). What has to be done is a pure
//! function of that ([`plan`]), and empty where all is done already. What does it is a second script
//! ([`act`]), each step of which bears being repeated, so a set-up that was cut off is run again.
//! How the scripts get there is the caller's. What this very machine lacks is seen without them ([`look_here`]).

mod act;
mod doctor;
mod facts;
mod needs;
mod plan;
mod program;

use std::path::{Path, PathBuf};

pub use act::{Course, act};
pub use doctor::{Looked, Machine, Runs, look_here};
pub use facts::{Facts, Found, Mode, Sudo, look};
pub use needs::{first_words, programs};
pub use plan::{Finding, Plan, Step, Wish, plan};
pub use program::{Arch, Libc, Program};

/// Where things lie on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The program.
    pub program: PathBuf,
    /// The state root.
    pub states: PathBuf,
    /// The folder of systemd's units.
    pub units: PathBuf,
}

impl Layout {
    /// For the whole machine.
    #[must_use]
    pub fn system() -> Layout {
        Layout {
            program: PathBuf::from("/usr/local/bin/tow"),
            states: PathBuf::from("/var/lib/towpath"),
            units: PathBuf::from("/etc/systemd/system"),
        }
    }

    /// For the user whose home this is.
    #[must_use]
    pub fn user(home: &Path) -> Layout {
        Layout {
            program: home.join(".local/bin/tow"),
            states: home.join(".local/state/towpath"),
            units: home.join(".config/systemd/user"),
        }
    }

    /// The boot unit.
    #[must_use]
    pub fn unit(&self) -> PathBuf {
        self.units.join(UNIT)
    }

    /// What has to run when the machine comes up.
    #[must_use]
    pub fn boot_line(&self) -> String {
        let Layout {
            program, states, ..
        } = self;
        format!(
            "{} --state {} server run",
            program.display(),
            states.display()
        )
    }
}

/// Name of the boot unit.
pub const UNIT: &str = "towpath.service";

/// A word that `sh` takes as it stands.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_is_quoted_is_one_word_whatever_it_holds() {
        let texts = [
            "a b", "$HOME", "`id`", "a'b", "''", "\\", "a\nb", "-n", "*", "",
        ];
        for text in texts {
            let mut sh = std::process::Command::new("sh");
            let script = format!("printf '[%s]' {}", quoted(text));
            let output = sh.arg("-c").arg(script).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("[{text}]"));
        }
    }
}
