//! The same UPDATEs read by this crate and by bgpkit-parser, which knows nothing of each other.

mod common;

use bgp_wire::{Message, Negotiated, Parsed, PeerKind, Update};
use bgpkit_parser::{
    models::{AsnLength, AttributeValue, Attributes as TheirAttributes, BgpMessage, BgpUpdateMessage, MetaCommunity},
    parser::bgp::messages::parse_bgp_message,
};
use bytes::Bytes;
use common::{terms, vectors};
use net_types::Family;

/// What both make of an UPDATE, in words.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    withdrawn: Vec<String>,
    announced: Vec<String>,
    next_hops: Vec<String>,
    origin: String,
    as_path: String,
    med: Option<u32>,
    local_pref: Option<u32>,
    atomic: bool,
    aggregator: Option<String>,
    communities: Vec<String>,
    large_communities: Vec<String>,
    cluster_list: Vec<u32>,
}

fn ours(update: &Update) -> Reading {
    let mut reading =
        Reading { withdrawn: update.withdrawn.iter().map(ToString::to_string).collect(), ..Reading::default() };
    if let Some(reach) = &update.reach {
        for announcement in &reach.announced {
            reading.announced.extend(announcement.prefixes.iter().map(ToString::to_string));
            reading.next_hops.push(announcement.next_hop.to_string());
        }
        let attributes = &reach.attributes;
        reading.origin = attributes.origin.to_string().to_uppercase();
        reading.as_path = attributes.as_path.to_string();
        reading.med = attributes.med;
        reading.local_pref = attributes.local_pref;
        reading.atomic = attributes.atomic_aggregate;
        reading.aggregator = attributes.aggregator.map(|a| format!("{} {}", a.asn, a.address));
        reading.communities = attributes
            .communities
            .iter()
            .map(|community| format!("{}:{}", community.0 >> 16, community.0 & 0xffff))
            .collect();
        reading.large_communities = attributes.large_communities.iter().map(ToString::to_string).collect();
        reading.cluster_list = attributes.cluster_list.iter().map(|id| u32::from(*id)).collect();
    }
    reading.withdrawn.sort();
    reading.announced.sort();
    reading
}

fn theirs(update: &BgpUpdateMessage) -> Reading {
    let attributes: &TheirAttributes = &update.attributes;
    let mut reading = Reading::default();
    let text = |prefix: &bgpkit_parser::models::NetworkPrefix| prefix.prefix.trunc().to_string();
    reading.withdrawn.extend(update.withdrawn_prefixes.iter().map(text));
    reading.withdrawn.extend(attributes.get_unreachable_nlri().iter().flat_map(|nlri| nlri.prefixes.iter().map(text)));
    reading.announced.extend(update.announced_prefixes.iter().map(text));
    reading.announced.extend(attributes.get_reachable_nlri().iter().flat_map(|nlri| nlri.prefixes.iter().map(text)));
    if !reading.announced.is_empty() {
        if !update.announced_prefixes.is_empty() {
            reading.next_hops.extend(attributes.next_hop().map(|address| address.to_string()));
        }
        let reachable = attributes.get_reachable_nlri().and_then(|nlri| nlri.next_hop);
        reading.next_hops.extend(reachable.map(|next_hop| next_hop.addr().to_string()));
        reading.origin = attributes.origin().to_string().to_uppercase();
        reading.as_path = attributes.effective_as_path().map(|path| path.to_string()).unwrap_or_default();
        reading.med = attributes.multi_exit_discriminator();
        reading.local_pref = attributes.local_preference();
        reading.atomic = attributes.atomic_aggregate();
        reading.aggregator = attributes.aggregator().map(|(asn, id)| format!("{asn} {id}"));
        for community in attributes.iter_communities() {
            match community {
                MetaCommunity::Plain(community) => reading.communities.push(plain(&community)),
                MetaCommunity::Large(large) => reading
                    .large_communities
                    .push(format!("{}:{}:{}", large.global_admin, large.local_data[0], large.local_data[1])),
                _ => {}
            }
        }
        for attribute in attributes {
            if let AttributeValue::Clusters(clusters) = attribute {
                reading.cluster_list.extend(clusters);
            }
        }
    }
    reading.withdrawn.sort();
    reading.announced.sort();
    reading
}

fn plain(community: &bgpkit_parser::models::Community) -> String {
    use bgpkit_parser::models::Community;
    match community {
        Community::NoExport => "65535:65281".to_owned(),
        Community::NoAdvertise => "65535:65282".to_owned(),
        Community::NoExportSubConfed => "65535:65283".to_owned(),
        Community::Custom(asn, value) => format!("{}:{value}", asn.to_u32()),
    }
}

/// Recorded with ADD-PATH (RFC 7911), which nothing in the message tells; bgpkit-parser guesses.
const ADD_PATH: [&str; 4] = ["conf-addpath", "conf-path-information", "ipv4-unicast-1", "ipv4-unicast-2"];

/// Compares what both read without complaint; gives how many that were.
fn compare(file: &str) -> usize {
    let mut compared = 0;
    for (name, bytes) in vectors(file) {
        if ADD_PATH.contains(&&*name) {
            continue;
        }
        // The speakers recorded by RIS are external, and their paths come without LOCAL_PREF.
        let kind = if file == "ris.hex" { PeerKind::External } else { PeerKind::Internal };
        // Of VPNs the other parser leaves out distinguishers and labels.
        let terms = Negotiated { families: Family::UNICAST.into_iter().collect(), ..terms(kind, true) };
        let Ok(Parsed { message: Message::Update(update), survived }) = Message::parse(&bytes, &terms) else {
            continue;
        };
        let parsed = parse_bgp_message(&mut Bytes::from(bytes), false, &AsnLength::Bits32);
        let Ok(BgpMessage::Update(other)) = parsed else { continue };
        if !survived.is_empty() {
            continue;
        }
        assert_eq!(ours(&update), theirs(&other), "{file}: {name}");
        compared += 1;
    }
    compared
}

#[test]
fn updates_of_the_internet_read_alike() {
    let compared = compare("ris.hex");
    assert!(compared > 150, "only {compared} were compared");
}

#[test]
fn updates_of_exabgp_read_alike() {
    let compared = compare("exabgp.hex");
    assert!(compared > 30, "only {compared} were compared");
}
