//! A folder whose code is in a language that is known: how it is built, and what runs it.

use super::finding::{Findings, Place};
use super::sketch::Kind;
use super::tree::{Tree, join};
use super::{cargo, package, python};

/// What the files of a language say of a folder.
#[derive(Debug)]
pub struct Folder {
    /// The folder.
    pub dir: String,
    /// The folder that its commands run in: for a member of a workspace that of the whole.
    pub base: String,
    /// The file that says it.
    pub place: Place,
    /// What it calls itself.
    pub name: Option<String>,
    /// The language.
    pub language: Language,
    /// How it is built.
    pub build: Option<String>,
    /// What runs it, if that is known, and the place that says so.
    pub run: Option<(String, Place)>,
    /// What runs it in the source tree.
    pub dev: Option<String>,
    /// Folders kept between builds.
    pub cache: Vec<String>,
    /// Paths that are carried.
    pub artifact: Vec<String>,
    /// Variables that it needs for that.
    pub env: Vec<(String, String)>,
    /// Whether people look at it first.
    pub is_front: bool,
    /// A database that its files name, with where.
    pub store: Option<(Kind, Place)>,
    /// How its tables are made: the command, and where that is to be seen.
    pub migrate: Option<(String, Place)>,
    /// What there is to say.
    pub findings: Findings,
}

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// JavaScript, by node.
    Node,
    /// Rust, by cargo.
    Rust,
    /// Python.
    Python,
}

impl Folder {
    /// A folder of which nothing more is known.
    pub fn new(dir: &str, place: Place, language: Language) -> Self {
        Self {
            dir: dir.to_owned(),
            base: dir.to_owned(),
            place,
            name: None,
            language,
            build: None,
            run: None,
            dev: None,
            cache: Vec::new(),
            artifact: Vec::new(),
            env: Vec::new(),
            is_front: false,
            store: None,
            migrate: None,
            findings: Findings::default(),
        }
    }
}

/// What is known of a folder: Python's files where it is known to run that, else the first that say what runs.
pub fn read(tree: &Tree, dir: &str, is_python: bool) -> Option<Folder> {
    let readers = [package::read, cargo::read, python::read];
    let mut found: Vec<Folder> = readers.iter().filter_map(|read| read(tree, dir)).collect();
    let fits = |folder: &Folder| match is_python {
        true => folder.language == Language::Python,
        false => folder.run.is_some(),
    };
    let at = found.iter().position(fits);
    let at = at.or((!found.is_empty()).then_some(0))?;
    Some(found.swap_remove(at))
}

/// Folders that may hold a service, where no file says which: the project's own, the members of its workspace, and
/// those directly below.
pub fn candidates(tree: &Tree) -> Vec<String> {
    let members = package::members(tree);
    if !members.is_empty() {
        return members;
    }
    let root = read(tree, ".", false);
    let is_whole = tree.is_file("Dockerfile") || root.is_some_and(|root| root.run.is_some());
    match is_whole {
        true => vec![".".to_owned()],
        false => {
            let below = tree.folders(".").into_iter().take(64);
            std::iter::once(".".to_owned()).chain(below).collect()
        }
    }
}

/// Files of languages that are not read, and how such a project is built.
const OTHERS: [(&str, &str, &str); 8] = [
    ("go.mod", "go build -o app .", "./app"),
    (
        "Gemfile",
        "bundle install",
        "bundle exec puma -b tcp://$HOST:$PORT",
    ),
    (
        "mix.exs",
        "mix deps.get && MIX_ENV=prod mix release",
        "_build/prod/rel/NAME/bin/NAME start",
    ),
    (
        "pom.xml",
        "./mvnw package",
        "java -jar target/NAME.jar --server.port=$PORT",
    ),
    (
        "build.gradle",
        "./gradlew build",
        "java -jar build/libs/NAME.jar --server.port=$PORT",
    ),
    (
        "build.gradle.kts",
        "./gradlew build",
        "java -jar build/libs/NAME.jar --server.port=$PORT",
    ),
    (
        "composer.json",
        "composer install --no-dev",
        "php -S $HOST:$PORT -t public",
    ),
    ("deno.json", "deno cache main.ts", "deno run -A main.ts"),
];

/// The file of a language that is not read, with a build and a command that such a project often has.
pub fn other(tree: &Tree, dir: &str) -> Option<(Place, &'static str, &'static str)> {
    let found = OTHERS
        .iter()
        .find(|(file, ..)| tree.is_file(&join(dir, file)));
    found.map(|(file, build, run)| (Place::new(&join(dir, file), 0), *build, *run))
}
