//! Virtual addresses on interfaces, by rtnetlink.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use netlink_packet_route::address::{AddressAttribute, AddressProtocol};
use netwatch::VIRTUAL;
use rtnetlink::{AddressMessageBuilder, Handle};
use rustix::io::Errno;
use tracing::{info, warn};

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) ifindex: u32,
    pub(super) address: Ipv4Addr,
    /// Length of the subnet.
    pub(super) bits: u8,
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
        let mut request = self.0.address().add(held.ifindex, IpAddr::V4(held.address), held.bits);
        let mark = AddressAttribute::Protocol(AddressProtocol::Other(VIRTUAL));
        request.message_mut().attributes.push(mark);
        unless(request.execute().await, &[Errno::EXIST])
    }

    /// Takes it off, unless it is not there.
    pub(super) async fn take_off(&self, held: Held) -> io::Result<()> {
        let builder = AddressMessageBuilder::<Ipv4Addr>::new().index(held.ifindex);
        let message = builder.address(held.address, held.bits).build();
        unless(self.0.address().del(message).execute().await, &[Errno::ADDRNOTAVAIL, Errno::NODEV])
    }
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
