//! `vrrp N` within `interface`, in the spelling of FRR's vrrpd; `preempt delay` and `track` are ours.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use net_types::IfName;
use vrrp::{Addresses, Family, Interval, Vrid};

use super::{
    Action, Draft, Lines, Section, Statement, Verb,
    draft::{Problem, VrrpDraft},
};
use crate::{
    grammar::{Args, Complaint},
    model::{Config, NeighborEntry, RemoteAddress, VrrpGroup, VrrpTracked},
};

/// Writes every `interface` that has groups.
pub(super) fn write_interfaces(config: &Config, lines: &mut Lines) {
    let mut last: Option<&IfName> = None;
    for (interface, _) in config.vrrp.keys() {
        if last.replace(interface) == Some(interface) {
            continue;
        }
        lines.section(format_args!("interface {interface}"), |lines| {
            for ((of, vrid), group) in &config.vrrp {
                if of == interface {
                    let said = (*vrid, group.clone());
                    lines.body(&Section::Interface(interface.clone()), &said, |action| match action {
                        Action::Vrrp(verb) => Some(verb.write),
                        _ => None,
                    });
                }
            }
        });
    }
}

/// The group that a line of `interface` is about. As in FRR, a line begins it; a `no` is about nothing before that.
pub(super) fn apply(
    draft: &mut Draft,
    interface: &IfName,
    args: &Args<'_>,
    read: fn(&mut VrrpDraft, &Args<'_>) -> Result<(), Complaint>,
) -> Result<(), Complaint> {
    let vrid = vrid(args)?;
    if args.opt::<u8>("NUMBER")? == Some(2) {
        return Err(args.complain(
            "NUMBER",
            "version 2 is not spoken: it has no intervals below a second; set every router of the link to version 3",
        ));
    }
    let line = draft.line;
    let begins = args.matched().len() == 2 || args.has("version");
    match draft.vrrp_group(interface, vrid, begins) {
        Some(group) => {
            group.reading = line;
            read(group, args)
        }
        None if args.has("no") => Ok(()),
        None => {
            Err(args.complain(VRID, format!("there is no virtual router {vrid} yet: begin with \"vrrp {vrid}\" above")))
        }
    }
}

fn vrid(args: &Args<'_>) -> Result<Vrid, Complaint> {
    Vrid::new(args.get(VRID)?).ok_or_else(|| args.complain(VRID, "0 names no virtual router"))
}

const VRID: &str = "VRID";

pub(super) const ROWS: &[Statement] = &[
    Statement {
        syntax: "vrrp VRID:1-255 [version NUMBER:2-3]",
        help: "A virtual router: addresses that routers of this link share (RFC 9568)",
        action: Action::Vrrp(Verb {
            read: |_, _| Ok(()),
            write: |(vrid, _), lines| lines.line(format_args!("vrrp {vrid}")),
        }),
    },
    Statement {
        syntax: "vrrp VRID:1-255 ip IPV4",
        help: "An address that hosts use",
        action: Action::Vrrp(Verb {
            read: read_address_v4,
            write: |said, lines| write_addresses(said, Family::V4, lines),
        }),
    },
    Statement {
        syntax: "vrrp VRID:1-255 ipv6 IPV6",
        help: "An address that hosts with IPv6 use: a link-local one, and perhaps others beside it",
        action: Action::Vrrp(Verb {
            read: read_address_v6,
            write: |said, lines| write_addresses(said, Family::V6, lines),
        }),
    },
    Statement {
        syntax: "vrrp VRID:1-255 priority PRIORITY:1-254",
        help: "The router with the highest one is preferred",
        action: Action::Vrrp(Verb {
            read: |draft, args| {
                draft.group.priority = args.get("PRIORITY")?;
                Ok(())
            },
            write: |(vrid, group), lines| {
                if group.priority != VrrpGroup::default().priority {
                    lines.line(format_args!("vrrp {vrid} priority {}", group.priority));
                }
            },
        }),
    },
    Statement {
        syntax: "vrrp VRID:1-255 advertisement-interval MILLISECONDS:10-40950",
        help: "How often the router that is active says so",
        action: Action::Vrrp(Verb { read: read_interval, write: write_interval }),
    },
    Statement {
        syntax: "[no] vrrp VRID:1-255 preempt",
        help: "Relieve a router with a lower priority",
        action: Action::Vrrp(Verb {
            read: |draft, args| {
                draft.group.preempt = !args.has("no");
                Ok(())
            },
            write: |(vrid, group), lines| lines.flag(!group.preempt, &format!("no vrrp {vrid} preempt")),
        }),
    },
    Statement {
        syntax: "vrrp VRID:1-255 preempt delay SECONDS:0-3600",
        help: "But not sooner than this after coming up, or after what is tracked is there",
        action: Action::Vrrp(Verb {
            read: |draft, args| {
                draft.group.preempt_delay = Duration::from_secs(args.get("SECONDS")?);
                Ok(())
            },
            write: |(vrid, group), lines| {
                if !group.preempt_delay.is_zero() {
                    lines.line(format_args!("vrrp {vrid} preempt delay {}", group.preempt_delay.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "vrrp VRID:1-255 track tunnel TUNNEL-USED [decrement DECREMENT:1-253]",
        help: "A tunnel that has to be up",
        action: Action::Vrrp(Verb {
            read: |draft, args| track(draft, args, VrrpTracked::Tunnel(args.get("TUNNEL-USED")?)),
            write: |(vrid, group), lines| {
                write_tracked(*vrid, group, lines, |tracked| matches!(tracked, VrrpTracked::Tunnel(_)));
            },
        }),
    },
    Statement {
        syntax: "vrrp VRID:1-255 track neighbor ADDRESS [decrement DECREMENT:1-253]",
        help: "A BGP neighbor that has to be established and to have said what it has",
        action: Action::Vrrp(Verb {
            read: |draft, args| track(draft, args, VrrpTracked::Neighbor(args.get("ADDRESS")?)),
            write: |(vrid, group), lines| {
                write_tracked(*vrid, group, lines, |tracked| matches!(tracked, VrrpTracked::Neighbor(_)));
            },
        }),
    },
    Statement {
        syntax: "[no] vrrp VRID:1-255 shutdown",
        help: "Take no part",
        action: Action::Vrrp(Verb {
            read: |draft, args| {
                draft.group.shutdown = !args.has("no");
                Ok(())
            },
            write: |(vrid, group), lines| lines.flag(group.shutdown, &format!("vrrp {vrid} shutdown")),
        }),
    },
    Statement {
        syntax: "[no] vrrp VRID:1-255 checksum-with-ipv4-pseudoheader",
        help: "Without effect: that is how checksums are made here, and both ways are taken",
        action: Action::Ignore,
    },
];

fn read_address_v4(draft: &mut VrrpDraft, args: &Args<'_>) -> Result<(), Complaint> {
    let address: Ipv4Addr = args.get("IPV4")?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback() {
        return Err(args.complain("IPV4", format!("{address} cannot be the address of a gateway")));
    }
    add(&mut draft.group.v4, address).map_err(|why| args.complain("IPV4", why))
}

fn read_address_v6(draft: &mut VrrpDraft, args: &Args<'_>) -> Result<(), Complaint> {
    let address: Ipv6Addr = args.get("IPV6")?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() || address.to_ipv4_mapped().is_some()
    {
        return Err(args.complain("IPV6", format!("{address} cannot be the address of a gateway")));
    }
    add(&mut draft.group.v6, address).map_err(|why| args.complain("IPV6", why))
}

/// RFC 9568 §5.2.5: their count is an octet.
fn add<A: Ord>(addresses: &mut BTreeSet<A>, address: A) -> Result<(), &'static str> {
    if addresses.len() >= 255 && !addresses.contains(&address) {
        return Err("a virtual router has at most 255 addresses");
    }
    addresses.insert(address);
    Ok(())
}

fn write_addresses((vrid, group): &(Vrid, VrrpGroup), family: Family, lines: &mut Lines) {
    let word = match family {
        Family::V4 => "ip",
        Family::V6 => "ipv6",
    };
    let addresses = group.addresses(family);
    for address in addresses.iter().flat_map(Addresses::iter) {
        lines.line(format_args!("vrrp {vrid} {word} {address}"));
    }
}

fn read_interval(draft: &mut VrrpDraft, args: &Args<'_>) -> Result<(), Complaint> {
    let millis: u16 = args.get("MILLISECONDS")?;
    // The protocol counts hundredths of a second (RFC 9568 §5.2.7).
    let interval = millis.is_multiple_of(10).then(|| Interval::from_centiseconds(millis / 10)).flatten();
    draft.group.interval = interval.ok_or_else(|| {
        args.complain(
            "MILLISECONDS",
            format!("{millis} is not a multiple of 10; the nearest below is {}", millis / 10 * 10),
        )
    })?;
    Ok(())
}

fn write_interval((vrid, group): &(Vrid, VrrpGroup), lines: &mut Lines) {
    if group.interval != Interval::DEFAULT {
        let millis = group.interval.duration().as_millis();
        lines.line(format_args!("vrrp {vrid} advertisement-interval {millis}"));
    }
}

fn track(draft: &mut VrrpDraft, args: &Args<'_>, tracked: VrrpTracked) -> Result<(), Complaint> {
    draft.tracked_at.insert(tracked.clone(), draft.reading);
    draft.group.track.insert(tracked, args.opt("DECREMENT")?.unwrap_or(VrrpGroup::DECREMENT));
    Ok(())
}

fn write_tracked(vrid: Vrid, group: &VrrpGroup, lines: &mut Lines, which: fn(&VrrpTracked) -> bool) {
    for (tracked, decrement) in group.track.iter().filter(|(tracked, _)| which(tracked)) {
        if *decrement == VrrpGroup::DECREMENT {
            lines.line(format_args!("vrrp {vrid} track {tracked}"));
        } else {
            lines.line(format_args!("vrrp {vrid} track {tracked} decrement {decrement}"));
        }
    }
}

/// Puts the groups into the configuration, of which all else is there; what of them cannot be is told.
pub(super) fn finish(
    config: &mut Config,
    groups: impl Iterator<Item = ((IfName, Vrid), usize, VrrpDraft)>,
    problems: &mut Vec<Problem>,
) {
    for ((interface, vrid), line, draft) in groups {
        let VrrpDraft { group, tracked_at, .. } = draft;
        let mut wrong = Vec::new();
        if group.v4.is_empty() && group.v6.is_empty() {
            wrong.push((line, format!("\"vrrp {vrid} ip A.B.C.D\" or \"vrrp {vrid} ipv6 fe80::X\" is missing")));
        }
        if !group.v6.is_empty() && !group.v6.iter().any(Ipv6Addr::is_unicast_link_local) {
            // RFC 9568 §5.2.9. The one to take is what the virtual MAC address (§7.3) would make of itself.
            wrong.push((
                line,
                format!(
                    "its IPv6 addresses lack a link-local one; add \"vrrp {vrid} ipv6 fe80::200:5eff:fe00:2{:02x}\"",
                    vrid.get()
                ),
            ));
        }
        for addresses in Family::ALL.iter().filter_map(|family| group.addresses(*family)) {
            wrong.extend(
                addresses.iter().filter_map(|address| taken(config, &interface, address)).map(|why| (line, why)),
            );
        }
        let neighbors = config.bgp.as_ref();
        for tracked in group.track.keys() {
            if let VrrpTracked::Neighbor(address) = tracked
                && neighbors.is_none_or(|bgp| !bgp.neighbors.contains_key(&(*address).into()))
            {
                let at = tracked_at.get(tracked).copied().unwrap_or(line);
                wrong.push((at, format!("it tracks neighbor {address}, which is not configured")));
            }
        }
        let name = problem_name(&interface, vrid);
        problems.extend(wrong.into_iter().map(|(line, message)| Problem {
            line,
            kind: PROBLEM,
            name: name.clone(),
            message,
        }));
        config.vrrp.insert((interface, vrid), group);
    }
}

/// How problems with groups are headed.
pub(crate) const PROBLEM: &str = "vrrp";

/// Which group a problem is about.
pub(crate) fn problem_name(interface: &IfName, vrid: Vrid) -> String {
    format!("{vrid} of interface {interface}")
}

/// Who else has the address that is to be virtual.
fn taken(config: &Config, interface: &IfName, address: IpAddr) -> Option<String> {
    let tunnel = config.tunnels.iter().find(|(_, tunnel)| tunnel.addresses.iter().any(|own| own.address() == address));
    if let Some((name, _)) = tunnel {
        return Some(format!("its address {address} is that of ipsec tunnel {name}"));
    }
    let remote = |tunnel: &crate::model::Tunnel| tunnel.remote.address == RemoteAddress::Address(address);
    if let Some((name, _)) = config.tunnels.iter().find(|(_, tunnel)| remote(tunnel)) {
        return Some(format!("its address {address} is the other end of ipsec tunnel {name}"));
    }
    let neighbor = config.bgp.as_ref().and_then(|bgp| bgp.neighbors.get(&address.into()));
    // A link-local address is another one on each link.
    let elsewhere = |neighbor: &NeighborEntry| {
        matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
            && neighbor.settings.interface.as_ref() != Some(interface)
    };
    if neighbor.is_some_and(|neighbor| !elsewhere(neighbor)) {
        return Some(format!("its address {address} is that of a neighbor"));
    }
    // Each pair is told once, at the later group.
    let has = |group: &VrrpGroup| group.addresses(Family::of(address)).is_some_and(|all| all.contains(address));
    let other = config.vrrp.iter().find(|((of, _), group)| of == interface && has(group));
    other.map(|((_, vrid), _)| format!("its address {address} is also that of virtual router {vrid}"))
}
