//! Holds the modules of this crate, and the crates of the workspace, to their layers.
//!
//! The sources are cut into tokens, and every path that starts at the crate's root or climbs there by `super` is
//! followed to the module it names: in `use` lines, with braces or without, and in code. So nothing is built for this
//! test, and no way of writing a path gets round it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source::{Reach, paths, words};

#[path = "layers/source.rs"]
mod source;

/// The layers, lowest first. A module uses what stands below its own layer; what stands beside it, it does not.
const LAYERS: &[&[&str]] = &[
    &["id", "clock", "diagnostic"],
    &["manifest"],
    &["config"],
    &["state", "survey"],
    &["resource", "link", "container", "render", "secret"],
    &[
        "supervise",
        "migrate",
        "backup",
        "build",
        "load",
        "certificate",
        "boot",
        "setup",
    ],
    &["release"],
    &["agent"],
    // Not there yet.
    &["plan", "rehearse"],
];

/// Each crate of the workspace, by its folder and its name in code, and the others that it may use.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("tow", "tow", &["towpath"]),
    ("towpath", "towpath", &["towpath_gateway", "towpath_shim"]),
    ("gateway", "towpath_gateway", &[]),
    ("shim", "towpath_shim", &[]),
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What is wrong with one file; `file` is its path below `src`.
fn offences(file: &str, text: &str) -> Vec<String> {
    let module = source::module(file);
    let judged = paths(&module, text).into_iter().filter_map(|path| {
        let wrong = wrong(module.first().map(String::as_str), &path.reach)?;
        Some(format!("src/{file}:{}: {wrong}", path.line))
    });
    judged.collect()
}

/// What is wrong with a path; `from` is `None` in `lib.rs`, which stands above everything.
fn wrong(from: Option<&str>, reach: &Reach) -> Option<String> {
    let (from, to) = match (from, reach) {
        (None, _) => return None,
        (Some(from), Reach::Everything) => {
            return Some(format!("`{from}` takes in the whole crate"));
        }
        (Some(from), Reach::Module(to)) => (from, to.as_str()),
    };
    if from == to {
        return None;
    }
    match (layer(from), layer(to)) {
        (None, _) => Some(format!("`{from}` has no layer")),
        (_, None) => Some(format!("`{to}` has no layer")),
        (Some(own), Some(other)) if other == own => {
            Some(format!("`{from}` uses `{to}`, which stands beside it"))
        }
        (Some(own), Some(other)) if other > own => {
            Some(format!("`{from}` uses `{to}`, which stands above it"))
        }
        _ => None,
    }
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust source below a folder, with its path from there.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("a readable source");
                let file = path.strip_prefix(folder).expect("a file below the folder");
                found.push((file.display().to_string(), text));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_module_has_a_layer() {
    let lib = crates().join("towpath/src/lib.rs");
    let lib = std::fs::read_to_string(lib).expect("a readable source");
    let declared = source::modules(&lib);
    let unknown: Vec<_> = declared
        .iter()
        .filter(|name| layer(name).is_none())
        .collect();
    assert!(declared.len() >= 14, "only {declared:?} were found");
    assert!(
        unknown.is_empty(),
        "src/lib.rs: {unknown:?} have no layer: give each one in LAYERS"
    );
}

#[test]
fn the_map_shows_these_layers() {
    let map = crates().join("../ARCHITECTURE.md");
    let map = std::fs::read_to_string(map).expect("a readable document");
    let row = |line: &str| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let layer: usize = cells.next()?.parse().ok()?;
        let named = cells.next()?.split('`').skip(1).step_by(2);
        Some(named.map(|name| (layer, name.to_owned())).collect())
    };
    let rows = map.lines().filter_map(row);
    let shown: BTreeSet<(usize, String)> = rows.flat_map(|row: Vec<_>| row).collect();
    let lib = crates().join("towpath/src/lib.rs");
    let lib = std::fs::read_to_string(lib).expect("a readable source");
    let there = source::modules(&lib).into_iter();
    let there = there.filter_map(|name| Some((layer(&name)?, name)));
    assert_eq!(
        shown,
        there.collect(),
        "the table of layers in ARCHITECTURE.md"
    );
}

#[test]
fn every_module_uses_only_what_stands_below_it() {
    let files = sources(&crates().join("towpath/src"));
    let looked_at: usize = files
        .iter()
        .map(|(file, text)| paths(&source::module(file), text).len())
        .sum();
    let wrong: Vec<_> = files
        .iter()
        .flat_map(|(file, text)| offences(file, text))
        .collect();
    assert!(looked_at > 100, "only {looked_at} paths were found");
    assert!(
        wrong.is_empty(),
        "of {looked_at} paths:\n{}",
        wrong.join("\n")
    );
}

/// The crates of the workspace that a crate depends on, by their names in code.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().expect("a manifest");
    let tables = ["dependencies", "build-dependencies"];
    let tables = tables
        .iter()
        .filter_map(|name| manifest.get(*name)?.as_table());
    let names = tables.flat_map(toml::Table::keys);
    let names = names.map(|name| name.replace('-', "_"));
    names.filter(|name| is_ours(name)).collect()
}

fn is_ours(name: &str) -> bool {
    CRATES.iter().any(|(_, known, _)| *known == name)
}

/// Names of other crates in a source of the crate `own`, other than those it `may` use.
fn strangers(own: &str, may: &[&str], text: &str) -> Vec<(usize, String)> {
    let named = words(text).into_iter();
    // `tow` is a program: nobody can use it, and the word may stand for other things.
    let other = |name: &str| is_ours(name) && name != "tow" && name != own && !may.contains(&name);
    named.filter(|(_, name)| other(name)).collect()
}

#[test]
fn every_crate_uses_only_those_below_it() {
    for entry in std::fs::read_dir(crates()).expect("the folder of crates") {
        let folder = entry.expect("an entry").file_name();
        let folder = folder.to_str().expect("a plain name");
        let place = CRATES.iter().find(|(known, _, _)| *known == folder);
        let (_, own, may) =
            place.unwrap_or_else(|| panic!("crates/{folder} has no place in CRATES"));
        let path = crates().join(folder);
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).expect("a manifest");
        for name in dependencies(&manifest) {
            let allowed = may.contains(&name.as_str());
            assert!(
                allowed,
                "crates/{folder}/Cargo.toml: `{own}` may not depend on `{name}`"
            );
        }
        for (file, text) in sources(&path.join("src")) {
            let found = strangers(own, may, &text);
            assert!(
                found.is_empty(),
                "crates/{folder}/src/{file}: {found:?} may not be used here"
            );
        }
    }
}

/// A file, its text, and the beginnings of what must be said about it.
const PLANTED: &[(&str, &str, &[&str])] = &[
    (
        "state/mod.rs",
        "use crate::release::Plan;",
        &["src/state/mod.rs:1: `state` uses `release`, which stands above"],
    ),
    (
        "build/cache.rs",
        "\nuse crate::load::Run;",
        &["src/build/cache.rs:2: `build` uses `load`, which stands beside"],
    ),
    (
        "id.rs",
        "use crate::clock::Clock;",
        &["src/id.rs:1: `id` uses `clock`, which stands beside"],
    ),
    (
        "migrate/mod.rs",
        "use crate::{\n    id::Digest,\n    resource::sqlite::{self, path},\n    supervise::{Process as P},\n};",
        &["src/migrate/mod.rs:4: `migrate` uses `supervise`"],
    ),
    (
        "config/mod.rs",
        "use crate::{config::{a, b}, {{agent}}};",
        &["src/config/mod.rs:1: `config` uses `agent`"],
    ),
    (
        "config/mod.rs",
        "use crate::release as engine;",
        &["src/config/mod.rs:1: `config` uses `release`"],
    ),
    (
        "resource/sqlite.rs",
        "fn a() { let b = crate :: backup::now(); }",
        &["src/resource/sqlite.rs:1: `resource` uses `backup`"],
    ),
    (
        "resource/sqlite.rs",
        "fn a(b: &crate::agent::Client) {}",
        &["src/resource/sqlite.rs:1: `resource` uses `agent`"],
    ),
    (
        "state/journal.rs",
        "use super::super::release::Plan;",
        &["src/state/journal.rs:1: `state` uses `release`"],
    ),
    (
        "state/mod.rs",
        "use super::{clock, release::Plan};",
        &["src/state/mod.rs:1: `state` uses `release`"],
    ),
    (
        "state/mod.rs",
        "mod tests {\n use super::*;\n fn a() { super::super::agent::b(); }\n}\nuse super::release;",
        &[
            "src/state/mod.rs:3: `state` uses `agent`",
            "src/state/mod.rs:5: `state` uses `release`",
        ],
    ),
    (
        "release/effect/data.rs",
        "use super::super::super::agent::api;",
        &["src/release/effect/data.rs:1: `release` uses `agent`"],
    ),
    (
        "release/mod.rs",
        "use self::super::agent::api;",
        &["src/release/mod.rs:1: `release` uses `agent`"],
    ),
    (
        "id.rs",
        "use crate::*;",
        &["src/id.rs:1: `id` takes in the whole crate"],
    ),
    (
        "id.rs",
        "use super::{self as all};",
        &["src/id.rs:1: `id` takes in the whole crate"],
    ),
    (
        "id.rs",
        "use crate as all;",
        &["src/id.rs:1: `id` takes in the whole crate"],
    ),
    (
        "id.rs",
        "use crate::newcomer::New;",
        &["src/id.rs:1: `newcomer` has no layer"],
    ),
    (
        "newcomer/mod.rs",
        "use crate::id::Digest;",
        &["src/newcomer/mod.rs:1: `newcomer` has no layer"],
    ),
    (
        "id.rs",
        "macro_rules! m { () => { $crate::agent::api() } }",
        &["src/id.rs:1: `id` uses `agent`"],
    ),
    (
        "id.rs",
        "fn a<'a>() -> char { '\"' }\nuse crate::agent;",
        &["src/id.rs:2: `id` uses `agent`"],
    ),
];

#[test]
fn planted_offences_are_found() {
    for (file, text, expected) in PLANTED {
        let found = offences(file, text);
        let all = found.len() == expected.len();
        let same = found
            .iter()
            .zip(*expected)
            .all(|(found, start)| found.starts_with(start));
        assert!(all && same, "{file}: {text}\nwas found to be {found:?}");
    }
}

#[test]
fn what_is_right_is_left_alone() {
    let right = [
        (
            "release/mod.rs",
            "use crate::{id::Digest, state::{self, Store}, release::Step};",
        ),
        (
            "release/effect/mod.rs",
            "use super::super::release::Plan; use super::{Step, World}; use self::data::a;",
        ),
        (
            "id.rs",
            "// use crate::agent;\n/* crate::agent /* crate::agent */ */\npub(crate) fn a(self) {}",
        ),
        (
            "id.rs",
            "const A: &str = \"use crate::agent;\"; const B: &str = r#\"\"crate::agent\"#; const C: &[u8] = b\"\\\"crate::agent\";",
        ),
        ("lib.rs", "pub use crate::agent::serve;"),
        (
            "agent/api.rs",
            "use std::fmt; use towpath_gateway::api::State; use super::Error; mod a { use super::b; }",
        ),
    ];
    for (file, text) in right {
        assert_eq!(offences(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn planted_edges_between_crates_are_found() {
    let manifest = "[dependencies]\ntowpath.workspace = true\ntowpath-shim = { path = \"../shim\" }\nserde = \"1\"";
    let found = dependencies(manifest);
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        ["towpath", "towpath_shim"]
    );
    let text = "// towpath_gateway\nuse towpath::agent;\nfn a() { towpath_shim::run(b); }";
    assert_eq!(
        strangers("tow", &["towpath"], text),
        [(3, "towpath_shim".to_owned())]
    );
}
