//! Tunnels in which nobody answers: what BFD says of them, told to ipsecd.
//!
//! ipsecd notices by itself when a peer's IKE is silent, seconds after BFD has noticed that packets do not arrive. A tunnel that
//! stands by for another one is called on either word.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bfd::{Peer, State};
use net_types::TunnelName;
use rpc::{Client, TellSilent};
use tokio::sync::Notify;

use crate::{bfd_thread::Change, tunnels::Tunnels};

/// How often ipsecd is told again: what it is not told for ten seconds does not count any more.
const REPEAT: Duration = Duration::from_secs(3);
/// Before the next attempt to reach it.
const PAUSE: Duration = Duration::from_millis(200);
const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// BFD sessions on links, by interface: written by the thread of BFD.
#[derive(Clone, Debug, Default)]
pub struct Silence(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Of sessions that were up: whether they are.
    sessions: Mutex<BTreeMap<u32, BTreeMap<Peer, bool>>>,
    changed: Notify,
}

impl Silence {
    /// A session came up, or was lost.
    pub fn changed(&self, change: &Change) {
        if change.peer.is_multihop() {
            return; // no link is to blame
        }
        let mut links = self.sessions();
        let sessions = links.entry(change.peer.ifindex).or_default();
        match (change.to, change.cause) {
            (State::Up, _) => {
                sessions.insert(change.peer, true);
            }
            (_, cause) if cause.blames_the_path() => {
                // One that was never up says nothing.
                sessions.entry(change.peer).and_modify(|up| *up = false);
            }
            // Somebody does without BFD on purpose (RFC 5882 §3.2).
            _ => {
                sessions.remove(&change.peer);
            }
        }
        drop(links);
        self.0.changed.notify_one();
    }

    /// These sessions are to be, and no others.
    pub fn retain(&self, wanted: &BTreeSet<Peer>) {
        let mut links = self.sessions();
        links.values_mut().for_each(|sessions| sessions.retain(|peer, _| wanted.contains(peer)));
        links.retain(|_, sessions| !sessions.is_empty());
        drop(links);
        self.0.changed.notify_one();
    }

    /// Links with sessions of which none is up any more.
    fn links(&self) -> BTreeSet<u32> {
        let links = self.sessions();
        let silent = links.iter().filter(|(_, sessions)| !sessions.is_empty() && sessions.values().all(|up| !up));
        silent.map(|(ifindex, _)| *ifindex).collect()
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<u32, BTreeMap<Peer, bool>>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells ipsecd, for as long as the daemon lives.
pub async fn tell(silence: Silence, tunnels: Arc<Mutex<Tunnels>>, socket: PathBuf) {
    let mut told = Vec::new();
    let mut client = None;
    loop {
        let silent = silent_tunnels(&silence.links(), &tunnels.lock().unwrap_or_else(PoisonError::into_inner));
        if silent != told || !silent.is_empty() {
            match say(&mut client, &socket, &silent).await {
                Ok(()) => told = silent,
                Err(error) => {
                    tracing::debug!(%error, "ipsecd was not told in which tunnels nobody answers");
                    client = None;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
        }
        if told.is_empty() {
            silence.0.changed.notified().await;
        } else {
            let _either = tokio::time::timeout(REPEAT, silence.0.changed.notified()).await;
        }
    }
}

fn silent_tunnels(links: &BTreeSet<u32>, tunnels: &Tunnels) -> Vec<TunnelName> {
    links.iter().filter_map(|ifindex| tunnels.by_ifindex(*ifindex)).map(|status| status.tunnel.clone()).collect()
}

async fn say(
    client: &mut Option<Client>,
    socket: &std::path::Path,
    silent: &[TunnelName],
) -> Result<(), rpc::ClientError> {
    let connected = match client.take() {
        Some(connected) => connected,
        None => Client::connect(socket, PROGRAM).await?,
    };
    connected.call(&TellSilent { tunnels: silent.to_vec() }).await?;
    *client = Some(connected);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bfd::Cause;

    use super::*;

    fn change(ifindex: u32, last: u8, to: State, cause: Cause) -> Change {
        let peer = Peer { ifindex, address: [169, 254, 1, last].into() };
        let from = State::Down;
        Change { neighbor: None, peer, interface: None, from, to, cause, independent: false, at: Instant::now() }
    }

    #[test]
    fn a_link_is_silent_while_every_session_over_it_that_was_up_is_lost() {
        let silence = Silence::default();
        silence.changed(&change(3, 1, State::Down, Cause::DetectionTimeExpired));
        assert!(silence.links().is_empty(), "it was never up");
        silence.changed(&change(3, 1, State::Up, Cause::Handshake));
        silence.changed(&change(3, 2, State::Up, Cause::Handshake));
        silence.changed(&change(3, 1, State::Down, Cause::DetectionTimeExpired));
        assert!(silence.links().is_empty(), "somebody answers");
        silence.changed(&change(3, 2, State::Down, Cause::NeighborDown));
        assert_eq!(silence.links(), [3].into());
        silence.changed(&change(3, 2, State::Up, Cause::Handshake));
        assert!(silence.links().is_empty());
        silence.changed(&change(3, 2, State::Down, Cause::DetectionTimeExpired));
        silence.retain(&BTreeSet::new());
        assert!(silence.links().is_empty(), "they are not wanted any more");
    }
}
