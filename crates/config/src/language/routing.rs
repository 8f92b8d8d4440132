//! Static routes, what routes go through into the kernel, and prefix-lists, in FRR's spelling.

use net_types::{Family, IfName, Prefix};

use super::{Action, Draft, Lines, Statement, Verb, then};
use crate::{
    grammar::{Args, Complaint},
    model::{self, Config, Name, PrefixListEntry, StaticBfd, StaticRoute, StaticTarget},
};

pub(super) const ROWS: &[Statement] = &[
    Statement {
        syntax: "ip route PREFIX4 (blackhole|reject|Null0|IPV4 [IFNAME]|IFNAME) [tag TAG:1-4294967295] [DISTANCE:1-255] [bfd [profile PROFILE]]",
        help: "A static route",
        action: Action::Config(Verb {
            read: |draft, args| read_route(draft, args, "PREFIX4", "IPV4"),
            write: |config, lines| write_routes(config, lines, Family::Ipv4Unicast),
        }),
    },
    Statement {
        syntax: "ipv6 route PREFIX6 (blackhole|reject|Null0|IPV6 [IFNAME]|IFNAME) [tag TAG:1-4294967295] [DISTANCE:1-255] [bfd [profile PROFILE]]",
        help: "A static route",
        action: Action::Config(Verb {
            read: |draft, args| read_route(draft, args, "PREFIX6", "IPV6"),
            write: |config, lines| write_routes(config, lines, Family::Ipv6Unicast),
        }),
    },
    Statement {
        syntax: "ip protocol bgp route-map ROUTE-MAP",
        help: "Filter and change routes of BGP on their way into the kernel",
        action: Action::Config(Verb {
            read: |draft, args| {
                draft.config.protocol_maps.insert(Family::Ipv4Unicast, args.get("ROUTE-MAP")?);
                Ok(())
            },
            write: |config, lines| write_protocol_map(config, lines, Family::Ipv4Unicast),
        }),
    },
    Statement {
        syntax: "ipv6 protocol bgp route-map ROUTE-MAP",
        help: "Filter and change routes of BGP on their way into the kernel",
        action: Action::Config(Verb {
            read: |draft, args| {
                draft.config.protocol_maps.insert(Family::Ipv6Unicast, args.get("ROUTE-MAP")?);
                Ok(())
            },
            write: |config, lines| write_protocol_map(config, lines, Family::Ipv6Unicast),
        }),
    },
    Statement {
        syntax: "ip prefix-list NAME description TEXT",
        help: "A note for people",
        action: Action::Config(Verb {
            read: |draft, args| read_description(draft, args, Family::Ipv4Unicast),
            write: |config, lines| write_prefix_lists(config, lines, Family::Ipv4Unicast),
        }),
    },
    Statement {
        syntax: "ip prefix-list NAME [seq SEQUENCE:1-4294967295] (permit|deny) (any|PREFIX4 [ge GE:0-32] [le LE:0-32]|PREFIX4 le LE:0-32 ge GE:0-32)",
        help: "A line of a prefix-list",
        action: Action::Config(Verb {
            read: |draft, args| read_entry(draft, args, Family::Ipv4Unicast),
            write: |_, _| {}, // Printed with the description.
        }),
    },
    Statement {
        syntax: "ipv6 prefix-list NAME description TEXT",
        help: "A note for people",
        action: Action::Config(Verb {
            read: |draft, args| read_description(draft, args, Family::Ipv6Unicast),
            write: |config, lines| write_prefix_lists(config, lines, Family::Ipv6Unicast),
        }),
    },
    Statement {
        syntax: "ipv6 prefix-list NAME [seq SEQUENCE:1-4294967295] (permit|deny) (any|PREFIX6 [ge GE:0-128] [le LE:0-128]|PREFIX6 le LE:0-128 ge GE:0-128)",
        help: "A line of a prefix-list",
        action: Action::Config(Verb {
            read: |draft, args| read_entry(draft, args, Family::Ipv6Unicast),
            write: |_, _| {},
        }),
    },
];

fn read_route(draft: &mut Draft, args: &Args<'_>, prefix: &str, gateway: &str) -> Result<(), Complaint> {
    let interface: Option<IfName> = args.opt("IFNAME")?;
    // As in FRR, whatever the case of its letters.
    let null = interface.as_ref().is_some_and(|name| name.as_str().eq_ignore_ascii_case("null0"));
    let target = if args.has("blackhole") || args.has("Null0") || null {
        StaticTarget::Blackhole
    } else if args.has("reject") {
        StaticTarget::Reject
    } else if let Some(address) = args.opt(gateway)? {
        StaticTarget::Gateway { address, interface }
    } else {
        StaticTarget::Interface(interface.ok_or_else(|| Complaint::new("the route leads nowhere"))?)
    };
    let distance = args.opt("DISTANCE")?.unwrap_or(1);
    let bfd = args.has("bfd").then(|| Ok(StaticBfd { profile: args.opt("PROFILE")? })).transpose()?;
    if bfd.is_some() && !matches!(target, StaticTarget::Gateway { .. }) {
        return Err(Complaint::new("BFD needs a router to talk to; say its address before \"bfd\""));
    }
    draft.config.static_routes.push(StaticRoute {
        prefix: args.get(prefix)?,
        target,
        distance,
        tag: args.opt("TAG")?.unwrap_or(0),
        bfd,
    });
    Ok(())
}

fn write_routes(config: &Config, lines: &mut Lines, family: Family) {
    for route in config.static_routes.iter().filter(|route| route.prefix.family() == family) {
        let target = match &route.target {
            StaticTarget::Blackhole => "blackhole".to_owned(),
            StaticTarget::Reject => "reject".to_owned(),
            StaticTarget::Interface(interface) => interface.to_string(),
            StaticTarget::Gateway { address, interface: None } => address.to_string(),
            StaticTarget::Gateway { address, interface: Some(interface) } => format!("{address} {interface}"),
        };
        let distance = if route.distance == 1 { String::new() } else { format!(" {}", route.distance) };
        let tag = then("tag", Some(route.tag).filter(|tag| *tag != 0));
        let bfd =
            route.bfd.as_ref().map_or_else(String::new, |bfd| format!(" bfd{}", then("profile", bfd.profile.as_ref())));
        lines.line(format_args!("{} route {} {target}{tag}{distance}{bfd}", keyword(family), route.prefix));
    }
}

fn write_protocol_map(config: &Config, lines: &mut Lines, family: Family) {
    if let Some(name) = config.protocol_maps.get(&family) {
        lines.line(format_args!("{} protocol bgp route-map {name}", keyword(family)));
    }
}

fn read_description(draft: &mut Draft, args: &Args<'_>, family: Family) -> Result<(), Complaint> {
    let list = draft.config.prefix_lists.entry((family, args.get("NAME")?)).or_default();
    list.description = Some(args.get("TEXT")?);
    Ok(())
}

fn read_entry(draft: &mut Draft, args: &Args<'_>, family: Family) -> Result<(), Complaint> {
    let (label, any) = match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => ("PREFIX4", Prefix::DEFAULT_V4),
        Family::Ipv6Unicast | Family::Ipv6Vpn => ("PREFIX6", Prefix::DEFAULT_V6),
    };
    let (ge, le): (Option<u8>, Option<u8>) = (args.opt("GE")?, args.opt("LE")?);
    let entry = match args.opt(label)? {
        Some(prefix) => PrefixListEntry { action: action(args), prefix, ge, le },
        None => PrefixListEntry { action: action(args), prefix: any, ge: None, le: Some(family.max_bits()) },
    };
    let bits = entry.prefix.bits();
    if ge.is_some_and(|ge| ge < bits) {
        return Err(args.complain("GE", format!("ge must be at least {bits}, the length of the prefix")));
    }
    if le.is_some_and(|le| le < ge.unwrap_or(bits)) {
        return Err(args.complain("LE", format!("le must be at least {}", ge.unwrap_or(bits))));
    }
    let name: Name = args.get("NAME")?;
    let entries = &mut draft.config.prefix_lists.entry((family, name)).or_default().entries;
    // FRR numbers what has no number in steps of five.
    let next = || entries.last_key_value().map_or(5, |(last, _)| (last / 5).saturating_add(1).saturating_mul(5));
    let sequence = args.opt("SEQUENCE")?.unwrap_or_else(next);
    entries.insert(sequence, entry);
    Ok(())
}

fn write_prefix_lists(config: &Config, lines: &mut Lines, family: Family) {
    let keyword = keyword(family);
    for ((_, name), list) in config.prefix_lists.iter().filter(|((of, _), _)| *of == family) {
        if let Some(text) = &list.description {
            lines.line(format_args!("{keyword} prefix-list {name} description {text}"));
        }
        for (sequence, PrefixListEntry { action, prefix, ge, le }) in &list.entries {
            let action = action.as_str();
            let what = if prefix.bits() == 0 && ge.is_none() && *le == Some(family.max_bits()) {
                "any".to_owned()
            } else {
                format!("{prefix}{}{}", then("ge", ge.as_ref()), then("le", le.as_ref()))
            };
            lines.line(format_args!("{keyword} prefix-list {name} seq {sequence} {action} {what}"));
        }
    }
}

/// `permit` or `deny`, whichever was given.
pub(super) fn action(args: &Args<'_>) -> model::Action {
    if args.has("deny") { model::Action::Deny } else { model::Action::Permit }
}

fn keyword(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => "ip",
        Family::Ipv6Unicast | Family::Ipv6Vpn => "ipv6",
    }
}
