//! What is handed over on standard input: it reaches the child alone, and never its log.
use std::fs;

use towpath_shim::protocol::{Handed, Policy};

use crate::harness::{HOUR_MS, Shim, until};

const CANARY: &str = "canary-7f3a9d20b1";

fn handed() -> Handed {
    Handed {
        env: [("KEY".to_owned(), CANARY.to_owned())].into(),
        conceal: vec![CANARY.to_owned(), "second-needle".to_owned()],
    }
}

/// Every file of the shim's folder that holds `text`.
fn holding(shim: &Shim, text: &str) -> Vec<String> {
    let entries = fs::read_dir(&shim.dir).unwrap().flatten();
    let names = entries.filter_map(|entry| {
        let bytes = fs::read(entry.path()).ok()?;
        let text = text.as_bytes();
        let found = bytes.windows(text.len()).any(|part| part == text);
        found.then(|| entry.file_name().to_string_lossy().into_owned())
    });
    names.collect()
}

#[test]
fn it_reaches_the_child_and_no_file() {
    let script = "test \"$KEY\" = canary-7f3a9d20b1 && echo right";
    // The script names it, to know it: so the spec does, and nothing else may.
    let mut shim = Shim::sh(script).start_with(&handed());
    shim.end();
    assert_eq!(shim.lines("out"), ["right"]);
    assert_eq!(holding(&shim, CANARY), ["spec.json"]);
    let other =
        Shim::sh("test -z \"$KEY\" && echo none; exec sleep 1000").start_with(&Handed::default());
    until("it has looked", || {
        (other.lines("out") == ["none"]).then_some(())
    });
}

#[test]
fn it_stays_for_a_child_that_is_started_again() {
    let script = "echo length ${#KEY}; exit 1";
    let mut shim = Shim::sh(script)
        .with(|spec| {
            spec.restart.policy = Policy::OnFailure;
            spec.restart.limit = 2;
        })
        .start_with(&handed());
    shim.end();
    let lines = shim.lines("out");
    assert!(
        lines.len() >= 2 && lines.iter().all(|line| line == "length 17"),
        "{lines:?}"
    );
}

#[test]
fn a_log_holds_none_of_it_however_it_is_written() {
    let script = r#"
import os, time
key = os.environ["KEY"].encode()
def write(bytes, to=1):
    os.write(to, bytes)
    time.sleep(0.02)
for part in [key[:4], key[4:9], key[9:], b"\n"]:
    write(part)
write(b"before " + key + b" between " + key + b" after\n", 2)
write(b"x" * 16380 + key + b"y" * 20000 + b"\n")
write(b"z" * 16380 + key[:8])
write(key[8:] + b"\n")
write(b"the second-needle is here, and canary-7f3a is not it\n")
write(b"ends with " + key)
"#;
    let mut shim = Shim::python(script).start_with(&handed());
    shim.end();
    let (out, err) = (shim.lines("out"), shim.lines("err"));
    assert_eq!(out[0], "[secret]");
    assert_eq!(err, ["before [secret] between [secret] after"]);
    let long = out[1..out.len() - 2].concat();
    assert_eq!(long.len(), 16380 + 8 + 20000 + 16380 + 8);
    assert!(
        long.contains("x[secret]y") && long.ends_with("z[secret]"),
        "{}",
        long.len()
    );
    let last = &out[out.len() - 2..];
    assert_eq!(
        last,
        [
            "the [secret] is here, and canary-7f3a is not it",
            "ends with [secret]"
        ]
    );
    assert_eq!(holding(&shim, CANARY), Vec::<String>::new());
}

#[test]
fn without_it_nothing_is_started() {
    let mut shim = Shim::sh("echo started").with(|spec| {
        spec.handed = true;
        spec.stop.grace_ms = HOUR_MS;
    });
    // Standard input is at its end at once.
    shim.launch_only();
    let error = shim.path("error");
    until("it says why", || error.exists().then_some(()));
    let said = fs::read_to_string(error).unwrap();
    assert!(said.contains("what was handed over is not whole"), "{said}");
    assert!(shim.lines("out").is_empty());
}
