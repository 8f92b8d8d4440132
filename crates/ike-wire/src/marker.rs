//! The non-ESP marker: four zero octets before IKE on port 4500, where an ESP packet has its SPI (RFC 3948 §2.2).

/// What stands before every IKE message on UDP port 4500.
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// What a datagram on port 4500 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulated<'a> {
    /// An IKE message, its marker taken off.
    Ike(&'a [u8]),
    /// An ESP packet.
    Esp(&'a [u8]),
    /// One octet 0xff that only keeps the NAT's mapping alive (RFC 3948 §2.3).
    Keepalive,
    /// Too short to be any of them.
    Runt,
}

/// Sorts a datagram received on port 4500.
pub fn classify(datagram: &[u8]) -> Encapsulated<'_> {
    match datagram {
        [0xff] => Encapsulated::Keepalive,
        [0, 0, 0, 0, ike @ ..] => Encapsulated::Ike(ike),
        [_, _, _, _, ..] => Encapsulated::Esp(datagram),
        _ => Encapsulated::Runt,
    }
}

/// The message with the marker before it.
pub fn with_marker(message: &[u8]) -> Vec<u8> {
    [&NON_ESP_MARKER, message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_4500_carries_three_kinds() {
        assert_eq!(classify(&with_marker(b"ike")), Encapsulated::Ike(b"ike"));
        assert_eq!(classify(&[0, 0, 1, 0, 9]), Encapsulated::Esp(&[0, 0, 1, 0, 9]));
        assert_eq!(classify(&[0xff]), Encapsulated::Keepalive);
        assert_eq!(classify(&[0xff, 0xff]), Encapsulated::Runt);
        assert_eq!(classify(&[]), Encapsulated::Runt);
    }
}
