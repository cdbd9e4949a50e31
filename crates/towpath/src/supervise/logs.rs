//! Reading logs back.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How much of a log is read at first, and at most, bytes.
const WINDOW: u64 = 64 << 10;
const MOST: u64 = 16 << 20;

/// The last `lines` lines of a log, as far as they stand in its last 16 MiB; empty when there is no log.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let Ok(mut file) = File::open(path) else {
        return Vec::new();
    };
    let mut window = WINDOW;
    loop {
        let Ok((text, is_whole)) = end(&mut file, window) else {
            return Vec::new();
        };
        let mut found: Vec<&str> = text.lines().collect();
        if !is_whole && !found.is_empty() {
            found.remove(0);
        }
        if found.len() < lines && !is_whole && window < MOST {
            window *= 4;
            continue;
        }
        let skip = found.len().saturating_sub(lines);
        return found[skip..].iter().copied().map(str::to_owned).collect();
    }
}

/// The last `window` bytes of a file, and whether that is all of it.
fn end(file: &mut File, window: u64) -> std::io::Result<(String, bool)> {
    let start = file.metadata()?.len().saturating_sub(window);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(window).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), start == 0))
}

/// Whether the process that the shim started as `pid` has written a line with `text`. An instance that is started again
/// writes to the log of its former life: what it said then does not count.
#[must_use]
pub(super) fn has_said(path: &Path, pid: u32, text: &str) -> bool {
    let mut rotated = path.as_os_str().to_owned();
    rotated.push(".1");
    for file in [path.to_owned(), PathBuf::from(rotated)] {
        let life = Life::of(&file, pid, text);
        if life.has_said || life.began {
            return life.has_said;
        }
    }
    false
}

/// What one file of a log holds of a process's life.
#[derive(Default)]
struct Life {
    /// The line in which the shim tells of its start.
    began: bool,
    /// A line with the text, after that if it is there.
    has_said: bool,
}

impl Life {
    fn of(path: &Path, pid: u32, text: &str) -> Life {
        let (start, mut life) = (format!(" tow started {pid}"), Life::default());
        let Ok(file) = File::open(path) else {
            return life;
        };
        for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if line.ends_with(&start) && said(&line).is_none() {
                life = Life {
                    began: true,
                    has_said: false,
                };
            }
            life.has_said |= said(&line).is_some_and(|said| said.contains(text));
        }
        life
    }
}

/// A logged line without its time and channel, when a process wrote it (and not its shim).
#[must_use]
pub(super) fn said(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(' ')?;
    let (channel, text) = rest.split_once(' ').unwrap_or((rest, ""));
    matches!(channel, "out" | "err").then_some(text)
}

#[cfg(test)]
mod tests {
    use super::{MOST, has_said, tail};

    fn log(name: &str, current: &str, rotated: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("towpath-logs-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("web.log");
        std::fs::write(&path, current).unwrap();
        std::fs::write(dir.join("web.log.1"), rotated).unwrap();
        path
    }

    fn says(name: &str, current: &str, rotated: &str) -> bool {
        let path = log(name, current, rotated);
        let found = has_said(&path, 7, "ready");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        found
    }

    #[test]
    fn long_lines_are_found_as_far_back_as_is_read() {
        let lines: Vec<String> = (0..40).map(|number| format!("{number:0>20000}")).collect();
        let path = log("long", &(lines.join("\n") + "\n"), "");
        assert_eq!(tail(&path, 30), lines[10..]);
        assert_eq!(tail(&path, 100), lines);
        let far = usize::try_from(MOST).unwrap();
        let path = log("long", &("x".repeat(far) + "\nlast\n"), "");
        assert_eq!(tail(&path, 2), ["last"]);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn only_this_life_counts() {
        let before = "T out ready\n";
        assert!(!says("former", &format!("{before}T tow started 7\n"), ""));
        let again = format!("{before}T tow started 7\nT err is ready\n");
        assert!(says("again", &again, ""));
        let other = format!("T tow started 6\n{before}T tow started 7\nT out \n");
        assert!(!says("other", &other, before));
    }

    #[test]
    fn a_life_goes_on_in_the_next_file() {
        assert!(says(
            "rotated",
            "T out more\n",
            "T tow started 7\nT out ready\n"
        ));
        assert!(says("next", "T out ready\n", "T tow started 7\n"));
        assert!(!says(
            "before",
            "T out more\n",
            "T out ready\nT tow started 7\n"
        ));
    }

    #[test]
    fn what_a_process_writes_is_no_word_of_its_shim() {
        let forged = "T tow started 7\nT out ready\nT out tow started 7\n";
        assert!(says("forged", forged, ""));
        assert!(!says("remark", "T tow started 7\nT tow ready\n", ""));
    }
}
