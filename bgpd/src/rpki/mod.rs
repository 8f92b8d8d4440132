//! RPKI: one task a cache, and the one cache whose payloads are in force.
//!
//! All caches are kept in step, so that the next one is ready when one is lost. In force is what the cache says that has
//! something to say, is connected rather than not, and has the lowest preference number: one cache at a time
//! (RFC 8210 §10). Going over from one to another tells the routing table the difference and nothing else, and so does
//! everything a cache says. Payloads of a cache that was lost stay in force until they expire, unless another has some.

mod link;
#[cfg(test)]
mod tests;
mod tls;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use bgp_core::validation::{Roa, RoaChanges};
use config::model::{self, RpkiCache};
use rtr::{Client, Output};
use tokio::{sync::Mutex, task::JoinHandle};
use tracing::info;

use crate::rib_thread::RibHandle;

/// The caches and what they say; clones lead to the same.
#[derive(Clone)]
pub struct Rpki {
    book: Arc<Mutex<Book>>,
    rib: RibHandle,
}

/// Every cache, by preference.
#[derive(Default)]
struct Book {
    caches: BTreeMap<u8, Cache>,
    /// The one whose payloads are in force.
    active: Option<u8>,
}

struct Cache {
    config: RpkiCache,
    client: Client,
    task: Option<JoinHandle<()>>,
    /// Why there is no connection, where there is none.
    trouble: Option<String>,
    /// Since when it is connected, or is not.
    since: SystemTime,
}

/// What `show rpki` has to say of a cache.
#[derive(Clone, Debug)]
pub struct CacheStatus {
    /// `preference`
    pub preference: u8,
    /// The rest of its configuration.
    pub config: RpkiCache,
    /// Its payloads are the ones in force.
    pub active: bool,
    /// The conversation with it.
    pub client: rtr::Status,
    /// Why there is no connection, where there is none.
    pub trouble: Option<String>,
    /// Since when it is connected, or is not.
    pub since: SystemTime,
}

impl Rpki {
    /// No cache, until [`configure`](Self::configure).
    pub fn new(rib: RibHandle) -> Self {
        Self { book: Arc::default(), rib }
    }

    /// Goes over to this configuration. A cache that stays as it was does not notice.
    pub async fn configure(&self, config: &model::Rpki) {
        let mut book = self.book.lock().await;
        let gone: Vec<u8> = book
            .caches
            .iter()
            .filter(|(preference, cache)| config.caches.get(preference) != Some(&cache.config))
            .map(|(preference, _)| *preference)
            .collect();
        let mut left = None;
        for preference in gone {
            let Some(cache) = book.caches.remove(&preference) else { continue };
            if let Some(task) = &cache.task {
                task.abort();
            }
            if book.active == Some(preference) {
                book.active = None;
                left = Some(cache.client);
            }
        }
        for (preference, wanted) in &config.caches {
            match book.caches.get_mut(preference) {
                Some(cache) => cache.client.configure(config.intervals()),
                None => {
                    let client = Client::new(config.intervals());
                    let cache =
                        Cache { config: wanted.clone(), client, task: None, trouble: None, since: SystemTime::now() };
                    book.caches.insert(*preference, cache);
                    let task = tokio::spawn(link::run(self.clone(), *preference, wanted.clone()));
                    if let Some(cache) = book.caches.get_mut(preference) {
                        cache.task = Some(task);
                    }
                }
            }
        }
        if let Some(left) = left {
            let next = book.best();
            let changes = difference(Some(&left), next.and_then(|next| book.client(next)));
            book.active = next;
            self.tell(changes).await;
        }
    }

    /// Every cache, by preference.
    pub async fn status(&self) -> Vec<CacheStatus> {
        let book = self.book.lock().await;
        let status = |(preference, cache): (&u8, &Cache)| CacheStatus {
            preference: *preference,
            config: cache.config.clone(),
            active: book.active == Some(*preference),
            client: cache.client.status(),
            trouble: cache.trouble.clone(),
            since: cache.since,
        };
        book.caches.iter().map(status).collect()
    }

    /// Lets `step` go on with the conversation with a cache, and passes on what comes of it. `None` when there is no
    /// such cache any more.
    async fn step(&self, preference: u8, step: impl FnOnce(&mut Cache) -> Vec<Output>) -> Option<Vec<Output>> {
        let mut book = self.book.lock().await;
        let cache = book.caches.get_mut(&preference)?;
        let outputs = step(cache);
        let mut news = false;
        for output in &outputs {
            if let Output::Synced(changes) | Output::Flushed(changes) = output {
                news = true;
                if book.active == Some(preference) {
                    self.tell(changes.clone()).await;
                }
            }
        }
        // Also without news: it may have been lost, or have come back.
        let next = book.best();
        if next != book.active {
            let changes =
                difference(book.active.and_then(|now| book.client(now)), next.and_then(|next| book.client(next)));
            book.active = next;
            if let Some(cache) = next.and_then(|next| book.caches.get(&next)) {
                let payloads = cache.client.roas().len();
                info!(host = %cache.config.host, port = cache.config.port, payloads, "payloads of this RPKI cache are in force");
            }
            self.tell(changes).await;
        } else if news && next == Some(preference) {
            let payloads = book.client(preference).map_or(0, |client| client.roas().len());
            tracing::debug!(preference, payloads, "RPKI payloads changed");
        }
        Some(outputs)
    }

    /// Tells the routing table. The book stays locked meanwhile, so that changes arrive in the order that they add up in.
    async fn tell(&self, changes: RoaChanges) {
        if !changes.announced.is_empty() || !changes.withdrawn.is_empty() {
            // The table is gone only while the daemon is on its way out.
            let _ = self.rib.apply(move |rib, _| rib.change_roas(&changes)).await;
        }
    }
}

impl Book {
    fn client(&self, preference: u8) -> Option<&Client> {
        self.caches.get(&preference).map(|cache| &cache.client)
    }

    /// Whose payloads should be in force.
    fn best(&self) -> Option<u8> {
        let synced = self.caches.iter().filter(|(_, cache)| cache.client.is_synced());
        synced.min_by_key(|(preference, cache)| (!cache.client.is_connected(), **preference)).map(|(best, _)| *best)
    }
}

fn difference(before: Option<&Client>, after: Option<&Client>) -> RoaChanges {
    let none = std::collections::BTreeSet::new();
    let (before, after) = (before.map_or(&none, Client::roas), after.map_or(&none, Client::roas));
    let copied = |from: std::collections::btree_set::Difference<'_, Roa>| from.copied().collect();
    RoaChanges { announced: copied(after.difference(before)), withdrawn: copied(before.difference(after)) }
}
