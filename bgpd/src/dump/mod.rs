//! `dump bgp`: MRT files of messages and of the table, written while the daemon goes on.
//!
//! Files are written on threads that may wait for a disk. A table is walked by the piece, as for `show`, and appears under
//! its name when it is complete; messages are appended to a file that a new one follows after the interval.

mod file;
mod messages;
mod routes;

use std::sync::{Arc, Mutex, PoisonError};

use config::model::{self, Dump};
use tokio::task::JoinHandle;

use crate::{state::State, tap::Tap};

/// The dumps under way; clones lead to the same.
#[derive(Clone, Default)]
pub struct Dumps {
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    config: model::Dumps,
    messages: Option<JoinHandle<()>>,
    routes: Option<JoinHandle<()>>,
}

impl Dumps {
    /// Goes over to this configuration. What stays as it was goes on into the same file.
    pub fn configure(&self, config: &model::Dumps, state: &State, tap: &Tap) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = |dumps: &model::Dumps| (dumps.all.clone(), dumps.updates.clone());
        if messages(config) != messages(&running.config) {
            if let Some(task) = running.messages.take() {
                // Its channel ends, and it writes what is left.
                tap.deafen();
                drop(task);
            }
            let (all, updates) = messages(config);
            if all.is_some() || updates.is_some() {
                running.messages = Some(messages::start(all, updates, tap));
            }
        }
        if config.routes != running.config.routes {
            if let Some(task) = running.routes.take() {
                task.abort();
            }
            running.routes = config.routes.clone().map(|dump: Dump| tokio::spawn(routes::run(dump, state.clone())));
        }
        running.config = config.clone();
    }
}
