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
