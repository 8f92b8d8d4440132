//! Files that others wrote, counted by us and by another reader.

use std::{fs, io::Cursor};

use bgp_core::rib::{Rib, RibConfig};
use bgpkit_parser::{BgpkitParser, models::ElemType};
use net_types::RouterId;

use super::*;

const TABLES: [(&str, &[u8]); 2] = [
    ("table-dump", include_bytes!("../../../crates/mrt/testdata/table-dump.mrt")),
    ("table-dump-v2", include_bytes!("../../../crates/mrt/testdata/table-dump-v2.mrt")),
];

fn table() -> Rib {
    let config = RibConfig::new(Asn::literal(64999), RouterId::try_from(1).unwrap(), 1);
    Rib::new(config, std::time::Instant::now())
}

/// Puts the routes of a file into a table; how many that were, and why it ended.
fn load(rib: &mut Rib, mut routes: Routes, next_hop: Option<IpAddr>) -> (u64, Option<String>) {
    let (now, source) = (std::time::Instant::now(), PeerId(FIRST_SOURCE));
    assert!(rib.configure_peer(
        source,
        PeerConfig::new(Ipv4Addr::UNSPECIFIED.into(), PeerKind::External, Asn::literal(64999))
    ));
    rib.begin_feed(source);
    let mut count = 0;
    loop {
        match routes.next(next_hop) {
            Ok(Some(update)) => rib.update(now, source, update),
            Ok(None) => return (count, None),
            Err(error) => return (count, Some(error.to_string())),
        }
        count += 1;
    }
}

/// Routes as another reader counts them: all, and different pairs of a prefix and a peer.
fn theirs(octets: &[u8]) -> (u64, usize) {
    let elements = BgpkitParser::from_reader(Cursor::new(octets.to_vec())).into_iter();
    let announced = elements.filter(|element| element.elem_type == ElemType::ANNOUNCE);
    let pairs: Vec<_> = announced.map(|element| (element.prefix.prefix, element.peer_ip)).collect();
    let different: std::collections::BTreeSet<_> = pairs.iter().collect();
    (pairs.len() as u64, different.len())
}

fn paths(rib: &Rib) -> usize {
    let of = |family| rib.counters(Source::Peer(PeerId(FIRST_SOURCE)), family).unwrap().received as usize;
    FAMILIES.into_iter().map(of).sum()
}

#[test]
fn every_route_of_a_file_is_a_path_in_the_table_and_goes_with_it() {
    for (name, octets) in TABLES {
        let mut rib = table();
        let (count, ended) = load(&mut rib, Routes::over(Cursor::new(octets)).unwrap(), None);
        assert_eq!(((count, paths(&rib)), ended), (theirs(octets), None), "{name}");
        assert!(rib.groups().is_empty(), "nobody is told by a file");
        rib.end_feed(std::time::Instant::now(), PeerId(FIRST_SOURCE));
        while rib.work(std::time::Instant::now(), 100) {}
        while rib.poll_changes(1000, &mut Vec::new()) {}
        while rib.tidy(1000) {}
        assert_eq!(
            (Family::UNICAST.map(|family| rib.prefix_count(family)), rib.attribute_count()),
            ([0, 0], 0),
            "{name}"
        );
    }
}

#[test]
fn a_next_hop_for_all_is_in_the_place_of_those_of_its_family() {
    let given: IpAddr = "192.0.2.77".parse().unwrap();
    let mut rib = table();
    load(&mut rib, Routes::over(Cursor::new(TABLES[1].1)).unwrap(), Some(given));
    let next_hops: Vec<IpAddr> = rib.next_hops().into_iter().map(|(key, ..)| key.address).collect();
    assert!(next_hops.contains(&given));
    assert!(next_hops.iter().all(|hop| *hop == given || hop.is_ipv6()), "{next_hops:?}");
}

#[test]
fn packed_files_are_unpacked_and_damaged_ones_are_taken_as_far_as_they_go() {
    let (_, octets) = TABLES[1];
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, octets).unwrap();
    let packed = packed.finish().unwrap();
    let (all, _) = load(&mut table(), Routes::over(Cursor::new(octets)).unwrap(), None);
    assert_eq!(load(&mut table(), Routes::over(Cursor::new(packed.clone())).unwrap(), None), (all, None));
    let cut = packed[..packed.len() / 2].to_vec();
    let (some, ended) = load(&mut table(), Routes::over(Cursor::new(cut)).unwrap(), None);
    assert!(some < all && ended.is_some(), "{some} of {all}, {ended:?}");
    let (some, ended) = load(&mut table(), Routes::over(Cursor::new(&octets[..octets.len() - 3])).unwrap(), None);
    assert!(some < all && ended.is_some_and(|why| why.contains("within a record")));
    let (none, ended) = load(&mut table(), Routes::over(Cursor::new(vec![0xff; 64])).unwrap(), None);
    assert!(none == 0 && ended.is_some_and(|why| why.contains("longer than")), "no memory for what a length promises");
}

/// Whole tables of collectors, where `MRT_FILES` names a folder of some.
#[test]
fn tables_of_collectors_are_read_as_another_reader_reads_them() {
    let Some(folder) = std::env::var_os("MRT_FILES") else { return };
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let (mut octets, mut input) = (Vec::new(), Routes::open(&path).unwrap());
        // What cannot be unpacked any further is left to none of the two.
        let _ = input.read_all(&mut octets);
        let mut rib = table();
        let (count, ended) = load(&mut rib, Routes::open(&path).unwrap(), None);
        let whole = whole_records(&octets);
        let is_table = !matches!(octets.get(4..6), Some([0, 16 | 17]));
        let (expected, different) = if is_table { theirs(&octets[..whole]) } else { (0, 0) };
        println!("{}: {count} routes, {} paths, ended {ended:?}", path.display(), paths(&rib));
        assert_eq!((count, paths(&rib)), (expected, different), "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0, "no file");
}

/// Octets of the records that are there in full.
fn whole_records(octets: &[u8]) -> usize {
    let mut at = 0;
    while let Ok(Some(length)) = mrt::frame_length(&octets[at..])
        && octets.len() >= at + length
    {
        at += length;
    }
    at
}
