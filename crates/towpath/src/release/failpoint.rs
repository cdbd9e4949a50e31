//! Places where a test ends the agent, as SIGKILL would at that very moment.
//!
//! Built only with the feature `failpoints`: the program that is shipped has none.

/// Where in the life of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The intent is written; nothing has been done.
    Before,
    /// It is done; nothing says so yet.
    After,
    /// The result is written.
    Written,
}

impl Point {
    /// All of them, with the names that a test uses.
    #[must_use]
    pub fn all() -> [(&'static str, Point); 3] {
        [
            ("before", Point::Before),
            ("after", Point::After),
            ("written", Point::Written),
        ]
    }
}

/// Dies here when this is the place that the environment variable `TOWPATH_KILL` names:
/// `apply:switch:after`, `undo:launch:web:before`. It may name several, with commas: with the file
/// `TOWPATH_KILLED`, which gets a byte at each death, agents one after the other die at one after
/// the other. Waits here as long as the file `TOWPATH_HOLD` names this place; beside it, `held`
/// says that it does.
#[cfg(feature = "failpoints")]
pub fn reach(direction: &str, step: &str, point: Point) {
    let name = Point::all()
        .into_iter()
        .find(|(_, found)| *found == point)
        .map_or("", |(name, _)| name);
    let place = format!("{direction}:{step}:{name}");
    hold(&place);
    if is_doomed(&place) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(feature = "failpoints")]
fn is_doomed(place: &str) -> bool {
    let Ok(places) = std::env::var("TOWPATH_KILL") else {
        return false;
    };
    let Some(killed) = std::env::var_os("TOWPATH_KILLED") else {
        return places == place;
    };
    let deaths = std::fs::read(&killed).unwrap_or_default();
    let is_next = places.split(',').nth(deaths.len()) == Some(place);
    is_next && std::fs::write(&killed, [deaths, vec![b'x']].concat()).is_ok()
}

#[cfg(feature = "failpoints")]
fn hold(place: &str) {
    let Some(file) = std::env::var_os("TOWPATH_HOLD").map(std::path::PathBuf::from) else {
        return;
    };
    let is_named = || std::fs::read_to_string(&file).is_ok_and(|text| text == place);
    if !is_named() {
        return;
    }
    let held = file.with_file_name("held");
    let _ = std::fs::write(&held, place);
    tokio::task::block_in_place(|| {
        while is_named() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    let _ = std::fs::remove_file(held);
}

/// Nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_direction: &str, _step: &str, _point: Point) {}
