//! What a manifest means, as the command says it, and environments that are written into it.

use std::fs;

use crate::fixture::Fixture;

const WHISPER: &str = r#"
app = "whisper"
promote = ["production"]

[services.web]
run = "APP web"
variables = ["MAX_FILE_SIZE_MB"]

[variables]
MAX_FILE_SIZE_MB = { type = "integer", default = 5, max = 100 } # the hard limit
DEFAULT_USER_CREDITS = 10.0
CLEANUP_AFTER_HOURS = 1

[environments.production] # the real one
domain = "whisper.example.com"
variables.MAX_FILE_SIZE_MB = 25 # since May
"#;

#[test]
fn one_key_is_explained_with_what_it_stands_in_the_place_of() {
    let fixture = Fixture::with(WHISPER);
    let said = fixture.tow(&[
        "config",
        "-e",
        "production",
        "--explain",
        "MAX_FILE_SIZE_MB",
    ]);
    let said = said.expect(0);
    let lines: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[1],
        [
            "variables.MAX_FILE_SIZE_MB",
            "25",
            "tow.toml:16,",
            "environment"
        ]
    );
    assert_eq!(
        lines[2],
        [
            "instead",
            "of",
            "5",
            "tow.toml:10,",
            "shared,",
            "overridden"
        ]
    );
    assert!(
        lines[3][0].ends_with("env.MAX_FILE_SIZE_MB"),
        "{}",
        said.out
    );
    assert_eq!(lines.len(), 4, "{}", said.out);
    assert!(
        said.err.starts_with("production (whisper, "),
        "{}",
        said.err
    );
    fixture.tow(&["config", "--explain", "MAX_FILE"]).expect(2);
    // Without a key, everything.
    let all = fixture.tow(&["config", "--explain"]).expect(0);
    assert!(all.out.lines().count() > 20, "{}", all.out);
}

#[test]
fn what_differs_between_two_environments() {
    let fixture = Fixture::with(WHISPER);
    let said = fixture
        .tow(&["config", "diff", "local", "production"])
        .expect(0);
    let row = |name: &str| said.out.lines().find(|line| line.starts_with(name));
    let size = row("variables.MAX_FILE_SIZE_MB").expect("a row");
    assert_eq!(
        size.split_whitespace().skip(1).collect::<Vec<_>>(),
        ["5", "25"]
    );
    assert!(
        row("variables.DEFAULT_USER_CREDITS").is_none(),
        "{}",
        said.out
    );
    let same = fixture.tow(&["config", "diff", "local", "local"]).expect(0);
    assert_eq!(same.out, "local and local are the same\n");
    fixture
        .tow(&["config", "diff", "local", "nowhere"])
        .expect(3);
}

#[test]
fn a_dev_environment_from_production() {
    let fixture = Fixture::with(WHISPER);
    let path = fixture.repo().join("tow.toml");
    let before = fs::read_to_string(&path).unwrap();
    let set = [
        "--set",
        "MAX_FILE_SIZE_MB=10",
        "--set",
        "DEFAULT_USER_CREDITS=50.0",
        "--set",
        "CLEANUP_AFTER_HOURS=6",
    ];
    let command = |to: &str, more: &[&str]| {
        fixture.tow(&[&["env", "clone", "production", to], more].concat())
    };
    // Nothing is written of what is not right.
    command("dev", &["--set", "MAX_FILE_SIZE_MB=1000"]).expect(3);
    command("dev", &["--set", "MAX_FILE_SIZE=10"]).expect(3);
    command("dev", &["--set", "MAX_FILE_SIZE_MB"]).expect(2);
    command("production", &[]).expect(3);
    command("dev", &["--dry-run"]).expect(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), before);

    let said = command("dev", &set).expect(0);
    assert!(said.err.contains("`domain`"), "{}", said.err);
    let after = fs::read_to_string(&path).unwrap();
    for line in before.lines() {
        assert!(after.contains(line), "{line} in\n{after}");
    }
    let said = fixture
        .tow(&["config", "-e", "dev", "--explain", "variables"])
        .expect(0);
    for (name, value) in [
        ("MAX_FILE_SIZE_MB", "10"),
        ("DEFAULT_USER_CREDITS", "50"),
        ("CLEANUP_AFTER_HOURS", "6"),
    ] {
        let row = said
            .out
            .lines()
            .find(|line| line.contains(name))
            .expect("a row");
        assert_eq!(row.split_whitespace().nth(1), Some(value), "{row}");
    }
}

#[test]
fn a_name_is_coloured_only_where_that_is_wanted() {
    let fixture = Fixture::with(WHISPER);
    // No terminal, so none; the word is there.
    let said = fixture.tow(&["config", "-e", "production"]).expect(0);
    assert!(said.err.starts_with("production ("), "{:?}", said.err);
    let example = fixture
        .tow(&["config", "render", "--format", "env-example"])
        .expect(0);
    assert!(
        example.out.contains("\nMAX_FILE_SIZE_MB=5\n"),
        "{}",
        example.out
    );
}
