//! How two schemas differ.

/// The lines that only `before` has, with a minus, and those that only `after` has, with a plus.
#[must_use]
pub fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let lost = before.iter().filter(|line| !after.contains(line));
    let come = after.iter().filter(|line| !before.contains(line));
    lost.map(|line| format!("-{line}"))
        .chain(come.map(|line| format!("+{line}")))
        .collect()
}
