//! The application of these tests, as an image made FROM scratch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use towpath::load::Report;

use crate::engine::Engine;
use crate::fixture::{Fixture, PRODUCTION, STAGING};

const DOCKERFILE: &str = "\
FROM scratch
COPY app version mode* /
WORKDIR /
ENTRYPOINT [\"/app\"]
CMD [\"web\"]
";

/// An application of one service in two containers; `SERVICE` stands for further keys of it.
const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging", "production"]

[services.web]
SERVICE
needs = ["db"]
ready = { http = "/health", every = "20ms", within = "60s", timeout = "10s" }
stop = { signal = "KILL" }
replicas = 2

[resources]
db = { kind = "sqlite" }

[traffic]
rate = 80
connections = 8
fresh = 0.3
requests = [{ weight = 4, get = "/version" }, { weight = 2, get = "/slow?ms=40" }]

[traffic.write]
weight = 2
post = "/write"
body = "${id}"
expect = 201
read = "/write/${id}"

[environments.local]
[environments.staging]
window = "1h"
services.web.env.DATA = "AT_STAGING"
[environments.production]
window = "1h"
services.web.env.DATA = "AT_PRODUCTION"
"#;

/// The program, with nothing but the kernel below it.
pub fn program() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/app.rs");
        let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static-app");
        let mut rustc = Command::new("rustc");
        rustc.args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
        ]);
        let done = rustc.arg(source).arg("-o").arg(&into).status().unwrap();
        assert!(done.success());
        into
    };
    MADE.get_or_init(make).clone()
}

/// The application with its first version committed, and `engine` for its environments.
pub fn application(engine: &Engine, service: &str) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.env = vec![("DOCKER_HOST", engine.host())];
    fs::copy(program(), fixture.repo().join("app")).unwrap();
    fixture.write("Dockerfile", DOCKERFILE);
    manifest(&fixture, service);
    fixture.commit();
    fixture
}

/// Writes the manifest, with these keys of the service.
pub fn manifest(fixture: &Fixture, service: &str) {
    let data = |environment: &str| {
        fixture
            .state(environment)
            .join("data")
            .display()
            .to_string()
    };
    let text = MANIFEST
        .replace("SERVICE", service)
        .replace("AT_STAGING", &data(STAGING))
        .replace("AT_PRODUCTION", &data(PRODUCTION));
    // As it stands: the fixture's own words would be found in paths.
    fixture.write("tow.toml", &text);
}

/// What the service is where its image is built.
pub const BUILT: &str = "dockerfile = \"Dockerfile\"";

/// The version that is committed.
pub fn version(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.repo().join("version")).unwrap()
}

/// Acknowledged writes that are not there, and those that are there twice.
pub fn lost_and_doubled(fixture: &Fixture, environment: &str, report: &Report) -> (usize, usize) {
    let path = fixture.state(environment).join("data/writes");
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut found: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    text.lines()
        .for_each(|id| *found.entry(id).or_default() += 1);
    let is_lost = |id: &&String| !found.contains_key(id.as_str());
    let lost = report.writes.iter().filter(is_lost).count();
    (lost, found.values().filter(|count| **count > 1).count())
}
