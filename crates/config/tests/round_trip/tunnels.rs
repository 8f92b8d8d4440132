//! Ways out, what protects them and what watches them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use config::model::{
    Additional, Aead, AesCbc, BfdPeer, BfdPeerId, BfdProfile, ChildLifetime, Childless, Cipher, Community, Credential,
    Datapath, Df, Dpd, Dscp, Encapsulation, Esn, EspSuite, Fingerprint, Gre, Group, HttpUrl, Identity, IkeId, IkeSuite,
    Initiate, Integrity, Kem, ListSource, Packets, PeerDemands, Ppk, Prf, Probe, Proposal, Remote, RemoteAddress,
    ReverseRoute, Revocation, RevocationPolicy, StaticBfd, StaticRoute, StaticTarget, Tunnel, Wan,
};
use net_types::{Family, Prefix};
use proptest::{collection::vec, option::of, prelude::*, sample::select};

use super::values::{interface, path, prefix, seconds, text, unicast};

pub(super) fn wan() -> impl Strategy<Value = Wan> {
    (interface(), of(any::<Ipv4Addr>()), of(any::<Ipv6Addr>()), of(576u16..=9500), any::<bool>()).prop_map(
        |(interface, gateway_v4, gateway_v6, mtu_octets, shutdown)| Wan {
            interface,
            gateway_v4,
            gateway_v6,
            mtu_octets,
            shutdown,
        },
    )
}

pub(super) fn proposal() -> impl Strategy<Value = Proposal> {
    let group = || select(Group::ALL);
    let cipher = || {
        prop_oneof![
            select(Aead::ALL).prop_map(Cipher::Aead),
            (select(AesCbc::ALL), select(Integrity::ALL)).prop_map(|(aes, integrity)| Cipher::Cbc(aes, integrity)),
        ]
    };
    let additional = || {
        vec((1u8..=7, select(Kem::ALL)), 0..3).prop_map(|wanted| {
            let mut additional = Additional::NONE;
            wanted.into_iter().for_each(|(number, kem)| {
                additional.add(number, kem);
            });
            additional
        })
    };
    let ike = (cipher(), select(Prf::ALL), group(), additional())
        .prop_map(|(cipher, prf, group, additional)| IkeSuite { cipher, prf, group, additional });
    let esn = select(&[Esn::Preferred, Esn::Required, Esn::Off][..]);
    let esp = (cipher(), of(group()), additional(), esn).prop_map(|(cipher, group, additional, esn)| {
        let additional = if group.is_some() { additional } else { Additional::NONE };
        EspSuite { cipher, group, additional, esn }
    });
    (vec(ike, 1..4), vec(esp, 1..4)).prop_map(|(ike, esp)| Proposal { ike, esp })
}

pub(super) fn ike_id() -> impl Strategy<Value = IkeId> {
    prop_oneof![
        "[a-z][a-z0-9.-]{0,20}".prop_map(IkeId::Fqdn),
        "[a-z]{1,8}@[a-z.]{1,8}".prop_map(IkeId::Email),
        any::<IpAddr>().prop_map(IkeId::Address),
        "C=DE, O=[A-Z][a-z]{1,8}, CN=[a-z]{1,8}".prop_map(IkeId::DistinguishedName),
        vec(any::<u8>(), 1..9).prop_map(IkeId::KeyId),
    ]
    .prop_filter("a host name that is an address", |id| id.to_string().parse() == Ok(id.clone()))
}

pub(super) fn identity() -> impl Strategy<Value = Identity> {
    let anchors = proptest::collection::btree_set(path(), 1..3).prop_map(|set| set.into_iter().collect());
    let credential = prop_oneof![
        path().prop_map(|file| Credential::PreSharedKey { file }),
        (path(), path(), anchors, revocation()).prop_map(|(certificate, private_key, trust_anchors, revocation)| {
            Credential::Certificate { certificate, private_key, trust_anchors, revocation }
        }),
    ];
    (ike_id(), credential).prop_map(|(id, credential)| Identity { id, credential })
}

fn url() -> impl Strategy<Value = HttpUrl> {
    "http://[a-z]{1,9}(:8080)?(/[a-z.]{0,9})?".prop_map(|text| text.parse().unwrap())
}

fn revocation() -> impl Strategy<Value = Revocation> {
    let files = proptest::collection::btree_set(path(), 0..3);
    let urls = proptest::collection::btree_set(url(), 0..3);
    let policy = select(&[RevocationPolicy::Relaxed, RevocationPolicy::Strict][..]);
    // Files are printed before URLs.
    let lists = (files, urls).prop_map(|(files, urls)| {
        files.into_iter().map(ListSource::File).chain(urls.into_iter().map(ListSource::Url)).collect()
    });
    (lists, of(url()), policy).prop_map(|(lists, responder, policy)| Revocation { lists, responder, policy })
}

fn demands() -> impl Strategy<Value = PeerDemands> {
    let files = proptest::collection::btree_set(path(), 0..3);
    let names = proptest::collection::btree_set(ike_id(), 0..3);
    let units = proptest::collection::btree_set("[A-Z][a-z]{1,8}( [a-z]{1,8})?", 0..3);
    let pins = proptest::collection::btree_set(any::<[u8; 32]>().prop_map(Fingerprint), 0..3);
    (files, names, units, pins).prop_map(|(authorities, names, units, fingerprints)| PeerDemands {
        authorities: authorities.into_iter().collect(),
        names: names.into_iter().collect(),
        units: units.into_iter().collect(),
        fingerprints: fingerprints.into_iter().collect(),
    })
}

fn packets() -> impl Strategy<Value = Packets> {
    // One that need not be said is as if nothing had been.
    let if_nat = prop_oneof![Just(None), Just(Some(Encapsulation::IfNat))];
    let always = prop_oneof![Just(None), Just(Some(Encapsulation::Always))];
    let encapsulation = prop_oneof![
        if_nat.prop_map(|said| (None, said)),
        (of(any::<u32>()), always).prop_map(|(key, said)| (Some(Gre { key }), said)),
    ];
    let dscp = prop_oneof![Just(Dscp::Copy), (0u8..=63).prop_map(Dscp::Set)];
    let df = select(&[Df::Copy, Df::Set, Df::Clear][..]);
    (encapsulation, dscp, df, 32u16..=16_320).prop_map(|((gre, said_encapsulation), dscp, df, replay_window)| Packets {
        gre,
        said_encapsulation,
        dscp,
        df,
        replay_window,
    })
}

fn ppk() -> impl Strategy<Value = Ppk> {
    ("[a-z][a-z0-9]{0,8}", path(), any::<bool>()).prop_map(|(id, file, required)| Ppk {
        id: id.parse().unwrap(),
        file,
        required,
    })
}

/// All that a tunnel names and owns is set by `config`, which knows what there is.
pub(super) fn tunnel() -> impl Strategy<Value = Tunnel> {
    let remote = prop_oneof![
        ike_id().prop_map(|id| (Remote { address: RemoteAddress::Any, id: Some(id) }, Initiate::Never)),
        (unicast(), of(ike_id()), prop_oneof![Just(Initiate::Never), Just(Initiate::OnStart)])
            .prop_map(|(address, id, initiate)| (Remote { address: RemoteAddress::Address(address), id }, initiate)),
    ];
    // From 50 ms on, in milliseconds.
    let dpd = (prop_oneof![Just(0u64), 50u64..=3_600_000], 0u64..=3_600_000, any::<bool>());
    let dpd = dpd.prop_map(|(interval, more, on_demand)| Dpd {
        on_demand: on_demand && interval > 0,
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis((interval + more).max(100)),
    });
    let lifetime = (seconds(30, 604_800), of(1u64..=1_000_000_000), of(1000u64..=1_000_000_000_000)).prop_map(
        |(time, megabytes, packets)| ChildLifetime { time, octets: megabytes.map(|n| n * 1_000_000), packets },
    );
    let selectors =
        || proptest::collection::btree_set(prefix(), 0..3).prop_map(|set| set.into_iter().collect::<Vec<Prefix>>());
    (
        (of(text()), remote, (dpd, of(probe())), seconds(60, 604_800), lifetime),
        (
            (selectors(), selectors(), of(ppk())),
            of(576u16..=9500),
            packets(),
            demands(),
            any::<bool>(),
            any::<bool>(),
            of(10u64..=31_536_000),
        ),
        (of(select(Datapath::ALL)), any::<bool>(), select(Childless::ALL), of(unicast()), of(reverse_route())),
    )
        .prop_map(|((description, (remote, initiate), (dpd, probe), ike_lifetime, child_lifetime), rest, last)| {
            let (datapath, hardware_offload, childless, local, reverse_route) = last;
            let ((local_selectors, remote_selectors, ppk), mtu_octets, packets, demands, shutdown, mobike, reauth) =
                rest;
            let local = local.filter(|local: &IpAddr| !local.is_loopback());
            let local = local.filter(|local| match remote.address {
                RemoteAddress::Address(remote) => remote.is_ipv4() == local.is_ipv4(),
                RemoteAddress::Any => true,
            });
            let reverse_route = reverse_route.filter(|reverse: &ReverseRoute| {
                remote_selectors.iter().any(|prefix| reverse.default_route || prefix.bits() > 0)
            });
            Tunnel {
                description,
                remote,
                local,
                wan: "x".parse().unwrap(),
                backup_wans: vec![],
                mobike,
                reauth: reauth.map(Duration::from_secs),
                identity: "x".parse().unwrap(),
                proposal: None,
                addresses: Vec::new(),
                local_selectors,
                remote_selectors,
                reverse_route,
                childless,
                ppk,
                dpd,
                probe,
                ike_lifetime,
                child_lifetime,
                initiate,
                mtu_octets,
                packets,
                demands,
                datapath,
                hardware_offload,
                shutdown,
            }
        })
}

fn reverse_route() -> impl Strategy<Value = ReverseRoute> {
    let communities = proptest::collection::btree_set(any::<u32>().prop_map(Community), 0..3);
    (any::<bool>(), 1u8..=254, any::<u32>(), communities).prop_map(|(default_route, distance, tag, communities)| {
        ReverseRoute { default_route, distance, tag, communities: communities.into_iter().collect() }
    })
}

/// Every tunnel is given addresses of both families.
fn probe() -> impl Strategy<Value = Probe> {
    let address = select(&["169.254.0.1", "fd00::1"][..]).prop_map(|text| text.parse().unwrap());
    (address, of((50u64..=20_000, 0u64..=20_000))).prop_map(|(address, pace)| match pace {
        None => Probe::new(address),
        Some((interval, more)) => Probe {
            address,
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(2 * interval + more),
        },
    })
}

pub(super) fn bfd_profile() -> impl Strategy<Value = BfdProfile> {
    let interval = || (10u64..=60_000).prop_map(Duration::from_millis);
    let echo = of(prop_oneof![Just(Duration::ZERO), interval()]);
    let last = ((echo, any::<bool>(), interval(), of(interval())), of(1u8..=254));
    (interval(), interval(), 2u8..=255, any::<bool>(), any::<bool>(), last).prop_map(
        |(transmit_interval, receive_interval, detect_multiplier, passive, shutdown, last)| {
            let ((echo_receive_interval, echo_mode, echo_transmit_interval, adapt_up_to), minimum_ttl) = last;
            BfdProfile {
                echo_receive_interval,
                echo_mode,
                echo_transmit_interval,
                adapt_up_to,
                minimum_ttl,
                transmit_interval,
                receive_interval,
                detect_multiplier,
                passive,
                shutdown,
            }
        },
    )
}

pub(super) fn bfd_peer() -> impl Strategy<Value = (BfdPeerId, BfdPeer)> {
    let interval = || of((10u64..=60_000).prop_map(Duration::from_millis));
    let id = (unicast(), any::<bool>(), unicast(), any::<bool>(), of(interface())).prop_map(
        |(address, multihop, local, has_local, interface)| {
            let local = Some(local).filter(|local| has_local && local.is_ipv4() == address.is_ipv4());
            BfdPeerId { address, multihop, local, interface }
        },
    );
    let flag = || of(any::<bool>());
    let or_none = || of(prop_oneof![Just(Duration::ZERO), (10u64..=60_000).prop_map(Duration::from_millis)]);
    let echo = (or_none(), flag(), interval(), or_none());
    (id, interval(), interval(), of(2u8..=255), flag(), flag(), of(1u8..=254), echo).prop_map(
        |(id, transmit_interval, receive_interval, detect_multiplier, passive, shutdown, minimum_ttl, echo)| {
            let (echo_receive_interval, echo_mode, echo_transmit_interval, adapt_up_to) = echo;
            let peer = BfdPeer {
                echo_receive_interval,
                echo_mode,
                echo_transmit_interval,
                adapt_up_to,
                profile: None,
                transmit_interval,
                receive_interval,
                detect_multiplier,
                passive,
                shutdown,
                minimum_ttl,
            };
            (id, peer)
        },
    )
}

pub(super) fn static_route() -> impl Strategy<Value = StaticRoute> {
    let target = |v4: bool| {
        let gateway = unicast().prop_filter("family", move |address| address.is_ipv4() == v4);
        prop_oneof![
            Just(StaticTarget::Blackhole),
            Just(StaticTarget::Reject),
            interface().prop_map(StaticTarget::Interface),
            (gateway, of(interface())).prop_map(|(address, interface)| StaticTarget::Gateway { address, interface }),
        ]
    };
    (prefix(), 1u8..=255, any::<u32>(), any::<bool>()).prop_flat_map(move |(prefix, distance, tag, bfd)| {
        let target = target(prefix.family() == Family::Ipv4Unicast);
        target.prop_map(move |target| {
            // The profile is named by `config`, which knows what there is.
            let bfd = (bfd && matches!(target, StaticTarget::Gateway { .. })).then_some(StaticBfd { profile: None });
            StaticRoute { prefix, target, distance, tag, bfd }
        })
    })
}
