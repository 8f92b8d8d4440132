//! `dump bgp routes-mrt`: the table as received, in TABLE_DUMP_V2.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bgp_core::{
    PeerId,
    rib::{PathAttrs, PathView, RouteView, Source},
};
use bgp_wire::{Announcements, FamilySet, Negotiated, NextHop, PeerKind};
use bytes::{Bytes, BytesMut};
use config::model::Dump;
use mrt::{Body, Entry, Peer, PeerIndex, Record, Rib, entry_attributes};
use net_types::{Family, Prefix};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::file::named;
use crate::{
    rib_thread::Gone,
    state::{Running, State},
};

#[derive(Debug, thiserror::Error)]
enum DumpError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error("the thread that writes has ended")]
    Writer(#[from] tokio::task::JoinError),
    #[error("there is no \"router bgp\"")]
    NoSpeaker,
}

/// Dumps the table now, and then each interval if there is one.
pub(super) async fn run(dump: Dump, state: State) {
    let Some(every) = dump.interval else { return once(&dump, &state).await };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        once(&dump, &state).await;
    }
}

async fn once(dump: &Dump, state: &State) {
    let name = named(&dump.file, SystemTime::now());
    match table(&name, state).await {
        Ok((prefixes, entries)) => info!(file = %name.display(), prefixes, entries, "the table is dumped"),
        Err(error) => warn!(file = %name.display(), %error, "the table is not dumped"),
    }
}

/// Places of the peers in the index; place 0 is this router.
struct Places(BTreeMap<PeerId, u16>);

impl Places {
    fn of(running: &Running) -> Option<(Self, PeerIndex)> {
        let own = running.rib.as_ref()?;
        let router_id = Ipv4Addr::from(own.router_id.get());
        let mut peers = vec![Peer { router_id, address: IpAddr::from([0, 0, 0, 0]), asn: Some(own.asn) }];
        let mut places = BTreeMap::new();
        for (address, handle) in &running.peers {
            let status = handle.status();
            let Ok(place) = u16::try_from(peers.len()) else { break };
            let router_id = status.router_id().map_or(Ipv4Addr::UNSPECIFIED, |id| Ipv4Addr::from(id.get()));
            peers.push(Peer { router_id, address: *address, asn: status.remote_as() });
            places.insert(handle.id(), place);
        }
        Some((Self(places), PeerIndex { collector: router_id, view: String::new(), peers }))
    }

    fn place(&self, source: Source) -> Option<u16> {
        match source {
            Source::Local(_) => Some(0),
            Source::Peer(peer) => self.0.get(&peer).copied(),
        }
    }
}

async fn table(name: &Path, state: &State) -> Result<(usize, usize), DumpError> {
    let (places, index) = Places::of(&state.running()).ok_or(DumpError::NoSpeaker)?;
    let at = SystemTime::now();
    let mut part = name.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file = BufWriter::new(File::create(&part)?);
    let mut out = BytesMut::new();
    Record { at, body: Body::PeerIndex(index) }.emit(&mut out);
    let (mut sequence, mut entries) = (0u32, 0);
    for within in [Prefix::DEFAULT_V4, Prefix::DEFAULT_V6] {
        let mut walk = state.rib.walk(within).await?;
        while let Some(views) = walk.next().await? {
            for view in &views {
                let Some(rib) = rib(view, sequence, &places, at) else { continue };
                entries += rib.entries.len();
                Record { at, body: Body::Rib(rib) }.emit(&mut out);
                sequence = sequence.wrapping_add(1);
            }
            let piece = out.split().freeze();
            file = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file)).await??;
        }
    }
    let target = name.to_owned();
    tokio::task::spawn_blocking(move || {
        file.flush()?;
        std::fs::rename(&part, &target)
    })
    .await??;
    Ok((sequence as usize, entries))
}

fn rib(view: &RouteView, sequence: u32, places: &Places, now: SystemTime) -> Option<Rib> {
    let prefix = view.prefix;
    let entry = |path: &PathView| {
        let attributes = attributes(&prefix, &path.received)?;
        Some(Entry { peer: places.place(path.source)?, originated: now - path.age, path_id: None, attributes })
    };
    let entries: Vec<Entry> = view.paths.iter().filter_map(entry).collect();
    (!entries.is_empty()).then(|| Rib { sequence, family: prefix.family(), prefix, add_path: false, entries })
}

/// A path's attributes as an entry has them; `None` where no UPDATE could carry them.
fn attributes(prefix: &Prefix, attrs: &PathAttrs) -> Option<Bytes> {
    let families: FamilySet = Family::ALL.into_iter().collect();
    let negotiated = Negotiated {
        four_octet_as: true,
        families,
        over_ipv6: families,
        extended_message: true,
        ..Negotiated::base(PeerKind::Internal)
    };
    let next_hop: NextHop = attrs.next_hop;
    let mut message = BytesMut::new();
    let written = Announcements::new(&attrs.attributes, prefix.family(), next_hop, [*prefix], &negotiated);
    written.ok()?.write_next(&mut message).then(|| entry_attributes(&message)).flatten()
}
