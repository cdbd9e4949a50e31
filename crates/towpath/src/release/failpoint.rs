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

/// Dies here when the environment variable `TOWPATH_KILL` names this place:
/// `apply:switch:after`, `undo:launch:web:before`.
#[cfg(feature = "failpoints")]
pub fn reach(direction: &str, step: &str, point: Point) {
    let name = Point::all()
        .into_iter()
        .find(|(_, found)| *found == point)
        .map_or("", |(name, _)| name);
    if std::env::var("TOWPATH_KILL")
        .is_ok_and(|place| place == format!("{direction}:{step}:{name}"))
    {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_direction: &str, _step: &str, _point: Point) {}
