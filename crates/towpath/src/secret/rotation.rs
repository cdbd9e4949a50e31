//! Rotation: a new value comes in while the old one is still good, and the old one goes when nobody has it any more.
//!
//! Where it stands is part of the row in `tow.secrets.toml`, signed as everything there is, so that whoever was cut off
//! goes on, or goes back, from the file alone:
//!
//! ```text
//! minted       the new value is made; who starts from now on has it, and the old one as NAME_PREVIOUS
//! overlapping  whatever runs has both; what the old one was given out for is still good, until `until`
//! revoking     who starts from now on has the new one alone; the row loses the old one when no instance has it
//! ```
//!
//! What is done next is a pure function of that and of what instances have been given ([`Rotation::next`]). An
//! *interrupting* rotation has no second place for the old value: it goes from `minted` to its end. Going back is a
//! rotation too, whose new value is the old one, because what the new one was given out for may be in use by then.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, File, Identity, Row, Value};

/// What the name of the old value ends with, in the environment of a service.
pub const PREVIOUS: &str = "_PREVIOUS";

/// The old value of a row, and how far the way from it to the new one has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Where it stands.
    pub stage: Stage,
    /// Whether services are given the old value too.
    pub overlaps: bool,
    /// Whether it goes back: what comes in was there before.
    #[serde(default)]
    pub back: bool,
    /// Until when the old value stays good, Unix time in seconds; 0 while it is not known.
    pub until: i64,
    /// Version of the old value.
    pub version: u32,
    /// When the old value was set, Unix time in seconds.
    pub set: i64,
    /// The old value, as age has made it.
    pub value: String,
}

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The new value is made.
    Minted,
    /// Whatever runs has the new value.
    Overlapping,
    /// The old value is given to nobody any more.
    Revoking,
}

impl Stage {
    /// Its name, as it stands in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Minted => "minted",
            Stage::Overlapping => "overlapping",
            Stage::Revoking => "revoking",
        }
    }
}

/// Versions that an instance was given, by name; of old values under their own.
pub type Given = BTreeMap<String, u32>;

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Start anew what does not have what the stage wants.
    Restart,
    /// Let the overlap begin.
    Overlap,
    /// Nothing before that time, Unix seconds.
    Wait(i64),
    /// Give the old value to nobody any more.
    Revoke,
    /// Forget it: it is over.
    Finish,
}

impl Rotation {
    /// What is to be done next for the secret `key`, whose new value has this version; `given` is what each instance
    /// that runs was given, `now` Unix time in seconds.
    #[must_use]
    pub fn next<'a>(
        &self,
        key: &str,
        version: u32,
        given: impl Iterator<Item = &'a Given>,
        now: i64,
    ) -> Move {
        let mut given = given.filter(|given| given.contains_key(key));
        match self.stage {
            Stage::Minted if given.any(|given| given[key] != version) => Move::Restart,
            Stage::Minted if self.overlaps => Move::Overlap,
            Stage::Minted => Move::Finish,
            Stage::Overlapping if now < self.until => Move::Wait(self.until),
            Stage::Overlapping => Move::Revoke,
            Stage::Revoking if given.any(|given| is_behind(given, key, version)) => Move::Restart,
            Stage::Revoking => Move::Finish,
        }
    }

    /// Whether who starts now is given the old value too.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.overlaps && self.stage != Stage::Revoking
    }

    /// Whether an instance that was given this does not have what the stage wants.
    #[must_use]
    pub fn is_behind(&self, key: &str, version: u32, given: &Given) -> bool {
        match self.stage {
            Stage::Minted | Stage::Overlapping => {
                given.get(key).is_some_and(|found| *found != version)
            }
            Stage::Revoking => is_behind(given, key, version),
        }
    }
}

/// Whether an instance has any other value than the new one.
fn is_behind(given: &Given, key: &str, version: u32) -> bool {
    let other = given.get(key).is_some_and(|found| *found != version);
    other || given.contains_key(&previous(key))
}

/// Under which name a service has the old value of `key`.
#[must_use]
pub fn previous(key: &str) -> String {
    format!("{key}{PREVIOUS}")
}

impl File {
    /// Puts a new value beside the one that is there, which stays until the end of the rotation; to be signed.
    ///
    /// # Errors
    /// When there is none, when it is being rotated already, and as [`File::set`].
    pub fn rotate(
        &mut self,
        environment: &str,
        key: &str,
        value: &Value,
        overlaps: bool,
        now: i64,
        identity: &Identity,
    ) -> Result<u32, Error> {
        let before = self.row(environment, key);
        let before = before.ok_or_else(|| Error::Missing(vec![key.to_owned()]))?;
        if before.rotation.is_some() {
            return Err(Error::Form(format!("`{key}` is being rotated already")));
        }
        let rotation = Rotation::of(before, overlaps);
        self.replace(environment, key, value, now, Some(rotation), identity)
    }

    /// Turns a rotation round: the old value is the new one again, and the new one goes. Where nobody was given that
    /// (`is_used` says so), nothing is left of it at once. To be signed.
    ///
    /// # Errors
    /// When it is not being rotated, or goes back already, and as [`File::set`].
    pub fn turn_round(
        &mut self,
        environment: &str,
        key: &str,
        is_used: bool,
        identity: &Identity,
    ) -> Result<u32, Error> {
        let row = self.row(environment, key);
        let rotation = row.and_then(|row| Some((row, row.rotation.as_ref()?)));
        let Some((row, rotation)) = rotation else {
            return Err(Error::Form(format!("`{key}` is not being rotated")));
        };
        // Turned round twice it would go forward, and what came in last would be all that is left.
        if rotation.back {
            return Err(Error::Form(format!("`{key}` goes back already")));
        }
        let back = is_used.then(|| Rotation {
            back: true,
            ..Rotation::of(row, rotation.overlaps)
        });
        let set = rotation.set;
        let value = self.open_previous(environment, key, identity)?;
        let value = value.ok_or_else(|| Error::Missing(vec![key.to_owned()]))?;
        self.replace(environment, key, &value, set, back, identity)
    }

    fn replace(
        &mut self,
        environment: &str,
        key: &str,
        value: &Value,
        set: i64,
        rotation: Option<Rotation>,
        identity: &Identity,
    ) -> Result<u32, Error> {
        let version = self.set(environment, key, value, set, identity)?;
        self.turn(environment, key, |row| row.rotation = rotation);
        Ok(version)
    }

    /// Brings a rotation to `stage`, or to its end; to be signed.
    pub fn advance(&mut self, environment: &str, key: &str, stage: Option<Stage>, until: i64) {
        self.turn(environment, key, |row| match (stage, &mut row.rotation) {
            (Some(stage), Some(rotation)) => (rotation.stage, rotation.until) = (stage, until),
            _ => row.rotation = None,
        });
    }

    fn turn(&mut self, environment: &str, key: &str, change: impl FnOnce(&mut Row)) {
        let secrets = self.environments.get_mut(environment);
        if let Some(row) = secrets.and_then(|secrets| secrets.rows.get_mut(key)) {
            change(row);
        }
    }

    /// Decrypts the old value of a secret that is being rotated.
    ///
    /// # Errors
    /// When it is not for this identity, or not what it is said to be.
    pub fn open_previous(
        &self,
        environment: &str,
        key: &str,
        identity: &Identity,
    ) -> Result<Option<Value>, Error> {
        let row = self.row(environment, key);
        let rotation = row.and_then(|row| row.rotation.as_ref());
        rotation
            .map(|old| self.open_as(environment, key, old.version, &old.value, identity))
            .transpose()
    }
}

impl Rotation {
    /// As it stands in the file; what is signed. The way forward is not named: files of before have no such word.
    pub(super) fn text(&self) -> String {
        let Rotation {
            stage,
            overlaps,
            back,
            until,
            version,
            set,
            value,
        } = self;
        let stage = stage.name();
        let back = if *back { " back = true," } else { "" };
        format!(
            "{{ stage = {stage:?}, overlaps = {overlaps},{back} until = {until}, version = {version}, set = {set}, value = {value:?} }}"
        )
    }

    /// The way from what `row` has to another value, at its beginning.
    fn of(row: &Row, overlaps: bool) -> Rotation {
        Rotation {
            stage: Stage::Minted,
            overlaps,
            back: false,
            until: 0,
            version: row.version,
            set: row.set,
            value: row.value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(stage: Stage, overlaps: bool) -> Rotation {
        Rotation {
            stage,
            overlaps,
            back: false,
            until: 100,
            version: 1,
            set: 0,
            value: String::new(),
        }
    }

    fn given(pairs: &[(&str, u32)]) -> Given {
        let pairs = pairs.iter();
        pairs
            .map(|(key, found)| ((*key).to_owned(), *found))
            .collect()
    }

    fn identity() -> (Identity, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("tow-rotation-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (Identity::open(&path).unwrap(), path)
    }

    #[test]
    fn what_goes_back_is_not_turned_round_again() {
        let (identity, path) = identity();
        let value = |text: &str| Value::new(text.into()).unwrap();
        let mut file = File::new("shop");
        file.admit("me", &identity.contact(), "staging").unwrap();
        file.set("staging", "KEY", &value("old"), 1, &identity)
            .unwrap();
        file.rotate("staging", "KEY", &value("new"), true, 2, &identity)
            .unwrap();
        // As files of before have it, it goes forward.
        let row = file.row("staging", "KEY").unwrap();
        let text = row.rotation.as_ref().unwrap().text();
        assert!(!text.contains("back"), "{text}");
        file.turn_round("staging", "KEY", true, &identity).unwrap();
        file.sign("staging", &identity).unwrap();
        let mut file = File::parse(&file.text().unwrap()).unwrap();
        file.verify("staging").unwrap();
        let back = file.row("staging", "KEY").unwrap().clone();
        assert!(back.rotation.as_ref().unwrap().back);
        for is_used in [true, false] {
            let twice = file.turn_round("staging", "KEY", is_used, &identity);
            assert!(twice.is_err());
        }
        assert_eq!(file.row("staging", "KEY").unwrap(), &back);
        let opened = file.open("staging", "KEY", &identity).unwrap();
        assert_eq!(opened.reveal(), "old");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_old_value_goes_only_when_nobody_has_it() {
        let old = given(&[("KEY", 1)]);
        let both = given(&[("KEY", 2), ("KEY_PREVIOUS", 1)]);
        let new = given(&[("KEY", 2)]);
        let other = given(&[("OTHER", 7)]);
        let next = |stage, overlaps, all: &[&Given], now| {
            rotation(stage, overlaps).next("KEY", 2, all.iter().copied(), now)
        };
        use Stage::{Minted, Overlapping, Revoking};
        for (stage, overlaps, all, now, wanted) in [
            (Minted, true, vec![&both, &old], 0, Move::Restart),
            (Minted, true, vec![&both, &both, &other], 0, Move::Overlap),
            (Minted, true, vec![], 0, Move::Overlap),
            (Minted, false, vec![&new, &old], 0, Move::Restart),
            (Minted, false, vec![&new, &other], 0, Move::Finish),
            (Overlapping, true, vec![&both], 99, Move::Wait(100)),
            (Overlapping, true, vec![&both], 100, Move::Revoke),
            (Revoking, true, vec![&new, &both], 200, Move::Restart),
            (Revoking, true, vec![&new, &old], 200, Move::Restart),
            (Revoking, true, vec![&new, &other], 200, Move::Finish),
        ] {
            assert_eq!(
                next(stage, overlaps, &all, now),
                wanted,
                "{stage:?} {all:?}"
            );
        }
    }
}
