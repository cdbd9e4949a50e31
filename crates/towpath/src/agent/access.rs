//! Who may talk to an agent: its own user, root, and on a server its operators.
//!
//! Operators are the members of the group `towpath`, which `tow setup` makes. They are looked up for
//! each connection, so that whoever leaves the group is out at once. An agent that is not root has no
//! operators but its own user.

use std::path::Path;

use super::caller::Caller;

/// The group of the operators of a machine's environments.
pub const GROUP: &str = "towpath";

/// Who may come in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    own: u32,
    /// The group that folder and socket are given to.
    pub(super) group: Option<u32>,
}

impl Access {
    /// As this machine has it now.
    pub(super) fn of_this_machine() -> Access {
        let own = rustix::process::geteuid().as_raw();
        let group = (own == 0).then(|| gid(&read("/etc/group"))).flatten();
        Access { own, group }
    }

    /// Modes of the runtime folder and of the socket in it.
    pub(super) fn modes(self) -> (u32, u32) {
        match self.group {
            Some(_) => (0o750, 0o660),
            None => (0o700, 0o600),
        }
    }

    /// Gives a file to the group, if there is one.
    pub(super) fn give(self, path: &Path) -> std::io::Result<()> {
        match self.group {
            Some(_) => std::os::unix::fs::chown(path, None, self.group),
            None => Ok(()),
        }
    }

    /// Who the user `uid` is here; `None` for whoever has no business here.
    pub(super) fn caller(self, uid: u32) -> Option<Caller> {
        if uid == self.own || uid == 0 {
            return Some(Caller::Own);
        }
        let is_operator =
            self.group.is_some() && is_member(uid, &read("/etc/passwd"), &read("/etc/group"));
        is_operator.then_some(Caller::Operator)
    }
}

fn read(path: &str) -> String {
    // A name in another encoding is not ours; the lines around it are still to be read.
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// `(group id, members)` of the group, from the text of group(5).
fn group(groups: &str) -> Option<(u32, Vec<&str>)> {
    groups.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [GROUP, _, gid, members] = fields[..] else {
            return None;
        };
        let members = members.split(',').filter(|name| !name.is_empty());
        Some((gid.parse().ok()?, members.collect()))
    })
}

fn gid(groups: &str) -> Option<u32> {
    group(groups).map(|(gid, _)| gid)
}

/// Whether one of the names of `uid` is in the group, or has it as its own; from the texts of
/// passwd(5) and group(5).
fn is_member(uid: u32, users: &str, groups: &str) -> bool {
    let Some((gid, members)) = group(groups) else {
        return false;
    };
    users.lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_it = fields.len() == 7 && fields[2].parse() == Ok(uid);
        is_it && (members.contains(&fields[0]) || fields[3].parse() == Ok(gid))
    })
}

#[cfg(test)]
mod tests {
    use super::{Access, Caller, gid, is_member};

    const USERS: &str = "root:x:0:0::/root:/bin/sh
ana:x:1000:1000:Ana:/home/ana:/bin/sh
bo:x:1001:995::/home/bo:/bin/sh
eve:x:1002:1002:towpath:/home/eve:/bin/sh
short:x:1000
";
    const GROUPS: &str = "towpath2:x:1:eve
xtowpath:x:2:eve
towpath:x:995:ana,gone
towpath:x:7:eve
";

    #[test]
    fn members_are_those_that_the_group_names_and_those_whose_own_it_is() {
        assert_eq!(gid(GROUPS), Some(995));
        for (uid, is) in [(1000, true), (1001, true), (1002, false), (1003, false)] {
            assert_eq!(is_member(uid, USERS, GROUPS), is, "{uid}");
        }
        assert!(!is_member(1000, USERS, ""), "without a group nobody is");
        assert!(!is_member(1000, "", GROUPS), "nobody without a name is");
    }

    #[test]
    fn a_line_that_is_none_of_a_group_gives_nobody_access() {
        for text in [
            "towpath",
            "towpath:x:995",
            "towpath:x:many:eve",
            "towpath:x:-1:eve",
        ] {
            assert!(!is_member(1002, USERS, text), "{text}");
        }
    }

    #[test]
    fn without_a_group_only_the_own_user_and_root_come_in() {
        let access = Access {
            own: 1000,
            group: None,
        };
        assert_eq!(access.caller(1000), Some(Caller::Own));
        assert_eq!(access.caller(0), Some(Caller::Own));
        assert_eq!(access.caller(1001), None);
        assert_eq!(access.modes(), (0o700, 0o600));
    }
}
