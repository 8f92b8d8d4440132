//! Putting fragmented messages together again (RFC 7383 §2.6).
//!
//! Only authenticated fragments get here, and only those of the one message that is expected next in its direction, so
//! what a peer can make us hold is bounded by one message of [`MAX_OCTETS`] each way.

use std::collections::BTreeMap;

use ike_wire::{Fragment, PayloadType};

/// Most fragments of one message.
pub(crate) const MAX_FRAGMENTS: u16 = 128;
/// Most octets of one message; a long certificate chain has a few thousand.
pub(crate) const MAX_OCTETS: usize = 64 * 1024;

/// The fragments of one message, as far as they have come.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    message_id: u32,
    total: u16,
    first_inner: Option<PayloadType>,
    parts: BTreeMap<u16, Vec<u8>>,
    octets: usize,
}

/// A message that cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReassemblyError {
    /// More fragments than any message needs.
    #[error("{0} fragments in one message, expected at most {MAX_FRAGMENTS}")]
    TooMany(u16),
    /// More octets than any message needs.
    #[error("a fragmented message of more than {MAX_OCTETS} octets")]
    TooLong,
}

impl Reassembly {
    /// Adds an opened fragment; gives the whole once it is complete.
    pub(crate) fn add(
        &mut self,
        message_id: u32,
        fragment: Fragment,
        first_inner: PayloadType,
        plaintext: Vec<u8>,
    ) -> Result<Option<(PayloadType, Vec<u8>)>, ReassemblyError> {
        if fragment.total > MAX_FRAGMENTS {
            return Err(ReassemblyError::TooMany(fragment.total));
        }
        // RFC 7383 §2.6: a larger total means that the peer fragments anew, a smaller one that this is an old fragment.
        if message_id != self.message_id || fragment.total > self.total {
            *self = Self { message_id, total: fragment.total, ..Self::default() };
        } else if fragment.total < self.total || self.parts.contains_key(&fragment.number) {
            return Ok(None);
        }
        if self.octets.saturating_add(plaintext.len()) > MAX_OCTETS {
            *self = Self::default();
            return Err(ReassemblyError::TooLong);
        }
        if fragment.number == 1 {
            self.first_inner = Some(first_inner); // RFC 7383 §2.5: only the first fragment names it
        }
        self.octets += plaintext.len();
        self.parts.insert(fragment.number, plaintext);
        match self.first_inner {
            Some(first_inner) if self.parts.len() == usize::from(self.total) => {
                let whole = std::mem::take(self).parts.into_values().flatten().collect();
                Ok(Some((first_inner, whole)))
            }
            _ => Ok(None),
        }
    }

    /// Forgets what has come so far.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SA: PayloadType = PayloadType::SecurityAssociation;

    fn add(
        reassembly: &mut Reassembly,
        number: u16,
        total: u16,
        octets: &[u8],
    ) -> Result<Option<(PayloadType, Vec<u8>)>, ReassemblyError> {
        let first = if number == 1 { SA } else { PayloadType::None };
        reassembly.add(1, Fragment { number, total }, first, octets.to_vec())
    }

    #[test]
    fn a_larger_total_starts_anew_and_a_smaller_one_is_stale() {
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, 1, 2, b"old "), Ok(None));
        assert_eq!(add(&mut reassembly, 3, 3, b"c"), Ok(None));
        assert_eq!(add(&mut reassembly, 2, 2, b"fragments"), Ok(None));
        assert_eq!(add(&mut reassembly, 1, 3, b"a"), Ok(None));
        assert_eq!(add(&mut reassembly, 2, 3, b"b"), Ok(Some((SA, b"abc".to_vec()))));
    }

    #[test]
    fn what_a_peer_can_make_us_hold_is_bounded() {
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, 1, MAX_FRAGMENTS + 1, b"x"), Err(ReassemblyError::TooMany(129)));
        let half = vec![0; MAX_OCTETS / 2 + 1];
        assert_eq!(add(&mut reassembly, 1, 3, &half), Ok(None));
        assert_eq!(add(&mut reassembly, 2, 3, &half), Err(ReassemblyError::TooLong));
        assert_eq!(reassembly.octets, 0);
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_and_number_make_the_message(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let total = parts.len() as u16;
            let mut reassembly = Reassembly::default();
            let whole = Ok(Some((SA, parts.concat())));
            let mut seen = std::collections::BTreeSet::new();
            // Repeated fragments in random order first, then each once more.
            let arrivals = order.iter().map(|index| index.index(parts.len())).chain(0..parts.len());
            for at in arrivals {
                seen.insert(at);
                let got = add(&mut reassembly, at as u16 + 1, total, &parts[at]);
                if seen.len() == parts.len() {
                    prop_assert_eq!(got, whole);
                    return Ok(());
                }
                prop_assert_eq!(got, Ok(None));
            }
        }
    }
}
