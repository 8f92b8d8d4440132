//! Who may talk to a daemon: root, the user that it runs as, and members of the group `holdfast`.
//!
//! The kernel vouches for user and primary group of the peer (`SO_PEERCRED`). Supplementary membership is looked up in
//! `/etc/group`; users that only a directory service knows need the group as their primary one.

use std::{fs, path::Path};

/// The group whose members may.
pub const GROUP: &str = "holdfast";

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// The rule, with everything it depends on.
#[derive(Clone, Debug)]
pub struct Policy {
    own_uid: u32,
    group: String,
    passwd: String,
}

impl Policy {
    /// The rule as the system's files have it now. A file that cannot be read has no members.
    pub fn from_system() -> Self {
        let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
        Self { own_uid: rustix::process::geteuid().as_raw(), group: read("/etc/group"), passwd: read("/etc/passwd") }
    }

    /// Whether `peer` may talk to us.
    pub fn allows(&self, peer: Peer) -> bool {
        if peer.uid == 0 || peer.uid == self.own_uid {
            return true;
        }
        let Some((gid, members)) = self.find_group() else { return false };
        gid == peer.gid || self.user_name(peer.uid).is_some_and(|name| members.split(',').any(|member| member == name))
    }

    /// The group's number, if there is one.
    pub fn gid(&self) -> Option<u32> {
        self.find_group().map(|(gid, _)| gid)
    }

    fn find_group(&self) -> Option<(u32, &str)> {
        let mut fields =
            self.group.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(GROUP))?;
        let gid = fields.nth(2)?.parse().ok()?;
        Some((gid, fields.next().unwrap_or("")))
    }

    fn user_name(&self, uid: u32) -> Option<&str> {
        self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_ourselves_and_members_may_and_nobody_else() {
        let policy = Policy {
            own_uid: 900,
            group: "root:x:0:\nholdfast:x:901:alice,bob\nholdfast2:x:902:mallory\n".into(),
            passwd: "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nmallory:x:1002:1002::/:/bin/sh\n\
                     ali:x:1003:1003::/:/bin/sh\n"
                .into(),
        };
        for (uid, gid, allowed) in [
            (0, 0, true),
            (900, 55, true),
            (1000, 1000, true),
            (1005, 901, true),
            (1002, 1002, false),
            (1003, 1003, false),
            (1005, 902, false),
        ] {
            assert_eq!(policy.allows(Peer { uid, gid }), allowed, "uid {uid} gid {gid}");
        }
        assert_eq!(policy.gid(), Some(901));
    }

    #[test]
    fn without_the_group_only_root_and_ourselves_may() {
        let policy = Policy { own_uid: 900, group: String::new(), passwd: String::new() };
        assert!(policy.allows(Peer { uid: 900, gid: 0 }) && policy.allows(Peer { uid: 0, gid: 0 }));
        assert!(!policy.allows(Peer { uid: 1, gid: 0 }));
        assert_eq!(policy.gid(), None);
    }
}
