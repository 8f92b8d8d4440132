//! Graceful restart, capability 64 (RFC 4724 §3), with the N bit of RFC 8538 §2.

use bytes::BufMut;
use net_types::{Afi, Family, Safi};

use crate::cursor::Cursor;

const RESTARTING: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;
const TIME: u16 = 0x0fff;
const FORWARDING: u8 = 0x80;

/// What a speaker promises about its restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GracefulRestart {
    /// R: it has just restarted, and does not want to be waited for.
    pub restarting: bool,
    /// N: a NOTIFICATION other than a hard reset is a restart too (RFC 8538).
    pub notification: bool,
    /// How long it takes to come back, in seconds; 12 bits.
    pub restart_seconds: u16,
    /// The families that it keeps forwarding.
    pub families: Vec<GracefulRestartFamily>,
}

/// One family of a graceful restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GracefulRestartFamily {
    /// Address family.
    pub afi: Afi,
    /// Subsequent address family.
    pub safi: Safi,
    /// F: forwarding went on through the last restart.
    pub forwarding_preserved: bool,
}

impl GracefulRestartFamily {
    /// A family that we carry.
    pub fn new(family: Family, forwarding_preserved: bool) -> Self {
        Self { afi: family.afi(), safi: family.safi(), forwarding_preserved }
    }

    /// The family, if we carry it.
    pub fn family(&self) -> Option<Family> {
        Family::from_codes(self.afi, self.safi)
    }
}

impl GracefulRestart {
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        let flags = cursor.u16()?;
        let mut families = Vec::with_capacity(cursor.remaining() / 4);
        while !cursor.is_empty() {
            let [high, low, safi, flags] = cursor.array()?;
            families.push(GracefulRestartFamily {
                afi: u16::from_be_bytes([high, low]).into(),
                safi: safi.into(),
                forwarding_preserved: flags & FORWARDING != 0,
            });
        }
        Some(Self {
            restarting: flags & RESTARTING != 0,
            notification: flags & NOTIFICATION != 0,
            restart_seconds: flags & TIME,
            families,
        })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let restarting = if self.restarting { RESTARTING } else { 0 };
        let notification = if self.notification { NOTIFICATION } else { 0 };
        out.put_u16(restarting | notification | self.restart_seconds.min(TIME));
        for family in &self.families {
            out.put_u16(family.afi.code());
            out.put_u8(family.safi.code());
            out.put_u8(if family.forwarding_preserved { FORWARDING } else { 0 });
        }
    }
}
