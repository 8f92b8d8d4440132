//! The configuration language, row by row.
//!
//! A row is a [`Statement`]: its syntax, what it does to the draft that is being read, and how the finished model says it
//! again. Reading and writing stand side by side so that neither can be changed without the other being seen; a property
//! test reads back what was written. Sections nest as in FRR, and a row that begins a section says how to print all of its kind.

mod bfd;
mod bgp;
mod dampening;
mod draft;
mod family;
mod frr;
mod general;
mod ipsec;
mod key_chain;
mod lists;
mod monitoring;
mod multipath;
mod neighbor;
mod neighbor_policy;
mod neighbor_routes;
mod neighbor_session;
mod packets;
mod path_damping;
mod route_checks;
mod route_map;
mod routing;
mod rpki;
mod speaker;
mod trust;
mod tunnel;
mod vrf;
pub(crate) mod vrrp;
mod wan;

use std::{fmt, sync::LazyLock};

use ::vrrp::Vrid;
use net_types::{Family, IfName, Prefix, TunnelName, WanName};

use crate::{
    grammar::{Args, Complaint, Tree},
    model::{
        BfdPeer, BfdPeerId, BfdProfile, Bgp, BmpTargets, ChainKey, Config, FamilyConfig, Identity, Name,
        NeighborFamily, NeighborSettings, Proposal, RouteMapEntry, Rpki, Tunnel, Vrf, VrfFamily, VrrpGroup, Wan,
    },
};

pub(crate) use draft::{Draft, Problem};
use draft::{IdentityDraft, KeyDraft, ProposalDraft, TunnelDraft, VrrpDraft, WanDraft};

/// One row of the language.
pub(crate) struct Statement {
    syntax: &'static str,
    help: &'static str,
    action: Action,
}

/// How a finished `M` says a row.
type Write<M> = fn(&M, &mut Lines);

/// Reads into a draft `D`, writes from a finished `M`.
struct Verb<D: 'static, M: 'static = D> {
    read: fn(&mut D, &Args<'_>) -> Result<(), Complaint>,
    write: Write<M>,
}

/// What is said of a neighbor or a peer-group, and what stands behind `neighbor` in each of its lines.
struct Said<S> {
    who: String,
    what: S,
}

/// What a row does, by what it is about.
enum Action {
    Config(Verb<Draft, Config>),
    /// Begins a section; writes all sections of the kind.
    Enter(fn(&mut Draft, &Args<'_>) -> Result<Section, Complaint>, fn(&Config, &mut Lines)),
    Wan(Verb<WanDraft, Wan>),
    Proposal(Verb<ProposalDraft, Proposal>),
    Identity(Verb<IdentityDraft, Identity>),
    Tunnel(Verb<TunnelDraft, Tunnel>),
    ChainKey(Verb<KeyDraft, ChainKey>),
    /// Begins with `vrrp VRID`.
    Vrrp(Verb<VrrpDraft, (Vrid, VrrpGroup)>),
    BfdProfile(Verb<BfdProfile>),
    BfdPeer(Verb<BfdPeer>),
    RouteMap(Verb<RouteMapEntry>),
    Rpki(Verb<Draft, Rpki>),
    Bmp(Verb<BmpTargets>),
    Bgp(Verb<Bgp>),
    /// Begins with `neighbor PEER`, which is a neighbor or a peer-group.
    Neighbor(Verb<NeighborSettings, Said<NeighborSettings>>),
    Family(Verb<FamilyConfig>),
    /// The same within an address family.
    NeighborFamily(Verb<NeighborFamily, Said<NeighborFamily>>),
    Vrf(Verb<Vrf>),
    /// Within an address family of a VRF.
    VrfFamily(Verb<VrfFamily>),
    /// Begins a section that depends on the one that the line stands in.
    EnterWithin(fn(&mut Draft, &Section, &Args<'_>) -> Result<Option<Section>, Complaint>),
    /// Leaves one section, or all.
    Leave(Leave),
    /// Understood and without effect, for FRR's sake.
    Ignore,
}

/// How far to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    One,
    All,
}

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Top,
    Wan(WanName),
    Proposal(Name),
    Identity(Name),
    Tunnel(TunnelName),
    KeyChain(Name),
    /// `key` within a key chain.
    ChainKey(Name, u8),
    /// `interface`, of FRR's.
    Interface(IfName),
    Bfd,
    BfdProfile(Name),
    BfdPeer(BfdPeerId),
    RouteMap(Name, u16),
    Rpki,
    Bmp(Name),
    Bgp,
    Family(Family),
    Vrf(Name),
    BgpVrf(Name),
    VrfFamily(Name, Family),
}

/// What a line did.
pub(crate) enum Done {
    Stay,
    Enter(Section),
    Leave(Leave),
    Ignored,
}

impl Section {
    /// The section that this one stands in.
    pub(crate) fn parent(&self) -> Option<Self> {
        match self {
            Self::Top => None,
            Self::ChainKey(chain, _) => Some(Self::KeyChain(chain.clone())),
            Self::BfdProfile(_) | Self::BfdPeer(_) => Some(Self::Bfd),
            Self::Family(_) | Self::Bmp(_) => Some(Self::Bgp),
            Self::VrfFamily(name, _) => Some(Self::BgpVrf(name.clone())),
            _ => Some(Self::Top),
        }
    }

    /// The same VRF's address family.
    fn in_family(&self, family: Family) -> Option<Self> {
        match self {
            Self::BgpVrf(name) | Self::VrfFamily(name, _) => Some(Self::VrfFamily(name.clone(), family)),
            _ => None,
        }
    }

    /// As messages name it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Top => "the configuration".to_owned(),
            Self::Wan(name) => format!("\"wan {name}\""),
            Self::Proposal(name) => format!("\"ipsec proposal {name}\""),
            Self::Identity(name) => format!("\"ipsec identity {name}\""),
            Self::Tunnel(name) => format!("\"ipsec tunnel {name}\""),
            Self::KeyChain(name) => format!("\"key chain {name}\""),
            Self::ChainKey(name, number) => format!("\"key chain {name}\", \"key {number}\""),
            Self::Interface(name) => format!("\"interface {name}\""),
            Self::Bfd => "\"bfd\"".to_owned(),
            Self::BfdProfile(name) => format!("\"bfd\", \"profile {name}\""),
            Self::BfdPeer(id) => format!("\"bfd\", \"peer {id}\""),
            Self::RouteMap(name, sequence) => format!("\"route-map {name}\" {sequence}"),
            Self::Rpki => "\"rpki\"".to_owned(),
            Self::Bmp(name) => format!("\"bmp targets {name}\""),
            Self::Bgp => "\"router bgp\"".to_owned(),
            Self::Family(family) => format!("\"address-family {}\"", family::spelling(*family)),
            Self::Vrf(name) => format!("\"vrf {name}\""),
            Self::BgpVrf(name) => format!("\"router bgp\" of vrf {name}"),
            Self::VrfFamily(name, family) => format!("\"address-family {}\" of vrf {name}", family::spelling(*family)),
        }
    }

    fn grammar(&self) -> &'static Grammar {
        static TOP: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(general::ROWS));
        static WAN: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(wan::ROWS));
        static PROPOSAL: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(ipsec::PROPOSAL_ROWS));
        static IDENTITY: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(ipsec::IDENTITY_ROWS));
        static TUNNEL: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(tunnel::ROWS));
        static KEY_CHAIN: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(key_chain::ROWS));
        static CHAIN_KEY: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(key_chain::KEY_ROWS));
        static INTERFACE: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(frr::INTERFACE_ROWS));
        static BFD: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(bfd::ROWS));
        static BFD_PROFILE: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(bfd::PROFILE_ROWS));
        static BFD_PEER: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(bfd::PEER_ROWS));
        static ROUTE_MAP: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(route_map::ROWS));
        static RPKI: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(rpki::ROWS));
        static BMP: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(monitoring::BMP_ROWS));
        static BGP: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(bgp::ROWS));
        static FAMILY: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(family::ROWS));
        static VPN_FAMILY: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(family::VPN_ROWS));
        static VRF: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(vrf::ROWS));
        static BGP_VRF: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(vrf::BGP_ROWS));
        static VRF_FAMILY: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(vrf::FAMILY_ROWS));
        match self {
            Self::Top => &TOP,
            Self::Wan(_) => &WAN,
            Self::Proposal(_) => &PROPOSAL,
            Self::Identity(_) => &IDENTITY,
            Self::Tunnel(_) => &TUNNEL,
            Self::KeyChain(_) => &KEY_CHAIN,
            Self::ChainKey(..) => &CHAIN_KEY,
            Self::Interface(_) => &INTERFACE,
            Self::Bfd => &BFD,
            Self::BfdProfile(_) => &BFD_PROFILE,
            Self::BfdPeer(_) => &BFD_PEER,
            Self::RouteMap(..) => &ROUTE_MAP,
            Self::Rpki => &RPKI,
            Self::Bmp(_) => &BMP,
            Self::Bgp => &BGP,
            Self::Family(family) if family.is_vpn() => &VPN_FAMILY,
            Self::Family(_) => &FAMILY,
            Self::Vrf(_) => &VRF,
            Self::BgpVrf(_) => &BGP_VRF,
            Self::VrfFamily(..) => &VRF_FAMILY,
        }
    }

    /// The syntaxes of this section.
    pub(crate) fn tree(&self) -> &'static Tree {
        &self.grammar().tree
    }

    /// Applies row `row` of this section to the draft.
    pub(crate) fn apply(&self, row: usize, draft: &mut Draft, args: &Args<'_>) -> Result<Done, Complaint> {
        let Some(statement) = self.grammar().rows().nth(row) else {
            return Err(Complaint::new("no such statement"));
        };
        // The section was entered, so what it is about exists; an entry is made where not, rather than trusting that.
        match (&statement.action, self) {
            (Action::Config(verb), _) => (verb.read)(draft, args)?,
            (Action::Enter(enter, _), _) => return enter(draft, args).map(Done::Enter),
            (Action::Leave(leave), _) => return Ok(Done::Leave(*leave)),
            (Action::Ignore, _) => return Ok(Done::Ignored),
            (Action::Wan(verb), Self::Wan(name)) => (verb.read)(draft.wan(name), args)?,
            (Action::Proposal(verb), Self::Proposal(name)) => (verb.read)(draft.proposal(name), args)?,
            (Action::Identity(verb), Self::Identity(name)) => (verb.read)(draft.identity(name), args)?,
            (Action::Tunnel(verb), Self::Tunnel(name)) => (verb.read)(draft.tunnel(name), args)?,
            (Action::ChainKey(verb), Self::ChainKey(chain, number)) => {
                (verb.read)(draft.chain_key(chain, *number), args)?;
            }
            (Action::Vrrp(verb), Self::Interface(name)) => vrrp::apply(draft, name, args, verb.read)?,
            (Action::BfdProfile(verb), Self::BfdProfile(name)) => (verb.read)(draft.bfd_profile(name), args)?,
            (Action::BfdPeer(verb), Self::BfdPeer(id)) => (verb.read)(draft.bfd_peer(id), args)?,
            (Action::RouteMap(verb), Self::RouteMap(name, sequence)) => match draft.route_map(name, *sequence) {
                Some(entry) => (verb.read)(entry, args)?,
                None => return Err(Complaint::new(format!("route-map {name} {sequence} does not exist"))),
            },
            (Action::Rpki(verb), _) => (verb.read)(draft, args)?,
            (Action::Bmp(verb), Self::Bmp(name)) => {
                (verb.read)(draft.bgp()?.bmp.entry(name.clone()).or_default(), args)?;
            }
            (Action::Bgp(verb), _) => (verb.read)(draft.bgp()?, args)?,
            (Action::Neighbor(verb), _) => (verb.read)(draft.settings(args)?, args)?,
            (Action::Family(verb), Self::Family(family)) => {
                if args.opt::<Prefix>("PREFIX")?.is_some_and(|prefix| prefix.family() != *family) {
                    let message = format!("the prefix does not belong into {}", self.describe());
                    return Err(args.complain("PREFIX", message));
                }
                (verb.read)(draft.bgp()?.families.entry(*family).or_default(), args)?;
            }
            (Action::EnterWithin(enter), _) => {
                let none = || Complaint::new(format!("this does not belong into {}", self.describe()));
                return enter(draft, self, args)?.map(Done::Enter).ok_or_else(none);
            }
            (Action::Vrf(verb), Self::Vrf(name)) => {
                (verb.read)(draft.config.vrfs.entry(name.clone()).or_default(), args)?;
            }
            (Action::VrfFamily(verb), Self::VrfFamily(name, family)) => {
                if args.opt::<Prefix>("PREFIX")?.is_some_and(|prefix| prefix.family() != *family) {
                    let message = format!("the prefix does not belong into {}", self.describe());
                    return Err(args.complain("PREFIX", message));
                }
                let vrf = draft.bgp()?.vrfs.entry(name.clone()).or_default();
                (verb.read)(vrf.families.entry(*family).or_default(), args)?;
            }
            (Action::NeighborFamily(verb), Self::Family(family)) => {
                (verb.read)(draft.settings(args)?.families.entry(*family).or_default(), args)?;
            }
            _ => return Err(Complaint::new(format!("this does not belong into {}", self.describe()))),
        }
        Ok(Done::Stay)
    }
}

/// A table of rows, in parts, and its tree.
struct Grammar {
    parts: &'static [&'static [Statement]],
    tree: Tree,
}

impl Grammar {
    fn new(parts: &'static [&'static [Statement]]) -> Self {
        let rows = parts.iter().copied().flatten().map(|row| (row.syntax, row.help));
        Self { parts, tree: Tree::new(rows) }
    }

    fn rows(&self) -> impl Iterator<Item = &'static Statement> + use<> {
        self.parts.iter().copied().flatten()
    }
}

/// The configuration as text, while it is being written.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    text: String,
    depth: usize,
}

impl Lines {
    /// One line, indented by as many sections as are open.
    fn line(&mut self, line: impl fmt::Display) {
        use fmt::Write;
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "", indent = self.depth);
    }

    /// One line if the condition holds.
    fn flag(&mut self, condition: bool, line: &str) {
        if condition {
            self.line(line);
        }
    }

    /// A section: its first line, its body, its end.
    fn section(&mut self, first: impl fmt::Display, body: impl FnOnce(&mut Self)) {
        self.line(first);
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("!");
    }

    /// Writes `value` by every row of `section` that `pick` finds to be about it.
    fn body<M>(&mut self, section: &Section, value: &M, pick: fn(&Action) -> Option<Write<M>>) {
        for row in section.grammar().rows() {
            if let Some(write) = pick(&row.action) {
                write(value, self);
            }
        }
    }
}

impl fmt::Display for Config {
    /// `show running-config`; [`crate::parse`] reads it back to an equal value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines::default();
        for row in Section::Top.grammar().rows() {
            match &row.action {
                Action::Config(verb) => (verb.write)(self, &mut lines),
                Action::Enter(_, write) => write(self, &mut lines),
                _ => {}
            }
        }
        f.write_str(&lines.text)
    }
}

/// Rows that any section has.
const LEAVE: &[Statement] = &[
    Statement { syntax: "exit", help: "Leave this section", action: Action::Leave(Leave::One) },
    Statement { syntax: "quit", help: "Leave this section", action: Action::Leave(Leave::One) },
    Statement { syntax: "end", help: "Leave all sections", action: Action::Leave(Leave::All) },
];

/// `word` after a space, or nothing: for optional parts of a line.
fn then(word: &str, value: Option<impl fmt::Display>) -> String {
    value.map_or_else(String::new, |value| format!(" {word} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections() -> Vec<Section> {
        let name: Name = "x".parse().unwrap();
        vec![
            Section::Top,
            Section::Wan("x".parse().unwrap()),
            Section::Proposal(name.clone()),
            Section::Identity(name.clone()),
            Section::Tunnel("x".parse().unwrap()),
            Section::KeyChain(name.clone()),
            Section::ChainKey(name.clone(), 1),
            Section::Interface("x".parse().unwrap()),
            Section::Bfd,
            Section::BfdProfile(name.clone()),
            Section::BfdPeer(BfdPeerId {
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                multihop: false,
                local: None,
                interface: None,
            }),
            Section::RouteMap(name, 1),
            Section::Rpki,
            Section::Bmp("x".parse().unwrap()),
            Section::Bgp,
            Section::Family(Family::Ipv4Unicast),
            Section::Family(Family::Ipv6Vpn),
            Section::Vrf("x".parse().unwrap()),
            Section::BgpVrf("x".parse().unwrap()),
            Section::VrfFamily("x".parse().unwrap(), Family::Ipv4Unicast),
        ]
    }

    #[test]
    fn every_syntax_is_well_formed_unique_and_explained() {
        for section in sections() {
            let tree = section.tree();
            assert_eq!(tree.conflicts(), [] as [&str; 0], "{}", section.describe());
            assert_eq!(tree.unexplained(), [] as [&str; 0], "{}", section.describe());
            assert!(section.grammar().rows().all(|row| !row.help.is_empty()));
        }
    }
}
