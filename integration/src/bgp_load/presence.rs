//! Which prefixes of at most 24 bits are there: one bit each, so that a reader counts millions a second.

use anyhow::{Result, bail};

/// The longest prefix that is told apart.
const LONGEST: u8 = 24;

/// A set of IPv4 prefixes, and how many are in it.
#[derive(Debug)]
pub struct Presence {
    /// By length, made when the first prefix of that length comes.
    lengths: [Vec<u64>; LONGEST as usize + 1],
    count: usize,
}

impl Default for Presence {
    fn default() -> Self {
        Self { lengths: std::array::from_fn(|_| Vec::new()), count: 0 }
    }
}

impl Presence {
    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds or removes a prefix; whether that changed anything.
    pub fn set(&mut self, address: u32, bits: u8, there: bool) -> Result<bool> {
        let Some(words) = self.lengths.get_mut(usize::from(bits)) else { bail!("a prefix of {bits} bits") };
        let number = if bits == 0 { 0 } else { address >> (32 - bits) };
        let (word, bit) = ((number >> 6) as usize, 1u64 << (number & 63));
        if words.len() <= word {
            if !there {
                return Ok(false);
            }
            // Tables of neighboring prefixes take no more than they need.
            words.resize((word + 1).next_power_of_two(), 0);
        }
        let was = words[word] & bit != 0;
        if there {
            words[word] |= bit;
            self.count += usize::from(!was);
        } else {
            words[word] &= !bit;
            self.count -= usize::from(was);
        }
        Ok(was != there)
    }

    /// Adds or removes every prefix of a list as it is on the wire (RFC 4271 §4.3).
    pub fn list(&mut self, mut list: &[u8], there: bool) -> Result<()> {
        while let Some((bits, rest)) = list.split_first() {
            let octets = usize::from(*bits).div_ceil(8);
            let Some((prefix, rest)) = rest.split_at_checked(octets) else { bail!("a prefix runs past its message") };
            let address = prefix.iter().fold(0u32, |sum, octet| sum << 8 | u32::from(*octet));
            self.set(if octets == 0 { 0 } else { address << (32 - 8 * octets) }, *bits, there)?;
            list = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_counted_once_whatever_is_said_twice() -> Result<()> {
        let mut set = Presence::default();
        let list = [24, 10, 0, 1, 8, 10, 0, 23, 192, 168, 2];
        set.list(&list, true)?;
        set.list(&list[..4], true)?;
        assert_eq!(set.len(), 4, "/24, /8, default, /23");
        assert!(!set.set(0x0a00_0100, 24, true)?);
        set.list(&list[4..6], false)?;
        set.list(&list[4..6], false)?;
        assert_eq!(set.len(), 3);
        assert!(set.list(&[24, 1, 2], true).is_err() && set.list(&[25, 1, 2, 3, 4], true).is_err());
        Ok(())
    }
}
