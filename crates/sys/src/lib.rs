//! sys.

pub mod netlink;
