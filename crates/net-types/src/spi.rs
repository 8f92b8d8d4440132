//! Security parameter indexes of ESP.

use std::{fmt, num::NonZeroU32};

/// Names one inbound ESP association; 0-255 are reserved (RFC 4303 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(NonZeroU32);

/// SPIs 0 to 255 are reserved (RFC 4303 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SPI {0} is reserved: expected 256 or greater (RFC 4303 §2.1)")]
pub struct ReservedSpi(pub u32);

impl Spi {
    /// The number on the wire.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for Spi {
    type Error = ReservedSpi;
    fn try_from(raw: u32) -> Result<Self, ReservedSpi> {
        NonZeroU32::new(raw).filter(|n| n.get() > 255).map(Self).ok_or(ReservedSpi(raw))
    }
}

impl fmt::Display for Spi {
    /// `0x00c0ffee`, as `ip xfrm state` and strongSwan's logs print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.get())
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_values_cannot_be_built() {
        assert_eq!(Spi::try_from(255), Err(ReservedSpi(255)));
        assert_eq!(Spi::try_from(0), Err(ReservedSpi(0)));
        assert_eq!(Spi::try_from(0x00c0_ffee).unwrap().to_string(), "0x00c0ffee");
    }
}
