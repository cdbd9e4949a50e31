//! `Cargo.toml`: the programs of a package or a workspace.

use super::document;
use super::folder::{Folder, Language};
use super::tree::{Tree, is_inside, join};
use super::yaml::Node;

/// What the package of a folder says.
pub fn read(tree: &Tree, dir: &str) -> Option<Folder> {
    let file = tree.read(&join(dir, "Cargo.toml"))?;
    let root = document::toml(tree, &file)?;
    let mut folder = Folder::new(dir, file.at(0), Language::Rust);
    let name = root.at(&["package", "name"]).and_then(Node::text);
    folder.name = name.map(str::to_owned);
    let mut programs = programs(tree, dir, &root);
    let globs = root.at(&["workspace", "members"]).map(Node::texts);
    for (glob, _) in globs.unwrap_or_default() {
        let members = match glob.strip_suffix("/*") {
            Some(below) => tree.folders(&join(dir, below)),
            None => vec![join(dir, glob)],
        };
        for member in members.iter().filter(|member| is_inside(member)).take(64) {
            let found = tree.read(&join(member, "Cargo.toml"));
            let Some(root) = found.and_then(|file| document::toml(tree, &file)) else {
                continue;
            };
            programs.extend(self::programs(tree, member, &root));
        }
    }
    let locked = match tree.is_file(&join(dir, "Cargo.lock")) {
        true => " --locked",
        false => "",
    };
    if locked.is_empty() && !programs.is_empty() {
        folder.findings.fault(
            "no-lock-file",
            &file.at(0),
            "there is no lock file: two builds of one commit may differ",
            "run `cargo generate-lockfile`, and commit `Cargo.lock`",
        );
    }
    folder.build = Some(format!("cargo build --release{locked}"));
    folder.cache = vec!["target".to_owned()];
    let default = root.at(&["package", "default-run"]).and_then(Node::text);
    let chosen = default
        .map(str::to_owned)
        .or_else(|| programs.first().cloned());
    if let Some(program) = chosen {
        folder.run = Some((format!("./target/release/{program}"), file.at(0)));
        folder.artifact = vec![format!("target/release/{program}")];
        if programs.len() > 1 && default.is_none() {
            let others: Vec<_> = programs[1..]
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            folder.findings.decide(
                &file.at(0),
                format!("there are other programs too: {}", others.join(", ")),
                "for each that runs: `[services.NAME]` with `run = \"./target/release/NAME\"`",
            );
        }
    }
    Some(folder)
}

/// The programs of one package.
fn programs(tree: &Tree, dir: &str, root: &Node) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for bin in root.get("bin").map(Node::items).unwrap_or_default() {
        found.extend(bin.text_of("name").map(str::to_owned));
    }
    let name = root.at(&["package", "name"]).and_then(Node::text);
    if let Some(name) = name.filter(|_| found.is_empty() && tree.is_file(&join(dir, "src/main.rs")))
    {
        found.push(name.to_owned());
    }
    for name in tree.names(&join(dir, "src/bin")) {
        let program = name.strip_suffix(".rs").unwrap_or(&name).to_owned();
        if !found.contains(&program) {
            found.push(program);
        }
    }
    found
}
