//! What can be asked.

mod configure;
mod execute;
mod silent;
mod tunnel;
mod wan;

pub use configure::{Configure, Configured};
pub use execute::{Execute, Text};
pub use silent::{Heard, TellSilent};
pub use tunnel::{TunnelEvent, TunnelState, TunnelStatus, WatchTunnels};
pub use wan::{WanEvent, WanState, WanStatus, WatchWans};

use std::net::IpAddr;

/// An enumeration with no known variant: from the future, or damaged.
fn missing(what: &str) -> String {
    format!("{what} is missing or of a kind that this version does not know")
}

fn addresses_to_text(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(IpAddr::to_string).collect()
}

fn addresses_from_text(texts: &[String]) -> Result<Vec<IpAddr>, String> {
    texts.iter().map(|text| text.parse().map_err(|_| format!("\"{text}\" is not an address"))).collect()
}

/// A message without fields, to which later versions may add some.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct EmptyProto {}
