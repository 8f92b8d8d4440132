//! Real peers from Debian's packages, each in a node of a lab, with its files and sockets in that node's folder.

mod bird;
mod frr;
mod gobgp;
mod keepalived;
mod stayrtr;
mod strongswan;

pub use bird::Bird;
pub use frr::Frr;
pub use gobgp::Gobgp;
pub use keepalived::Keepalived;
pub use stayrtr::{Payload, Stayrtr};
pub use strongswan::{Connection, SECOND_PORT, Secret, StrongSwan};
