//! NAT detection (RFC 7296 §2.23).

use ike_crypto::nat_detection_hash;
use ike_wire::{IkeSpi, NotifyType, Payload};
use rand::RngCore;

use crate::{config::Encapsulation, io::Path, sa::notify};

/// What NAT detection found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    /// The peer takes part in NAT traversal: it understands port 4500 and ESP in UDP.
    pub(crate) supported: bool,
    /// Our address is translated on the way.
    pub(crate) we_are_behind: bool,
    /// The peer's address is translated on the way, or it says so to have ESP put into UDP.
    pub(crate) peer_is_behind: bool,
    /// Which address and port of ours the peer sees, hashed with the SPIs of the SA in which it said so.
    pub(crate) seen_as: Option<[u8; 20]>,
}

impl Nat {
    /// The notifies that let the peer find out.
    pub(crate) fn announce(
        spis: (IkeSpi, Option<IkeSpi>),
        path: &Path,
        encapsulation: Encapsulation,
        rng: &mut dyn RngCore,
    ) -> [Payload; 2] {
        let mut source = nat_detection_hash(spis.0, spis.1, path.local);
        if encapsulation == Encapsulation::Always {
            // A hash that matches nothing: every peer then takes us to be behind a NAT and puts ESP into UDP.
            rng.fill_bytes(&mut source);
        }
        let destination = nat_detection_hash(spis.0, spis.1, path.remote);
        [notify(NotifyType::NatDetectionSourceIp, source), notify(NotifyType::NatDetectionDestinationIp, destination)]
    }

    /// What the peer's notifies say. It may send several sources, one per address of its own.
    pub(crate) fn detect(spis: (IkeSpi, Option<IkeSpi>), path: &Path, payloads: &[Payload]) -> Self {
        let data_of = |kind: NotifyType| {
            payloads.iter().filter_map(move |payload| match payload {
                Payload::Notify(notify) if notify.kind == kind => Some(&notify.data[..]),
                _ => None,
            })
        };
        let mut sources = data_of(NotifyType::NatDetectionSourceIp).peekable();
        let mut destinations = data_of(NotifyType::NatDetectionDestinationIp).peekable();
        if sources.peek().is_none() || destinations.peek().is_none() {
            return Self::default();
        }
        let seen_as = destinations.peek().and_then(|hash| <[u8; 20]>::try_from(*hash).ok());
        let from = nat_detection_hash(spis.0, spis.1, path.remote);
        let to = nat_detection_hash(spis.0, spis.1, path.local);
        Self {
            supported: true,
            we_are_behind: destinations.all(|hash| hash != to),
            peer_is_behind: sources.all(|hash| hash != from),
            seen_as,
        }
    }

    /// The same in the SA that takes this one's place.
    pub(crate) fn under_other_spis(self) -> Self {
        Self { seen_as: None, ..self }
    }

    /// Whether ESP goes in UDP and IKE on the NAT traversal port.
    pub(crate) fn encapsulates(self, encapsulation: Encapsulation) -> bool {
        let always = encapsulation == Encapsulation::Always;
        self.supported && (always || self.we_are_behind || self.peer_is_behind)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn path(local: &str, remote: &str) -> Path {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Path { wan: "isp1".parse().unwrap(), local, remote, natt: false }
    }

    fn seen(sender: &Path, receiver: &Path, encapsulation: Encapsulation) -> Nat {
        let spis = (IkeSpi::new(7).unwrap(), None);
        let announced = Nat::announce(spis, sender, encapsulation, &mut StdRng::seed_from_u64(1));
        Nat::detect(spis, receiver, &announced).under_other_spis()
    }

    #[test]
    fn translations_on_either_side_are_found() {
        let (plain, translated) = ("192.0.2.1:500", "203.0.113.9:4711");
        let peer = "198.51.100.1:500";
        let none = Nat { supported: true, ..Nat::default() };
        assert_eq!(seen(&path(plain, peer), &path(peer, plain), Encapsulation::IfNat), none);
        let theirs = Nat { peer_is_behind: true, ..none };
        assert_eq!(seen(&path(plain, peer), &path(peer, translated), Encapsulation::IfNat), theirs);
        let ours = Nat { we_are_behind: true, ..none };
        assert_eq!(seen(&path(plain, translated), &path(peer, plain), Encapsulation::IfNat), ours);
        assert_eq!(seen(&path(plain, peer), &path(peer, plain), Encapsulation::Always), theirs);
    }

    #[test]
    fn a_peer_without_nat_traversal_is_left_alone() {
        let spis = (IkeSpi::new(7).unwrap(), None);
        let nat = Nat::detect(spis, &path("192.0.2.1:500", "192.0.2.2:500"), &[]);
        assert!(!nat.encapsulates(Encapsulation::Always));
    }
}
