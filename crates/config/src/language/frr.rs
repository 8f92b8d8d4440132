//! Lines of FRR's that are understood and have no effect here: its files load as they are.
//!
//! Addresses and links are the system's, logs have lines of their own, and the terminal is guarded by the permissions of the
//! daemons' sockets. Each such line is a warning, so that nobody counts on it.

use super::{Action, LEAVE, Section, Statement, vrrp};

const fn ignored(syntax: &'static str) -> Statement {
    Statement { syntax, help: "Without effect", action: Action::Ignore }
}

pub(super) const ROWS: &[Statement] = &[
    ignored("frr version TEXT"),
    ignored("service integrated-vtysh-config"),
    ignored(
        "[no] service (advanced-vty|password-encryption|terminal-length NUMBER:0-512|cputime-stats|cputime-warning [TEXT])",
    ),
    ignored("line vty"),
    ignored("[no] log (file|syslog|stdout|monitor|facility|timestamp|trap|commands|record-priority|unique-id) [TEXT]"),
    ignored("[no] debug TEXT"),
    ignored("password TEXT"),
    ignored("enable password TEXT"),
    ignored("banner TEXT"),
    ignored("username TEXT"),
    ignored("domainname TEXT"),
    ignored("agentx"),
    ignored("[no] bgp send-extra-data zebra"),
    ignored("[no] (ip|ipv6) forwarding"),
    Statement {
        syntax: "interface IFNAME",
        help: "A link, for what its routers share; the link itself is the system's",
        action: Action::Enter(|_, args| Ok(Section::Interface(args.get("IFNAME")?)), vrrp::write_interfaces),
    },
];

/// Lines within `router bgp` that ask for what holds here anyway: a policy that changes is applied at once, conditions are looked at when something changes, and UPDATEs are sent when there is
/// room for them.
pub(super) const SPEAKER: &[Statement] = &[
    ignored("[no] bgp route-map delay-timer [SECONDS:0-600]"),
    ignored("[no] bgp conditional-advertisement timer [SECONDS:5-240]"),
    ignored("[no] bgp send-extra-data zebra"),
    ignored("[no] coalesce-time [NUMBER:0-4294967295]"),
];

pub(super) const INTERFACE_ROWS: &[&[Statement]] = &[INTERFACE, vrrp::ROWS, LEAVE];

const INTERFACE: &[Statement] = &[
    ignored("[no] ip address INTERFACE4 [TEXT]"),
    ignored("[no] ipv6 address INTERFACE6 [TEXT]"),
    ignored("description TEXT"),
    ignored("[no] shutdown"),
    ignored("bandwidth NUMBER:1-100000"),
    ignored("[no] link-detect"),
    ignored("[no] multicast"),
];
