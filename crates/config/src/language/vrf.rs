//! `vrf NAME`, in our own words where FRR leaves the kernel's tables to its VRF devices; and `router bgp ASN vrf NAME`, in
//! FRR's spelling.

use std::collections::BTreeSet;

use net_types::{Asn, Family, Prefix};

use super::{Action, LEAVE, Leave, Lines, Section, Statement, Verb, family};
use crate::{
    grammar::{Args, Complaint},
    model::{Bgp, Config, ExtCommunity, Name, VpnLabel, VrfFamily},
};

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "vrf NAME",
    help: "A routing instance with a kernel table of its own",
    action: Action::Enter(
        |draft, args| {
            let name: Name = args.get("NAME")?;
            draft.config.vrfs.entry(name.clone()).or_default();
            Ok(Section::Vrf(name))
        },
        |config, lines| {
            for (name, vrf) in &config.vrfs {
                lines.section(format_args!("vrf {name}"), |lines| {
                    lines.body(&Section::Vrf(name.clone()), vrf, |action| match action {
                        Action::Vrf(verb) => Some(verb.write),
                        _ => None,
                    });
                });
            }
        },
    ),
}];

pub(super) const ROWS: &[&[Statement]] = &[VRF, LEAVE];

const VRF: &[Statement] = &[
    Statement {
        syntax: "table NUMBER:1-4294967295",
        help: "The kernel table of its routes, where no VRF device has one",
        action: Action::Vrf(Verb {
            read: |vrf, args| {
                let number = args.get("NUMBER")?;
                // linux/rtnetlink.h: default, main and local are everybody's.
                if matches!(number, 253..=255) {
                    return Err(args.complain("NUMBER", "tables 253 to 255 are the system's own; take another one"));
                }
                vrf.table = Some(number);
                Ok(())
            },
            write: |vrf, lines| vrf.table.iter().for_each(|table| lines.line(format_args!("table {table}"))),
        }),
    },
    Statement { syntax: "exit-vrf", help: "Leave the VRF", action: Action::Leave(Leave::One) },
];

pub(super) const BEGIN_BGP: &[Statement] = &[Statement {
    syntax: "router bgp ASN vrf NAME",
    help: "What the BGP speaker does for a VRF",
    action: Action::Enter(
        |draft, args| {
            let (asn, name): (Asn, Name) = (args.get("ASN")?, args.get("NAME")?);
            let new = if draft.config.frr_defaults { Bgp::with_frr_defaults } else { Bgp::new };
            let bgp = draft.config.bgp.get_or_insert_with(|| new(asn));
            if bgp.asn != asn {
                let message = format!("\"router bgp {}\" stands above; its VRFs have its AS here", bgp.asn.get());
                return Err(args.complain("ASN", message));
            }
            bgp.vrfs.entry(name.clone()).or_default();
            Ok(Section::BgpVrf(name))
        },
        write,
    ),
}];

fn write(config: &Config, lines: &mut Lines) {
    let Some(bgp) = &config.bgp else { return };
    for (name, vrf) in &bgp.vrfs {
        lines.section(format_args!("router bgp {} vrf {name}", bgp.asn.get()), |lines| {
            for (family, settings) in &vrf.families {
                lines.line("!");
                lines.line(format_args!("address-family {}", family::spelling(*family)));
                lines.depth += 1;
                lines.body(&Section::VrfFamily(name.clone(), *family), settings, |action| match action {
                    Action::VrfFamily(verb) => Some(verb.write),
                    _ => None,
                });
                lines.depth -= 1;
                lines.line("exit-address-family");
            }
        });
    }
}

pub(super) const BGP_ROWS: &[&[Statement]] = &[FAMILIES, LEAVE];

const FAMILIES: &[Statement] = &[
    Statement {
        syntax: "address-family ipv4 [unicast]",
        help: "Settings of IPv4 unicast",
        action: Action::EnterWithin(|_, section, _| Ok(section.in_family(Family::Ipv4Unicast))),
    },
    Statement {
        syntax: "address-family ipv6 [unicast]",
        help: "Settings of IPv6 unicast",
        action: Action::EnterWithin(|_, section, _| Ok(section.in_family(Family::Ipv6Unicast))),
    },
];

pub(super) const FAMILY_ROWS: &[&[Statement]] = &[FAMILY, family::LEAVE_FAMILY, LEAVE];

/// A row that is said or unsaid.
macro_rules! flag {
    ($words:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("[no] ", $words),
            help: $help,
            action: Action::VrfFamily(Verb {
                read: |family, args| {
                    family.$field = !args.has("no");
                    Ok(())
                },
                write: |family, lines| lines.flag(family.$field, $words),
            }),
        }
    };
}

const FAMILY: &[Statement] = &[
    Statement {
        syntax: "network PREFIX",
        help: "Announce a prefix",
        action: Action::VrfFamily(Verb {
            read: |family, args| {
                family.networks.insert(args.get::<Prefix>("PREFIX")?);
                Ok(())
            },
            write: |family, lines| {
                family.networks.iter().for_each(|prefix| lines.line(format_args!("network {prefix}")));
            },
        }),
    },
    Statement {
        syntax: "label vpn export (auto|LABEL:0-1048575)",
        help: "The MPLS label of what is exported; nothing is forwarded by it here",
        action: Action::VrfFamily(Verb {
            read: |family, args| {
                family.label = args.opt("LABEL")?.map_or(VpnLabel::Auto, VpnLabel::Number);
                Ok(())
            },
            write: |family, lines| match family.label {
                VpnLabel::None => {}
                VpnLabel::Auto => lines.line("label vpn export auto"),
                VpnLabel::Number(number) => lines.line(format_args!("label vpn export {number}")),
            },
        }),
    },
    Statement {
        syntax: "rd vpn export RD",
        help: "The route distinguisher of what is exported",
        action: Action::VrfFamily(Verb {
            read: |family, args| {
                family.rd = Some(args.get("RD")?);
                Ok(())
            },
            write: |family, lines| family.rd.iter().for_each(|rd| lines.line(format_args!("rd vpn export {rd}"))),
        }),
    },
    Statement {
        syntax: "rt vpn (import|export|both) EXTCOMMUNITY...",
        help: "Route targets of what is imported and exported",
        action: Action::VrfFamily(Verb { read: read_targets, write: write_targets }),
    },
    flag!("import vpn", "Take routes of the VPN into the VRF", import),
    flag!("export vpn", "Announce routes of the VRF to the VPN", export),
];

fn read_targets(family: &mut VrfFamily, args: &Args<'_>) -> Result<(), Complaint> {
    // As in FRR, the line says all of them.
    let targets: BTreeSet<ExtCommunity> = args.all("EXTCOMMUNITY")?.into_iter().collect();
    if !args.has("export") {
        family.import_targets = targets.clone();
    }
    if !args.has("import") {
        family.export_targets = targets;
    }
    Ok(())
}

fn write_targets(family: &VrfFamily, lines: &mut Lines) {
    let mut say = |way: &str, targets: &BTreeSet<ExtCommunity>| {
        if !targets.is_empty() {
            let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
            lines.line(format_args!("rt vpn {way} {}", targets.join(" ")));
        }
    };
    if family.import_targets == family.export_targets {
        say("both", &family.import_targets);
    } else {
        say("import", &family.import_targets);
        say("export", &family.export_targets);
    }
}
