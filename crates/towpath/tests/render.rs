//! What is rendered of a manifest, as it is expected, and read by the programs it is for; `UPDATE=1` writes the
//! expected files anew.
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use towpath::manifest::Manifest;
use towpath::render::{Format, render};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render")
}

fn manifest() -> Manifest {
    let text = std::fs::read_to_string(folder().join("tow.toml")).expect("a manifest");
    Manifest::parse("tow.toml", &text).expect("a right manifest")
}

const FILES: [(Format, &str); 4] = [
    (Format::EnvExample, "env.example"),
    (Format::TypeScript, "settings.ts"),
    (Format::Python, "settings.py"),
    (Format::Rust, "settings.rs"),
];

#[test]
fn every_format_is_as_expected() {
    for (format, name) in FILES {
        let found = render(&manifest(), format).expect("what is rendered");
        let expected = folder().join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expected, &found).expect("a file to write");
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_manifest_that_is_wrong_in_one_environment_is_not_rendered() {
    let text = "app = \"a\"\nservices.web.run = \"x\"\nvariables.A = { required = true }\n\
                environments.one.variables.A = \"here\"\n";
    let manifest = Manifest::parse("tow.toml", text).expect("the right shape");
    let report = render(&manifest, Format::Python).expect_err("a refusal");
    assert_eq!(report.diagnostics[0].code, "config::missing");
}

/// The environment of the test programs: one value of each type.
const GOOD: &[(&str, &str)] = &[
    ("CREDITS", "10.5"),
    ("LEVEL", "say \"hi\""),
    ("MAX_FILE_SIZE", "25 MB"),
    ("ORIGINS", "a,b"),
    ("PUBLIC_URL", "https://example.com"),
    ("WAIT", "2h"),
    ("WORKERS", "4"),
    ("class", "x"),
    ("type", "true"),
];

/// A folder of its own below the target folder, empty.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("render-{name}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// What a program says with good values, and with wrong ones.
fn both(mut command: impl FnMut() -> Command) -> [String; 2] {
    let wrong = [("WAIT", "canary-5f"), ("LEVEL", "warn")];
    [&[][..], &wrong[..]].map(|wrong| {
        let mut command = command();
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
            .envs(GOOD.iter().copied())
            .envs(wrong.iter().copied());
        if !wrong.is_empty() {
            command.env_remove("WORKERS");
        }
        let out = command
            .stdin(Stdio::null())
            .output()
            .expect("a program that runs");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).expect("text")
    })
}

fn holds(good: &str, wrong: &str) {
    assert_eq!(
        good.trim(),
        "25000000 7200000 4 10.5 a|b true none x",
        "{wrong}"
    );
    for word in [
        "WORKERS is missing",
        "WAIT is of the wrong form",
        "LEVEL is of the wrong form",
    ] {
        assert!(wrong.contains(word), "{word} in {wrong}");
    }
    assert!(!wrong.contains("canary-5f"), "a value is shown: {wrong}");
}

#[test]
fn rust_reads_its_module() {
    let folder = scratch("rust");
    let module = render(&manifest(), Format::Rust).expect("a module");
    std::fs::write(folder.join("settings.rs"), module).expect("a file");
    let main = r#"
mod settings;
fn main() {
    match settings::Settings::read(&|name| std::env::var(name).ok()) {
        Ok(s) => println!(
            "{} {} {} {} {} {} {} {}",
            s.MAX_FILE_SIZE, s.WAIT.as_millis(), s.WORKERS, s.CREDITS, s.ORIGINS.join("|"), s.type_,
            s.DSN.unwrap_or("none".to_owned()), s.class
        ),
        Err(wrong) => println!("{}", wrong.join("; ")),
    }
}
"#;
    std::fs::write(folder.join("main.rs"), main).expect("a file");
    let mut compiler = Command::new("rustc");
    compiler.args(["--edition", "2021", "-Dwarnings", "-o", "main", "main.rs"]);
    let out = compiler.current_dir(&folder).output().expect("a compiler");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let [good, wrong] = both(|| Command::new(folder.join("main")));
    holds(&good, &wrong);
}

#[test]
fn python_reads_its_module() {
    let folder = scratch("python");
    let module = render(&manifest(), Format::Python).expect("a module");
    std::fs::write(folder.join("settings.py"), module).expect("a file");
    let main = r#"
from settings import settings
try:
    s = settings()
    wait = int(s.WAIT.total_seconds() * 1000)
    print(s.MAX_FILE_SIZE, wait, s.WORKERS, s.CREDITS, "|".join(s.ORIGINS), str(s.type).lower(), s.DSN or "none", s.class_)
except ValueError as error:
    print(error)
"#;
    std::fs::write(folder.join("main.py"), main).expect("a file");
    let [good, wrong] = both(|| {
        let mut command = Command::new("python3");
        command.arg("-B").arg(folder.join("main.py"));
        command
    });
    holds(&good, &wrong);
}

#[test]
fn node_reads_its_module_where_it_is_there() {
    let strips = Command::new("node")
        .args(["--experimental-strip-types", "-e", "0"])
        .output();
    if !strips.is_ok_and(|out| out.status.success()) {
        return;
    }
    let folder = scratch("node");
    let module = render(&manifest(), Format::TypeScript).expect("a module");
    std::fs::write(folder.join("settings.ts"), module).expect("a file");
    let main = r#"
import { settings } from "./settings.ts";
try {
  const s = settings(process.env);
  console.log(s.MAX_FILE_SIZE, s.WAIT, s.WORKERS, s.CREDITS, s.ORIGINS.join("|"), s.type, s.DSN ?? "none", s.class);
} catch (error) {
  console.log((error as Error).message);
}
"#;
    std::fs::write(folder.join("main.mts"), main).expect("a file");
    let [good, wrong] = both(|| {
        let mut command = Command::new("node");
        command
            .arg("--experimental-strip-types")
            .arg(folder.join("main.mts"));
        command
    });
    holds(&good, &wrong);
}
