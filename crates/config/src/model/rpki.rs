//! RPKI: the caches that tell which AS may originate which prefix.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::Host;

/// `rpki`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rpki {
    /// `rpki polling_period`: seconds between queries, where not as the cache says.
    pub polling_period: Option<Duration>,
    /// `rpki retry_interval`: seconds between attempts, where not as the cache says.
    pub retry_interval: Option<Duration>,
    /// `rpki expire_interval`: seconds that payloads stay in force without a query that succeeds.
    pub expire_interval: Option<Duration>,
    /// `rpki cache … preference N`, by that number: the lowest that has something to say is believed.
    pub caches: BTreeMap<u8, RpkiCache>,
}

/// `rpki cache`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpkiCache {
    /// Its name or address.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub transport: RpkiTransport,
}

/// How the connection to a cache is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpkiTransport {
    /// Not at all: for a cache on the same machine or behind a tunnel.
    Tcp,
    /// `tls` (RFC 8210 §9.2)
    Tls {
        /// Authorities that may vouch for the cache, in PEM.
        trust_anchor: PathBuf,
        /// The name that its certificate has to have, where that is not `host`.
        server_name: Option<Host>,
        /// Our certificate and its key, where the cache asks for one.
        client: Option<(PathBuf, PathBuf)>,
    },
}

impl Rpki {
    /// The configured intervals, in the order of RFC 8210 §6: refresh, retry, expire.
    pub fn intervals(&self) -> [Option<Duration>; 3] {
        [self.polling_period, self.retry_interval, self.expire_interval]
    }
}
