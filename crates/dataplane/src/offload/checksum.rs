//! The Internet checksum (RFC 1071), fast enough to be taken over every octet that crosses a tunnel.

/// A one's complement sum under way. Parts may be added in any order, each beginning at an even offset of the whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds octets; an odd last one counts as followed by zero.
    pub(crate) fn add(self, octets: &[u8]) -> Self {
        // RFC 1071 §2: the sum is the same in either byte order, and words of any even length may be added. Eight lanes of
        // 32 bits in 64 neither overflow (an IP packet is short) nor wait for one another.
        let mut lanes = [0u64; 8];
        let (blocks, rest) = octets.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (words, tail) = rest.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        let total = lanes.iter().fold(u64::from(u32::from_ne_bytes(last)), |total, lane| total + fold32(*lane));
        Self(fold32(self.0) + fold32(total))
    }

    /// Adds the pseudo-header of a transport segment (RFC 9293 §3.1, RFC 8200 §8.1): the addresses of an IP header, the
    /// protocol and the segment's length.
    pub(crate) fn add_pseudo_header(self, ip: &[u8], protocol: u8, length: usize) -> Self {
        let addresses = match ip.first().map_or(0, |octet| octet >> 4) {
            4 => ip.get(12..20),
            _ => ip.get(8..40),
        };
        let length = u32::try_from(length).unwrap_or(u32::MAX); // an IP packet is at most 64 KiB long
        self.add(addresses.unwrap_or_default()).add(&length.to_be_bytes()).add(&[0, protocol])
    }

    /// The sum itself, as it stands in a field that somebody else is to complete.
    pub(crate) fn partial(self) -> [u8; 2] {
        let mut sum = fold32(self.0);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_ne_bytes() // at most 0xffff by now
    }

    /// The complement, which is what travels. A whole with a right checksum in it gives zero.
    pub(crate) fn checksum(self) -> [u8; 2] {
        self.partial().map(|octet| !octet)
    }
}

/// Makes up in a checksum for a word of the whole that was replaced (RFC 1624 §3: HC' = ~(~HC + ~m + m')).
pub(crate) fn replace(check: &mut [u8], old: [u8; 2], new: [u8; 2]) {
    let complement = |word: [u8; 2]| word.map(|octet| !octet);
    let Ok(before) = <[u8; 2]>::try_from(&*check) else { return };
    let sum = Sum::default().add(&complement(before)).add(&complement(old)).add(&new);
    check.copy_from_slice(&sum.checksum());
}

fn fold32(value: u64) -> u64 {
    (value & u64::from(u32::MAX)) + (value >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// RFC 1071 §4.1 in its plain form.
    fn plain(octets: &[u8]) -> [u8; 2] {
        let mut sum: u32 =
            octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn the_rfcs_example_adds_up() {
        let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().add(&octets).partial(), [0xdd, 0xf2]);
    }

    proptest! {
        #[test]
        fn it_is_the_plain_sum(octets in vec(prop_oneof![Just(0xffu8), any::<u8>()], 0..3000), cut: prop::sample::Index) {
            prop_assert_eq!(Sum::default().add(&octets).checksum(), plain(&octets));
            let (front, back) = octets.split_at(cut.index(octets.len() + 1) & !1);
            prop_assert_eq!(Sum::default().add(front).add(back).checksum(), plain(&octets));
        }
    }

    #[test]
    fn the_largest_packet_does_not_overflow() {
        let octets = vec![0xff; 65_535];
        assert_eq!(Sum::default().add(&octets).checksum(), plain(&octets));
    }
}
