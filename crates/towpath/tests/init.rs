//! Projects in files, and the manifests that are drawn from them; `UPDATE=1` writes the expected files anew.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use towpath::config::{check_text, check_tree};
use towpath::manifest::Manifest;
use towpath::manifest::form::is_name;
use towpath::survey::{Error, Findings, Survey, survey};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/init")
}

/// A project on disk, gone when it is dropped.
struct Project(PathBuf);

impl Project {
    fn new(name: &str) -> Self {
        let name = format!("towpath-init-{}-{name}", std::process::id());
        let root = std::env::temp_dir().join(name).join("notes");
        fs::create_dir_all(&root).expect("a folder");
        Self(root)
    }

    /// One from a text in which `== path` begins each file.
    fn of(name: &str, text: &str) -> Self {
        let project = Self::new(name);
        let mut file: Option<(String, String)> = None;
        for line in text.lines() {
            if let Some(path) = line.strip_prefix("== ") {
                project.put_all(file.replace((path.to_owned(), String::new())));
            } else if let Some((_, text)) = &mut file {
                *text += &format!("{line}\n");
            }
        }
        project.put_all(file);
        project
    }

    fn put_all(&self, file: Option<(String, String)>) {
        if let Some((path, text)) = file {
            self.put(&path, text.as_bytes());
        }
    }

    fn put(&self, path: &str, text: &[u8]) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn survey(&self) -> Survey {
        survey(&self.0, &[]).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Files that stand against reading it, with why.
    fn refused(&self) -> Vec<String> {
        match survey(&self.0, &[]) {
            Err(Error::Unread(found)) => {
                let said = found.iter().map(|one| {
                    let place = one.place.as_ref().map(ToString::to_string);
                    format!("{} {}", place.unwrap_or_default(), one.text)
                });
                said.collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The errors of `tow check` on a manifest of this project.
    fn errors(&self, manifest: &str) -> Vec<String> {
        let mut report = check_text("tow.toml", manifest);
        if let (Some(manifest), _) = Manifest::read("tow.toml", manifest) {
            report.extend(check_tree(&manifest, &manifest.environments(), &self.0).diagnostics);
        }
        let found = report.diagnostics.into_iter();
        found.map(|one| one.message).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Some(above) = self.0.parent() {
            let _ = fs::remove_dir_all(above);
        }
    }
}

fn rendered(survey: &Survey) -> String {
    let Findings {
        written,
        not_carried_over,
        yours_to_decide,
        wrong,
    } = &survey.findings;
    let mut text = survey.manifest.clone();
    for (title, list) in [
        ("written", written),
        ("not carried over", not_carried_over),
        ("yours to decide", yours_to_decide),
        ("wrong", wrong),
    ] {
        text += &format!("\n=== {title}\n");
        for one in list {
            let place = one
                .place
                .as_ref()
                .map_or(String::new(), |place| format!("{place}: "));
            text += &format!("{place}{} [{}]\n", one.text, one.code);
            if let Some(help) = &one.help {
                text += &format!("    {help}\n");
            }
        }
    }
    text
}

/// The projects of the folder, by name.
fn projects() -> Vec<(String, String)> {
    let files = fs::read_dir(folder()).expect("a folder of test data");
    let paths = files.map(|file| file.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "project"))
        .collect();
    paths.sort();
    let project = |path: &PathBuf| {
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        (name, fs::read_to_string(path).expect("a readable file"))
    };
    paths.iter().map(project).collect()
}

#[test]
fn every_project_becomes_what_is_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for (name, text) in projects() {
        let project = Project::of(&name, &text);
        let found = rendered(&project.survey());
        let expected = folder().join(format!("{name}.expected"));
        if update {
            fs::write(&expected, &found).expect("a file to write");
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("--- {name}\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
}

#[test]
fn every_manifest_passes_the_check_or_its_gaps_are_named() {
    let mut looked_at = 0;
    for (name, text) in projects() {
        let project = Project::of(&format!("check-{name}"), &text);
        let survey = project.survey();
        let named = &survey.findings.yours_to_decide;
        for error in project.errors(&survey.manifest) {
            let is_named = named.iter().any(|one| {
                one.text.contains(&error) || (one.code == "nothing-runs" && error.contains("run"))
            });
            assert!(is_named, "{name}: {error}\n{}", survey.manifest);
        }
        looked_at += 1;
    }
    assert!(looked_at >= 9, "only {looked_at} projects were found");
}

/// Values of secrets in the projects begin like this.
const CANARY: &str = "canary";

#[test]
fn no_value_of_a_secret_is_written_or_said() {
    let mut there = 0;
    for (name, text) in projects() {
        there += text.matches(CANARY).count();
        let survey = Project::of(&format!("secret-{name}"), &text).survey();
        let said = serde_json::to_string(&survey).expect("JSON");
        assert!(!said.contains(CANARY), "{name}: {}", rendered(&survey));
    }
    assert!(there >= 13, "only {there} canaries were found");
}

/// What is wrong in a project, by code and place.
fn wrong(name: &str) -> Vec<String> {
    let text = fs::read_to_string(folder().join(format!("{name}.project")));
    let project = Project::of(&format!("wrong-{name}"), &text.expect("a project"));
    let found = project.survey().findings.wrong;
    let said = found.iter().map(|one| {
        let place = one.place.as_ref().map(ToString::to_string);
        format!("{} {}", one.code, place.unwrap_or_default())
    });
    said.collect()
}

#[test]
fn what_is_wrong_is_spotted_where_it_stands() {
    for (name, expected) in [
        ("team", "build-without-dev-dependencies page/Dockerfile:4"),
        ("team", "build-without-dev-dependencies api/Dockerfile:4"),
        ("team", "legacy-peer-deps api/Dockerfile:5"),
        ("team", "latest-tag api/Dockerfile:1"),
        ("team", "secret-in-build api/Dockerfile:2"),
        ("team", "env-in-image api/Dockerfile:3"),
        ("team", "plain-secret api/Dockerfile:6"),
        ("team", "secret-in-build compose.yaml:19"),
        ("team", "plain-secret compose.yaml:22"),
        ("team", "plain-secret compose.yaml:25"),
        ("team", "known-default compose.yaml:47"),
        ("team", "open-database compose.yaml:69"),
        ("team", "known-default compose.yaml:71"),
        ("team", "latest-tag compose.yaml:77"),
        ("team", "latest-tag compose.yaml:81"),
        ("team", "known-default compose.yaml:82"),
        ("procfile", "plain-secret Procfile:5"),
        ("procfile", "known-default compose.yml:8"),
        ("procfile", "env-not-ignored .env"),
        ("fly", "secret-in-build fly.toml:10"),
        ("fly", "plain-secret fly.toml:15"),
        ("kamal", "plain-secret config/deploy.yml:17"),
        ("kamal", "open-database config/deploy.yml:29"),
        ("processes", "known-default process-compose.yaml:12"),
        ("supervisor", "open-control supervisord.conf:7"),
        ("supervisor", "known-default supervisord.conf:9"),
        ("supervisor", "plain-secret supervisord.conf:16"),
        ("workspace", "legacy-peer-deps apps/server/package.json:3"),
        ("image-only", "engine-socket docker-compose.yml:13"),
        ("image-only", "plain-secret docker-compose.yml:3"),
        ("image-only", "plain-secret docker-compose.yml:18"),
    ] {
        let found = wrong(name);
        assert!(
            found.iter().any(|one| one == expected),
            "{name}: no {expected} in {found:#?}"
        );
    }
}

#[test]
fn what_is_right_is_not_called_wrong() {
    let text = "\
== compose.yaml
services:
  web:
    build: .
    image: acme/web
    environment:
      - DATABASE_URL=postgres://app:${DB_PASSWORD}@db:5432/app
      - API_KEY
      - TOKEN=${TOKEN}
      - PASSWORD_FILE=/run/secrets/password
      - NEXT_PUBLIC_NAME=x
  db:
    image: postgres:16.4
    ports: [\"127.0.0.1:5432:5432\"]
    environment: { POSTGRES_PASSWORD: \"${DB_PASSWORD:?}\" }
== Dockerfile
FROM node:20 AS all
RUN npm ci
RUN npm run build && npm prune --omit=dev
FROM all
RUN npm ci --omit=dev
RUN --mount=type=secret,id=npm true
CMD node x.js
";
    let found = Project::of("right", text).survey().findings.wrong;
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn names_are_right_and_differ_whatever_they_were() {
    let odd = [
        "Web", "web", "web_", "9", "-", "ß", "build", "gateway", "d1", "a.b", "A-B", "run",
    ];
    for seed in 0..40_u32 {
        let mut text = "== compose.yaml\nservices:\n".to_owned();
        let mut names = BTreeSet::new();
        for at in 0..12_u32 {
            let base = odd[((seed * 7 + at * 5) % 12) as usize];
            let name = base.repeat(1 + ((seed + at * 3) % 9) as usize);
            if names.insert(name.clone()) {
                let image = ["postgres:16", "redis:7", "acme/x:1"][((seed + at) % 3) as usize];
                text += &format!(
                    "  \"{name}\":\n    image: {image}\n    ports: ['{}:80']\n",
                    9000 + at
                );
            }
        }
        let project = Project::of(&format!("names-{seed}"), &text);
        let survey = project.survey();
        let manifest = Manifest::parse("tow.toml", &survey.manifest);
        assert!(manifest.is_ok(), "{text}\n{}", survey.manifest);
        assert_eq!(
            project.errors(&survey.manifest),
            Vec::<String>::new(),
            "{}",
            survey.manifest
        );
        let table: toml::Table = survey.manifest.parse().expect("TOML");
        let keys = ["services", "resources"]
            .iter()
            .filter_map(|key| table.get(*key)?.as_table());
        let keys: Vec<_> = keys.flat_map(toml::Table::keys).collect();
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert!(keys.iter().all(|key| is_name(key)), "{keys:?}");
        assert_eq!((keys.len(), distinct.len()), (names.len(), names.len()));
    }
}

#[test]
fn hostile_files_are_refused_by_name() {
    let bomb = {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for at in 1..10 {
            let all = vec![format!("*a{}", at - 1); 9].join(",");
            text += &format!("a{at}: &a{at} [{all}]\n");
        }
        text
    };
    let deep = format!("services: {}", "[".repeat(200_000));
    let steps = (0..99).map(|at| format!("{}a:\n", " ".repeat(at)));
    let block: String = steps.collect();
    let deep_json = "[".repeat(200_000);
    let huge = vec![b'#'; (1 << 20) + 1];
    let cases: [(&str, &[u8], &str); 26] = [
        ("compose.yaml", block.as_bytes(), "nested more than"),
        ("compose.yaml", bomb.as_bytes(), "stands for more than"),
        ("compose.yaml", deep.as_bytes(), "recursion limit"),
        ("compose.yaml", b"a: [", "no YAML"),
        ("compose.yaml", b"a: \"\xff\"", "no UTF-8"),
        ("compose.yaml", b"a: \0", "binary"),
        ("compose.yaml", &huge, "longer than 1 MiB"),
        ("compose.yaml", b"a: &a { b: *a }", "anchor"),
        ("process-compose.yaml", b"\t- x", "no mapping"),
        ("config/deploy.yml", b"service: x\nservers: [", "no YAML"),
        ("compose.yaml", b"services: [1]", "`services`, which is no"),
        (
            "compose.yaml",
            b"services: { l: [1, 2] }",
            "`l`, which is no",
        ),
        (
            "compose.yaml",
            b"services: { s: hello }",
            "`s`, which is no",
        ),
        ("compose.yaml", b"services:\n  nul:\n", "`nul`, which is no"),
        ("compose.yaml", b"a: 1\nb: 2\na: 3\n", ":3 has `a` twice"),
        ("config/deploy.yml", b"x: { y: 1, y: 2 }", "`y` twice"),
        ("fly.toml", b"app = ", "no TOML"),
        ("Cargo.toml", b"[package", "no TOML"),
        ("package.json", b"{", "no JSON"),
        ("package.json", b"[1,2]", "no mapping"),
        ("package.json", b"\"x\"", "no mapping"),
        ("package.json", b"null", "no mapping"),
        ("package.json", deep_json.as_bytes(), "no JSON"),
        ("Procfile", b"web node x", "no `name: command`"),
        ("supervisord.conf", b"[program:x", "not closed"),
        ("Dockerfile", b"RUN x", "no `FROM`"),
    ];
    for (at, (path, text, said)) in cases.iter().enumerate() {
        let project = Project::new(&format!("hostile-{at}"));
        project.put("Procfile", b"web: node x.js\n");
        project.put(path, text);
        let found = project.refused();
        let is_named = found
            .iter()
            .any(|one| one.starts_with(path) && one.contains(said));
        assert!(is_named, "{path} ({said}): {found:?}");
        let rest = survey(&project.0, &[(*path).to_owned()]);
        assert!(rest.is_ok(), "{path} is left out: {rest:?}");
    }
}

#[test]
fn what_is_no_plain_file_of_the_project_is_not_read() {
    let outside = Project::new("outside");
    outside.put("compose.yaml", b"services: { stolen: { image: 'x:1' } }");
    let link = |name: &str, from: &Path, to: &str| {
        let project = Project::new(name);
        std::os::unix::fs::symlink(from, project.0.join(to)).expect("a link");
        project
    };
    let file = outside.0.join("compose.yaml");
    for (project, said) in [
        (link("link", &file, "compose.yaml"), "out of the project"),
        (
            link("nowhere", Path::new("gone"), "compose.yaml"),
            "leads nowhere",
        ),
        (
            link("round", Path::new("compose.yaml"), "compose.yaml"),
            "leads nowhere",
        ),
        (
            link("zero", Path::new("/dev/zero"), "Procfile"),
            "out of the project",
        ),
    ] {
        let found = project.refused();
        assert!(found[0].contains(said), "{found:?}");
    }
    // A folder that leads out is no part of the project either.
    let project = link("folder", &outside.0, "part");
    project.put(
        "compose.yaml",
        b"services: { web: { build: ./part, ports: ['1:1'] } }",
    );
    outside.put("package.json", b"{}");
    let found = project.refused();
    assert!(
        found.iter().all(|one| one.contains("out of the project")),
        "{found:?}"
    );
    // Nobody writes into a pipe.
    let project = Project::new("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(project.0.join("Procfile"))
        .status();
    assert!(made.expect("mkfifo").success());
    assert!(project.refused()[0].contains("no plain file"));
}

#[test]
fn what_leads_out_of_the_project_is_not_followed() {
    let project = Project::of(
        "paths",
        "\
== compose.yaml
services:
  up: { build: ../.., ports: ['1:1'] }
  root: { build: /etc, ports: ['2:2'] }
  far: { build: 'https://example.com/x.git', ports: ['3:3'] }
  env: { image: 'x:1', env_file: [../../etc/passwd, /etc/passwd], ports: ['4:4'] }
",
    );
    let survey = project.survey();
    assert!(!survey.manifest.contains(".."), "{}", survey.manifest);
    assert!(!survey.manifest.contains("/etc"), "{}", survey.manifest);
    assert_eq!(project.errors(&survey.manifest), Vec::<String>::new());
    for path in ["../../etc/passwd", "/etc/passwd"] {
        let named = format!("compose.yaml:5: `{path}` is outside the project");
        assert!(rendered(&survey).contains(&named), "{named}");
    }
}

#[test]
fn a_second_document_is_named() {
    let text = "\
== compose.yaml
services:
  web: { image: 'x:1', ports: ['1:1'] }
---
services:
  other: { image: 'x:1', ports: ['2:2'] }
";
    let survey = Project::of("documents", text).survey();
    let left = &survey.findings.not_carried_over;
    let said: Vec<_> = left
        .iter()
        .map(|one| (one.place.clone(), &one.text))
        .collect();
    let is_named = |(place, text): &(Option<towpath::survey::Place>, &String)| {
        text.starts_with("another document") && place.as_ref().is_some_and(|place| place.line == 3)
    };
    assert!(said.iter().any(is_named), "{said:?}");
}

#[test]
fn a_circle_of_addresses_is_broken() {
    let mut text = "== compose.yaml\nservices:\n".to_owned();
    for at in 0..8 {
        let next = (at + 1) % 8;
        text += &format!(
            "  s{at}:\n    image: x:1\n    ports: ['{}:80']\n",
            9000 + at
        );
        text += &format!("    environment: {{ NEXT: 'http://s{next}', OWN: 'http://s{at}' }}\n");
        text += &format!("    depends_on: [s{next}]\n");
    }
    let project = Project::of("circle", &text);
    let survey = project.survey();
    assert_eq!(
        project.errors(&survey.manifest),
        Vec::<String>::new(),
        "{}",
        survey.manifest
    );
}

#[test]
fn values_are_written_as_they_are() {
    let value = "a \"b\" \\ $c ${d} \u{1b}[31m \u{7f} é";
    let quoted = serde_json::to_string(value)
        .expect("JSON")
        .replace("${", "$${")
        .replace("$c", "$$c");
    let text = format!(
        "== compose.yaml\nservices:\n  web:\n    image: x:1\n    ports: ['1:1']\n    environment: {{ ODD: {quoted} }}\n"
    );
    let project = Project::of("values", &text);
    let survey = project.survey();
    let manifest = Manifest::parse("tow.toml", &survey.manifest).expect("a manifest");
    let config = towpath::config::resolve(&manifest, "local").expect("a configuration");
    let written = config.services["web"].env["ODD"].to_string();
    assert_eq!(written.replace("$${", "${"), value, "{}", survey.manifest);
}

#[test]
fn values_over_several_lines_are_written_as_they_are() {
    let text = "\
== compose.yaml
services:
  web:
    image: x:1
    ports: ['1:1']
    environment:
      TWO: \"x\\ny\"
      ENDED: \"x\\ny\\n\"
      BLANK: ' x '
";
    let survey = Project::of("lines", text).survey();
    let manifest = Manifest::parse("tow.toml", &survey.manifest).expect("a manifest");
    let config = towpath::config::resolve(&manifest, "local").expect("a configuration");
    for (name, value) in [("TWO", "x\ny"), ("ENDED", "x\ny\n"), ("BLANK", " x ")] {
        let written = config.services["web"].env[name].to_string();
        assert_eq!(written, value, "{}", survey.manifest);
    }
}

#[test]
fn nothing_said_drives_a_terminal() {
    let project = Project::of("control", "== Procfile\nweb: node x\n");
    project.put(
        "compose.yaml",
        b"services: { \"a\\e[31mb\": { build: ./x, privileged: true } }\n",
    );
    let text = rendered(&project.survey());
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_value_that_no_name_gives_away_is_not_written_either() {
    let text = "\
== compose.yaml
services:
  web:
    build: .
    ports: ['1:1']
    command: ./run canary-of-one ${TOKEN} --other $OTHER
    environment:
      API_TOKEN: canary-of-one
      COPY: 'is canary-of-one too'
      FROM_ENV: ${TOKEN}
  job:
    build: .
    command: ./job ${TOKEN} ${PLAIN}
    healthcheck: { test: 'test canary-of-two' }
== .env
TOKEN=canary-of-two
PLAIN=plain
== Dockerfile
FROM x:1
";
    let survey = Project::of("guard", text).survey();
    let said = rendered(&survey);
    assert!(!said.contains(CANARY), "{said}");
    assert!(
        survey.manifest.contains("run = \"./job $TOKEN plain\""),
        "{said}"
    );
}
