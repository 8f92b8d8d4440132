//! `load mrt`: routes of MRT files (RFC 6396) in the table, each file as a source of its own.
//!
//! A file is read on a thread that may wait for a disk, and its routes go to the table in small pieces, the next one only
//! after the table has taken the last: whatever else it has to do comes between. Every route of a prefix is a path of its
//! own, told apart by the collector's peer, as if the source sent several (RFC 7911). The collector's peers are no
//! neighbors of ours: what their next hops lead to is what the table finds out, unless one is given for all.

mod file;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bgp_core::{
    PeerId,
    rib::{PeerConfig, Source},
};
use bgp_wire::{PeerKind, Update};
use net_types::{Asn, Family};
use tracing::{info, warn};

use crate::rib_thread::{Gone, RibHandle};
use file::Routes;

pub use file::{ReadError, routes_of};

/// Files at a time.
const MOST_FILES: usize = 16;
/// Routes of one file; each takes some tens of octets, and attributes that no other route has some hundred.
const MOST_ROUTES: u64 = 20_000_000;
/// Routes that go to the table in one piece: well below a millisecond.
const PIECE: usize = 64;
/// Numbers of sources from here on are files; neighbors are numbered from 1.
const FIRST_SOURCE: u32 = 0xc000_0000;

/// The files; clones lead to the same.
#[derive(Clone, Default)]
pub struct Loads(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    files: BTreeMap<u32, Arc<Load>>,
    last: u32,
}

/// One file.
pub struct Load {
    /// Its name.
    pub file: PathBuf,
    /// When it was begun.
    pub begun: SystemTime,
    /// Routes that were handed to the table.
    routes: AtomicU64,
    /// Entries that could not be read as a route.
    unreadable: AtomicU64,
    /// It is to be taken out: the reader stops.
    unwanted: AtomicBool,
    outcome: Mutex<Outcome>,
}

/// How far a file has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is more.
    Reading,
    /// All of it is in the table.
    Complete,
    /// Up to here, and why no further.
    Ended(String),
}

/// What is known of a file.
#[derive(Clone, Debug)]
pub struct Status {
    /// By which `clear mrt` knows it.
    pub number: u32,
    /// Its name.
    pub file: PathBuf,
    /// When it was begun.
    pub begun: SystemTime,
    /// Routes that were handed to the table.
    pub routes: u64,
    /// Entries that could not be read as a route.
    pub unreadable: u64,
    /// How far it has been read.
    pub outcome: Outcome,
    /// Its source in the table.
    pub source: Source,
}

/// What a source of a file is called in the place of a neighbor's name; `None` for neighbors.
pub fn name(source: PeerId) -> Option<String> {
    source.0.checked_sub(FIRST_SOURCE).map(|number| format!("mrt-{number}"))
}

impl Loads {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to read a file into the table; gives its number. `next_hop` takes the place of those in the file.
    ///
    /// # Errors
    /// With a line for the operator, when the file cannot be read or there are too many.
    pub async fn begin(&self, rib: &RibHandle, asn: Asn, file: &Path, next_hop: Option<IpAddr>) -> Result<u32, String> {
        let opened = file.to_owned();
        let routes = tokio::task::spawn_blocking(move || Routes::open(&opened)).await;
        let routes = routes
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("% {}: {error}; name a file that bgpd may read", file.display()))?;
        let (number, load) = {
            let mut known = self.lock();
            if known.files.len() >= MOST_FILES {
                return Err(format!("% {MOST_FILES} files are in the table; take one out by \"clear mrt\" first"));
            }
            known.last += 1;
            let load = Arc::new(Load {
                file: file.to_owned(),
                begun: SystemTime::now(),
                routes: AtomicU64::new(0),
                unreadable: AtomicU64::new(0),
                unwanted: AtomicBool::new(false),
                outcome: Mutex::new(Outcome::Reading),
            });
            let number = known.last;
            known.files.insert(number, load.clone());
            (number, load)
        };
        let source = PeerId(FIRST_SOURCE + number);
        let config = PeerConfig::new(Ipv4Addr::UNSPECIFIED.into(), PeerKind::External, asn);
        let added = rib
            .query_mut(move |rib, _| {
                let added = rib.configure_peer(source, config);
                rib.begin_feed(source);
                added
            })
            .await;
        if !added.unwrap_or(false) {
            self.lock().files.remove(&number);
            return Err("% the table has no room for another source".to_owned());
        }
        info!(file = %file.display(), number, "loading an MRT file");
        let table = rib.clone();
        let reader = std::thread::Builder::new()
            .name("mrt-load".to_owned())
            .spawn(move || load.run(&table, source, routes, next_hop));
        if let Err(error) = reader {
            // Nobody reads it: it is not to be shown as if somebody did.
            self.end(rib, Some(number)).await.map_err(|gone| gone.to_string())?;
            return Err(format!("% the system gives no thread to read {} with: {error}; try again", file.display()));
        }
        Ok(number)
    }

    /// Takes the routes of a file out of the table, or of all files; how many files that were.
    ///
    /// # Errors
    /// When the table is gone.
    pub async fn end(&self, rib: &RibHandle, number: Option<u32>) -> Result<usize, Gone> {
        let gone: BTreeMap<u32, Arc<Load>> = {
            let mut known = self.lock();
            let (gone, kept) = std::mem::take(&mut known.files)
                .into_iter()
                .partition(|(known, _)| number.is_none_or(|number| number == *known));
            known.files = kept;
            gone
        };
        for (number, load) in &gone {
            load.unwanted.store(true, Ordering::Relaxed);
            let source = PeerId(FIRST_SOURCE + number);
            rib.apply(move |rib, now| rib.end_feed(now, source)).await?;
        }
        Ok(gone.len())
    }

    /// What is known of each file, in order.
    pub fn status(&self) -> Vec<Status> {
        let known = self.lock();
        let status = |(number, load): (&u32, &Arc<Load>)| Status {
            number: *number,
            file: load.file.clone(),
            begun: load.begun,
            routes: load.routes.load(Ordering::Relaxed),
            unreadable: load.unreadable.load(Ordering::Relaxed),
            outcome: load.outcome().clone(),
            source: Source::Peer(PeerId(FIRST_SOURCE + number)),
        };
        known.files.iter().map(status).collect()
    }
}

impl Load {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, rib: &RibHandle, source: PeerId, mut routes: Routes, next_hop: Option<IpAddr>) {
        let outcome = loop {
            let mut piece = Vec::with_capacity(PIECE);
            let end = loop {
                if piece.len() == PIECE {
                    break None;
                }
                match routes.next(next_hop) {
                    Ok(Some(update)) => piece.push(update),
                    Ok(None) => break Some(Outcome::Complete),
                    Err(error) => break Some(Outcome::Ended(error.to_string())),
                }
            };
            self.unreadable.store(routes.unreadable(), Ordering::Relaxed);
            let count = piece.len() as u64;
            if !self.hand_over(rib, source, piece) {
                return;
            }
            let total = self.routes.fetch_add(count, Ordering::Relaxed) + count;
            match end {
                Some(outcome) => break outcome,
                None if total >= MOST_ROUTES => {
                    break Outcome::Ended(format!("no more than {MOST_ROUTES} routes are taken"));
                }
                None => {}
            }
        };
        let routes = self.routes.load(Ordering::Relaxed);
        match &outcome {
            Outcome::Ended(why) => warn!(file = %self.file.display(), routes, why, "an MRT file was loaded in part"),
            _ => info!(file = %self.file.display(), routes, "an MRT file was loaded"),
        }
        *self.outcome() = outcome;
    }

    /// Waits until the table has taken a piece; whether to go on.
    fn hand_over(&self, rib: &RibHandle, source: PeerId, piece: Vec<Update>) -> bool {
        let (taken, answer) = std::sync::mpsc::sync_channel(1);
        let job = move |rib: &mut bgp_core::rib::Rib, now| {
            piece.into_iter().for_each(|update| rib.update(now, source, update));
            // The reader waits; should it not, nobody minds.
            let _ = taken.send(());
        };
        !self.unwanted.load(Ordering::Relaxed) && rib.apply_blocking(job).is_ok() && answer.recv().is_ok()
    }
}

/// How old a status is, in whole seconds.
pub fn age(status: &Status, now: SystemTime) -> Duration {
    Duration::from_secs(now.duration_since(status.begun).unwrap_or_default().as_secs())
}

/// The families that files have routes of.
pub const FAMILIES: [Family; 2] = Family::UNICAST;

#[cfg(test)]
mod tests;
