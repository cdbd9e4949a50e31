//! `tow setup`: makes a server ready for an environment, over ssh.

mod far;
pub mod password;

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
use towpath::agent::api::Trouble;
use towpath::clock::Clock;
use towpath::config::{self, Config, Server};
use towpath::diagnostic::Diagnostic;
use towpath::manifest::Manifest;
use towpath::setup::{self, Course, Facts, Layout, Plan, Program, Step, Sudo, Wish};

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::Setup;
use crate::out;
use crate::place::{App, Place};
pub use far::Far;

/// A program, as it is to be on a server.
pub struct Sent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is.
    pub program: Program,
}

/// `tow setup`.
pub async fn setup(cli: &Cli, arguments: &Setup) -> Ending {
    let place = App::find(cli)?.place(&arguments.there.environment)?;
    let (dry_run, json) = (arguments.there.dry_run, arguments.there.json);
    let server = server(&place)?;
    let sent = Sent::read(arguments.binary.as_deref())?;
    let wish = wish(&place, &sent, arguments.user, arguments.start)?;
    let far = Far::new(&server);
    out::note(format!(
        "{} ({}, {server})",
        place.environment, place.app.name
    ));
    let (facts, plan) = look(&far, wish).await?;
    if json {
        tell_json(&plan, &server);
    } else {
        tell(&plan, &facts, dry_run);
    }
    if dry_run || plan.steps.is_empty() {
        return Ok(0);
    }
    agreed(arguments.yes, json)?;
    act(&far, &plan, &facts, &sent).await?;
    if plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Operator(_)))
    {
        // The groups of a connection are those of its beginning.
        far.end_shared().await;
    }
    if !json {
        out::say(format!("{server} is set up for {}", place.environment));
    }
    Ok(0)
}

/// The machine that the environment is on.
pub fn server(place: &Place) -> Result<Server, Trouble> {
    place.server.clone().ok_or_else(|| {
        let text = format!("`{}` is on this machine", place.environment);
        let diagnostic = Diagnostic::error("setup::no-server", text)
            .note("nothing was touched; this machine needs no set-up")
            .help("name the machine in tow.toml: server = \"user@host\"");
        Trouble {
            exit: 3,
            diagnostic,
        }
    })
}

impl Sent {
    /// Reads the program of that path, or this one.
    pub fn read(path: Option<&Path>) -> Result<Sent, Trouble> {
        // By this name it is found even when a newer one has taken its place.
        let path = path.unwrap_or(Path::new("/proc/self/exe"));
        let invalid = |text: String| Trouble {
            exit: 3,
            diagnostic: Diagnostic::error("setup::program", text)
                .note("nothing was touched")
                .help("name a program for the server with --binary"),
        };
        let named = path.display();
        let bytes = std::fs::read(path).map_err(|error| invalid(format!("`{named}`: {error}")))?;
        let program = Program::read(&bytes)
            .ok_or_else(|| invalid(format!("`{named}` is no program for 64-bit Linux")))?;
        Ok(Sent { bytes, program })
    }
}

/// What is wanted on the server of `place`.
pub fn wish(place: &Place, sent: &Sent, user: bool, start: bool) -> Result<Wish, Trouble> {
    let config = config(place)?;
    // Production never builds.
    let builds = config
        .promote
        .iter()
        .position(|name| *name == place.environment);
    Ok(Wish {
        app: place.app.name.clone(),
        environment: place.environment.clone(),
        program: sent.program.clone(),
        programs: setup::programs(&config, builds.is_none_or(|at| at == 0)),
        listen: config.listen,
        user,
        start,
        system: Layout::system(),
        now_s: 0,
    })
}

fn config(place: &Place) -> Result<Config, Trouble> {
    let manifest = Manifest::parse("tow.toml", &place.app.text);
    let config = manifest.and_then(|manifest| config::resolve(&manifest, &place.environment));
    config.map_err(|report| out::invalid_manifest(&report, false))
}

/// What there is, and what has to be done.
pub async fn look(far: &Far, mut wish: Wish) -> Result<(Facts, Plan), Trouble> {
    let names = (wish.app.as_str(), wish.environment.as_str());
    let script = setup::look(&wish.system, names, &wish.programs, &wish.program.digest);
    let said = far.run("sh -s", script.into_bytes()).await?;
    let facts = Facts::parse(&said.out).ok_or_else(|| far.not_understood(&said))?;
    wish.now_s = Clock::system().wall_ms() / 1000;
    let plan = setup::plan(&wish, &facts).map_err(|diagnostic| Trouble {
        exit: 4,
        diagnostic,
    })?;
    Ok((facts, plan))
}

fn tell(plan: &Plan, facts: &Facts, dry_run: bool) {
    for finding in &plan.findings {
        out::say(format!("  note  {}", finding.text));
        if let Some(line) = &finding.line {
            out::say(format!("        {line}"));
        }
    }
    if plan.steps.is_empty() {
        out::say("nothing to do");
        return;
    }
    let rights = match (plan.system, facts.uid, facts.sudo) {
        (true, 0, _) => "as root".to_owned(),
        (true, ..) => format!("as root, which `{}` becomes with sudo", facts.user),
        (false, ..) => format!("as `{}`, for this user alone", facts.user),
    };
    out::say(format!(
        "{} {rights}:",
        if dry_run { "would do" } else { "to do" }
    ));
    for step in &plan.steps {
        out::say(format!("  {:12}{step}", step.key()));
    }
}

#[derive(Serialize)]
struct Told<'a> {
    server: String,
    system: bool,
    steps: Vec<ToldStep<'a>>,
    findings: Vec<ToldFinding<'a>>,
}

#[derive(Serialize)]
struct ToldStep<'a> {
    step: &'a str,
    text: String,
}

#[derive(Serialize)]
struct ToldFinding<'a> {
    text: &'a str,
    line: Option<&'a str>,
}

fn tell_json(plan: &Plan, server: &Server) {
    let step = |step: &'_ Step| ToldStep {
        step: step.key(),
        text: step.to_string(),
    };
    let findings = plan.findings.iter().map(|finding| ToldFinding {
        text: &finding.text,
        line: finding.line.as_deref(),
    });
    out::json(&Told {
        server: server.to_string(),
        system: plan.system,
        steps: plan.steps.iter().map(step).collect(),
        findings: findings.collect(),
    });
}

/// Asks once, where there is somebody to ask.
fn agreed(yes: bool, json: bool) -> Result<(), Trouble> {
    if yes {
        return Ok(());
    }
    let no = |text: &str| {
        let diagnostic = Diagnostic::error("setup::not-agreed", text).note("nothing was touched");
        Err(Trouble {
            exit: 4,
            diagnostic: diagnostic.help("with --yes nobody is asked"),
        })
    };
    if json || !std::io::stdin().is_terminal() {
        return no("nobody is there to agree to it");
    }
    let _ = write!(std::io::stderr(), "do it? [y/N] ");
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => no("it was not agreed to"),
    }
}

/// Sends the program where it is needed, and carries the plan out.
pub async fn act(far: &Far, plan: &Plan, facts: &Facts, sent: &Sent) -> Result<(), Trouble> {
    let needs_program = plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Program(..)));
    let rights = far.rights(plan, facts)?;
    if needs_program && !facts.sent {
        far.send(sent).await?;
    }
    let script = setup::act(plan, &facts.home);
    let (remote, input) = rights.around(script);
    let said = far.run(remote, input).await?;
    let course = Course::parse(&said.out);
    course
        .done
        .iter()
        .for_each(|step| out::note(format!("  ok     {step}")));
    match course.whole {
        true => Ok(()),
        false => Err(failed(far, &course, &said)),
    }
}

fn failed(far: &Far, course: &Course, said: &far::Said) -> Trouble {
    let at = course.at.as_deref();
    let text = match at {
        Some(step) => format!("step `{step}` failed on {}", far.server()),
        None => format!("the set-up of {} did not come to its end", far.server()),
    };
    let done: BTreeSet<&str> = course.done.iter().map(String::as_str).collect();
    let done = match done.is_empty() {
        true => "no step is done".to_owned(),
        false => format!("done: {}", course.done.join(", ")),
    };
    let mut diagnostic = Diagnostic::error("setup::failed", text);
    if !said.err.trim().is_empty() {
        diagnostic = diagnostic.note(said.err.trim().to_owned());
    }
    Trouble {
        exit: 1,
        diagnostic: diagnostic
            .note(done)
            .note("environments that run there are as they were")
            .help("mend that, and run the same command again: it goes on where this one ended"),
    }
}

/// How root's rights are come by.
pub enum Rights {
    /// They are there, or not needed.
    Own,
    /// For the asking.
    Sudo,
    /// With this password.
    Password(String),
}

impl Rights {
    /// The command over there, and what it reads.
    fn around(self, script: String) -> (&'static str, Vec<u8>) {
        match self {
            Rights::Own => ("sh -s", script.into_bytes()),
            Rights::Sudo => ("sudo -n sh -s", script.into_bytes()),
            // It passes through no argument, and sudo gets one line: a wrong one is tried once.
            Rights::Password(password) => (
                "sh -c 'IFS= read -r password; script=$(cat); \
                 printf \"%s\\n\" \"$password\" | sudo -S -p \"\" sh -c \"$script\"'",
                format!("{password}\n{script}").into_bytes(),
            ),
        }
    }
}

impl Far {
    fn rights(&self, plan: &Plan, facts: &Facts) -> Result<Rights, Trouble> {
        match (plan.system && facts.uid != 0, facts.sudo) {
            (false, _) => Ok(Rights::Own),
            (true, Sudo::Free) => Ok(Rights::Sudo),
            (true, _) => {
                let prompt = format!(
                    "password of `{}` on {}, for sudo: ",
                    facts.user,
                    self.server()
                );
                password::ask(&prompt).map(Rights::Password).ok_or_else(|| {
                    let text = format!(
                        "sudo on {} asks for a password, and nobody is there",
                        self.server()
                    );
                    let diagnostic = Diagnostic::error("setup::sudo", text)
                        .note("nothing was touched")
                        .help("run it in a terminal, or set up for this user alone with --user");
                    Trouble {
                        exit: 4,
                        diagnostic,
                    }
                })
            }
        }
    }
}
