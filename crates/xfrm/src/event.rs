//! What the kernel tells unasked.

use std::net::{IpAddr, SocketAddr};

use net_types::Spi;

use crate::{
    layout::{IPPROTO_ESP, RawExpire, RawMapping, kind},
    message::Received,
    sa::{SaId, SaInfo},
};

/// The multicast group of [`Event::Expired`] (`XFRMNLGRP_EXPIRE`).
pub const GROUP_EXPIRE: u32 = 2;
/// The multicast group of [`Event::Moved`] (`XFRMNLGRP_MAPPING`).
pub const GROUP_MAPPING: u32 = 8;

/// Something that happened to an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has reached a limit; at a hard one the kernel has taken it out.
    Expired {
        /// The association.
        sa: SaInfo,
        /// Whether it is gone.
        hard: bool,
    },
    /// An authentic packet of its peer came from another address or port than the association says.
    Moved {
        /// The association, an inbound one.
        id: SaId,
        /// What ties it to policies.
        reqid: u32,
        /// Where the packet came from.
        from: SocketAddr,
    },
}

impl Event {
    /// `None` for what is no event, or not of an ESP association in tunnel mode.
    pub fn parse(received: Received<'_>) -> Option<Self> {
        match received.kind {
            kind::EXPIRE => {
                let (raw, attributes) = received.split::<RawExpire>()?;
                Some(Self::Expired { sa: SaInfo::read(&raw.sa, attributes)?, hard: raw.hard != 0 })
            }
            kind::MAPPING => {
                let (raw, _) = received.split::<RawMapping>()?;
                if raw.id.protocol != IPPROTO_ESP {
                    return None;
                }
                let family = raw.id.family;
                let from: IpAddr = raw.new_source.get(family)?;
                Some(Self::Moved {
                    id: SaId {
                        destination: raw.id.destination.get(family)?,
                        spi: Spi::try_from(raw.id.spi.get()).ok()?,
                    },
                    reqid: raw.reqid,
                    from: SocketAddr::new(from, raw.new_port.get()),
                })
            }
            _ => None,
        }
    }
}
