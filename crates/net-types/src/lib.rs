//! Small checked types for the values that every part of the suite passes around.
//!
//! Each is checked when it is built, so what travels inward cannot be wrong, and no two of them can be mixed up.
//! This crate depends on none of ours, does no I/O and holds no state.

mod asn;
mod family;
mod name;
mod prefix;
mod rd;
mod router_id;
mod spi;

pub use asn::{Asn, AsnError};
pub use family::{Afi, Family, Safi};
pub use name::{IfName, NameError, TunnelName, WanName};
pub use prefix::{Prefix, PrefixError};
pub use rd::{Rd, RdError};
pub use router_id::{RouterId, ZeroRouterId};
pub use spi::{ReservedSpi, Spi};
