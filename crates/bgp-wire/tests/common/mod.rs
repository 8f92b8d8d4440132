//! What the integration tests share: recorded messages and terms to read them by.

use bgp_wire::{FamilySet, Negotiated, PeerKind};
use net_types::Family;

/// Messages by name.
pub(crate) fn vectors(file: &str) -> Vec<(String, Vec<u8>)> {
    let path = format!("{}/testdata/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .map(|line| {
            let (name, hex) = line.split_once(' ').unwrap_or_else(|| panic!("{path}: {line}"));
            (name.to_owned(), unhex(hex))
        })
        .collect()
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A session with both families.
pub(crate) fn terms(peer_kind: PeerKind, four_octet_as: bool) -> Negotiated {
    Negotiated {
        four_octet_as,
        families: Family::ALL.into_iter().collect::<FamilySet>(),
        ..Negotiated::base(peer_kind)
    }
}
