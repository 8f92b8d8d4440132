//! What ipsecd says of its tunnels, as bgpd needs it.
//!
//! The daemon at the other end may restart at any time, and so may this one. While it is away nothing new is known: the
//! tunnels that it last called up may or may not carry packets, and BFD decides. When it is back it tells everything
//! anew, and what it does not tell any more is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use fib::{PathState, Scope};
use net_types::TunnelName;
use rpc::{Followed, Follower, TunnelEvent, TunnelState, TunnelStatus, WatchTunnels};

/// What became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A tunnel does this now.
    Status(TunnelStatus),
    /// A tunnel is not configured any more; this is what it did last.
    Gone(TunnelStatus),
    /// ipsecd has told all that there is.
    Synced,
    /// ipsecd cannot be reached, and why. Told once.
    Lost(String),
}

/// The tunnels, as last told.
#[derive(Debug, Default)]
pub struct Tunnels {
    known: BTreeMap<TunnelName, TunnelStatus>,
    /// Told since the connection was made; `None` once everything has been.
    told: Option<BTreeSet<TunnelName>>,
    connected: bool,
}

impl Tunnels {
    /// The tunnel behind this interface, if it is one.
    pub fn by_ifindex(&self, ifindex: u32) -> Option<&TunnelStatus> {
        self.known.values().find(|status| status.ifindex == ifindex)
    }

    /// Every tunnel.
    pub fn all(&self) -> impl Iterator<Item = &TunnelStatus> {
        self.known.values()
    }

    /// The interfaces of those that are down.
    pub fn dead(&self) -> BTreeSet<u32> {
        self.all().filter(|status| !is_up(status)).map(|status| status.ifindex).collect()
    }

    /// Whether ipsecd is there and has told everything.
    pub fn is_synced(&self) -> bool {
        self.connected && self.told.is_none()
    }

    /// Takes in one thing that the stream said; gives what is new in it.
    pub fn apply(&mut self, followed: Followed<TunnelEvent>) -> Vec<News> {
        match followed {
            Followed::Connected(_) => {
                self.connected = true;
                self.told = Some(BTreeSet::new());
                vec![]
            }
            Followed::Lost(why) => {
                self.connected = false;
                self.told = None;
                vec![News::Lost(why.to_string())]
            }
            Followed::Event(TunnelEvent::Status(status)) => {
                if let Some(told) = &mut self.told {
                    told.insert(status.tunnel.clone());
                }
                let before = self.known.insert(status.tunnel.clone(), status.clone());
                // What was said of it while its owner was away has to be taken back even if nothing has changed.
                let known = before.as_ref() == Some(&status) && self.told.is_none();
                if known { vec![] } else { vec![News::Status(status)] }
            }
            Followed::Event(TunnelEvent::Removed(tunnel)) => {
                self.known.remove(&tunnel).map(News::Gone).into_iter().collect()
            }
            Followed::Event(TunnelEvent::Synced) => {
                let mut news = Vec::new();
                if let Some(told) = self.told.take() {
                    let gone: Vec<_> = self.known.keys().filter(|tunnel| !told.contains(*tunnel)).cloned().collect();
                    news.extend(gone.iter().filter_map(|tunnel| self.known.remove(tunnel)).map(News::Gone));
                }
                news.push(News::Synced);
                news
            }
        }
    }
}

/// The stream that [`Tunnels::apply`] takes in.
pub fn follow(run_dir: &Path) -> Follower<WatchTunnels> {
    Follower::new(run_dir.join(rpc::IPSECD_SOCKET), "bgpd", WatchTunnels)
}

/// What the forwarding table is told of a tunnel.
pub fn word(status: &TunnelStatus) -> (Scope, PathState) {
    (Scope::Tunnel(status.ifindex), if is_up(status) { PathState::Up } else { PathState::Dead })
}

/// The same of one that was up when its owner went away: whether it still carries packets BFD has to say.
pub fn word_of_the_absent(status: &TunnelStatus) -> Option<(Scope, PathState)> {
    is_up(status).then_some((Scope::Tunnel(status.ifindex), PathState::Doubtful))
}

/// Whether packets flow.
pub fn is_up(status: &TunnelStatus) -> bool {
    matches!(status.state, TunnelState::Up { .. })
}

#[cfg(test)]
mod tests {
    use rpc::{Board, Change, Limits, Server, Service};

    use super::*;

    fn status(tunnel: &str, up: bool) -> TunnelStatus {
        TunnelStatus {
            tunnel: tunnel.parse().unwrap(),
            ifindex: 7,
            wan: "isp1".parse().unwrap(),
            state: if up {
                TunnelState::Up { mtu: 1438, addresses: vec!["169.254.1.2".parse().unwrap()], selectors: vec![] }
            } else {
                TunnelState::Down { cause: "peer deleted the SA".into() }
            },
            since_unix_us: 1,
            generation: 1,
        }
    }

    fn event(change: Change<TunnelName, TunnelStatus>) -> TunnelEvent {
        match change {
            Change::Set(_, status) => TunnelEvent::Status(status),
            Change::Removed(tunnel) => TunnelEvent::Removed(tunnel),
            Change::Synced => TunnelEvent::Synced,
        }
    }

    fn serve(path: &Path, tunnels: &[TunnelStatus]) -> (Board<TunnelName, TunnelStatus>, tokio::task::JoinHandle<()>) {
        let board = Board::new();
        for status in tunnels {
            board.set(status.tunnel.clone(), status.clone());
        }
        let service = Service::new("ipsecd").watch::<WatchTunnels, _, _>(board.clone(), event);
        let server = Server::bind(path, service, Limits::default()).unwrap();
        (board, tokio::spawn(server.run()))
    }

    async fn until_synced(tunnels: &mut Tunnels, follower: &mut Follower<WatchTunnels>) -> Vec<News> {
        let mut all = Vec::new();
        while all.last() != Some(&News::Synced) {
            all.extend(tunnels.apply(follower.next().await));
        }
        all
    }

    #[tokio::test]
    async fn a_restart_of_ipsecd_is_told_and_compared() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(rpc::IPSECD_SOCKET);
        let (mut tunnels, mut follower) = (Tunnels::default(), follow(dir.path()));
        assert!(matches!(tunnels.apply(follower.next().await)[..], [News::Lost(_)]), "nobody is there yet");

        let (board, server) = serve(&socket, &[status("tun1", true), status("tun2", true)]);
        assert_eq!(until_synced(&mut tunnels, &mut follower).await.len(), 3);
        assert!(tunnels.is_synced() && tunnels.by_ifindex(7).is_some());

        board.set("tun1".parse().unwrap(), status("tun1", false));
        assert_eq!(tunnels.apply(follower.next().await), [News::Status(status("tun1", false))]);

        server.abort();
        assert!(server.await.is_err_and(|error| error.is_cancelled()));
        assert!(matches!(tunnels.apply(follower.next().await)[..], [News::Lost(_)]));
        assert!(!tunnels.is_synced());

        let (_board, server) = serve(&socket, &[status("tun1", true)]);
        let news = until_synced(&mut tunnels, &mut follower).await;
        assert_eq!(news, [News::Status(status("tun1", true)), News::Gone(status("tun2", true)), News::Synced]);

        // The same as before is news, too: for a while it was in doubt.
        server.abort();
        assert!(server.await.is_err_and(|error| error.is_cancelled()));
        assert!(matches!(tunnels.apply(follower.next().await)[..], [News::Lost(_)]));
        let (_board, _server) = serve(&socket, &[status("tun1", true)]);
        let news = until_synced(&mut tunnels, &mut follower).await;
        assert_eq!(news, [News::Status(status("tun1", true)), News::Synced]);
    }
}
