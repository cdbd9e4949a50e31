//! The last look at what is to be written and said: no value of a secret that was read may stand in it.
//!
//! Commands, probes and plain variables are judged where they are read. This is for what got past that: the same value
//! in an argument whose name does not give it away.

use super::draft::Draft;
use super::finding::{Finding, Findings};
use super::secret;
use super::sketch::{Probe, Variable};

/// Shorter ones stand in many words by chance.
const SHORTEST: usize = 8;

/// Values of secrets that were read.
#[derive(Debug, Default)]
pub struct Guard(Vec<String>);

impl Guard {
    /// Keeps the value of a variable that is a secret.
    pub fn learn(&mut self, variable: &Variable) {
        let value = variable.value.as_deref().unwrap_or_default().trim();
        let is_word = secret::is_common(value) || value.starts_with('$');
        if variable.is_secret && value.len() >= SHORTEST && !is_word {
            self.0.push(value.to_owned());
        }
    }

    fn holds(&self, text: &str) -> bool {
        self.0.iter().any(|value| text.contains(value.as_str()))
    }

    /// Takes out of a draft what holds such a value, and says so.
    pub fn clear(&self, draft: &mut Draft, findings: &mut Findings) {
        for service in &mut draft.services {
            let mut taken: Vec<String> = Vec::new();
            let commands = [
                ("build", &mut service.build),
                ("run", &mut service.run),
                ("dev", &mut service.dev),
                ("release", &mut service.release),
            ];
            for (key, command) in commands {
                if command.as_ref().is_some_and(|line| self.holds(line)) {
                    *command = None;
                    taken.push(key.to_owned());
                }
            }
            let exec = |ready: &super::sketch::Ready| match &ready.probe {
                Probe::Exec(text) | Probe::Http(text) => self.holds(text),
            };
            if service.ready.as_ref().is_some_and(exec) {
                service.ready = None;
                taken.push("ready".to_owned());
            }
            for table in [&mut service.env, &mut service.build_env] {
                let found = table.iter().filter(|(_, value)| self.holds(value));
                taken.extend(found.map(|(name, _)| format!("env.{name}")));
                table.retain(|(_, value)| !self.holds(value));
            }
            for key in taken {
                findings.decide(
                    &service.place,
                    format!(
                        "`{key}` of `{}` holds the value of a secret, and is left out",
                        service.name
                    ),
                    format!(
                        "services.{}.{key} = \"...\", with `$NAME` in its place",
                        service.name
                    ),
                );
            }
        }
    }

    /// Blots such values out of what is said.
    pub fn blot(&self, finding: &mut Finding) {
        for text in [&mut finding.text].into_iter().chain(&mut finding.help) {
            for value in &self.0 {
                if text.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), "[secret]");
                }
            }
        }
    }
}
