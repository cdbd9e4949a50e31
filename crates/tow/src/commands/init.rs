//! A manifest from what a project has already.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use towpath::agent::api::Trouble;
use towpath::diagnostic::Diagnostic;
use towpath::survey::{self, Error, Finding, Survey};

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::Init;
use crate::out;

/// What `--json` says.
#[derive(Serialize)]
struct Said<'a> {
    path: PathBuf,
    is_written: bool,
    #[serde(flatten)]
    survey: &'a Survey,
}

/// `tow init`.
pub fn init(cli: &Cli, arguments: &Init) -> Ending {
    let start = cli.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let path = start.join("tow.toml");
    let looks = arguments.print || arguments.dry_run;
    if !looks && path.symlink_metadata().is_ok() {
        return Err(is_there(&path));
    }
    let survey =
        survey::survey(&start, &arguments.without).map_err(|error| unread(&start, error))?;
    if !looks {
        write(&path, &survey.manifest)?;
    }
    if arguments.json {
        out::json(&Said {
            path,
            is_written: !looks,
            survey: &survey,
        });
    } else if arguments.print {
        out::note(lists(&survey).trim_end());
        out::say(survey.manifest.trim_end());
    } else {
        let said = match looks {
            true => format!("would write {}", path.display()),
            false => format!("wrote {}", path.display()),
        };
        out::say(said);
        if looks {
            out::say(indented(&survey.manifest));
        }
        out::say(lists(&survey).trim_end());
        if !looks {
            out::say(format!(
                "\nnext: look through tow.toml{}, then `tow check`, then `tow up`",
                secrets(&survey)
            ));
        }
    }
    Ok(0)
}

/// What is asked for is refused while it is not set.
fn secrets(survey: &Survey) -> String {
    let Some((first, others)) = survey.secrets.split_first() else {
        return String::new();
    };
    let others = match others {
        [] => String::new(),
        others => format!("; so {}", others.join(", ")),
    };
    let way = survey.way.join(", ");
    format!(", then `tow secrets set {first} -e local` (and for {way}{others})")
}

fn is_there(path: &Path) -> Trouble {
    let diagnostic = Diagnostic::error(
        "init::exists",
        format!("there is a `{}` already", path.display()),
    )
    .note("it is never written over; nothing was touched")
    .help("`tow init --print` shows what would be written");
    Trouble {
        exit: 4,
        diagnostic,
    }
}

fn unread(root: &Path, error: Error) -> Trouble {
    match error {
        Error::Folder(error) => Trouble {
            exit: 2,
            diagnostic: Diagnostic::error(
                "init::no-folder",
                format!("`{}`: {error}", root.display()),
            )
            .help("go to the project's folder, or name it with -C"),
        },
        Error::Unread(found) => {
            let count = match found.len() {
                1 => "a file".to_owned(),
                count => format!("{count} files"),
            };
            let text =
                format!("{count} of the project cannot be read, so what it needs is not known");
            let mut diagnostic = Diagnostic::error("init::unread", text);
            for one in &found {
                let place = one.place.as_ref().map(ToString::to_string);
                diagnostic = diagnostic.note(format!("{} {}", place.unwrap_or_default(), one.text));
            }
            let files: Vec<_> = found.iter().filter_map(|one| one.place.as_ref()).collect();
            let first = files.first().map_or("FILE", |place| place.file.as_str());
            diagnostic = diagnostic.note("nothing was written").help(format!(
                "mend it, or leave it out: `tow init --without {first}`"
            ));
            Trouble {
                exit: 3,
                diagnostic,
            }
        }
    }
}

/// Whole or not at all, and never over something that is there.
fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    let beside = path.with_file_name(format!(".tow.toml.{}", std::process::id()));
    let written = whole(&beside, text).and_then(|()| std::fs::hard_link(&beside, path));
    // Also where it was never made.
    let _ = std::fs::remove_file(&beside);
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => is_there(path),
        _ => Trouble {
            exit: 1,
            diagnostic: Diagnostic::error("init::write", format!("`{}`: {error}", path.display()))
                .note("nothing was written"),
        },
    })
}

fn whole(path: &Path, text: &str) -> std::io::Result<()> {
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(path);
    let mut file = file?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn indented(text: &str) -> String {
    let lines: Vec<_> = text
        .trim_end()
        .lines()
        .map(|line| format!("    {line}"))
        .collect();
    let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
    format!("\n{}\n", lines.join("\n"))
}

/// What there is to say, in its lists; what is wrong comes last, where it is seen.
fn lists(survey: &Survey) -> String {
    let findings = &survey.findings;
    let lists = [
        ("written", &findings.written),
        ("not carried over", &findings.not_carried_over),
        ("yours to decide", &findings.yours_to_decide),
        ("wrong in what was read", &findings.wrong),
    ];
    let mut text = String::new();
    for (title, list) in lists {
        if !list.is_empty() {
            text += &format!("\n{title}\n");
        }
        for one in list {
            text += &line(one);
        }
    }
    text
}

fn line(one: &Finding) -> String {
    let place = one
        .place
        .as_ref()
        .map_or(String::new(), |place| format!("{place}: "));
    let help = one
        .help
        .as_ref()
        .map_or(String::new(), |help| format!("      {help}\n"));
    format!("  {place}{}\n{help}", one.text)
}
