//! The commands of the shell, by the same machinery: each row has its syntax, its help, who runs it, and what it means.

mod bgp;
mod dampening;
mod policy;
mod vpn;
mod watch;

use std::{fmt, net::IpAddr, sync::LazyLock};

use net_types::{Asn, Family, IfName, Prefix, TunnelName, WanName};

pub use dampening::{DampeningView, FlapTable};
pub use policy::{PolicyView, RouteFilter};
pub use vpn::VpnView;
pub use watch::{RpkiState, RpkiView, Watch, WhichVrrp};

use crate::{
    diagnostic::nearest,
    grammar::{Args, Choice, Complaint, Mismatch, Spelling, Tree},
    model::{Name, NeighborId, RedistributeSource},
};

/// Who runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// bgpd
    Bgpd,
    /// ipsecd
    Ipsecd,
    /// Whichever is there: both know.
    Either,
    /// Each of them.
    Both,
    /// The shell itself.
    Shell,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `show bgp summary`: every family, or one.
    ShowBgpSummary {
        /// Only this one.
        family: Option<Family>,
        /// Only these.
        of: SummaryOf,
        /// What its JSON is an object of.
        nesting: Nesting,
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast`: the table.
    ShowBgp {
        /// Of this family.
        family: Family,
        /// Only this destination.
        destination: Option<Destination>,
        /// Only these paths of a destination.
        paths: Paths,
        /// Every route as `show bgp PREFIX` has it.
        detail: bool,
        /// As JSON.
        json: bool,
    },
    /// What there is of VPNs.
    ShowBgpVpn {
        /// What of it.
        what: VpnView,
        /// As JSON.
        json: bool,
    },
    /// What policy is configured, and what it picks out of the table.
    Policy {
        /// What of it.
        what: PolicyView,
        /// As JSON.
        json: bool,
    },
    /// What is watched and validated.
    Watch {
        /// What of it.
        what: Watch,
        /// As JSON.
        json: bool,
    },
    /// `show bgp neighbors`
    ShowBgpNeighbors {
        /// Only this one.
        neighbor: Option<NeighborId>,
        /// As JSON.
        json: bool,
    },
    /// `show interface`
    ShowInterface {
        /// Only this one.
        interface: Option<IfName>,
        /// As JSON.
        json: bool,
    },
    /// `show bgp neighbors … graceful-restart`
    ShowBgpRestart {
        /// Only this one.
        neighbor: Option<NeighborId>,
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast neighbors PEER routes`: routes from or to one neighbor.
    ShowBgpNeighborRoutes {
        /// Of this family.
        family: Family,
        /// Of this neighbor.
        neighbor: NeighborId,
        /// Which ones.
        which: NeighborRoutes,
        /// As JSON.
        json: bool,
    },
    /// `show bgp attribute-info`
    ShowBgpAttributes,
    /// `show bgp memory`
    ShowBgpMemory {
        /// As JSON.
        json: bool,
    },
    /// `load mrt`: routes of a file into the table.
    LoadMrt {
        /// The file, MRT as it is or packed by gzip or bzip2.
        file: std::path::PathBuf,
        /// In the place of the next hops in the file; those of another address family stay.
        next_hop: Option<IpAddr>,
    },
    /// `clear mrt`: takes them out again.
    ClearMrt {
        /// Of this file, by its number; `None` is of all.
        number: Option<u32>,
    },
    /// `show bgp peer-group`
    ShowBgpPeerGroups {
        /// Only this one.
        name: Option<Name>,
        /// As JSON.
        json: bool,
    },
    /// `show bgp vrfs`
    ShowBgpVrfs {
        /// As JSON.
        json: bool,
    },
    /// `show ip route`, `show ipv6 route`: what is in the kernel by our doing, and what is connected.
    ShowRoute {
        /// Of this family.
        family: Family,
        /// `fib` in the place of `route`: only what packets are forwarded by.
        fib: bool,
        /// Only from there; `None` in it is BGP.
        from: Option<Option<RedistributeSource>>,
        /// Only this destination.
        destination: Option<Destination>,
        /// As JSON.
        json: bool,
    },
    /// `show bfd peers`
    ShowBfdPeers {
        /// Only this one.
        peer: Option<IpAddr>,
        /// One line each.
        brief: bool,
        /// Only counters of packets and events.
        counters: bool,
        /// As JSON.
        json: bool,
    },
    /// `show failover`
    ShowFailover {
        /// As JSON.
        json: bool,
    },
    /// `clear failover damping`
    ClearFailoverDamping {
        /// Of paths over this interface; of all without.
        interface: Option<IfName>,
    },
    /// `show ipsec certificate`
    ShowIpsecCertificates {
        /// As JSON.
        json: bool,
    },
    /// `show ipsec sa`
    ShowIpsecSa {
        /// Only of this tunnel.
        tunnel: Option<TunnelName>,
        /// As JSON.
        json: bool,
    },
    /// `show ipsec tunnel`
    ShowIpsecTunnel {
        /// Only this one.
        tunnel: Option<TunnelName>,
        /// As JSON.
        json: bool,
    },
    /// `show wan`
    ShowWan {
        /// Only this one.
        wan: Option<WanName>,
        /// As JSON.
        json: bool,
    },
    /// `show running-config`
    ShowRunningConfig,
    /// `show version`
    ShowVersion {
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast dampening …`
    ShowDampening {
        /// Of which family.
        family: Family,
        /// What of it.
        what: DampeningView,
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast neighbors X received prefix-filter`
    ShowOutboundFilter {
        /// Of which family.
        family: Family,
        /// Whose.
        neighbor: NeighborId,
        /// As JSON.
        json: bool,
    },
    /// `clear ip bgp dampening`
    ClearDampening {
        /// Of this prefix; of all without.
        prefix: Option<Prefix>,
    },
    /// `clear bgp`
    ClearBgp {
        /// Whose.
        whom: Cleared,
        /// How.
        how: Clear,
    },
    /// `initiate ipsec tunnel`
    InitiateTunnel {
        /// Which.
        tunnel: TunnelName,
    },
    /// `terminate ipsec tunnel`
    TerminateTunnel {
        /// Which.
        tunnel: TunnelName,
    },
    /// `rekey ipsec tunnel`
    RekeyTunnel {
        /// Which.
        tunnel: TunnelName,
        /// The IKE SA; its child SA otherwise.
        ike: bool,
    },
    /// `reload`
    Reload,
    /// `configure terminal`
    Configure,
    /// `write`: the file is the operator's.
    Write,
    /// `terminal length`: there is no pager.
    Pager,
    /// `help`
    Help,
    /// `exit` or `quit`
    Exit,
}

/// A place in a table of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Exactly this prefix.
    Prefix(Prefix),
    /// The longest prefix that holds this address.
    Address(IpAddr),
}

/// Routes of one neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborRoutes {
    /// Accepted from it.
    Accepted,
    /// From it, as received.
    Received,
    /// From it, and refused by policy.
    Filtered,
    /// Announced to it.
    Advertised,
}

/// Which neighbors a summary lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SummaryOf {
    /// Every one.
    #[default]
    All,
    /// Those whose session is established.
    Established,
    /// The others.
    Failed,
}

/// What the outermost object of a summary's JSON holds, which in FRR depends on the words of the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nesting {
    /// Families by name.
    #[default]
    Families,
    /// The one family that was named in full, `ipv4 unicast`.
    Bare,
    /// Routing instances by name, for `vrf all`.
    Instances,
}

/// Which paths of a destination are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paths {
    /// Every one.
    #[default]
    All,
    /// The best.
    Best,
    /// Those in use at the same time.
    Multipath,
}

/// Whose sessions begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// Everybody's.
    All,
    /// This neighbor's.
    Neighbor(NeighborId),
    /// Of the neighbors in this AS.
    As(Asn),
    /// Of the neighbors in other ASes.
    External,
    /// Of the members of this peer-group.
    Group(Name),
}

/// How a session begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clear {
    /// It is closed (CEASE, administrative reset) and opened again.
    Hard,
    /// Its routes are asked for again, and pass the policy again.
    SoftIn,
    /// Our routes are sent again.
    SoftOut,
    /// Both.
    Soft,
}

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

impl Destination {
    /// The family it lies in.
    pub fn family(&self) -> Family {
        match self {
            Self::Prefix(prefix) => prefix.family(),
            Self::Address(IpAddr::V4(_)) => Family::Ipv4Unicast,
            Self::Address(IpAddr::V6(_)) => Family::Ipv6Unicast,
        }
    }
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
