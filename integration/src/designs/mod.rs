//! The designs of `examples/`, each played from beginning to end: built, brought up, hurt, mended, with what is seen told
//! on the way. A lab asserts by it that the example does what its page says; `cargo xtask demo NAME` shows it to people.

mod cloud_detection;
mod dial_backup;
pub mod dual_hub;
mod dual_router;
mod gre_over_ipsec;
mod ground;
mod ipsec_ha;
pub mod no_bgp;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::edge::Binaries;
use crate::lab::Lab;
use crate::probe::{Flow, Flows};

pub use ipsec_ha::strongswan_takes_over;

/// One folder of `examples/`.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// The folder's name.
    pub name: &'static str,
    readme: &'static str,
    play: fn(&Lab, &Binaries, &mut Story<'_>) -> Result<()>,
}

/// The one that takes ESP and GRE in the kernel.
pub const GRE_OVER_IPSEC: &str = "gre-over-ipsec";

/// All that can be played, but for `two-isp`, which has a trial of its own.
pub const ALL: &[Design] = &[
    Design {
        name: "cloud-detection",
        readme: include_str!("../../../examples/cloud-detection/README.md"),
        play: cloud_detection::play,
    },
    Design {
        name: "dial-backup",
        readme: include_str!("../../../examples/dial-backup/README.md"),
        play: dial_backup::play,
    },
    Design { name: "dual-hub", readme: include_str!("../../../examples/dual-hub/README.md"), play: dual_hub::play },
    Design {
        name: "dual-router",
        readme: include_str!("../../../examples/dual-router/README.md"),
        play: dual_router::play,
    },
    Design { name: "no-bgp", readme: include_str!("../../../examples/no-bgp/README.md"), play: no_bgp::play },
    Design { name: "ipsec-ha", readme: include_str!("../../../examples/ipsec-ha/README.md"), play: ipsec_ha::play },
    Design {
        name: GRE_OVER_IPSEC,
        readme: include_str!("../../../examples/gre-over-ipsec/README.md"),
        play: gre_over_ipsec::play,
    },
];

impl Design {
    /// The one of this name.
    pub fn find(name: &str) -> Result<&'static Self> {
        let names = || ALL.iter().map(|design| design.name).collect::<Vec<_>>().join(", ");
        ALL.iter().find(|design| design.name == name).with_context(|| format!("\"{name}\" is none of {}", names()))
    }

    /// The drawing on its page.
    pub fn picture(&self) -> &'static str {
        self.readme.split("```").nth(1).unwrap_or_default()
    }

    /// Plays it; an error when something did not happen that should have, or happened that should not.
    pub fn play(&self, lab: &Lab, binaries: &Binaries, tell: &mut dyn FnMut(&str)) -> Result<()> {
        (self.play)(lab, binaries, &mut Story { tell })
    }
}

/// Where the play tells what it sees.
pub struct Story<'a> {
    tell: &'a mut dyn FnMut(&str),
}

impl Story<'_> {
    fn tell(&mut self, what: impl AsRef<str>) {
        (self.tell)(what.as_ref());
    }

    /// Tells how long `what` took away, both ways.
    fn outage(&mut self, what: &str, flows: &Flows) {
        let ends = |flow: &Flow| Some((*flow.sent.first()?, *flow.sent.last()?));
        let ms = |flow: &Flow| ends(flow).map_or(0.0, |(from, to)| flow.outage_ns(from, to) as f64 / 1e6);
        let lost = |flow: &Flow| flow.lost(0, i64::MAX);
        let (forth, back) = (&flows.forth, &flows.back);
        self.tell(format!(
            "{what}: {:.1} ms without a packet forth, {:.1} ms back; {} and {} lost",
            ms(forth),
            ms(back),
            lost(forth),
            lost(back)
        ));
    }

    /// Fails if a packet was lost.
    fn lossless(&mut self, what: &str, flows: &Flows) -> Result<()> {
        let (forth, back) = (flows.forth.lost(0, i64::MAX), flows.back.lost(0, i64::MAX));
        let when =
            |flow: &Flow| gaps(flow).iter().take(8).map(|(from, to)| format!(" {from}..{to}")).collect::<String>();
        ensure!(
            forth + back == 0,
            "{what}: {forth} of {} packets were lost forth (at{}) and {back} of {} back (at{})",
            flows.forth.sent.len(),
            when(&flows.forth),
            flows.back.sent.len(),
            when(&flows.back)
        );
        self.tell(format!("{what}: {} packets each way, none lost", flows.forth.sent.len()));
        Ok(())
    }
}

/// Runs of packets that did not arrive, by their numbers.
fn gaps(flow: &Flow) -> Vec<(usize, usize)> {
    let mut gaps: Vec<(usize, usize)> = Vec::new();
    for (number, _) in flow.arrived.iter().enumerate().filter(|(_, at)| at.is_none()) {
        match gaps.last_mut() {
            Some((_, to)) if *to == number => *to += 1,
            _ => gaps.push((number, number + 1)),
        }
    }
    gaps
}

/// What everything has to have happened within that no error keeps from happening.
const PATIENCE: Duration = Duration::from_secs(60);
