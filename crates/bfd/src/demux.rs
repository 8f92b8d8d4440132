//! Which session a packet is for (RFC 5880 §6.8.6, RFC 5881 §3, RFC 5883 §4).

use std::{collections::HashMap, net::IpAddr, num::NonZeroU32};

use rand::RngCore;

use crate::{EchoPacket, Packet};

/// Whom a session is with. There is one session for each (RFC 5881 §3); over several hops, one for each address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// The interface that the packets come in by and leave by; 0 where the peer is several hops away (RFC 5883).
    pub ifindex: u32,
    /// The far end's address on it.
    pub address: IpAddr,
}

impl Peer {
    /// A peer that is several hops away.
    pub fn multihop(address: IpAddr) -> Self {
        Self { ifindex: 0, address }
    }

    /// Whether the session goes over several hops.
    pub fn is_multihop(&self) -> bool {
        self.ifindex == 0
    }
}

/// The sessions by both of their names. `K` is whatever the owner knows a session by.
#[derive(Debug)]
pub struct Demux<K> {
    by_discriminator: HashMap<NonZeroU32, (Peer, K)>,
    by_peer: HashMap<Peer, NonZeroU32>,
}

impl<K> Default for Demux<K> {
    fn default() -> Self {
        Self { by_discriminator: HashMap::new(), by_peer: HashMap::new() }
    }
}

impl<K: Copy> Demux<K> {
    /// Enters a session and draws its discriminator, which nobody can guess who has not seen it
    /// (RFC 5880 §9 would have sessions without authentication be hard to hit from elsewhere).
    ///
    /// `None` when there is a session with this peer already.
    pub fn insert(&mut self, peer: Peer, key: K, random: &mut dyn RngCore) -> Option<NonZeroU32> {
        if self.by_peer.contains_key(&peer) {
            return None;
        }
        let discriminator = loop {
            if let Some(drawn) = NonZeroU32::new(random.next_u32())
                && !self.by_discriminator.contains_key(&drawn)
            {
                break drawn;
            }
        };
        self.by_discriminator.insert(discriminator, (peer, key));
        self.by_peer.insert(peer, discriminator);
        Some(discriminator)
    }

    /// Takes a session out.
    pub fn remove(&mut self, peer: &Peer) -> Option<K> {
        let discriminator = self.by_peer.remove(peer)?;
        self.by_discriminator.remove(&discriminator).map(|(_, key)| key)
    }

    /// The session of a packet that came from `from`. A packet that names our discriminator has to come from the peer
    /// that the session is with: the discriminator alone would let anybody on any link speak for it.
    pub fn find(&self, from: &Peer, packet: &Packet) -> Option<K> {
        let discriminator = match packet.your_discriminator {
            Some(discriminator) => discriminator,
            None => *self.by_peer.get(from)?,
        };
        let (peer, key) = self.by_discriminator.get(&discriminator)?;
        (peer == from).then_some(*key)
    }

    /// The session whose Echo packet came back by the interface of this number.
    pub fn find_echo(&self, ifindex: u32, packet: &EchoPacket) -> Option<K> {
        let (peer, key) = self.by_discriminator.get(&packet.discriminator)?;
        (peer.ifindex == ifindex).then_some(*key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{Diagnostic, State};

    fn packet(your_discriminator: Option<NonZeroU32>) -> Packet {
        Packet {
            diagnostic: Diagnostic::None,
            state: State::Down,
            poll: false,
            r#final: false,
            control_plane_independent: false,
            authenticated: false,
            demand: false,
            detect_multiplier: 3,
            my_discriminator: NonZeroU32::MIN,
            your_discriminator,
            desired_min_tx: Duration::from_secs(1),
            required_min_rx: Duration::from_secs(1),
            required_min_echo_rx: Duration::ZERO,
        }
    }

    #[test]
    fn the_first_packet_is_found_by_its_source_and_later_ones_by_discriminator() {
        let mut random = StdRng::seed_from_u64(1);
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|text| Peer { ifindex: 3, address: text.parse().unwrap() });
        let mut demux = Demux::default();
        let mine = demux.insert(one, 'a', &mut random).unwrap();
        demux.insert(two, 'b', &mut random).unwrap();
        assert_eq!(demux.insert(one, 'c', &mut random), None);
        assert_eq!(demux.find(&two, &packet(None)), Some('b'));
        assert_eq!(demux.find(&one, &packet(Some(mine))), Some('a'));
        assert_eq!(demux.find(&two, &packet(Some(mine))), None, "somebody else speaks for the peer");
        let echo = EchoPacket { discriminator: mine, nonce: 0 };
        assert_eq!((demux.find_echo(3, &echo), demux.find_echo(4, &echo)), (Some('a'), None));
        let elsewhere = Peer { ifindex: 4, ..one };
        assert_eq!(demux.find(&elsewhere, &packet(Some(mine))), None);
        assert_eq!(demux.find(&elsewhere, &packet(None)), None);
        assert_eq!(demux.remove(&one), Some('a'));
        assert_eq!(demux.find(&one, &packet(Some(mine))), None);
    }
}
