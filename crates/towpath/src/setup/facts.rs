//! What there is on a server, from a script that only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::program::Libc;
use super::{Layout, UNIT, quoted, quoted_path};
use crate::id::Digest;

/// Stands before the facts: what a login file prints comes earlier.
const BEGIN: &str = "towpath-facts 1";
/// Stands behind them: a link that broke in between is seen.
const END: &str = "towpath-facts end";

/// Whether root's rights are to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sudo {
    /// There is no sudo.
    Missing,
    /// It asks for nothing.
    Free,
    /// It asks for a password, or says no.
    Asks,
}

/// What a server is and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `Linux`.
    pub os: String,
    /// As `uname -m` says it.
    pub arch: String,
    /// Its C library, when it is a known one.
    pub libc: Option<Libc>,
    /// The user that ssh comes in as.
    pub user: String,
    /// Its number.
    pub uid: u32,
    /// Its home.
    pub home: PathBuf,
    /// Whether it can become root.
    pub sudo: Sudo,
    /// Whether systemd runs the machine.
    pub systemd: bool,
    /// Whether systemd runs something for this user.
    pub user_systemd: bool,
    /// Whether what systemd runs for this user stays when the user is gone.
    pub linger: bool,
    /// Members of the operators' group; `None` where there is none.
    pub operators: Option<Vec<String>>,
    /// The command that installs packages.
    pub packager: String,
    /// Of the programs asked about, those that are there.
    pub programs: BTreeSet<String>,
    /// Those of them that not everybody can run, with the file or folder that is closed to others.
    pub closed: BTreeMap<String, PathBuf>,
    /// All memory, KiB.
    pub memory_kib: u64,
    /// Ports that somebody listens on.
    pub ports: BTreeSet<u16>,
    /// The first port that needs no rights.
    pub first_port: u16,
    /// Its wall clock, Unix seconds.
    pub clock_s: i64,
    /// Whether the program was already sent, and waits to be installed.
    pub sent: bool,
    /// What is installed for the whole machine.
    pub system: Found,
    /// What is installed for this user.
    pub own: Found,
}

/// What is installed at the places of one layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// SHA-256 of the program.
    pub program: Option<Digest>,
    /// Its mode and owner.
    pub program_mode: Option<Mode>,
    /// Mode and owner of the state root.
    pub states: Option<Mode>,
    /// Mode and owner of the environment's state directory.
    pub environment: Option<Mode>,
    /// SHA-256 of the boot unit.
    pub unit: Option<Digest>,
    /// Its mode and owner.
    pub unit_mode: Option<Mode>,
    /// Whether the boot unit is started with the machine.
    pub enabled: bool,
    /// Whether it runs.
    pub active: bool,
    /// Whether a boot process runs, started by whomever.
    pub boots: bool,
    /// Room where states are, KiB.
    pub disk_kib: u64,
}

/// Mode and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Permission bits.
    pub bits: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Mode {
    /// Root's, with these permissions.
    #[must_use]
    pub fn of_root(bits: u32) -> Mode {
        Mode {
            bits,
            uid: 0,
            gid: 0,
        }
    }

    fn parse(text: &str) -> Option<Mode> {
        let mut words = text.split(' ');
        let bits = u32::from_str_radix(words.next()?, 8).ok()?;
        let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Mode { bits, uid, gid })
    }
}

/// The script that looks, for `sh` on its standard input. It changes nothing.
#[must_use]
pub fn look(
    system: &Layout,
    (app, environment): (&str, &str),
    programs: &BTreeSet<String>,
    sent: &Digest,
) -> String {
    let programs: Vec<String> = programs.iter().map(|name| quoted(name)).collect();
    let place = format!("{app}/{environment}");
    let head = [
        format!("begin={}", quoted(BEGIN)),
        format!("end={}", quoted(END)),
        format!("place={}", quoted(&place)),
        format!("unit={UNIT}"),
        format!("sent={}", quoted(&sent.to_string())),
        format!("programs={}", quoted(&programs.join(" "))),
        format!("system_program={}", quoted_path(&system.program)),
        format!("system_states={}", quoted_path(&system.states)),
        format!("system_unit={}", quoted_path(&system.unit())),
    ];
    format!("{}\n{LOOK}", head.join("\n"))
}

const LOOK: &str = r#"
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
export LC_ALL PATH XDG_RUNTIME_DIR

say() { printf '%s=%s\n' "$1" "$2"; }
is() { if "$@" > /dev/null 2>&1; then echo yes; else echo no; fi; }
there() { command -v "$1" > /dev/null 2>&1; }
# Either engine of containers will do.
has() { there "$1" || { test "$1" = docker && there podman; }; }
sum() { if test -r "$1"; then sha256sum < "$1" | cut -c1-64; fi; }
mode() { stat -c '%a %u %g' "$1" 2> /dev/null; }
room() {
  dir=$1
  while ! test -d "$dir"; do dir=$(dirname "$dir"); done
  df -Pk "$dir" | awk 'NR == 2 { print $4 }'
}
boots() {
  pid=$(sed -n 1p "$1/boot.lock" 2> /dev/null)
  case $pid in '' | *[!0-9]*) echo no; return ;; esac
  case $(tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null) in
    *' server run '*) echo yes ;;
    *) echo no ;;
  esac
}
closed() {
  file=$(command -v "$1")
  case $file in /*) ;; *) return ;; esac
  for place in "$file" "$(readlink -f "$file")"; do
    while test "$place" != /; do
      case $(stat -L -c %A "$place" 2> /dev/null) in
        *[xt]) ;;
        *) say closed "$1 $place"; return ;;
      esac
      place=$(dirname "$place")
    done
  done
}
places() {
  say "$1.program" "$(sum "$2")"
  say "$1.program_mode" "$(mode "$2")"
  say "$1.states" "$(mode "$3")"
  say "$1.environment" "$(mode "$3/$place")"
  say "$1.unit" "$(sum "$4")"
  say "$1.unit_mode" "$(mode "$4")"
  say "$1.disk_kib" "$(room "$3")"
  say "$1.boots" "$(boots "$3")"
}

echo "$begin"
say os "$(uname -s)"
say arch "$(uname -m)"
say glibc "$(getconf GNU_LIBC_VERSION 2> /dev/null)"
for file in /lib/ld-musl-*; do test -e "$file" && say musl yes; done
say user "$(id -un)"
say uid "$(id -u)"
say home "$HOME"
if ! there sudo; then say sudo missing; else
  if sudo -n true > /dev/null 2>&1; then say sudo free; else say sudo asks; fi
fi
say systemd "$(is test -d /run/systemd/system)"
say user_systemd "$(is systemctl --user show-environment)"
say linger "$(is test -e "/var/lib/systemd/linger/$(id -un)")"
say operators "$(grep '^towpath:' /etc/group)"
for name in apt-get dnf yum apk pacman zypper; do there "$name" && say packager "$name"; done
eval "for name in $programs; do has \"\$name\" && say has \"\$name\" && closed \"\$name\"; done"
say memory_kib "$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
for file in /proc/net/tcp /proc/net/tcp6; do
  test -r "$file" && awk '$4 == "0A" { count = split($2, part, ":"); print "port=" part[count] }' "$file"
done
say first_port "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2> /dev/null)"
say clock_s "$(date +%s)"
say sent "$(is test "$(sum "$HOME/.cache/towpath/tow-$sent")" = "$sent")"
places system "$system_program" "$system_states" "$system_unit"
say system.enabled "$(is systemctl is-enabled "$unit")"
say system.active "$(is systemctl is-active "$unit")"
places own "$HOME/.local/bin/tow" "$HOME/.local/state/towpath" "$HOME/.config/systemd/user/$unit"
say own.enabled "$(is systemctl --user is-enabled "$unit")"
say own.active "$(is systemctl --user is-active "$unit")"
echo "$end"
"#;

/// The lines, by key.
struct Lines<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Lines<'a> {
    fn text(&self, key: &str) -> &'a str {
        let values = self.0.get(key).map(Vec::as_slice).unwrap_or_default();
        values.first().copied().unwrap_or_default()
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> + '_ {
        self.0.get(key).into_iter().flatten().copied()
    }

    fn is(&self, key: &str) -> bool {
        self.text(key) == "yes"
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key).parse().ok()
    }

    fn found(&self, layout: &str) -> Found {
        let key = |name: &str| format!("{layout}.{name}");
        let mode = |name: &str| Mode::parse(self.text(&key(name)));
        let digest = |name: &str| self.text(&key(name)).parse().ok();
        Found {
            program: digest("program"),
            program_mode: mode("program_mode"),
            states: mode("states"),
            environment: mode("environment"),
            unit: digest("unit"),
            unit_mode: mode("unit_mode"),
            enabled: self.is(&key("enabled")),
            active: self.is(&key("active")),
            boots: self.is(&key("boots")),
            disk_kib: self.number(&key("disk_kib")).unwrap_or_default(),
        }
    }

    fn libc(&self) -> Option<Libc> {
        let gnu = self
            .text("glibc")
            .strip_prefix("glibc ")
            .and_then(Libc::gnu);
        gnu.or(self.is("musl").then_some(Libc::Musl))
    }
}

impl Facts {
    /// What the script printed; `None` when it did not come to its end, or is not ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Facts> {
        let mut lines = text.lines().map(|line| line.trim_end_matches('\r'));
        lines.find(|line| *line == BEGIN)?;
        let lines: Vec<&str> = lines.collect();
        let end = lines.iter().position(|line| *line == END)?;
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, value) in lines[..end].iter().filter_map(|line| line.split_once('=')) {
            values.entry(key).or_default().push(value);
        }
        let lines = Lines(values);
        let home = PathBuf::from(lines.text("home"));
        Some(Facts {
            os: lines.text("os").to_owned(),
            arch: lines.text("arch").to_owned(),
            libc: lines.libc(),
            user: Some(lines.text("user").to_owned()).filter(|user| !user.is_empty())?,
            uid: lines.number("uid")?,
            home: Some(home).filter(|home| home.is_absolute())?,
            sudo: match lines.text("sudo") {
                "free" => Sudo::Free,
                "asks" => Sudo::Asks,
                _ => Sudo::Missing,
            },
            systemd: lines.is("systemd"),
            user_systemd: lines.is("user_systemd"),
            linger: lines.is("linger"),
            operators: operators(lines.text("operators")),
            packager: lines.text("packager").to_owned(),
            programs: lines.all("has").map(str::to_owned).collect(),
            closed: lines
                .all("closed")
                .filter_map(|line| line.split_once(' '))
                .map(|(name, place)| (name.to_owned(), PathBuf::from(place)))
                .collect(),
            memory_kib: lines.number("memory_kib").unwrap_or_default(),
            ports: lines
                .all("port")
                .filter_map(|port| u16::from_str_radix(port, 16).ok())
                .collect(),
            first_port: lines.number("first_port").unwrap_or(1024),
            clock_s: lines.number("clock_s")?,
            sent: lines.is("sent"),
            system: lines.found("system"),
            own: lines.found("own"),
        })
    }
}

/// The members in a line of group(5).
fn operators(line: &str) -> Option<Vec<String>> {
    let fields: Vec<&str> = line.split(':').collect();
    let [_, _, _, members] = fields[..] else {
        return None;
    };
    let members = members.split(',').filter(|name| !name.is_empty());
    Some(members.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Facts, Layout, look};
    use crate::id::Digest;

    /// What this machine says when it is asked.
    fn here(script: &str) -> String {
        let mut sh = std::process::Command::new("sh");
        let output = sh.arg("-c").arg(script).output().expect("sh");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn script(app: &str, programs: &[&str]) -> String {
        let programs: BTreeSet<String> = programs.iter().map(|name| name.to_string()).collect();
        look(
            &Layout::system(),
            (app, "staging"),
            &programs,
            &Digest::of(b""),
        )
    }

    #[test]
    fn this_machine_is_seen_as_it_is() {
        let text = here(&script("notes", &["sh", "no-such-program"]));
        let facts = Facts::parse(&text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            (facts.os.as_str(), facts.arch.as_str()),
            ("Linux", std::env::consts::ARCH)
        );
        assert_eq!(facts.uid, rustix::process::geteuid().as_raw());
        assert_eq!(facts.programs, BTreeSet::from(["sh".to_owned()]));
        assert!(
            facts.memory_kib > 1000 && facts.system.disk_kib > 0,
            "{facts:?}"
        );
        assert!(!facts.sent && facts.clock_s > 1_700_000_000);
    }

    #[test]
    fn a_program_that_not_everybody_can_run_is_seen_with_what_is_closed() {
        use std::os::unix::fs::PermissionsExt;
        let top = std::env::temp_dir().join(format!("tow-closed-{}", std::process::id()));
        let (home, bin) = (top.join("ho me"), top.join("bin"));
        for folder in [&home, &bin] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let mode = |path: &std::path::Path, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("a mode");
        };
        for name in ["tool", "open"] {
            std::fs::write(home.join(name), "").expect("a file");
            mode(&home.join(name), 0o755);
            std::os::unix::fs::symlink(home.join(name), bin.join(name)).expect("a link");
        }
        mode(&home, 0o750);
        let ask = || {
            let path = std::env::var("PATH").unwrap_or_default();
            let line = format!("PATH='{}':{path}\n", bin.display());
            let text = here(&(line + &script("notes", &["tool", "sh"])));
            Facts::parse(&text)
                .unwrap_or_else(|| panic!("{text}"))
                .closed
        };
        let closed = ask();
        mode(&home, 0o755);
        let open = ask();
        std::fs::remove_dir_all(&top).expect("a folder");
        assert_eq!(closed.get("tool"), Some(&home), "{closed:?}");
        assert!(!closed.contains_key("sh") && open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_port_that_is_listened_on_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let facts = Facts::parse(&here(&script("notes", &[]))).expect("facts");
        assert!(facts.ports.contains(&port), "{:?}", facts.ports);
    }

    #[test]
    fn hostile_names_stay_words() {
        let folder = std::env::temp_dir().join(format!("tow-facts-{}", std::process::id()));
        let attack = format!("x'; mkdir '{}'; $(mkdir {0})", folder.display());
        let facts = Facts::parse(&here(&script(&attack, &[&attack, "sh"]))).expect("facts");
        assert_eq!(facts.programs.len(), 1);
        assert!(!folder.exists(), "a name was run");
    }

    #[test]
    fn what_did_not_come_whole_is_none() {
        let text = here(&script("notes", &[]));
        let lines: Vec<&str> = text.lines().collect();
        for count in 0..lines.len() {
            assert_eq!(
                Facts::parse(&lines[..count].join("\n")),
                None,
                "{count} lines"
            );
        }
        let chatty = format!("Welcome!\nuid=5\n{text}bye\n");
        assert_eq!(Facts::parse(&chatty), Facts::parse(&text));
        let terminal = text.replace('\n', "\r\n");
        assert_eq!(Facts::parse(&terminal), Facts::parse(&text));
        assert_eq!(Facts::parse(&text.replace("uid=", "uid=x")), None);
        assert_eq!(Facts::parse(&text.replace("home=", "home=x")), None);
    }
}
