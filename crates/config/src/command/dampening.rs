//! The commands about route flap dampening.

use net_types::{Family, Prefix};

use super::{Command, Destination, Owner, Row, destination, family, json, row};
use crate::grammar::{Args, Complaint};

/// What of dampening is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DampeningView {
    /// `parameters`
    Parameters,
    /// Paths.
    Paths(FlapTable),
}

/// Which paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlapTable {
    /// `dampened-paths`: those that are not used now.
    Dampened,
    /// `flap-statistics`: all that have flapped and are not forgotten.
    Flaps,
}

pub(super) const ROWS: &[Row] = &[
    row(
        Owner::Bgpd,
        "show [ip|ipv6] bgp [(ipv4|ipv6) [unicast]] dampening (dampened-paths|flap-statistics|parameters) [json]",
        "What has flapped, and how that is judged",
        show,
    ),
    row(
        Owner::Bgpd,
        "clear [ip|ipv6] bgp dampening [(PREFIX4|IPV4|PREFIX6|IPV6)]",
        "Forget what has flapped",
        |args| {
            let prefix = match destination(args)? {
                Some(Destination::Prefix(prefix)) => Some(prefix),
                Some(Destination::Address(address)) => Some(Prefix::host(address)),
                None => None,
            };
            Ok(Command::ClearDampening { prefix })
        },
    ),
];

fn show(args: &Args<'_>) -> Result<Command, Complaint> {
    let what = match (args.has("parameters"), args.has("dampened-paths")) {
        (true, _) => DampeningView::Parameters,
        (_, true) => DampeningView::Paths(FlapTable::Dampened),
        _ => DampeningView::Paths(FlapTable::Flaps),
    };
    let family: Family = family(args);
    Ok(Command::ShowDampening { family, what, json: json(args) })
}
