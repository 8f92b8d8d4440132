//! BMP: one task a station, each with a monitor of its own in the routing table.
//!
//! A station is pulled for like a neighbor: the task asks the table for the next piece when the station has taken the last.
//! What a slow station has not been told collapses in the table; nothing is queued and nobody waits. A station that takes
//! nothing for a minute is disconnected and told everything again when it is back, which is the only resynchronisation
//! there is: it is the same as a first connection.

mod messages;
mod station;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bgp_core::rib::MonitorConfig;
use config::model::{BmpRetry, BmpTargets, Config, Host, Name};
use net_types::Family;
use tokio::sync::Notify;

use crate::state::State;

/// A station is named by the targets that it belongs to, its host and its port.
type Key = (Name, Host, u16);

/// All stations; clones lead to the same.
#[derive(Clone, Default)]
pub struct Bmp {
    stations: Arc<Mutex<BTreeMap<Key, Station>>>,
}

struct Station {
    targets: BmpTargets,
    retry: BmpRetry,
    status: Arc<Mutex<StationStatus>>,
    stop: Arc<Notify>,
}

/// What `show bmp` has to say of a station.
#[derive(Clone, Debug)]
pub struct StationStatus {
    /// It is connected.
    pub up: bool,
    /// Since when it is, or is not.
    pub since: SystemTime,
    /// Why it is not connected.
    pub trouble: Option<String>,
    /// Messages sent over this connection.
    pub messages: u64,
    /// Octets sent over this connection.
    pub octets: u64,
    /// Connections that were made.
    pub connections: u64,
}

/// A station with its configuration, for `show bmp`.
#[derive(Clone, Debug)]
pub struct StationView {
    /// `bmp targets NAME`
    pub targets: Name,
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// What it is told.
    pub config: BmpTargets,
    /// How it is.
    pub status: StationStatus,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bmp {
    /// Goes over to this configuration. A station that stays as it was does not notice.
    pub fn configure(&self, config: &Config, state: &State) {
        let mut wanted = BTreeMap::new();
        for (name, targets) in config.bgp.iter().flat_map(|bgp| &bgp.bmp) {
            for ((host, port), retry) in &targets.stations {
                // Only what concerns this station: another one beside it changes nothing.
                let own = BmpTargets { stations: BTreeMap::new(), ..targets.clone() };
                wanted.insert((name.clone(), host.clone(), *port), (own, *retry));
            }
        }
        let mut stations = lock(&self.stations);
        stations.retain(|key, station| {
            let stays =
                wanted.get(key).is_some_and(|(targets, retry)| (targets, retry) == (&station.targets, &station.retry));
            if !stays {
                station.stop.notify_one();
            }
            stays
        });
        for (key, (targets, retry)) in wanted {
            stations.entry(key.clone()).or_insert_with(|| {
                let status = Arc::new(Mutex::new(StationStatus {
                    up: false,
                    since: SystemTime::now(),
                    trouble: None,
                    messages: 0,
                    octets: 0,
                    connections: 0,
                }));
                let (stop, (_, host, port)) = (Arc::new(Notify::new()), key);
                let station = station::Station {
                    host,
                    port,
                    monitor: monitor(&targets),
                    stats_interval: targets.stats_interval,
                    retry,
                    status: Arc::clone(&status),
                    stop: Arc::clone(&stop),
                };
                tokio::spawn(station.run(state.clone()));
                Station { targets, retry, status, stop }
            });
        }
    }

    /// Every station.
    pub fn status(&self) -> Vec<StationView> {
        let stations = lock(&self.stations);
        let view = |((targets, host, port), station): (&Key, &Station)| StationView {
            targets: targets.clone(),
            host: host.clone(),
            port: *port,
            config: station.targets.clone(),
            status: lock(&station.status).clone(),
        };
        stations.iter().map(view).collect()
    }
}

fn monitor(targets: &BmpTargets) -> MonitorConfig {
    let mut monitor = MonitorConfig::default();
    for (family, views) in &targets.monitor {
        let at = *family as usize;
        monitor.pre_policy[at] = views.pre_policy;
        monitor.post_policy[at] = views.post_policy;
        monitor.loc_rib[at] = views.loc_rib;
        monitor.adj_out[at] = views.adj_rib_out;
    }
    monitor
}

/// Whether a view of any family is watched.
fn any(views: [bool; Family::COUNT]) -> bool {
    Family::ALL.into_iter().any(|family| views[family as usize])
}
