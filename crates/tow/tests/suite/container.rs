//! Containers where there is no engine: who says so, and when.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fixture::{Fixture, STAGING};

const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging", "production"]
services.web = { dockerfile = "Dockerfile" }
[environments.local]
[environments.staging]
[environments.production]
server = "deploy@example.invalid"
"#;

/// An application of a container, on a machine with `programs` and git alone.
fn fixture(programs: &[(&str, &str)]) -> Fixture {
    let mut fixture = Fixture::with(MANIFEST);
    let bin = fixture.dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let mut git = std::env::split_paths(&path).map(|dir| dir.join("git"));
    let git = git.find(|file| file.is_file()).unwrap();
    symlink(git, bin.join("git")).unwrap();
    for (name, text) in programs {
        use std::os::unix::fs::PermissionsExt;
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fixture.env = vec![("PATH", bin), ("DOCKER_HOST", "".into())];
    fixture.write("Dockerfile", "FROM scratch\n");
    fixture.commit();
    fixture
}

#[test]
fn a_machine_without_an_engine_is_told_before_anything_is_touched() {
    let fixture = fixture(&[]);
    let checked = fixture.tow(&["check"]).expect(0);
    assert!(
        checked.err.contains("warning[container::no-engine]"),
        "{checked:?}"
    );
    assert!(
        checked.err.contains("apt-get install -y docker.io"),
        "{checked:?}"
    );
    let refused = fixture.tow(&["deploy", "-e", STAGING]).expect(1);
    assert!(
        refused.err.contains("error[container::no-engine]"),
        "{refused:?}"
    );
    assert!(refused.err.contains("nothing was touched"), "{refused:?}");
    let status = fixture.status(STAGING);
    assert!(status.live.is_none() && status.ended.is_empty() && status.listen.is_none());
}

#[test]
fn an_engine_that_does_not_run_is_told_apart_from_none() {
    let says = "#!/bin/sh\necho 'Cannot connect to the Docker daemon at unix:///x.' >&2\nexit 1\n";
    let fixture = fixture(&[("docker", says)]);
    let refused = fixture.tow(&["deploy", "-e", STAGING]).expect(1);
    assert!(refused.err.contains("Cannot connect"), "{refused:?}");
    assert!(
        refused.err.contains("systemctl start docker"),
        "{refused:?}"
    );
}

#[test]
fn an_engine_on_another_machine_is_refused() {
    let mut fixture = fixture(&[("docker", "#!/bin/sh\nexit 0\n")]);
    fixture
        .env
        .push(("DOCKER_HOST", "tcp://203.0.113.1:2375".into()));
    let refused = fixture.tow(&["deploy", "-e", STAGING]).expect(1);
    assert!(
        refused.err.contains("has to be on this machine"),
        "{refused:?}"
    );
}

#[test]
fn a_dockerfile_that_is_not_committed_is_found() {
    let mut fixture = fixture(&[]);
    fs::remove_file(fixture.repo().join("Dockerfile")).unwrap();
    fixture.commit();
    let checked = fixture.tow(&["check"]).expect(3);
    assert!(
        checked.err.contains("container::no-dockerfile"),
        "{checked:?}"
    );
    let refused = fixture.tow(&["deploy", "-e", STAGING]).expect(3);
    assert!(
        refused.err.contains("container::no-dockerfile"),
        "{refused:?}"
    );
}
