//! Gratuitous ARP: everybody on the link learns at which hardware address an address is from now on (RFC 5227 §3).

use std::{io, net::Ipv4Addr};

use sys::packet::Broadcaster;

const ETHERTYPE: u16 = 0x0806;

/// Announces that these addresses are ours. Links without ARP are left alone.
///
/// # Errors
/// When the link takes no packet.
pub(super) fn announce(ifindex: u32, addresses: impl Iterator<Item = Ipv4Addr>) -> io::Result<u64> {
    let link = Broadcaster::open(ifindex)?;
    let Some(hardware) = link.hardware_address()? else { return Ok(0) };
    let mut sent = 0;
    for address in addresses {
        link.send(ETHERTYPE, &announcement(hardware, address))?;
        sent += 1;
    }
    Ok(sent)
}

/// An ARP request by `address` for itself, as keepalived and others make it.
fn announcement(hardware: [u8; 6], address: Ipv4Addr) -> [u8; 28] {
    let mut packet = [0; 28];
    // Ethernet, IPv4, their lengths, and "request" (RFC 826).
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&hardware);
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..28].copy_from_slice(&address.octets());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_and_target_are_the_same_address() {
        let packet = announcement([2, 0, 0, 0, 0, 10], Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(packet, [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 10, 10, 1, 0, 1, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1]);
    }
}
