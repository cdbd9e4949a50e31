//! The script that sets up, and what became of it.

use std::path::Path;

use super::plan::{Plan, Step};
use super::{UNIT, quoted, quoted_path};
use crate::id::Digest;

const END: &str = "towpath-setup end";

/// The script for `plan`, for `sh` as root where it is for the whole machine, else as the user with
/// this home. It stops at the first step that fails.
#[must_use]
pub fn act(plan: &Plan, home: &Path) -> String {
    let steps = plan.steps.iter().map(|step| {
        let key = step.key();
        format!(
            "\necho 'doing {key}'\n{}\necho 'done {key}'\n",
            commands(plan, step, home)
        )
    });
    let steps: String = steps.collect();
    // A step that reads standard input would read the rest of the script.
    format!("{BEGIN}\nmain() {{\n{steps}\necho '{END}'\n}}\nmain < /dev/null\n")
}

const BEGIN: &str = "set -eu
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
export LC_ALL PATH XDG_RUNTIME_DIR
umask 022
there() { command -v \"$1\" > /dev/null 2>&1; }";

fn commands(plan: &Plan, step: &Step, home: &Path) -> String {
    let systemctl = if plan.system {
        "systemctl"
    } else {
        "systemctl --user"
    };
    match step {
        Step::Group => "if there groupadd; then groupadd --system towpath; \
                        else addgroup -S towpath; fi"
            .to_owned(),
        Step::Operator(user) => {
            let user = quoted(user);
            format!(
                "if there usermod; then usermod -aG towpath {user}; else addgroup {user} towpath; fi"
            )
        }
        Step::States(path) => folder(plan, path, "755"),
        Step::Environment(path) => {
            let app = path.parent().unwrap_or(path);
            format!(
                "{}\n{}",
                folder(plan, app, "755"),
                folder(plan, path, "711")
            )
        }
        Step::Program(path, digest) => program(plan, path, digest, &sent(home, digest)),
        Step::Unit(path, text) => unit(path, text),
        // Where that is not this user's to say, it is said what to do; see the findings.
        Step::Linger(user) => format!("loginctl enable-linger {} || true", quoted(user)),
        Step::Enable => format!(
            "{systemctl} daemon-reload\n{systemctl} enable {UNIT}\n{systemctl} restart {UNIT}"
        ),
        Step::Start => start(plan),
    }
}

/// Where the program is sent to, before it is installed.
pub(super) fn sent(home: &Path, digest: &Digest) -> String {
    quoted_path(&home.join(".cache/towpath").join(format!("tow-{digest}")))
}

fn folder(plan: &Plan, path: &Path, mode: &str) -> String {
    let path = quoted_path(path);
    let owner = if plan.system {
        format!("\nchown 0:0 {path}")
    } else {
        String::new()
    };
    format!("mkdir -p {path}{owner}\nchmod {mode} {path}")
}

/// Written beside, looked at, tried, and renamed: who looks sees the one program or the other.
fn program(plan: &Plan, path: &Path, digest: &Digest, sent: &str) -> String {
    let dir = path.parent().unwrap_or(path);
    let beside = quoted_path(&dir.join(format!(".tow-{}", digest.short())));
    let owner = if plan.system {
        format!("chown 0:0 {beside}\n")
    } else {
        String::new()
    };
    let (dir, path) = (quoted_path(dir), quoted_path(path));
    format!(
        "mkdir -p {dir}
cp {sent} {beside}
if test \"$(sha256sum < {beside} | cut -c1-64)\" != {digest}; then
  rm -f {beside} {sent}
  echo 'what arrived is not what was sent' >&2
  exit 1
fi
{owner}chmod 755 {beside}
if ! {beside} --version > /dev/null; then rm -f {beside}; exit 1; fi
sync {beside} 2> /dev/null || sync
mv -f {beside} {path}
rm -f {sent}"
    )
}

fn unit(path: &Path, text: &str) -> String {
    let dir = quoted_path(path.parent().unwrap_or(path));
    let (beside, path) = (quoted_path(&path.with_extension("new")), quoted_path(path));
    format!(
        "mkdir -p {dir}\nprintf '%s' {} > {beside}\nchmod 644 {beside}\nmv -f {beside} {path}",
        quoted(text)
    )
}

/// In a session of its own, so that it outlives this one.
fn start(plan: &Plan) -> String {
    let log = quoted_path(&plan.layout.states.join("boot.log"));
    let lock = quoted_path(&plan.layout.states.join("boot.lock"));
    let (program, states) = (
        quoted_path(&plan.layout.program),
        quoted_path(&plan.layout.states),
    );
    format!(
        "boots() {{
  pid=$(sed -n 1p {lock} 2> /dev/null)
  test -n \"$pid\" && tr '\\0' ' ' < \"/proc/$pid/cmdline\" 2> /dev/null | grep -q ' server run '
}}
setsid {program} --state {states} server run < /dev/null > /dev/null 2>> {log} &
tries=0
until boots; do
  tries=$((tries + 1))
  if test $tries -gt 100; then tail -n 5 {log} >&2; exit 1; fi
  sleep 0.1
done"
    )
}

/// How far a script came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Course {
    /// Steps that are done.
    pub done: Vec<String>,
    /// The step that it was at.
    pub at: Option<String>,
    /// Whether it came to its end.
    pub whole: bool,
}

impl Course {
    /// From what the script printed.
    #[must_use]
    pub fn parse(text: &str) -> Course {
        let mut course = Course::default();
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            if let Some(step) = line.strip_prefix("doing ") {
                course.at = Some(step.to_owned());
            } else if let Some(step) = line.strip_prefix("done ") {
                course.done.push(step.to_owned());
                course.at = None;
            }
            course.whole |= line == END;
        }
        course
    }
}
