//! `package.json`: scripts, workspaces, the kind of lock file, the framework.

use serde_json::Value as Json;

use super::finding::Place;
use super::folder::{Folder, Language};
use super::sketch::Kind;
use super::tree::{File, Tree, is_inside, join};
use super::{command, dockerfile, document, secret};

/// What installs packages and runs scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Npm,
    Yarn,
    Berry,
    Pnpm,
    Bun,
}

impl Manager {
    fn install(self, locked: bool) -> &'static str {
        match (self, locked) {
            (Self::Npm, true) => "npm ci",
            (Self::Npm, false) => "npm install",
            (Self::Yarn, _) => "yarn install --frozen-lockfile",
            (Self::Berry, _) => "yarn install --immutable",
            (Self::Pnpm, _) => "pnpm install --frozen-lockfile",
            (Self::Bun, _) => "bun install --frozen-lockfile",
        }
    }

    /// The command that runs a script; of a member of a workspace, from the folder of the whole.
    fn script(self, script: &str, member: Option<(&str, &str)>) -> String {
        let short = matches!(script, "start" | "test");
        match (self, member) {
            (Self::Npm, None) if short => format!("npm {script}"),
            (Self::Npm, None) => format!("npm run {script}"),
            (Self::Npm, Some((dir, _))) => format!("npm run {script} -w {dir}"),
            (Self::Yarn | Self::Berry, None) => format!("yarn {script}"),
            (Self::Yarn | Self::Berry, Some((_, name))) => {
                format!("yarn workspace {name} {script}")
            }
            (Self::Pnpm, None) => format!("pnpm {script}"),
            (Self::Pnpm, Some((dir, _))) => format!("pnpm --filter ./{dir} {script}"),
            (Self::Bun, None) => format!("bun run {script}"),
            (Self::Bun, Some((dir, _))) => format!("bun run --cwd {dir} {script}"),
        }
    }
}

/// A package, with what it stands in.
struct Package<'a> {
    tree: &'a Tree,
    file: File,
    json: Json,
    manager: Manager,
    locked: bool,
    /// Its folder and its name, where it is a member of a workspace.
    member: Option<(String, String)>,
}

/// What the package of a folder says.
pub fn read(tree: &Tree, dir: &str) -> Option<Folder> {
    let file = tree.read(&join(dir, "package.json"))?;
    let json = document::json(tree, &file)?;
    let is_member = dir != "." && members(tree).iter().any(|member| member == dir);
    let base = if is_member { "." } else { dir };
    let (manager, locked) = manager(tree, base, &json);
    let name = json["name"].as_str().map(str::to_owned);
    let package = Package {
        tree,
        file,
        member: is_member.then(|| (dir.to_owned(), name.clone().unwrap_or_default())),
        json,
        manager,
        locked,
    };
    let mut folder = Folder::new(dir, package.file.at(0), Language::Node);
    folder.base = base.to_owned();
    folder.name = name;
    folder.build = Some(package.build());
    folder.run = package.run(&mut folder);
    folder.dev = package.dev();
    folder.is_front = package.is_front();
    folder.cache = package.cache();
    package.database(&mut folder);
    package.faults(&mut folder);
    Some(folder)
}

fn manager(tree: &Tree, dir: &str, json: &Json) -> (Manager, bool) {
    let is = |name: &str| tree.is_file(&join(dir, name));
    let named = json["packageManager"].as_str().unwrap_or_default();
    let yarn = match is(".yarnrc.yml")
        || ["yarn@2", "yarn@3", "yarn@4"]
            .iter()
            .any(|v| named.starts_with(v))
    {
        true => Manager::Berry,
        false => Manager::Yarn,
    };
    if is("pnpm-lock.yaml") {
        (Manager::Pnpm, true)
    } else if is("yarn.lock") {
        (yarn, true)
    } else if is("bun.lockb") || is("bun.lock") {
        (Manager::Bun, true)
    } else {
        (
            Manager::Npm,
            is("package-lock.json") || is("npm-shrinkwrap.json"),
        )
    }
}

impl Package<'_> {
    fn script(&self, name: &str) -> Option<&str> {
        self.json["scripts"][name].as_str()
    }

    fn has(&self, dependency: &str) -> bool {
        ["dependencies", "devDependencies"]
            .iter()
            .any(|kind| self.json[kind][dependency].is_string())
    }

    fn call(&self, script: &str) -> String {
        let member = self.member.as_ref();
        let member = member.map(|(dir, name)| (dir.as_str(), name.as_str()));
        self.manager.script(script, member)
    }

    fn build(&self) -> String {
        let install = self.manager.install(self.locked);
        match self.script("build") {
            Some(_) => format!("{install} && {}", self.call("build")),
            None => install.to_owned(),
        }
    }

    fn cache(&self) -> Vec<String> {
        match self.has("next") && self.member.is_none() {
            true => vec![".next/cache".to_owned()],
            false => Vec::new(),
        }
    }

    fn run(&self, folder: &mut Folder) -> Option<(String, Place)> {
        let starts = ["start:prod", "start:production", "serve:prod", "start"];
        let found = starts.iter().find_map(|name| {
            let line = self.script(name)?;
            let is_static = [
                "react-scripts start",
                "ng serve",
                "vite",
                "vue-cli-service serve",
            ];
            let serves_sources =
                is_static.iter().any(|start| line.starts_with(start)) && !line.contains("preview");
            (!serves_sources).then_some((*name, line))
        });
        if let Some((name, line)) = found {
            let place = self.file.find(&format!("\"{name}\""));
            let given = command::on_given_port(line);
            let simple = !line.contains("&&") && !line.contains('|') && self.member.is_none();
            let run = match given != line && simple {
                true => format!("npx {given}"),
                false => self.call(name),
            };
            // `npx PORT=1 x` would look for a program of that name, and `npx node x` for a package.
            let run = match given.split(' ').next() {
                Some("node" | "env" | "cross-env" | "NODE_ENV=production")
                    if run.starts_with("npx ") =>
                {
                    given
                }
                _ => run,
            };
            return Some((run, place));
        }
        self.page(folder).or_else(|| self.entry())
    }

    /// A page that is built and has nobody to serve it.
    fn page(&self, folder: &mut Folder) -> Option<(String, Place)> {
        let place = self.file.find("\"build\"");
        let (run, how) = if self.has("vite") {
            (
                "npx vite preview --host $HOST --port $PORT",
                "vite's preview server",
            )
        } else if self.has("react-scripts") {
            (
                "npx --yes serve -s build -l tcp://$HOST:$PORT",
                "the package `serve`",
            )
        } else if self.has("@angular/core") {
            (
                "npx --yes serve -s dist -l tcp://$HOST:$PORT",
                "the package `serve`",
            )
        } else {
            return None;
        };
        self.script("build")?;
        folder.findings.decide(
            &place,
            format!(
                "`{}` is built into files, and no script serves them: {how} does for now",
                folder.name.as_deref().unwrap_or(&folder.dir)
            ),
            "let another service serve them, or keep `run` as it is",
        );
        let run = match &self.member {
            Some((dir, _)) => format!("cd {dir} && {run}"),
            None => run.to_owned(),
        };
        Some((run, place))
    }

    /// `npm start` without a script runs `server.js`.
    fn entry(&self) -> Option<(String, Place)> {
        let dir = self.file.dir().to_owned();
        let is_server = [
            "express",
            "fastify",
            "koa",
            "@hapi/hapi",
            "hono",
            "ws",
            "socket.io",
        ];
        let main = self.json["main"].as_str();
        let main = main.filter(|_| is_server.iter().any(|name| self.has(name)));
        let entry = main
            .into_iter()
            .chain(["server.js"])
            .find(|name| self.tree.is_file(&join(&dir, name)))?;
        let place = self.file.find("\"main\"");
        let path = match &self.member {
            Some((dir, _)) => join(dir, entry),
            None => entry.trim_start_matches("./").to_owned(),
        };
        Some((format!("node {path}"), place))
    }

    fn dev(&self) -> Option<String> {
        let name = ["dev", "start:dev"]
            .into_iter()
            .find(|name| self.script(name).is_some())?;
        let line = self.script(name)?;
        let call = self.call(name);
        let plain =
            !line.contains("&&") && !line.contains("concurrently") && !line.contains("turbo");
        match line.starts_with("vite") && plain && self.manager == Manager::Npm {
            true => Some(format!("{call} -- --host $HOST --port $PORT")),
            false if line.starts_with("vite") && plain => {
                Some(format!("{call} --host $HOST --port $PORT"))
            }
            false => Some(call),
        }
    }

    fn is_front(&self) -> bool {
        const FRONT: [&str; 11] = [
            "next",
            "nuxt",
            "vite",
            "react-scripts",
            "astro",
            "@sveltejs/kit",
            "@remix-run/react",
            "@angular/core",
            "vue",
            "gatsby",
            "svelte",
        ];
        FRONT.iter().any(|name| self.has(name))
    }

    /// What Prisma's schema says of the database.
    fn database(&self, folder: &mut Folder) {
        let dir = self.file.dir().to_owned();
        let Some(schema) = self.tree.read(&join(&dir, "prisma/schema.prisma")) else {
            return;
        };
        let start = schema.text.find("datasource").unwrap_or(0);
        let source = &schema.text[start..];
        let source = &source[..source.find('}').unwrap_or(source.len())];
        let kind = [("postgresql", Kind::Postgres), ("sqlite", Kind::Sqlite)];
        let found = kind
            .iter()
            .find(|(word, _)| source.contains(&format!("\"{word}\"")));
        folder.store = found.map(|(_, kind)| (*kind, schema.find("provider")));
        if self.tree.is_dir(&join(&dir, "prisma/migrations")) {
            folder.migrate = Some(("npx prisma migrate deploy".to_owned(), schema.at(0)));
        }
    }

    fn faults(&self, folder: &mut Folder) {
        let scripts = self.json["scripts"].as_object();
        for (name, line) in scripts.into_iter().flatten() {
            let line = line.as_str().unwrap_or_default();
            let place = self.file.find(&format!("\"{name}\":"));
            dockerfile::legacy_peers(&mut folder.findings, &place, line);
            if secret::in_command(line) {
                folder.findings.fault(
                    "plain-secret",
                    &place,
                    format!("the script `{name}` holds a secret in plain text"),
                    "give it as a variable, and use that: `$NAME`",
                );
            }
        }
        let dir = self.file.dir().to_owned();
        if let Some(settings) = self.tree.read(&join(&dir, ".npmrc")) {
            let line = settings.text.lines().position(|line| {
                let line: String = line.split_whitespace().collect();
                line == "legacy-peer-deps=true"
            });
            if let Some(at) = line {
                dockerfile::legacy_peers(
                    &mut folder.findings,
                    &settings.at(at + 1),
                    "--legacy-peer-deps",
                );
            }
            if let Some(at) = settings.text.lines().position(|line| {
                let value = line.split_once("_authToken=").map(|(_, value)| value);
                value.is_some_and(|value| !value.trim().is_empty() && !value.contains("${"))
            }) {
                folder.findings.fault(
                    "plain-secret",
                    &settings.at(at + 1),
                    "a token of a registry stands here in plain text",
                    "write `${NPM_TOKEN}`, and make a new one",
                );
            }
        }
        let needs_lock = self.json["dependencies"]
            .as_object()
            .is_some_and(|found| !found.is_empty());
        if !self.locked && needs_lock {
            folder.findings.fault(
                "no-lock-file",
                &self.file.at(0),
                "there is no lock file: two builds of one commit may differ",
                "run `npm install`, and commit `package-lock.json`",
            );
        }
    }
}

/// The folders of a workspace's members that run something, or may.
pub fn members(tree: &Tree) -> Vec<String> {
    let package = tree.read("package.json");
    let json: Option<Json> = package.and_then(|file| serde_json::from_str(&file.text).ok());
    let Some(json) = json else {
        return Vec::new();
    };
    let listed = json["workspaces"]
        .as_array()
        .or(json["workspaces"]["packages"].as_array());
    let mut globs: Vec<String> = listed
        .into_iter()
        .flatten()
        .filter_map(|glob| Some(glob.as_str()?.to_owned()))
        .collect();
    if let Some(file) = tree.read("pnpm-workspace.yaml")
        && let Some(root) = document::yaml(tree, &file)
    {
        let packages = root.get("packages");
        let texts = packages.map(super::yaml::Node::texts).unwrap_or_default();
        globs.extend(texts.iter().map(|(glob, _)| (*glob).to_owned()));
    }
    let mut members: Vec<String> = Vec::new();
    for glob in globs.iter().filter(|glob| !glob.starts_with('!')) {
        let glob = glob.trim_end_matches('/');
        let found = match glob.strip_suffix("/**").or(glob.strip_suffix("/*")) {
            Some(dir) => tree.folders(dir),
            None => vec![join(".", glob)],
        };
        for dir in found {
            let is_package = is_inside(&dir) && tree.is_file(&join(&dir, "package.json"));
            if is_package && members.len() < 64 && !members.contains(&dir) {
                members.push(dir);
            }
        }
    }
    members
}
