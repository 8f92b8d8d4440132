//! What an earlier process has left in the kernel: taken up, told of while peers send by it, ended in time.
//!
//! Traffic goes on by associations that nobody here has negotiated. A peer that calls nobody would be content with that until
//! they end; so whoever negotiates hears of its packets as of ESP for an association that does not exist.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use xfrm::{SaId, SaInfo};

use super::{Control, IF_ID_BASE, IF_ID_LAST, gre::is_of_gre};
use crate::{Event, Path};

/// How often it is looked whether peers send by what was inherited.
const LOOK: Duration = Duration::from_secs(1);
/// How many such associations are told of at one look.
const TOLD_AT_ONCE: usize = 10;
/// RFC 3948; also where IKE is spoken beside ESP without UDP.
const PORT: u16 = 4500;

/// Associations of a tunnel that go on until there is something better.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) inbound: Vec<Orphan>,
    pub(super) outbound: Vec<SaId>,
    pub(super) until: Option<Instant>,
}

/// An inbound one.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) id: SaId,
    local: SocketAddr,
    remote: SocketAddr,
    /// The mark of the link that its peer is sent to by, if it is.
    mark: Option<u32>,
    /// What it had carried when it was last looked at.
    packets: u64,
}

impl Inherited {
    /// Out of all associations, those that a tunnel owns.
    pub(super) fn of(owns: impl Fn(&SaInfo) -> bool, sas: &[SaInfo], until: Instant) -> Self {
        // Every outbound one of ours is marked for its link.
        let (outbound, inbound): (Vec<&SaInfo>, Vec<&SaInfo>) =
            sas.iter().filter(|sa| owns(sa)).partition(|sa| sa.output_mark.is_some());
        let orphan = |sa: &SaInfo| {
            let ports = sa.encapsulation.map_or((PORT, PORT), |udp| (udp.destination_port, udp.source_port));
            let back = outbound.iter().find(|back| back.id.destination == sa.source);
            Orphan {
                id: sa.id,
                local: SocketAddr::new(sa.id.destination, ports.0),
                remote: SocketAddr::new(sa.source, ports.1),
                mark: back.and_then(|back| back.output_mark),
                packets: sa.current.packets,
            }
        };
        let inbound: Vec<_> = inbound.into_iter().map(orphan).collect();
        let outbound: Vec<_> = outbound.iter().map(|sa| sa.id).collect();
        let until = (!inbound.is_empty() || !outbound.is_empty()).then_some(until);
        Self { inbound, outbound, until }
    }

    /// Those that are to go, if that is due or `now` is `None`.
    pub(super) fn end(&mut self, now: Option<Instant>) -> Vec<SaId> {
        let due = self.until.is_some_and(|until| now.is_none_or(|now| until <= now));
        if !due {
            return Vec::new();
        }
        let all = std::mem::take(self);
        all.ids().collect()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SaId> {
        self.outbound.iter().copied().chain(self.inbound.iter().map(|orphan| orphan.id))
    }
}

impl Control {
    /// Does what is due, and gives what is to be told and when to look again.
    pub(super) fn serve_inherited(&mut self, now: Instant) -> (Vec<Event>, Option<Instant>) {
        let ends = self.retire(now);
        if self.tunnels.values().all(|tunnel| tunnel.inherited.inbound.is_empty()) {
            return (Vec::new(), ends);
        }
        let told = if self.look_again.is_none_or(|at| at <= now) {
            self.look_again = Some(now + LOOK);
            self.orphans_in_use()
        } else {
            Vec::new()
        };
        (told, ends.into_iter().chain(self.look_again).min())
    }

    /// The inbound associations whose peers have sent since the last look.
    fn orphans_in_use(&mut self) -> Vec<Event> {
        // What cannot be read now is read at the next look.
        let Ok(sas) = self.requests.dump(xfrm::dump_sas(), SaInfo::parse) else { return Vec::new() };
        let wans = &self.wans;
        let orphans = self.tunnels.values_mut().flat_map(|tunnel| &mut tunnel.inherited.inbound);
        let used = orphans.filter_map(|orphan| {
            let packets = sas.iter().find(|sa| sa.id == orphan.id)?.current.packets;
            let (wan, _) = wans.iter().find(|(_, mark)| Some(**mark) == orphan.mark)?;
            let before = std::mem::replace(&mut orphan.packets, packets);
            let path = Path { wan: wan.clone(), local: orphan.local, remote: orphan.remote };
            (packets > before).then(|| Event::UnknownSpi { spi: orphan.id.spi.get(), path })
        });
        used.take(TOLD_AT_ONCE).collect()
    }

    /// Ends what was inherited and is due, and gives when to look again.
    fn retire(&mut self, now: Instant) -> Option<Instant> {
        for name in self.tunnels.keys().cloned().collect::<Vec<_>>() {
            let Some(tunnel) = self.tunnels.get_mut(&name) else { continue };
            let replaced = !tunnel.outbound.is_empty();
            let gone = tunnel.inherited.end(Some(now));
            if gone.is_empty() {
                continue;
            }
            if replaced {
                tracing::info!(tunnel = %name, associations = gone.len(), "the associations of the earlier run have been replaced");
            } else {
                tracing::warn!(tunnel = %name, associations = gone.len(), "nobody has come for the associations of the earlier run; they end");
            }
            let _logged = self.settle(&name);
            self.delete(&gone);
        }
        if self.sweep.is_some_and(|at| at <= now) {
            self.sweep = None;
            self.sweep();
        }
        let dues = self.tunnels.values().filter_map(|tunnel| tunnel.inherited.until);
        dues.chain(self.sweep).min()
    }

    /// Associations with a number of ours that no tunnel has: of tunnels that are configured no more.
    fn sweep(&mut self) {
        let of_xfrm = |sa: &SaInfo| (IF_ID_BASE + 1..=IF_ID_LAST).contains(&sa.if_id) && sa.reqid == sa.if_id;
        let ours = |sa: &SaInfo| of_xfrm(sa) || is_of_gre(sa);
        let Ok(sas) = self.requests.dump(xfrm::dump_sas(), SaInfo::parse) else { return };
        let known = |sa: &SaInfo| self.tunnels.values().any(|tunnel| tunnel.owns(sa));
        let stray: Vec<_> = sas.iter().filter(|sa| ours(sa) && !known(sa)).map(|sa| sa.id).collect();
        if !stray.is_empty() {
            tracing::warn!(
                associations = stray.len(),
                "removed the kernel's associations of tunnels that are not configured"
            );
            self.delete(&stray);
        }
    }
}
