//! The commands of the shell, by the same machinery: each row has its syntax, its help, who runs it, and what it means.

use std::{fmt, net::IpAddr, sync::LazyLock};

use net_types::{Asn, Family, Prefix, TunnelName, WanName};

use crate::{
    diagnostic::nearest,
    grammar::{Args, Choice, Complaint, Mismatch, Spelling, Tree},
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
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast`: the table.
    ShowBgp {
        /// Of this family.
        family: Family,
        /// Only this destination.
        destination: Option<Destination>,
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast rpki valid`: the routes with a path of that state, and those paths only.
    ShowBgpRpki {
        /// Of this family.
        family: Family,
        /// In this state.
        state: RpkiState,
        /// As JSON.
        json: bool,
    },
    /// `show rpki`
    ShowRpki {
        /// What of it.
        what: RpkiView,
        /// As JSON.
        json: bool,
    },
    /// `show bgp neighbors`
    ShowBgpNeighbors {
        /// Only this one.
        neighbor: Option<IpAddr>,
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast neighbors PEER routes`: routes from or to one neighbor.
    ShowBgpNeighborRoutes {
        /// Of this family.
        family: Family,
        /// Of this neighbor.
        neighbor: IpAddr,
        /// Which ones.
        which: NeighborRoutes,
        /// As JSON.
        json: bool,
    },
    /// `show ip route`, `show ipv6 route`: what is in the kernel by our doing.
    ShowRoute {
        /// Of this family.
        family: Family,
        /// Only this destination.
        destination: Option<Destination>,
        /// As JSON.
        json: bool,
    },
    /// `show bfd peers`
    ShowBfdPeers {
        /// One line each.
        brief: bool,
        /// As JSON.
        json: bool,
    },
    /// `show failover`
    ShowFailover {
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
    /// `clear bgp`
    ClearBgp {
        /// Only this one.
        neighbor: Option<IpAddr>,
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
    /// `reload`
    Reload,
    /// `help`
    Help,
    /// `exit` or `quit`
    Exit,
}

/// What origin validation says of a route (RFC 6811).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpkiState {
    /// `valid`
    Valid,
    /// `invalid`
    Invalid,
    /// `notfound`
    NotFound,
}

/// A part of `show rpki`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpkiView {
    /// `cache-connection`
    Connections,
    /// `cache-server`
    Servers,
    /// `prefix-table`
    Prefixes,
    /// `prefix PREFIX [ASN]`
    Prefix {
        /// The payloads that cover this, and what they say of it.
        prefix: Prefix,
        /// As originated by this AS.
        asn: Option<Asn>,
    },
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
    /// Announced to it.
    Advertised,
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
    row(Owner::Bgpd, "show bgp summary [json]", "Neighbors, one line each", |args| {
        Ok(Command::ShowBgpSummary { family: None, json: json(args) })
    }),
    row(Owner::Bgpd, "show bgp (ipv4|ipv6) [unicast] summary [json]", "Neighbors, one line each", summary),
    row(Owner::Bgpd, "show (ip|ipv6) bgp summary [json]", "Neighbors, one line each", summary),
    row(Owner::Bgpd, "show bgp (ipv4|ipv6) [unicast] [json]", "The table of routes", table),
    row(Owner::Bgpd, "show (ip|ipv6) bgp [json]", "The table of routes", table),
    row(Owner::Bgpd, "show bgp ipv4 [unicast] (PREFIX4|IPV4) [json]", "The paths to a destination", table),
    row(Owner::Bgpd, "show ip bgp (PREFIX4|IPV4) [json]", "The paths to a destination", table),
    row(Owner::Bgpd, "show bgp ipv6 [unicast] (PREFIX6|IPV6) [json]", "The paths to a destination", table),
    row(Owner::Bgpd, "show ipv6 bgp (PREFIX6|IPV6) [json]", "The paths to a destination", table),
    row(Owner::Bgpd, "show bgp (PREFIX4|IPV4|PREFIX6|IPV6) [json]", "The paths to a destination", table),
    row(
        Owner::Bgpd,
        "show bgp (ipv4|ipv6) [unicast] rpki (valid|invalid|notfound) [json]",
        "Routes by what origin validation says of them",
        bgp_rpki,
    ),
    row(
        Owner::Bgpd,
        "show (ip|ipv6) bgp rpki (valid|invalid|notfound) [json]",
        "Routes by what origin validation says of them",
        bgp_rpki,
    ),
    row(Owner::Bgpd, "show rpki cache-connection [json]", "Connections to caches", |args| {
        Ok(Command::ShowRpki { what: RpkiView::Connections, json: json(args) })
    }),
    row(Owner::Bgpd, "show rpki cache-server [json]", "Caches that are configured", |args| {
        Ok(Command::ShowRpki { what: RpkiView::Servers, json: json(args) })
    }),
    row(Owner::Bgpd, "show rpki prefix-table [json]", "Validated payloads", |args| {
        Ok(Command::ShowRpki { what: RpkiView::Prefixes, json: json(args) })
    }),
    row(Owner::Bgpd, "show rpki prefix PREFIX [ASN] [json]", "What payloads say of a prefix", |args| {
        let what = RpkiView::Prefix { prefix: args.get("PREFIX")?, asn: args.opt("ASN")? };
        Ok(Command::ShowRpki { what, json: json(args) })
    }),
    row(Owner::Bgpd, "show bgp [(ipv4|ipv6) [unicast]] neighbors [NEIGHBOR] [json]", "Neighbors in detail", neighbors),
    row(Owner::Bgpd, "show (ip|ipv6) bgp neighbors [NEIGHBOR] [json]", "Neighbors in detail", neighbors),
    row(
        Owner::Bgpd,
        "show bgp [(ipv4|ipv6) [unicast]] neighbors NEIGHBOR (routes|received-routes|advertised-routes) [json]",
        "Routes of one neighbor",
        neighbor_routes,
    ),
    row(
        Owner::Bgpd,
        "show (ip|ipv6) bgp neighbors NEIGHBOR (routes|received-routes|advertised-routes) [json]",
        "Routes of one neighbor",
        neighbor_routes,
    ),
    row(Owner::Bgpd, "show (ip|ipv6) route [json]", "Routes programmed into the kernel", route),
    row(Owner::Bgpd, "show ip route (PREFIX4|IPV4) [json]", "The route to a destination", route),
    row(Owner::Bgpd, "show ipv6 route (PREFIX6|IPV6) [json]", "The route to a destination", route),
    row(Owner::Bgpd, "show bfd peers [brief] [json]", "BFD sessions", |args| {
        Ok(Command::ShowBfdPeers { brief: args.has("brief"), json: json(args) })
    }),
    row(Owner::Bgpd, "show failover [json]", "The last faults and how long each step took", |args| {
        Ok(Command::ShowFailover { json: json(args) })
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
    row(Owner::Bgpd, "clear [ip] bgp (*|NEIGHBOR) [soft [in|out]|in|out]", "Begin sessions anew", clear),
    row(
        Owner::Bgpd,
        "clear bgp (ipv4|ipv6) [unicast] (*|NEIGHBOR) [soft [in|out]|in|out]",
        "Begin sessions anew",
        clear,
    ),
    row(Owner::Ipsecd, "initiate ipsec tunnel TUNNEL", "Negotiate a tunnel", |args| {
        Ok(Command::InitiateTunnel { tunnel: args.get("TUNNEL")? })
    }),
    row(Owner::Ipsecd, "terminate ipsec tunnel TUNNEL", "Delete a tunnel's keys and hold it down", |args| {
        Ok(Command::TerminateTunnel { tunnel: args.get("TUNNEL")? })
    }),
    row(Owner::Both, "reload", "Read the configuration file again and apply what changed", |_| Ok(Command::Reload)),
    row(Owner::Shell, "help", "How to use this shell", |_| Ok(Command::Help)),
    row(Owner::Shell, "exit", "Leave the shell", |_| Ok(Command::Exit)),
    row(Owner::Shell, "quit", "Leave the shell", |_| Ok(Command::Exit)),
];

fn tree() -> &'static Tree {
    static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::new(ROWS.iter().map(|row| (row.syntax, row.help))));
    &TREE
}

fn json(args: &Args<'_>) -> bool {
    args.has("json")
}

fn family(args: &Args<'_>) -> Family {
    if args.has("ipv6") { Family::Ipv6Unicast } else { Family::Ipv4Unicast }
}

fn summary(args: &Args<'_>) -> Result<Command, Complaint> {
    Ok(Command::ShowBgpSummary { family: Some(family(args)), json: json(args) })
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

fn table(args: &Args<'_>) -> Result<Command, Complaint> {
    let destination = destination(args)?;
    let family = destination.as_ref().map_or_else(|| family(args), Destination::family);
    Ok(Command::ShowBgp { family, destination, json: json(args) })
}

fn bgp_rpki(args: &Args<'_>) -> Result<Command, Complaint> {
    let state = match (args.has("valid"), args.has("invalid")) {
        (true, _) => RpkiState::Valid,
        (_, true) => RpkiState::Invalid,
        _ => RpkiState::NotFound,
    };
    Ok(Command::ShowBgpRpki { family: family(args), state, json: json(args) })
}

fn neighbors(args: &Args<'_>) -> Result<Command, Complaint> {
    Ok(Command::ShowBgpNeighbors { neighbor: args.opt("NEIGHBOR")?, json: json(args) })
}

fn neighbor_routes(args: &Args<'_>) -> Result<Command, Complaint> {
    let which = if args.has("received-routes") {
        NeighborRoutes::Received
    } else if args.has("advertised-routes") {
        NeighborRoutes::Advertised
    } else {
        NeighborRoutes::Accepted
    };
    Ok(Command::ShowBgpNeighborRoutes {
        family: family(args),
        neighbor: args.get("NEIGHBOR")?,
        which,
        json: json(args),
    })
}

fn route(args: &Args<'_>) -> Result<Command, Complaint> {
    Ok(Command::ShowRoute { family: family(args), destination: destination(args)?, json: json(args) })
}

fn clear(args: &Args<'_>) -> Result<Command, Complaint> {
    let how = match (args.has("in"), args.has("out"), args.has("soft")) {
        (true, ..) => Clear::SoftIn,
        (_, true, _) => Clear::SoftOut,
        (_, _, true) => Clear::Soft,
        _ => Clear::Hard,
    };
    Ok(Command::ClearBgp { neighbor: args.opt("NEIGHBOR")?, how })
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
        let row = ROWS.get(number).ok_or_else(|| complain(Complaint::new("no such command")))?;
        let command = (row.read)(&args).map_err(complain)?;
        Ok((command, row.owner))
    }

    /// What may stand at the end of `line`: in place of its last word, or after it if white space follows.
    pub fn choices(line: &str) -> Vec<Choice> {
        tree().choices(line, Spelling::Abbreviated)
    }

    /// Every command: syntax and help.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        ROWS.iter().map(|row| (row.syntax, row.help))
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
            ("show bgp summary", Command::ShowBgpSummary { family: None, json: false }),
            ("sh bgp sum", Command::ShowBgpSummary { family: None, json: false }),
            ("sh b s j", Command::ShowBgpSummary { family: None, json: true }),
            ("show ip bgp summary json", Command::ShowBgpSummary { family: v4, json: true }),
            ("show bgp ipv4 unicast summary", Command::ShowBgpSummary { family: v4, json: false }),
            (
                "show ip bgp neighbors 192.0.2.1 json",
                Command::ShowBgpNeighbors { neighbor: Some("192.0.2.1".parse().unwrap()), json: true },
            ),
            ("show bgp neighbors", Command::ShowBgpNeighbors { neighbor: None, json: false }),
            ("show failover json", Command::ShowFailover { json: true }),
            ("sh run", Command::ShowRunningConfig),
            ("sh bfd pe", Command::ShowBfdPeers { brief: false, json: false }),
            ("clear bgp *", Command::ClearBgp { neighbor: None, how: Clear::Hard }),
            (
                "clear ip bgp 192.0.2.1 soft in",
                Command::ClearBgp { neighbor: Some("192.0.2.1".parse().unwrap()), how: Clear::SoftIn },
            ),
            ("term ips tun hub", Command::TerminateTunnel { tunnel: "hub".parse().unwrap() }),
            ("show ipsec tunnel json", Command::ShowIpsecTunnel { tunnel: None, json: true }),
            ("q", Command::Exit),
        ] {
            assert_eq!(parse(line), command, "{line}");
        }
    }

    #[test]
    fn a_destination_tells_its_family() {
        let prefix: Prefix = "10.0.0.0/8".parse().unwrap();
        let table = |family, destination, json| Command::ShowBgp { family, destination, json };
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
