//! Super-packets: what the kernel leaves uncut on the way out, and what it takes uncut on the way in.
//!
//! With segmentation offload a read of the TUN device gives up to 64 KiB of one flow with one set of headers, which
//! [`split`] cuts into packets where they lie; on the way back [`merge`] hands neighbours of one flow to the device
//! as one write. Both are what a network card and the kernel's GRO do, and neither changes what either end of the flow
//! sees. No I/O here: octets and slices.

pub(crate) mod checksum;
pub(crate) mod header;
pub(crate) mod merge;
mod round_trip;
pub(crate) mod split;
#[cfg(test)]
mod tests;

pub(crate) use header::VnetHeader;
pub(crate) use merge::{Device, Mergeable, Merger};
pub use round_trip::{cut_any, round_trip};

/// Protocol numbers and offsets that both directions use.
pub(crate) mod layout {
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    /// Where the checksum lies in the transport header.
    pub(crate) const TCP_CHECKSUM: usize = 16;
    /// See [`TCP_CHECKSUM`].
    pub(crate) const UDP_CHECKSUM: usize = 6;
    pub(crate) const TCP_FLAGS: usize = 13;
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const ECE: u8 = 0x40;
    pub(crate) const CWR: u8 = 0x80;
}
