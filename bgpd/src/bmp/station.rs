//! The connection to one station: dialled, fed, dialled again.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bgp_core::{
    PeerId,
    rib::{MonitorConfig, MonitorId, Source},
};
use bmp::{Message, Stat, Termination};
use bytes::BytesMut;
use config::model::{BmpRetry, Host};
use net_types::Family;
use rand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{Instant, interval_at, sleep, timeout},
};
use tracing::{info, warn};

use super::{StationStatus, lock, messages::Book};
use crate::{
    rib_thread::{Gone, RibHandle},
    state::State,
};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a station may take nothing before it is disconnected.
const STALL: Duration = Duration::from_secs(60);
/// Entries of the table looked at for one piece.
const PIECE: usize = 256;
/// Octets from which on a write is made.
const WRITE: usize = 64 * 1024;
/// Without `bmp stats`: the first tick of a clock that nobody waits for.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

pub(super) struct Station {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) monitor: MonitorConfig,
    pub(super) stats_interval: Option<Duration>,
    pub(super) retry: BmpRetry,
    pub(super) status: Arc<Mutex<StationStatus>>,
    /// Woken when the station is not configured any more.
    pub(super) stop: Arc<Notify>,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("no connection within {} s", CONNECT.as_secs())]
    Connect,
    #[error("the station took nothing for {} s", STALL.as_secs())]
    Stalled,
    #[error("the station closed the connection")]
    Closed,
    #[error("too many stations watch already")]
    Crowd,
    #[error("not configured any more")]
    Stopped,
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// A monitor in the table, which goes when nobody watches any more.
struct Watching {
    id: MonitorId,
    rib: RibHandle,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let (id, rib) = (self.id, self.rib.clone());
        tokio::spawn(async move {
            // The table is gone only while the daemon is on its way out.
            let _ = rib.remove_monitor(id).await;
        });
    }
}

impl Station {
    /// Runs until it is told to stop or the table is gone.
    pub(super) async fn run(self, state: State) {
        let mut pause = self.retry.min;
        let mut last = String::new();
        loop {
            let dialled = tokio::select! {
                dialled = self.dial() => dialled,
                () = self.stop.notified() => return,
            };
            let trouble = match dialled {
                Ok(stream) => {
                    info!(host = %self.host, port = self.port, "connected to the BMP station");
                    (pause, last) = (self.retry.min, String::new());
                    match self.feed(stream, &state).await {
                        Ok(never) => match never {},
                        Err(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            if matches!(trouble, Trouble::Stopped) {
                return;
            }
            let text = trouble.to_string();
            // The same trouble again and again is said once.
            if text != last {
                warn!(host = %self.host, port = self.port, cause = %text, "no BMP station here; trying again");
                last.clone_from(&text);
            }
            {
                let mut status = lock(&self.status);
                if status.up || status.trouble.is_none() {
                    status.since = SystemTime::now();
                }
                (status.up, status.trouble) = (false, Some(text));
            }
            if matches!(trouble, Trouble::Gone(_)) {
                return;
            }
            tokio::select! {
                () = sleep(pause.mul_f64(rand::rng().random_range(0.75..1.0))) => {}
                () = self.stop.notified() => return,
            }
            pause = (pause * 2).min(self.retry.max);
        }
    }

    async fn dial(&self) -> Result<TcpStream, Trouble> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        Ok(timeout(CONNECT, connecting).await.map_err(|_| Trouble::Connect)??)
    }

    async fn feed(&self, mut stream: TcpStream, state: &State) -> Result<std::convert::Infallible, Trouble> {
        let news = Arc::new(Notify::new());
        let id = state.rib.add_monitor(self.monitor, Arc::clone(&news)).await?.ok_or(Trouble::Crowd)?;
        let watching = Watching { id, rib: state.rib.clone() };
        {
            let mut status = lock(&self.status);
            let connections = status.connections + 1;
            *status = StationStatus {
                up: true,
                since: SystemTime::now(),
                trouble: None,
                messages: 0,
                octets: 0,
                connections,
            };
        }
        let mut book = Book::new(self.monitor);
        let mut messages = Vec::new();
        book.begin(&state.running(), &mut messages);
        let every = self.stats_interval.unwrap_or(NEVER);
        let mut ticks = interval_at(Instant::now() + every, every);
        let mut out = BytesMut::new();
        let mut ignored = [0; 512];
        loop {
            // All that there is, a piece at a time, each written before the next is asked for once there is enough.
            while let Some(piece) = watching.rib.poll_monitor(watching.id, PIECE).await? {
                book.piece(piece, &state.running(), &mut messages);
                self.encode(&mut messages, &mut out);
                if out.len() >= WRITE {
                    self.write(&mut stream, &mut out).await?;
                }
            }
            self.encode(&mut messages, &mut out);
            self.write(&mut stream, &mut out).await?;
            tokio::select! {
                () = news.notified() => {}
                () = self.stop.notified() => {
                    // RFC 7854 §4.5: administratively closed.
                    messages.push(Message::Termination(vec![Termination::Reason(0)]));
                    self.encode(&mut messages, &mut out);
                    self.write(&mut stream, &mut out).await?;
                    let _ = stream.shutdown().await;
                    return Err(Trouble::Stopped);
                }
                _ = ticks.tick() => self.statistics(&book, state, &mut messages).await?,
                // A station has nothing to say (RFC 7854 §3.2); it only ever closes the connection.
                read = stream.read(&mut ignored) => if read? == 0 {
                    return Err(Trouble::Closed);
                },
            }
        }
    }

    fn encode(&self, messages: &mut Vec<Message>, out: &mut BytesMut) {
        if messages.is_empty() {
            return;
        }
        lock(&self.status).messages += messages.len() as u64;
        messages.drain(..).for_each(|message| message.emit(out));
    }

    async fn write(&self, stream: &mut TcpStream, out: &mut BytesMut) -> Result<(), Trouble> {
        let octets = out.len() as u64;
        while !out.is_empty() {
            let written = timeout(STALL, stream.write_buf(out)).await.map_err(|_| Trouble::Stalled)??;
            if written == 0 {
                return Err(Trouble::Closed);
            }
        }
        lock(&self.status).octets += octets;
        Ok(())
    }

    async fn statistics(&self, book: &Book, state: &State, messages: &mut Vec<Message>) -> Result<(), Gone> {
        let known: Vec<(Option<PeerId>, bmp::Peer)> = book.known().collect();
        let asked: Vec<Option<PeerId>> = known.iter().map(|(id, _)| *id).collect();
        let counted = state
            .rib
            .query(move |rib, _| {
                let of = |id: &Option<PeerId>| match id {
                    Some(id) => {
                        let each = |family| rib.counters(Source::Peer(*id), family).unwrap_or_default();
                        let counters = Family::ALL.map(each);
                        let sum = |count: fn(&bgp_core::rib::FamilyCounters) -> u32| -> u64 {
                            counters.iter().map(|family| u64::from(count(family))).sum()
                        };
                        let refused = counters.iter().map(|family| family.received - family.accepted).sum();
                        let mut stats = vec![
                            Stat::RejectedByPolicy(refused),
                            Stat::AdjRibIn(sum(|family| family.received)),
                            Stat::AdjRibOut(sum(|family| family.sent)),
                        ];
                        for family in Family::ALL.into_iter().filter(|family| counters[*family as usize].active) {
                            let counters = &counters[family as usize];
                            stats.push(Stat::FamilyAdjRibIn(family, counters.received.into()));
                            stats.push(Stat::FamilyAdjRibOut(family, counters.sent.into()));
                        }
                        stats
                    }
                    None => {
                        let counts = Family::ALL.map(|family| (family, rib.reachable_count(family) as u64));
                        let mut stats = vec![Stat::LocRib(counts.iter().map(|(_, count)| count).sum())];
                        stats.extend(counts.map(|(family, count)| Stat::FamilyLocRib(family, count)));
                        stats
                    }
                };
                asked.iter().map(of).collect::<Vec<_>>()
            })
            .await?;
        let reports = known.into_iter().zip(counted);
        messages.extend(reports.map(|((_, peer), stats)| Message::Statistics { peer, stats }));
        Ok(())
    }
}
