//! Long-lived graceful restart, capability 71 (RFC 9494 §3.1).

use bytes::BufMut;
use net_types::{Afi, Family, Safi};

use crate::cursor::Cursor;

const FORWARDING: u8 = 0x80;
/// The longest stale time, in seconds: the field has 24 bits.
pub const MAX_LONG_LIVED_SECONDS: u32 = 0x00ff_ffff;

/// One family that may stay stale for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LongLivedFamily {
    /// Address family.
    pub afi: Afi,
    /// Subsequent address family.
    pub safi: Safi,
    /// F: forwarding went on through the last restart.
    pub forwarding_preserved: bool,
    /// How long the speaker's routes may be used after its restart time has passed, in seconds; 24 bits.
    pub stale_seconds: u32,
}

impl LongLivedFamily {
    /// The family, if we carry it.
    pub fn family(&self) -> Option<Family> {
        Family::from_codes(self.afi, self.safi)
    }

    pub(super) fn parse(value: &[u8]) -> Option<Vec<Self>> {
        let mut cursor = Cursor::new(value);
        let mut list = Vec::with_capacity(value.len() / 7);
        while !cursor.is_empty() {
            let [high, low, safi, flags, a, b, c] = cursor.array()?;
            list.push(Self {
                afi: u16::from_be_bytes([high, low]).into(),
                safi: safi.into(),
                forwarding_preserved: flags & FORWARDING != 0,
                stale_seconds: u32::from_be_bytes([0, a, b, c]),
            });
        }
        Some(list)
    }

    pub(super) fn emit(self, out: &mut Vec<u8>) {
        out.put_u16(self.afi.code());
        out.put_u8(self.safi.code());
        out.put_u8(if self.forwarding_preserved { FORWARDING } else { 0 });
        out.put_uint(self.stale_seconds.min(MAX_LONG_LIVED_SECONDS).into(), 3);
    }
}
