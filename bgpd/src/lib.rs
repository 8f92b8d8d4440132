//! The BGP daemon: BGP and BFD over tunnels, and the kernel FIB.
//!
//! `main.rs` reads the command line; everything else is here, where tests reach it.

pub mod bfd_thread;
pub mod bmp;
pub mod daemon;
pub mod damping;
pub mod dump;
pub mod failover;
pub mod fib_thread;
pub mod load;
pub mod local_routes;
pub mod metrics;
pub mod nexthop;
pub mod peer;
pub mod policy_setup;
pub mod reverse_routes;
pub mod rib_thread;
pub mod router_advert;
pub mod rpki;
pub mod service;
pub mod setup;
pub mod show;
pub mod silent;
pub mod state;
pub mod static_health;
pub mod tap;
pub mod tunnels;
pub mod vrf;
pub mod vrrp;
