//! The commands of the shell, by the same machinery: each row has its syntax, its help, who runs it, and what it means.

mod bgp;
mod dampening;
mod model;
mod policy;
mod vpn;
mod watch;

use std::{fmt, sync::LazyLock};

use net_types::Family;

pub use dampening::{DampeningView, FlapTable};
pub use model::{Clear, Cleared, Command, Destination, NeighborRoutes, Nesting, Owner, Paths, SummaryOf};
pub use policy::{PolicyView, RouteFilter};
pub use vpn::VpnView;
pub use watch::{RpkiState, RpkiView, Watch, WhichVrrp};

use crate::{
    diagnostic::nearest,
    grammar::{Args, Choice, Complaint, Mismatch, Spelling, Tree},
    model::RedistributeSource,
};

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// Octets of the line before what is wrong.
    pub at: usize,
    /// What is wrong.
    pub message: String,
    /// What could stand there.
    pub choices: Vec<Choice>,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let texts: Vec<&str> = self.choices.iter().map(|choice| choice.text.as_str()).collect();
        match texts.as_slice() {
            [] => Ok(()),
            texts => write!(f, "; expected {}", texts.join(", ")),
        }
    }
}

impl std::error::Error for CommandError {}

/// One row of the commands.
struct Row {
    syntax: &'static str,
    help: &'static str,
    owner: Owner,
    read: fn(&Args<'_>) -> Result<Command, Complaint>,
}

const fn row(
    owner: Owner,
    syntax: &'static str,
    help: &'static str,
    read: fn(&Args<'_>) -> Result<Command, Complaint>,
) -> Row {
    Row { syntax, help, owner, read }
}

const ROWS: &[Row] = &[
    row(
        Owner::Bgpd,
        "show (ip|ipv6) route [vrf (all|default)] [bgp|connected|static|kernel|ipsec] [json]",
        "Routes programmed into the kernel",
        route,
    ),
    row(Owner::Bgpd, "show ip route [vrf (all|default)] (PREFIX4|IPV4) [json]", "The route to a destination", route),
    row(Owner::Bgpd, "show ipv6 route [vrf (all|default)] (PREFIX6|IPV6) [json]", "The route to a destination", route),
    row(
        Owner::Bgpd,
        "show (ip|ipv6) fib [vrf (all|default)] [bgp|connected|static|kernel|ipsec] [json]",
        "Routes that packets are forwarded by",
        route,
    ),
    row(Owner::Bgpd, "show ip fib [vrf (all|default)] (PREFIX4|IPV4) [json]", "The route to a destination", route),
    row(Owner::Bgpd, "show ipv6 fib [vrf (all|default)] (PREFIX6|IPV6) [json]", "The route to a destination", route),
    row(Owner::Bgpd, "show bfd [vrf (all|default)] peers [brief|counters] [json]", "BFD sessions", bfd),
    row(Owner::Bgpd, "show bfd [vrf (all|default)] peer ADDRESS [counters] [json]", "A BFD session", bfd),
    row(Owner::Bgpd, "show failover [json]", "The last faults and how long each step took", |args| {
        Ok(Command::ShowFailover { json: json(args) })
    }),
    row(Owner::Bgpd, "clear failover damping [IFNAME]", "Use paths at once that are held down", |args| {
        Ok(Command::ClearFailoverDamping { interface: args.opt("IFNAME")? })
    }),
    row(Owner::Ipsecd, "show ipsec certificate [json]", "Certificates, and which were taken back", |args| {
        Ok(Command::ShowIpsecCertificates { json: json(args) })
    }),
    row(Owner::Ipsecd, "show ipsec sa [TUNNEL] [json]", "Security associations", |args| {
        Ok(Command::ShowIpsecSa { tunnel: args.opt("TUNNEL")?, json: json(args) })
    }),
    row(Owner::Ipsecd, "show ipsec tunnel [TUNNEL] [json]", "Tunnels", |args| {
        Ok(Command::ShowIpsecTunnel { tunnel: args.opt("TUNNEL")?, json: json(args) })
    }),
    row(Owner::Ipsecd, "show wan [WAN] [json]", "WAN links", |args| {
        Ok(Command::ShowWan { wan: args.opt("WAN")?, json: json(args) })
    }),
    row(Owner::Either, "show running-config", "The configuration in use", |_| Ok(Command::ShowRunningConfig)),
    row(Owner::Both, "show version [json]", "Versions of the software", |args| {
        Ok(Command::ShowVersion { json: json(args) })
    }),
    row(Owner::Ipsecd, "initiate ipsec tunnel TUNNEL", "Negotiate a tunnel", |args| {
        Ok(Command::InitiateTunnel { tunnel: args.get("TUNNEL")? })
    }),
    row(Owner::Ipsecd, "terminate ipsec tunnel TUNNEL", "Delete a tunnel's keys and hold it down", |args| {
        Ok(Command::TerminateTunnel { tunnel: args.get("TUNNEL")? })
    }),
    row(Owner::Ipsecd, "rekey ipsec tunnel TUNNEL [ike]", "Replace a tunnel's keys now", |args| {
        Ok(Command::RekeyTunnel { tunnel: args.get("TUNNEL")?, ike: args.has("ike") })
    }),
    row(Owner::Both, "reload", "Read the configuration file again and apply what changed", |_| Ok(Command::Reload)),
    row(Owner::Shell, "configure [terminal]", "Change the configuration in force", |_| Ok(Command::Configure)),
    row(Owner::Shell, "write [memory|file|integrated]", "Nothing: the file is yours to write", |_| Ok(Command::Write)),
    row(Owner::Shell, "copy running-config startup-config", "Nothing: the file is yours to write", |_| {
        Ok(Command::Write)
    }),
    row(Owner::Either, "write terminal", "The configuration in use", |_| Ok(Command::ShowRunningConfig)),
    row(Owner::Shell, "terminal length NUMBER:0-512", "Without effect: there is no pager", |_| Ok(Command::Pager)),
    row(Owner::Shell, "help", "How to use this shell", |_| Ok(Command::Help)),
    row(Owner::Shell, "exit", "Leave the shell", |_| Ok(Command::Exit)),
    row(Owner::Shell, "quit", "Leave the shell", |_| Ok(Command::Exit)),
];

/// All rows, in parts.
const PARTS: &[&[Row]] = &{
    let [a, b, c, d, e, f, g, h, i, j, k] = policy::FILTERS;
    [bgp::ROWS, vpn::ROWS, policy::LISTS, a, b, c, d, e, f, g, h, i, j, k, watch::ROWS, dampening::ROWS, ROWS]
};

fn rows() -> impl Iterator<Item = &'static Row> {
    PARTS.iter().copied().flatten()
}

fn tree() -> &'static Tree {
    static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::new(rows().map(|row| (row.syntax, row.help))));
    &TREE
}

fn json(args: &Args<'_>) -> bool {
    args.has("json")
}

fn family(args: &Args<'_>) -> Family {
    if args.has("ipv6") { Family::Ipv6Unicast } else { Family::Ipv4Unicast }
}

fn destination(args: &Args<'_>) -> Result<Option<Destination>, Complaint> {
    for label in ["PREFIX4", "PREFIX6"] {
        if let Some(prefix) = args.opt(label)? {
            return Ok(Some(Destination::Prefix(prefix)));
        }
    }
    for label in ["IPV4", "IPV6"] {
        if let Some(address) = args.opt(label)? {
            return Ok(Some(Destination::Address(address)));
        }
    }
    Ok(None)
}

fn route(args: &Args<'_>) -> Result<Command, Complaint> {
    let source = RedistributeSource::ALL.into_iter().find(|source| args.has(source.as_str()));
    let from = source.map(Some).or(args.has("bgp").then_some(None));
    let (fib, destination) = (args.has("fib"), destination(args)?);
    Ok(Command::ShowRoute { family: family(args), fib, from, destination, json: json(args) })
}

fn bfd(args: &Args<'_>) -> Result<Command, Complaint> {
    let (brief, counters) = (args.has("brief"), args.has("counters"));
    Ok(Command::ShowBfdPeers { peer: args.opt("ADDRESS")?, brief, counters, json: json(args) })
}

impl Command {
    /// Reads a line; every word may be abbreviated as long as one meaning is left.
    ///
    /// # Errors
    /// What is wrong, where, and what could stand there.
    pub fn parse(line: &str) -> Result<Self, CommandError> {
        Self::parse_with_owner(line).map(|(command, _)| command)
    }

    /// Reads a line, and tells who runs it.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_with_owner(line: &str) -> Result<(Self, Owner), CommandError> {
        const LONGEST: usize = 4096;
        if line.len() > LONGEST {
            let message = format!("the command has {} octets, at most {LONGEST} are read", line.len());
            return Err(CommandError { at: 0, message, choices: Vec::new() });
        }
        let (number, args) = tree().find(line, Spelling::Abbreviated).map_err(|mismatch| refuse(line, mismatch))?;
        let complain = |complaint: Complaint| CommandError {
            at: complaint.place.map_or(0, |(start, _)| start),
            message: complaint.message,
            choices: Vec::new(),
        };
        let row = rows().nth(number).ok_or_else(|| complain(Complaint::new("no such command")))?;
        let command = (row.read)(&args).map_err(complain)?;
        Ok((command, row.owner))
    }

    /// What may stand at the end of `line`: in place of its last word, or after it if white space follows.
    pub fn choices(line: &str) -> Vec<Choice> {
        tree().choices(line, Spelling::Abbreviated)
    }

    /// Every command: syntax and help.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        rows().map(|row| (row.syntax, row.help))
    }
}

fn refuse(line: &str, mismatch: Mismatch) -> CommandError {
    match mismatch {
        Mismatch::Unknown { start, end, expected, .. } => {
            let word = line.get(start..end).unwrap_or_default();
            let known = expected.iter().filter(|choice| choice.literal).map(|choice| choice.text.as_str());
            let meant = nearest(word, known).map(|near| format!(" (did you mean \"{near}\"?)")).unwrap_or_default();
            let shown: String = word.chars().take(64).collect();
            CommandError { at: start, message: format!("unknown command at \"{shown}\"{meant}"), choices: expected }
        }
        Mismatch::Incomplete { expected, .. } => {
            CommandError { at: line.len(), message: "the command is incomplete".to_owned(), choices: expected }
        }
        Mismatch::Ambiguous { start, end, candidates } => {
            let shown: String = line.get(start..end).unwrap_or_default().chars().take(64).collect();
            CommandError { at: start, message: format!("\"{shown}\" is ambiguous"), choices: candidates }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use net_types::Prefix;

    use super::*;

    fn parse(line: &str) -> Command {
        Command::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn every_syntax_is_well_formed_unique_and_explained() {
        assert_eq!(tree().conflicts(), [] as [&str; 0]);
        assert_eq!(tree().unexplained(), [] as [&str; 0]);
    }

    #[test]
    fn frr_spellings_and_ours_mean_the_same() {
        let v4 = Some(Family::Ipv4Unicast);
        for (line, command) in [
            (
                "show bgp summary",
                Command::ShowBgpSummary { family: None, of: SummaryOf::All, nesting: Nesting::Families, json: false },
            ),
            (
                "sh bgp sum",
                Command::ShowBgpSummary { family: None, of: SummaryOf::All, nesting: Nesting::Families, json: false },
            ),
            (
                "sh b s j",
                Command::ShowBgpSummary { family: None, of: SummaryOf::All, nesting: Nesting::Families, json: true },
            ),
            (
                "show ip bgp summary json",
                Command::ShowBgpSummary { family: v4, of: SummaryOf::All, nesting: Nesting::Families, json: true },
            ),
            (
                "show bgp ipv4 unicast summary",
                Command::ShowBgpSummary { family: v4, of: SummaryOf::All, nesting: Nesting::Bare, json: false },
            ),
            (
                "show ip bgp neighbors 192.0.2.1 json",
                Command::ShowBgpNeighbors { neighbor: Some("192.0.2.1".parse().unwrap()), json: true },
            ),
            ("show bgp neighbors", Command::ShowBgpNeighbors { neighbor: None, json: false }),
            ("show failover json", Command::ShowFailover { json: true }),
            ("clear failover damping", Command::ClearFailoverDamping { interface: None }),
            ("cl fa da tun1", Command::ClearFailoverDamping { interface: Some("tun1".parse().unwrap()) }),
            ("sh run", Command::ShowRunningConfig),
            ("sh bfd pe", Command::ShowBfdPeers { peer: None, brief: false, counters: false, json: false }),
            ("clear bgp *", Command::ClearBgp { whom: Cleared::All, how: Clear::Hard }),
            (
                "clear ip bgp 192.0.2.1 soft in",
                Command::ClearBgp { whom: Cleared::Neighbor("192.0.2.1".parse().unwrap()), how: Clear::SoftIn },
            ),
            ("term ips tun hub", Command::TerminateTunnel { tunnel: "hub".parse().unwrap() }),
            ("rekey ips tun hub", Command::RekeyTunnel { tunnel: "hub".parse().unwrap(), ike: false }),
            ("rekey ipsec tunnel hub ike", Command::RekeyTunnel { tunnel: "hub".parse().unwrap(), ike: true }),
            ("show ipsec tunnel json", Command::ShowIpsecTunnel { tunnel: None, json: true }),
            ("q", Command::Exit),
        ] {
            assert_eq!(parse(line), command, "{line}");
        }
    }

    #[test]
    fn a_destination_tells_its_family() {
        let prefix: Prefix = "10.0.0.0/8".parse().unwrap();
        let table = |family, destination, json| Command::ShowBgp {
            family,
            destination,
            paths: Paths::All,
            detail: false,
            json,
        };
        let wanted = table(Family::Ipv4Unicast, Some(Destination::Prefix(prefix)), true);
        for line in ["show bgp ipv4 unicast 10.0.0.0/8 json", "show ip bgp 10.0.0.0/8 json", "sh bgp 10.0.0.0/8 j"] {
            assert_eq!(parse(line), wanted, "{line}");
        }
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let wanted = table(Family::Ipv6Unicast, Some(Destination::Address(address)), false);
        assert_eq!(parse("show bgp 2001:db8::1"), wanted);
        assert!(Command::parse("show ip bgp 2001:db8::/32").is_err());
    }

    #[test]
    fn mistakes_are_placed_and_near_words_suggested() {
        let error = Command::parse("show bgp sumary").unwrap_err();
        assert_eq!(error.at, 9);
        assert!(error.to_string().contains("did you mean \"summary\"?"), "{error}");
        let error = Command::parse("show ipsec").unwrap_err();
        assert!(error.to_string().contains("incomplete") && error.to_string().contains("tunnel"), "{error}");
        assert!(Command::parse("").is_err());
        assert!(Command::parse(&"show ".repeat(1000)).unwrap_err().message.contains("octets"));
    }

    #[test]
    fn owners_are_told() {
        assert_eq!(Command::parse_with_owner("sh wan").unwrap().1, Owner::Ipsecd);
        assert_eq!(Command::parse_with_owner("sh ver").unwrap().1, Owner::Both);
        assert_eq!(Command::parse_with_owner("sh run").unwrap().1, Owner::Either);
    }
}
