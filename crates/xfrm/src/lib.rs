//! The netlink messages of the kernel's IPsec (XFRM): values to octets, octets to values, no I/O.
//!
//! Written here rather than taken from a library for the sake of the keys: a message that holds one lives in a buffer that is
//! wiped, nothing that holds one can be printed, and what the kernel says is read without copying the keys that it repeats.
//! The layouts are those of linux/xfrm.h and linux/if_link.h, in the host's octet order unless a field says otherwise.
//!
//! What is here: associations (`XFRM_MSG_*SA`), policies, the events that a packet path needs (expiry, a peer that moved),
//! the link messages of xfrm and GRE interfaces, and the nftables messages that fit the MSS of TCP to them. What is not: acquiring (we negotiate when we are told to, not when a packet
//! comes), migration, compression, AH, and security contexts.

mod event;
mod gre;
mod interface;
mod layout;
mod message;
mod mss;
mod policy;
mod sa;

pub use event::{Event, GROUP_EXPIRE, GROUP_MAPPING};
pub use gre::{Gre, GreDf, GreHeader};
pub use interface::{Interface, InterfaceKind, create_interface, delete_link, query_link};
pub use message::{Answer, Malformed, Message, Messages, Received, Refusal};
pub use mss::{NETLINK_NETFILTER, add_mss, begin_batch, create_mss_table, end_batch, remove_mss};
pub use policy::{Action, Policy, PolicyDirection, PolicyInfo, Ports, Selector, Template, dump_policies};
pub use sa::{
    Algorithms, Current, Direction, Encapsulation, Lifetimes, Mode, Moved, Offload, OuterHeader, Replay, Sa, SaId,
    SaInfo, delete_sa, dump_sas, flush_sas, get_sa,
};

/// The netlink protocol of XFRM (`NETLINK_XFRM`).
pub const NETLINK_XFRM: isize = 6;
