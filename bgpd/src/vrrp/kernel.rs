//! Virtual addresses on interfaces, by rtnetlink.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressProtocol, CacheInfo};
use netwatch::{Address, VIRTUAL};
use rtnetlink::{AddressMessageBuilder, Handle};
use rustix::io::Errno;
use tracing::{info, warn};

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
    /// Length of the subnet.
    pub(super) bits: u8,
}

impl From<&Address> for Held {
    fn from(there: &Address) -> Self {
        Self { ifindex: there.ifindex, address: there.local, bits: there.bits }
    }
}

/// Where addresses are put on and taken off.
pub(super) struct Kernel(Handle);

impl Kernel {
    /// Opens a socket of its own; the current runtime serves it.
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Puts it on, unless it is there.
    pub(super) async fn put(&self, held: Held) -> io::Result<()> {
        let mut request = self.0.address().add(held.ifindex, held.address, held.bits);
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(VIRTUAL)));
        if held.address.is_ipv6() {
            // It is in use at once: whoever had it may still have it for a moment, and is not to keep us from it.
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            // Whatever does not ask for it does not speak from it (RFC 6724 §5, rule 3), as keepalived has it.
            attributes.push(AddressAttribute::CacheInfo(deprecated()));
        }
        unless(request.execute().await, &[Errno::EXIST])
    }

    /// Takes it off, unless it is not there.
    pub(super) async fn take_off(&self, held: Held) -> io::Result<()> {
        let Held { ifindex, bits, .. } = held;
        let message = match held.address {
            IpAddr::V4(address) => {
                AddressMessageBuilder::<Ipv4Addr>::new().index(ifindex).address(address, bits).build()
            }
            IpAddr::V6(address) => {
                AddressMessageBuilder::<Ipv6Addr>::new().index(ifindex).address(address, bits).build()
            }
        };
        unless(self.0.address().del(message).execute().await, &[Errno::ADDRNOTAVAIL, Errno::NODEV])
    }
}

/// Valid for ever, preferred never.
fn deprecated() -> CacheInfo {
    let mut lifetimes = CacheInfo::default();
    (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, u32::MAX);
    lifetimes
}

fn unless(result: Result<(), rtnetlink::Error>, fine: &[Errno]) -> io::Result<()> {
    match result {
        Err(rtnetlink::Error::NetlinkError(error)) => {
            let code = error.raw_code().abs();
            if fine.iter().any(|errno| errno.raw_os_error() == code) {
                return Ok(());
            }
            Err(io::Error::from_raw_os_error(code))
        }
        other => other.map_err(io::Error::other),
    }
}

/// Takes off what an earlier run has left.
pub(super) async fn take_off_all(left: Vec<Held>) {
    if left.is_empty() {
        return;
    }
    let kernel = match Kernel::open() {
        Ok(kernel) => kernel,
        Err(error) => return warn!(%error, "virtual addresses of an earlier run stay on their interfaces"),
    };
    for held in left {
        match kernel.take_off(held).await {
            Ok(()) => info!(address = %held.address, "a virtual address of an earlier run was taken off its interface"),
            Err(error) => {
                warn!(address = %held.address, %error, "a virtual address of an earlier run stays where it is")
            }
        }
    }
}
