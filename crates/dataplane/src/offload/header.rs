//! The header before each packet of a TUN device opened with `IFF_VNET_HDR`: `struct virtio_net_hdr` (virtio 1.2 §5.1.6),
//! ten octets in the machine's own byte order.

/// Octets of the header.
pub(crate) const VNET_LEN: usize = sys::tun::VNET_HEADER_LEN;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM
const NEEDS_CHECKSUM: u8 = 1;
/// VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6, _UDP_L4
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;

/// What is still to be done to a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VnetHeader {
    /// The transport checksum has to be completed: where its range begins, and where in it the field lies.
    pub(crate) checksum: Option<(u16, u16)>,
    /// It has to be cut.
    pub(crate) cut: Option<Cut>,
}

/// How a packet is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// What it is.
    pub(crate) kind: Kind,
    /// Payload of each segment but the last, which may have less.
    pub(crate) size: u16,
    /// Octets of all headers.
    pub(crate) headers: u16,
}

/// What may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    TcpV4,
    TcpV6,
    /// Either family.
    Udp,
}

/// A header that asks for what was never offered to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownKind;

impl VnetHeader {
    /// Reads a header.
    pub(crate) fn parse(octets: &[u8; VNET_LEN]) -> Result<Self, UnknownKind> {
        let word = |at: usize| u16::from_ne_bytes([octets[at], octets[at + 1]]);
        let kind = match octets[1] {
            0 => None,
            GSO_TCP_V4 => Some(Kind::TcpV4),
            GSO_TCP_V6 => Some(Kind::TcpV6),
            GSO_UDP => Some(Kind::Udp),
            _ => return Err(UnknownKind),
        };
        let checksum = (octets[0] & NEEDS_CHECKSUM != 0).then(|| (word(6), word(8)));
        Ok(Self { checksum, cut: kind.map(|kind| Cut { kind, headers: word(2), size: word(4) }) })
    }

    /// Writes it.
    pub(crate) fn emit(&self) -> [u8; VNET_LEN] {
        let mut octets = [0; VNET_LEN];
        let mut put = |at: usize, value: u16| octets[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        if let Some((start, offset)) = self.checksum {
            put(6, start);
            put(8, offset);
        }
        if let Some(cut) = self.cut {
            put(2, cut.headers);
            put(4, cut.size);
        }
        octets[0] = if self.checksum.is_some() { NEEDS_CHECKSUM } else { 0 };
        octets[1] = match self.cut.map(|cut| cut.kind) {
            None => 0,
            Some(Kind::TcpV4) => GSO_TCP_V4,
            Some(Kind::TcpV6) => GSO_TCP_V6,
            Some(Kind::Udp) => GSO_UDP,
        };
        octets
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(checksum: Option<(u16, u16)>, cut: Option<(u16, u16)>, kind in 0usize..3) {
            let kind = [Kind::TcpV4, Kind::TcpV6, Kind::Udp][kind];
            let header = VnetHeader { checksum, cut: cut.map(|(size, headers)| Cut { kind, size, headers }) };
            prop_assert_eq!(VnetHeader::parse(&header.emit()), Ok(header));
        }
    }

    #[test]
    fn what_was_not_offered_is_refused() {
        for kind in [2, 3, 0x81] {
            assert_eq!(VnetHeader::parse(&[0, kind, 0, 0, 0, 0, 0, 0, 0, 0]), Err(UnknownKind));
        }
    }
}
