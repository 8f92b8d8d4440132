//! Spreading packets over several paths: `maximum-paths` and what `bgp bestpath` says of it, in FRR's spelling.

use net_types::Family;

use super::{Action, Statement, Verb};
use crate::{
    grammar::{Args, Complaint},
    model::{FamilyConfig, LinkBandwidth, MaximumInternalPaths},
};

/// In `router bgp`. `maximum-paths` stands there in old configurations, and means IPv4 unicast.
pub(super) const SPEAKER: &[Statement] = &[
    Statement {
        syntax: "[no] bgp bestpath as-path multipath-relax [as-set|no-as-set]",
        help: "Spread packets over paths through several ASes, if they are as long",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.best_path.relax_as_path = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.best_path.relax_as_path, "bgp bestpath as-path multipath-relax"),
        }),
    },
    Statement {
        syntax: "[no] bgp bestpath peer-type multipath-relax",
        help: "Spread packets over external and internal paths at once",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.best_path.relax_peer_type = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.best_path.relax_peer_type, "bgp bestpath peer-type multipath-relax"),
        }),
    },
    Statement {
        syntax: "bgp bestpath bandwidth (ignore|skip-missing|default-weight-for-missing)",
        help: "What becomes of the bandwidths of links",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                let said = LinkBandwidth::SPELLINGS.iter().find(|(_, word)| args.has(word));
                bgp.best_path.bandwidth = said.map_or(LinkBandwidth::default(), |(handling, _)| *handling);
                Ok(())
            },
            write: |bgp, lines| {
                if let Some((_, word)) = LinkBandwidth::SPELLINGS.iter().find(|(it, _)| *it == bgp.best_path.bandwidth)
                {
                    lines.line(format_args!("bgp bestpath bandwidth {word}"));
                }
            },
        }),
    },
    Statement {
        syntax: "maximum-paths NUMBER:1-255",
        help: "Most external paths that share the packets of a prefix",
        action: Action::Bgp(Verb {
            read: |bgp, args| external(bgp.families.entry(Family::Ipv4Unicast).or_default(), args),
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "maximum-paths ibgp NUMBER:1-255 [equal-cluster-length]",
        help: "Most internal paths that share the packets of a prefix",
        action: Action::Bgp(Verb {
            read: |bgp, args| internal(bgp.families.entry(Family::Ipv4Unicast).or_default(), args),
            write: |_, _| {},
        }),
    },
];

/// In `address-family`.
pub(super) const FAMILY: &[Statement] = &[
    Statement {
        syntax: "maximum-paths NUMBER:1-255",
        help: "Most external paths that share the packets of a prefix",
        action: Action::Family(Verb {
            read: external,
            write: |family, lines| {
                family.maximum_paths.iter().for_each(|paths| lines.line(format_args!("maximum-paths {paths}")));
            },
        }),
    },
    Statement {
        syntax: "maximum-paths ibgp NUMBER:1-255 [equal-cluster-length]",
        help: "Most internal paths that share the packets of a prefix",
        action: Action::Family(Verb {
            read: internal,
            write: |family, lines| {
                if let Some(MaximumInternalPaths { paths, equal_cluster_length }) = family.maximum_internal_paths {
                    let clusters = if equal_cluster_length { " equal-cluster-length" } else { "" };
                    lines.line(format_args!("maximum-paths ibgp {paths}{clusters}"));
                }
            },
        }),
    },
];

fn external(family: &mut FamilyConfig, args: &Args<'_>) -> Result<(), Complaint> {
    family.maximum_paths = Some(args.get("NUMBER")?);
    Ok(())
}

fn internal(family: &mut FamilyConfig, args: &Args<'_>) -> Result<(), Complaint> {
    let equal_cluster_length = args.has("equal-cluster-length");
    family.maximum_internal_paths = Some(MaximumInternalPaths { paths: args.get("NUMBER")?, equal_cluster_length });
    Ok(())
}
