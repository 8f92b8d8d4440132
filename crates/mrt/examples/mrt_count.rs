//! Counts what is in an MRT file that comes in on standard input: `zcat FILE.gz | cargo run --release -p mrt --example mrt_count`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    net::IpAddr,
    time::Instant,
};

use bgp_wire::{Message, Negotiated, PeerKind};
use bytes::BytesMut;
use mrt::{Body, Record, frame_length};
use net_types::Family;

#[derive(Debug, Default)]
struct Counts {
    records: BTreeMap<&'static str, usize>,
    unread: usize,
    prefixes: usize,
    entries: usize,
    elements: usize,
    refused: usize,
    peers: BTreeSet<IpAddr>,
}

fn main() -> std::io::Result<()> {
    let mut all = Vec::new();
    let read = std::io::stdin().read_to_end(&mut all);
    if let Err(error) = read {
        eprintln!("the input ends early: {error}");
    }
    let mut input = BytesMut::from(&all[..]);
    let (mut counts, begun) = (Counts::default(), Instant::now());
    while let Ok(Some(length)) = frame_length(&input) {
        if length > input.len() {
            break;
        }
        let frame = input.split_to(length).freeze();
        match Record::parse(&frame) {
            Ok(record) => count(&record, &mut counts),
            Err(error) => {
                eprintln!("{error}");
                counts.unread += 1;
            }
        }
    }
    println!("{counts:#?}\n{:.3} s, {} octets left", begun.elapsed().as_secs_f64(), input.len());
    println!("{} peers", counts.peers.len());
    Ok(())
}

fn read(message: &[u8], four_octet_as: bool, counts: &mut Counts) {
    let families = Family::ALL.into_iter().collect();
    let negotiated =
        Negotiated { four_octet_as, families, extended_message: true, ..Negotiated::base(PeerKind::External) };
    match Message::parse(message, &negotiated) {
        Ok(parsed) => {
            if let Message::Update(update) = parsed.message {
                let announced =
                    update.reach.iter().flat_map(|reach| &reach.announced).map(|group| group.prefixes.len());
                counts.elements += update.withdrawn.len() + announced.sum::<usize>();
            }
        }
        Err(error) => {
            counts.refused += 1;
            if counts.refused < 5 {
                eprintln!("{error}");
            }
        }
    }
}

fn count(record: &Record, counts: &mut Counts) {
    let name = match &record.body {
        Body::TableDump(dump) => {
            counts.prefixes += 1;
            counts.entries += 1;
            counts.peers.insert(dump.peer_address);
            match dump.entry.to_update(&dump.prefix) {
                Some(update) => read(&update, false, counts),
                None => counts.refused += 1,
            }
            "TABLE_DUMP"
        }
        Body::PeerIndex(index) => {
            counts.peers.extend(index.peers.iter().map(|peer| peer.address));
            "PEER_INDEX_TABLE"
        }
        Body::Rib(rib) => {
            counts.prefixes += 1;
            for entry in &rib.entries {
                counts.entries += 1;
                match entry.to_update(&rib.prefix) {
                    Some(update) => read(&update, true, counts),
                    None => counts.refused += 1,
                }
            }
            "RIB"
        }
        Body::StateChange { .. } => "STATE_CHANGE",
        Body::Message { session, four_octet_as, message, .. } => {
            counts.peers.insert(session.peer);
            read(message, *four_octet_as, counts);
            "MESSAGE"
        }
        Body::Other { .. } => "other",
    };
    *counts.records.entry(name).or_default() += 1;
}
