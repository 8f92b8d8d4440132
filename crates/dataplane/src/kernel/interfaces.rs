//! Interfaces of tunnels: made, taken up where an earlier process has made them, put in the place of others.

use std::io;

use net_types::TunnelName;
use rustix::io::Errno;
use xfrm::{Interface, InterfaceKind};

use super::{
    Control, IF_ID_LAST, failed, gre,
    probe::NETLINK_ROUTE,
    socket::{Netlink, NetlinkError},
};
use crate::DataplaneError;

/// Removes an interface of that name: of a tunnel that was the kernel's when an earlier process ended. Its associations and
/// policies are of no effect without it; they end when nobody has come for them.
///
/// # Errors
/// When it cannot be looked for.
pub(crate) fn remove_leftover(name: &TunnelName) -> Result<(), DataplaneError> {
    let open = Netlink::open(NETLINK_ROUTE).map_err(NetlinkError::from);
    let mut routes = open.map_err(failed(name, "looking for its interface"))?;
    match routes.ask(xfrm::query_link(name.as_str()), Interface::parse) {
        Ok(Some(Interface { ifindex, kind })) if is_of_kernel(&kind) => {
            tracing::warn!(tunnel = %name, "the tunnel's interface was made for datapath kernel; it is made anew, and its routes with it");
            routes.request(xfrm::delete_link(ifindex)).map_err(failed(name, "removing its interface"))
        }
        _ => Ok(()),
    }
}

/// Whether an interface with the name of a tunnel is one that the kernel's datapath has made.
fn is_of_kernel(kind: &InterfaceKind) -> bool {
    match kind {
        InterfaceKind::Xfrm { .. } => true,
        InterfaceKind::Gre(ends) => gre::is_ours(ends),
        InterfaceKind::Other(_) => false,
    }
}

impl Control {
    /// The number and the index of the tunnel's interface, which is made if there is none.
    pub(super) fn interface(&mut self, name: &TunnelName, link: u32) -> Result<(u32, u32), DataplaneError> {
        let query = |routes: &mut Netlink| match routes.ask(xfrm::query_link(name.as_str()), Interface::parse) {
            Err(error) if error.is(Errno::NODEV) => Ok(None),
            other => other.map_err(failed(name, "looking for its interface")),
        };
        match query(&mut self.routes)? {
            Some(Interface { ifindex, kind: InterfaceKind::Xfrm { if_id, link: found } }) if found == link => {
                return Ok((if_id, ifindex));
            }
            Some(Interface { ifindex, kind: InterfaceKind::Xfrm { .. } }) => {
                tracing::warn!(tunnel = %name, "the device of its WAN is another one than before; the tunnel's interface is made anew, and its routes with it");
                self.delete_interface(name, ifindex);
            }
            Some(other) => self.make_room(name, other)?,
            None => {}
        }
        while self.next_if_id <= IF_ID_LAST {
            let if_id = self.next_if_id;
            self.next_if_id += 1;
            match self.routes.request(xfrm::create_interface(name.as_str(), if_id, link)) {
                Ok(()) => {
                    let made = query(&mut self.routes)?;
                    let gone = || NetlinkError::Socket(io::ErrorKind::NotFound.into());
                    let made = made.ok_or_else(gone).map_err(failed(name, "looking for the interface just made"))?;
                    return Ok((if_id, made.ifindex));
                }
                Err(error) if error.is(Errno::EXIST) => {} // another interface has that number
                Err(error) => return Err(failed(name, "making its xfrm interface")(error)),
            }
        }
        let error = io::Error::other("all 65534 numbers of xfrm interfaces have been used; restart ipsecd");
        Err(DataplaneError::Tunnel { tunnel: name.clone(), what: "making its xfrm interface".into(), error })
    }

    /// Removes an interface that has the tunnel's name and was made for it, as something else.
    pub(super) fn make_room(
        &mut self,
        name: &TunnelName,
        Interface { ifindex, kind }: Interface,
    ) -> Result<(), DataplaneError> {
        let made_for = match &kind {
            InterfaceKind::Other(kind) if kind == "tun" => "datapath userspace",
            kind if is_of_kernel(kind) => "another mode or other outer addresses",
            other => {
                let kind = match other {
                    InterfaceKind::Other(kind) => kind,
                    InterfaceKind::Gre(ends) => ends.kind(),
                    InterfaceKind::Xfrm { .. } => "xfrm",
                };
                let error = io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("there is an interface of that name, of kind \"{kind}\"; rename one of the two"),
                );
                let what = "making its interface".into();
                return Err(DataplaneError::Tunnel { tunnel: name.clone(), what, error });
            }
        };
        tracing::warn!(tunnel = %name, "the tunnel's interface was made for {made_for}; it is made anew, and its routes with it");
        self.delete_interface(name, ifindex);
        Ok(())
    }

    pub(super) fn delete_interface(&mut self, name: &TunnelName, ifindex: u32) {
        match self.routes.request(xfrm::delete_link(ifindex)) {
            Err(error) if !error.is(Errno::NODEV) => {
                tracing::warn!(tunnel = %name, %error, "the tunnel's interface stays; remove it with \"ip link del\"");
            }
            _ => {}
        }
    }
}
