//! NAT detection hashes (RFC 7296 §2.23).

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::digest;
use ike_wire::IkeSpi;

/// SHA-1 over SPIs, address and port: the data of NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP. The RFC
/// names SHA-1; nothing secret depends on it.
pub fn nat_detection_hash(initiator: IkeSpi, responder: Option<IkeSpi>, endpoint: SocketAddr) -> [u8; 20] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(&initiator.to_bytes());
    context.update(&responder.map_or([0; 8], IkeSpi::to_bytes));
    match endpoint.ip().to_canonical() {
        IpAddr::V4(address) => context.update(&address.octets()),
        IpAddr::V6(address) => context.update(&address.octets()),
    }
    context.update(&endpoint.port().to_be_bytes());
    let mut hash = [0; 20];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_spis_address_and_port() {
        let (initiator, responder) = (IkeSpi::new(1).unwrap(), IkeSpi::new(2));
        let hash = |endpoint: &str| nat_detection_hash(initiator, responder, endpoint.parse().unwrap());
        let octets = [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 192, 0, 2, 1][..], &[1, 0xf4]].concat();
        let expected = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &octets);
        assert_eq!(hash("192.0.2.1:500"), expected.as_ref());
        assert_eq!(hash("[::ffff:192.0.2.1]:500"), expected.as_ref(), "a dual-stack socket sees it so");
        assert_ne!(hash("192.0.2.1:4500"), expected.as_ref());
        assert_ne!(nat_detection_hash(initiator, None, "192.0.2.1:500".parse().unwrap()), expected.as_ref());
    }
}
