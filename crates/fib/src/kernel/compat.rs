//! `net.ipv4.nexthop_compat_mode`, on which prefix-independent failover depends.
//!
//! With 1, the default, the kernel tells every listener about each route below a nexthop object that is replaced: a
//! million messages, and more than half a second under the route lock, for one switch. With 0 it tells of the object.

use std::{fs, io, path::Path};

/// What came of asking the kernel not to notify per route.
#[derive(Debug)]
pub enum CompatMode {
    /// It was off.
    AlreadyOff,
    /// It is off now, for everything in this network namespace.
    SwitchedOff,
    /// It stays on: failover takes time in proportion to the number of prefixes.
    StaysOn(io::Error),
}

/// Switches `net.ipv4.nexthop_compat_mode` off in the network namespace of the calling thread.
pub fn disable_nexthop_compat_mode() -> CompatMode {
    let path = Path::new("/proc/sys/net/ipv4/nexthop_compat_mode");
    match fs::read_to_string(path) {
        Ok(value) if value.trim() == "0" => CompatMode::AlreadyOff,
        Ok(_) => match fs::write(path, "0\n") {
            Ok(()) => CompatMode::SwitchedOff,
            Err(error) => CompatMode::StaysOn(error),
        },
        Err(error) => CompatMode::StaysOn(error),
    }
}
