//! The anti-replay window and the inference of extended sequence numbers (RFC 4303 §3.4.3, appendix A2).
//!
//! A ring of words, of which advancing clears only those that it enters (RFC 6479), so that a jump costs no more than the
//! ring. The word that the newest number is in is never whole, hence a window of one word less than the ring.

/// Words in the ring; a power of two, so that a position is a mask away.
const WORDS: usize = 256;

/// Which numbers of one association have been seen.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// The highest number accepted; 0 before the first packet, which number 1 is (RFC 4303 §2.2).
    top: u64,
    /// How far behind the newest a packet may come: at most [`Self::SIZE`].
    size: u64,
    esn: bool,
    ring: Box<[u64; WORDS]>,
}

/// Why a packet is refused before any cryptography.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Seen before.
    #[error("sequence number {0} was received before")]
    Duplicate(u64),
    /// Left of the window.
    #[error("sequence number {0} is older than the replay window")]
    TooOld(u64),
    /// Zero, which no sender uses (RFC 4303 §3.3.3).
    #[error("sequence number 0 is never sent")]
    Zero,
}

impl ReplayWindow {
    /// How far behind the newest a packet may come at most.
    pub const SIZE: u64 = (WORDS as u64 - 1) * u64::BITS as u64;

    /// A window for a fresh association, of [`Self::SIZE`] packets.
    pub fn new(esn: bool) -> Self {
        Self { top: 0, size: Self::SIZE, esn, ring: Box::new([0; WORDS]) }
    }

    /// The same of `packets`, between 32, below which RFC 4303 §3.4.3 does not go, and [`Self::SIZE`].
    #[must_use]
    pub fn of(self, packets: u64) -> Self {
        Self { size: packets.clamp(32, Self::SIZE), ..self }
    }

    /// The highest sequence number accepted so far.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// The whole number behind the 32 bits on the wire, and whether it may still come. Changes nothing: authenticate
    /// with the number returned, then [`Self::accept`] it.
    ///
    /// # Errors
    /// When the packet is to be dropped unopened.
    pub fn check(&self, wire: u32) -> Result<u64, ReplayError> {
        let sequence = self.infer(wire)?;
        if sequence == 0 {
            return Err(ReplayError::Zero);
        }
        if sequence > self.top {
            return Ok(sequence);
        }
        if self.top - sequence >= self.size {
            return Err(ReplayError::TooOld(sequence));
        }
        let (word, bit) = Self::place(sequence);
        if self.ring[word] & bit != 0 { Err(ReplayError::Duplicate(sequence)) } else { Ok(sequence) }
    }

    /// Records a number that [`Self::check`] let through and whose packet proved authentic.
    pub fn accept(&mut self, sequence: u64) {
        if sequence > self.top {
            let entered = (sequence / u64::from(u64::BITS)) - (self.top / u64::from(u64::BITS));
            let first = self.top / u64::from(u64::BITS) + 1;
            for word in 0..entered.min(WORDS as u64) {
                self.ring[((first + word) % WORDS as u64) as usize] = 0;
            }
            self.top = sequence;
        }
        let (word, bit) = Self::place(sequence);
        self.ring[word] |= bit;
    }

    fn place(sequence: u64) -> (usize, u64) {
        let word = (sequence / u64::from(u64::BITS)) % WORDS as u64;
        (word as usize, 1 << (sequence % u64::from(u64::BITS)))
    }

    /// RFC 4303 appendix A2.2: the high half follows from where the low half lies relative to the widest window, of which a
    /// narrower one is the newer part.
    fn infer(&self, wire: u32) -> Result<u64, ReplayError> {
        let wire = u64::from(wire);
        if !self.esn {
            return Ok(wire);
        }
        let (high, low) = (self.top >> 32, self.top & u64::from(u32::MAX));
        let high = if low >= Self::SIZE - 1 {
            // Case A, the window within one subspace: what is left of it belongs to the next one.
            if wire + Self::SIZE > low {
                Some(high)
            } else {
                high.checked_add(1).filter(|high| *high <= u64::from(u32::MAX))
            }
        } else {
            // Case B, the window reaches back into the previous subspace.
            let bottom = (1u64 << 32) - (Self::SIZE - 1 - low);
            if wire >= bottom { high.checked_sub(1) } else { Some(high) }
        };
        // Before the first subspace and after the last there is nothing: such a number was never sent.
        high.map(|high| high << 32 | wire).ok_or(ReplayError::TooOld(wire))
    }

    #[cfg(test)]
    pub(crate) fn starting_at(top: u64, esn: bool) -> Self {
        Self { top, ..Self::new(esn) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What the RFC says, in the dullest way: every number ever accepted is kept.
    struct Model {
        top: u64,
        seen: BTreeSet<u64>,
    }

    impl Model {
        /// Of the numbers with these low bits, the first one not left of the window is meant; the window of a young
        /// association begins below zero, where nothing was ever sent.
        fn check(&self, wire: u32, esn: bool) -> Result<u64, ()> {
            let edge = i128::from(self.top) + 1 - i128::from(ReplayWindow::SIZE);
            let wire = i128::from(wire);
            let meant = if esn { edge + (wire - edge).rem_euclid(1 << 32) } else { wire };
            let number = u64::try_from(meant).map_err(|_| ())?;
            let fresh = number != 0 && meant >= edge && !self.seen.contains(&number);
            fresh.then_some(number).ok_or(())
        }
    }

    fn agree(start: u64, esn: bool, wires: impl IntoIterator<Item = (i64, bool)>) -> Result<(), TestCaseError> {
        let mut window = ReplayWindow::starting_at(start, esn);
        let mut model = Model { top: start, seen: BTreeSet::new() };
        for (offset, authentic) in wires {
            let wire = crate::cipher::low(model.top.wrapping_add_signed(offset));
            let verdict = window.check(wire);
            prop_assert_eq!(verdict.ok(), model.check(wire, esn).ok(), "wire {:#x} at top {:#x}", wire, model.top);
            if let (Ok(sequence), true) = (verdict, authentic) {
                window.accept(sequence);
                model.seen.insert(sequence);
                model.top = model.top.max(sequence);
            }
        }
        Ok(())
    }

    fn offsets() -> impl Strategy<Value = Vec<(i64, bool)>> {
        let size = ReplayWindow::SIZE as i64;
        let offset = prop_oneof![
            8 => -200i64..200,
            4 => -size - 70..-size + 70,
            2 => -size..size,
            1 => 0..3 * size,
            1 => any::<i32>().prop_map(i64::from),
        ];
        vec((offset, prop::bool::weighted(0.9)), 1..300)
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_naive_model(wires in offsets(), start in 0u64..100_000) {
            agree(start, false, wires)?;
        }

        #[test]
        fn extended_numbers_are_inferred_as_the_model_does(wires in offsets(), high in 0u64..3, near in -40_000i64..40_000) {
            agree((high << 32).saturating_add_signed(near), true, wires)?;
        }

        #[test]
        fn the_end_of_all_numbers_is_not_passed(wires in offsets(), back in 0u64..40_000) {
            agree(u64::MAX - back, true, wires)?;
        }
    }

    #[test]
    fn a_number_is_taken_once_and_old_ones_never() {
        let mut window = ReplayWindow::new(false);
        assert_eq!(window.check(0), Err(ReplayError::Zero));
        assert_eq!(window.check(1), Ok(1));
        window.accept(1);
        assert_eq!(window.check(1), Err(ReplayError::Duplicate(1)));
        let far = u32::try_from(ReplayWindow::SIZE).unwrap() + 1;
        window.accept(u64::from(far));
        assert_eq!(window.check(1), Err(ReplayError::TooOld(1)));
        assert_eq!(window.check(2), Ok(2));
    }

    #[test]
    fn every_number_in_turn_is_taken_at_every_edge() {
        for start in [0, u64::from(u32::MAX) - 20_000] {
            let mut window = ReplayWindow::starting_at(start, true);
            for number in start + 1..start + 40_000 {
                assert_eq!(window.check(crate::cipher::low(number)), Ok(number));
                window.accept(number);
            }
        }
    }

    #[test]
    fn the_low_half_wraps_with_extended_numbers_only() {
        let edge = u64::from(u32::MAX);
        assert_eq!(ReplayWindow::starting_at(edge, true).check(5), Ok((1 << 32) + 5));
        assert_eq!(ReplayWindow::starting_at(edge, false).check(5), Err(ReplayError::TooOld(5)));
    }

    #[test]
    fn a_narrower_window_refuses_earlier() {
        for esn in [false, true] {
            let mut window = ReplayWindow::new(esn).of(64);
            window.accept(1000);
            assert_eq!(window.check(936), Err(ReplayError::TooOld(936)));
            assert_eq!(window.check(937), Ok(937));
        }
        assert_eq!(ReplayWindow::new(false).of(0).size, 32);
        assert_eq!(ReplayWindow::new(false).of(u64::MAX).size, ReplayWindow::SIZE);
    }

    const _: () = assert!(ReplayWindow::SIZE >= 8192);
}
