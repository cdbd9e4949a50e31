//! The log: its format, its bounds, and what happens when it cannot be written.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::{HOUR_MS, Shim, until};

fn log_bytes(shim: &Shim) -> u64 {
    let names = ["log", "log.1", "log.2", "log.3"].map(|name| shim.path(name));
    let sizes = names.iter().filter_map(|path| fs::metadata(path).ok());
    sizes.map(|data| data.len()).sum()
}

#[test]
fn lines_carry_time_and_channel_and_bytes_stay() {
    let script = "printf 'one\\n\\ttwo\\n\\n'; printf 'nul\\000byte \\377\\n'; echo fault >&2; printf 'no end'";
    let mut shim = Shim::sh(script).start();
    shim.end();
    assert_eq!(
        shim.lines("out"),
        ["one", "\ttwo", "", "nul\\0byte \u{fffd}", "no end"]
    );
    assert_eq!(shim.lines("err"), ["fault"]);
    let log = fs::read(&shim.spec.log.path).unwrap();
    assert!(log.windows(2).any(|pair| pair == b"\xff\n"));
    for line in String::from_utf8_lossy(&log).lines() {
        let shape: String = line
            .chars()
            .take(25)
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z ", "{line}");
    }
}

#[test]
fn long_lines_are_split() {
    let mut shim = Shim::python("print('x' * 40000)").start();
    shim.end();
    let lengths: Vec<_> = shim.lines("out").iter().map(String::len).collect();
    assert_eq!(lengths, [16384, 16384, 7232]);
}

#[test]
fn a_flood_stays_within_its_bounds_and_holds_nobody_up() {
    let max_bytes = 4 << 20;
    let script = "yes $(printf %1000s | tr ' ' x)";
    let mut shim = Shim::sh(script)
        .with(|spec| spec.log.max_bytes = max_bytes)
        .start();
    until("it rotates", || shim.path("log.2").exists().then_some(()));
    let mut most = 0;
    for _ in 0..200 {
        assert!(shim.status().log.lines == 0);
        most = most.max(log_bytes(&shim));
    }
    assert!(most <= 3 * max_bytes, "{most} bytes of logs");
    assert!(!shim.path("log.3").exists());
    let memory = fs::read_to_string(format!("/proc/{}/status", shim.pid())).unwrap();
    let resident = memory
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 16 << 10, "{kib} KiB resident");
    shim.stop(HOUR_MS);
    shim.end();
    for name in ["log.1", "log.2"] {
        let text = fs::read_to_string(shim.path(name)).unwrap();
        assert!(text.ends_with("x\n"), "{name} ends in the middle of a line");
        assert!(
            text.lines()
                .all(|line| line.contains(" tow ") || line.len() == 1029)
        );
    }
    println!(
        "200 requests answered; at most {most} of {} bytes, {kib} KiB",
        3 * max_bytes
    );
}

#[test]
fn short_lines_flood_as_well() {
    let mut shim = Shim::new(&["yes"]).with(|spec| spec.log.keep = 0).start();
    until("it flows", || (log_bytes(&shim) > 1 << 19).then_some(()));
    for _ in 0..50 {
        shim.status();
        assert!(log_bytes(&shim) <= shim.spec.log.max_bytes);
    }
    shim.stop(HOUR_MS);
    shim.end();
}

#[test]
fn what_cannot_be_written_is_counted_and_the_child_goes_on() {
    let script = "seq 100000; touch done; while [ ! -e go ]; do sleep 0.01; done; echo after";
    let mut shim = Shim::sh(script);
    symlink("/dev/full", &shim.spec.log.path).unwrap();
    shim.launch();
    until("the child got through", || {
        shim.path("done").exists().then_some(())
    });
    // And its start was one line of the shim's own.
    let lost = until("all lines counted", || {
        Some(shim.status().log).filter(|lost| lost.lines == 100_001)
    });
    fs::remove_file(&shim.spec.log.path).unwrap();
    fs::write(shim.path("go"), "").unwrap();
    let end = shim.end();
    assert_eq!(end.last_exit.unwrap().code, Some(0));
    assert_eq!(end.log, lost);
    assert_eq!(shim.lines("out"), ["after"]);
    let told = format!(
        "{} lines ({} bytes) could not be written",
        lost.lines, lost.bytes
    );
    assert_eq!(shim.lines("tow")[0], told);
    println!("{} lines, {} bytes counted as lost", lost.lines, lost.bytes);
}

#[test]
fn a_log_that_cannot_rotate_does_not_grow() {
    let mut shim =
        Shim::sh("seq 1000").with(|spec| (spec.log.max_bytes, spec.log.keep) = (8192, 1));
    fs::create_dir_all(shim.path("log.1/full")).unwrap();
    shim.launch();
    let end = shim.end();
    assert!(end.log.lines > 0);
    assert!(fs::metadata(shim.path("log")).unwrap().len() <= 8192);
    assert_eq!(end.last_exit.unwrap().code, Some(0));
}

/// A small file system; `None` where mounting is not permitted.
struct Disk(PathBuf);

impl Disk {
    fn mount(dir: PathBuf) -> Option<Self> {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(&dir);
        let mounted = command.stderr(Stdio::null()).status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(dir))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_costs_lines_but_not_the_exit_status() {
    let script = "trap 'exit 9' TERM; seq 100000; while :; do sleep 0.01; done";
    let mut shim = Shim::sh(script);
    let Some(_disk) = Disk::mount(shim.dir.clone()) else {
        println!("mounting is not permitted here");
        return;
    };
    shim.launch();
    let lost = || Some(shim.status().log.lines).filter(|&lines| lines > 50_000);
    let lost = until("lines are lost", lost);
    // Not a byte is left for the end of the shim.
    let filled = fs::write(shim.path("filler"), [0; 256 << 10]);
    assert!(filled.is_err());
    shim.stop(HOUR_MS);
    assert_eq!(shim.end_of_child().code, Some(9));
    let log = shim.log();
    assert!(log.ends_with('\n'), "a torn line");
    let torn = log
        .lines()
        .find(|line| line.len() < 28 || line.matches('Z').count() != 1);
    assert_eq!(torn, None, "a torn line");
    println!(
        "{lost} of 100000 lines lost, {} bytes kept",
        shim.log().len()
    );
}
