//! The MSS of TCP inside, fitted by a table of nftables ([`xfrm::create_mss_table`]).
//!
//! Only what passes through this machine is fitted: its own TCP knows the interface's MTU. The table lives as long as the
//! socket that made it, which is closed when no tunnel is left.

use std::collections::BTreeMap;

use rustix::io::Errno;
use xfrm::NETLINK_NETFILTER;

use super::socket::{Netlink, NetlinkError};
use crate::inside;

/// Bounds by interface.
#[derive(Default)]
pub(super) struct Mss {
    /// The table's owner.
    table: Option<Netlink>,
    /// The MTU of each interface that the table knows, by index.
    fitted: BTreeMap<u32, u16>,
    /// Whether the operator has been told that there is none; told again after one that worked.
    told: bool,
}

impl Mss {
    /// Fits TCP through an interface to its MTU. Where the kernel cannot, connections whose ends do not heed "too big" may
    /// stall; that is told, once, and nothing to give up a tunnel for.
    pub(super) fn fit(&mut self, ifindex: u32, mtu: u16) {
        if self.fitted.get(&ifindex) == Some(&mtu) {
            return;
        }
        match self.try_fit(ifindex, mtu) {
            Ok(()) => self.told = false,
            Err(error) if !std::mem::replace(&mut self.told, true) => {
                let next = if error.is(Errno::EXIST) {
                    "another program has a table of that name; rename it, and restart ipsecd"
                } else {
                    "load nf_tables (Linux 5.12 or later), or set \"tcp option maxseg size\" in a ruleset of your own"
                };
                tracing::warn!(%error, "the MSS of TCP through tunnels of datapath kernel is not fitted, for want of table inet holdfast in nftables: {next}");
            }
            Err(error) => tracing::debug!(%error, ifindex, "the MSS of TCP through an interface is not fitted"),
        }
    }

    fn try_fit(&mut self, ifindex: u32, mtu: u16) -> Result<(), NetlinkError> {
        let bounds = xfrm::add_mss(ifindex, inside::mss_v4(mtu), inside::mss_v6(mtu));
        match &mut self.table {
            Some(table) => {
                let known = self.fitted.contains_key(&ifindex);
                let before = known.then(|| xfrm::remove_mss(ifindex));
                table.transaction(before.into_iter().flatten().chain(bounds).collect())?;
            }
            none => {
                let mut table = Netlink::open(NETLINK_NETFILTER)?;
                table.transaction(xfrm::create_mss_table().into_iter().chain(bounds).collect())?;
                *none = Some(table);
            }
        }
        self.fitted.insert(ifindex, mtu);
        Ok(())
    }

    /// Forgets an interface.
    pub(super) fn release(&mut self, ifindex: u32) {
        if self.fitted.remove(&ifindex).is_none() {
            return;
        }
        if self.fitted.is_empty() {
            self.table = None; // and the kernel's goes with it
            return;
        }
        let Some(table) = &mut self.table else { return };
        if let Err(error) = table.transaction(xfrm::remove_mss(ifindex).into()) {
            tracing::warn!(%error, ifindex, "a bound for the MSS of an interface that is gone stays in table inet holdfast");
        }
    }
}
