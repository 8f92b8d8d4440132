//! The IPsec daemon: IKEv2 on every WAN link, ESP through one interface a tunnel.
//!
//! `main.rs` reads the command line; everything else is here, where tests reach it.

pub mod credentials;
pub mod daemon;
pub mod datapath;
mod devices;
mod ike_loop;
pub mod keeper_process;
mod links;
pub mod load;
pub mod metrics;
mod probe;
mod selectors;
pub mod service;
pub mod setup;
pub mod show;
mod standby;
pub mod state;
pub mod state_folder;
mod suites;
pub mod trust;
pub mod tunnel_if;
mod upcall;
pub mod wan;
