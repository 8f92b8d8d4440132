//! What `show` prints: text as FRR's users know it, and JSON under FRR's field names.
//!
//! Everything here is a function from plain data ([`view`]) to text. Tables are rendered a row at a time, so that a table of
//! a million routes is streamed and never held.

pub mod bfd;
pub mod bmp;
pub mod dampening;
pub mod interface;
pub mod kernel;
pub mod mrt;
pub mod neighbors;
pub mod nht;
pub mod orf;
pub mod policy;
pub mod restart;
pub mod route;
pub mod rpki;
pub mod summary;
pub mod table;
mod tcp_ao;
pub mod view;
pub mod vrrp;

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use net_types::Family;
use serde_json::{Map, Value};

/// `ipv4Unicast`, the key of a family in JSON.
pub fn family_key(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast => "ipv4Unicast",
        Family::Ipv6Unicast => "ipv6Unicast",
        Family::Ipv4Vpn => "ipv4Vpn",
        Family::Ipv6Vpn => "ipv6Vpn",
    }
}

/// `IPv4 Unicast`, the name of a family in text.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast => "IPv4 Unicast",
        Family::Ipv6Unicast => "IPv6 Unicast",
        Family::Ipv4Vpn => "IPv4 VPN",
        Family::Ipv6Vpn => "IPv6 VPN",
    }
}

/// `ipv4`, the address family of a next hop in JSON.
fn afi(address: std::net::IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// A duration as FRR prints uptimes: `00:01:02` under a day, `1d02h03m` under a week, `2w3d04h` beyond.
pub fn uptime(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (minutes, hours, days, weeks) = (seconds / 60, seconds / 3600, seconds / 86_400, seconds / 604_800);
    if days == 0 {
        format!("{hours:02}:{:02}:{:02}", minutes % 60, seconds % 60)
    } else if weeks == 0 {
        format!("{days}d{:02}h{:02}m", hours % 24, minutes % 60)
    } else {
        format!("{weeks:02}w{}d{:02}h", days % 7, hours % 24)
    }
}

/// Milliseconds, as a JSON number.
fn msec(duration: Duration) -> Value {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into()
}

/// Seconds since 1970, as a JSON number.
fn epoch(at: SystemTime) -> Value {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()).into()
}

/// An object built pair by pair, in the order given.
fn object<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
