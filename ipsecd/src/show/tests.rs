//! What operators see, from a state that a daemon could be in.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use config::Config;
use dataplane::{
    Dataplane, DataplaneError, InboundStats, NewInbound, NewOutbound, OutboundStats, Path, Stats, TunnelSpec,
    TunnelStats, WanSpec, WanStats,
};
use net_types::{Spi, TunnelName, WanName};
use rpc::{TunnelState, WanState, WanStatus};

use super::{Table, octets, sa, tunnel, uptime, view, wan};
use crate::state::{ChildSa, IkeSa, Questions, Request, Stamped, State};

/// A packet path that only counts.
struct Counting;

fn name(text: &str) -> TunnelName {
    text.parse().unwrap()
}

fn spi(raw: u32) -> Spi {
    Spi::try_from(raw).unwrap()
}

fn path() -> Path {
    let endpoint = |text: &str| text.parse::<SocketAddr>().unwrap();
    Path { wan: "isp1".parse().unwrap(), local: endpoint("198.51.100.7:4500"), remote: endpoint("203.0.113.1:4500") }
}

impl Dataplane for Counting {
    fn add_wan(&self, _: WanSpec) -> Result<(), DataplaneError> {
        Ok(())
    }
    fn remove_wan(&self, _: &WanName) {}
    fn add_tunnel(&self, _: TunnelSpec) -> Result<(), DataplaneError> {
        Ok(())
    }
    fn remove_tunnel(&self, _: &TunnelName, _: bool) {}
    fn set_mtu(&self, _: &TunnelName, _: u16) {}
    fn add_inbound(&self, _: &TunnelName, _: NewInbound) -> Result<(), DataplaneError> {
        Ok(())
    }
    fn add_outbound(&self, _: &TunnelName, _: NewOutbound) -> Result<(), DataplaneError> {
        Ok(())
    }
    fn use_outbound(&self, _: &TunnelName, _: Spi) -> Result<(), DataplaneError> {
        Ok(())
    }
    fn remove_inbound(&self, _: Spi) {}
    fn remove_outbound(&self, _: &TunnelName, _: Spi) {}
    fn set_path(&self, _: &TunnelName, _: Path) -> Result<(), DataplaneError> {
        Ok(())
    }
    fn send_ike(&self, _: &WanName, _: SocketAddr, _: SocketAddr, _: &[u8]) -> Result<(), DataplaneError> {
        Ok(())
    }
    fn send_keepalive(&self, _: &Path) -> Result<(), DataplaneError> {
        Ok(())
    }
    fn stats(&self) -> Stats {
        let inbound = InboundStats {
            spi: spi(0x00c0_ffee),
            cipher: esp::Cipher::Aes256Gcm16,
            esn: true,
            sequence: 12,
            packets: 10,
            octets: 1000,
            replays: 2,
            forgeries: 0,
            malformed: 0,
            foreign: 0,
            congested: 0,
            idle: Some(Duration::from_millis(1500)),
        };
        let outbound = OutboundStats {
            spi: spi(0xdead_beef),
            cipher: esp::Cipher::Aes256Gcm16,
            esn: true,
            sequence: 20,
            packets: 20,
            octets: 20_000,
            path: path(),
        };
        let tunnel = TunnelStats {
            tunnel: name("tun1"),
            sent_packets: 20,
            sent_octets: 20_000,
            received_packets: 10,
            received_octets: 1000,
            idle: Some(Duration::from_millis(1500)),
            dropped_no_sa: 3,
            dropped_selectors: 0,
            dropped_too_big: 0,
            dropped_malformed: 0,
            dropped_send: 0,
            dropped_device: 0,
            inbound: vec![inbound],
            outbound: vec![outbound],
        };
        let wan = WanStats {
            wan: "isp1".parse().unwrap(),
            ike_received: 7,
            ike_dropped: 0,
            keepalives: 0,
            unknown_spi: 1,
            malformed: 0,
        };
        Stats { tunnels: vec![tunnel], wans: vec![wan] }
    }
}

const CONFIG: &str = "\
wan isp1
 interface eth0
 gateway 198.51.100.1
wan isp2
 interface eth1
ipsec identity site
 id edge1.example.net
 pre-shared-key file /etc/holdfast/edge1.psk
ipsec tunnel tun1
 description to the hub
 remote 203.0.113.1 id hub1.example.net
 local 198.51.100.7
 wan isp1
 identity site
 ip address 169.254.1.2/30
 probe 169.254.1.1
ipsec tunnel tun2
 remote 203.0.113.2
 wan isp2
 identity site
";

pub(crate) fn config() -> Config {
    config::parse(CONFIG).unwrap_or_else(|mistakes| panic!("{}", mistakes.render("CONFIG", CONFIG))).config
}

/// One tunnel up, the other down with its link, and the end at which requests arrive.
pub(crate) fn state() -> (State, tokio::sync::mpsc::Receiver<Request>) {
    let (state, requests) = State::new(Arc::new(Counting));
    state.set_config(Arc::new(config()));
    let (isp1, isp2): (WanName, WanName) = ("isp1".parse().unwrap(), "isp2".parse().unwrap());
    let up = TunnelState::Up {
        mtu: 1438,
        addresses: vec!["169.254.1.2".parse().unwrap()],
        selectors: vec!["10.0.0.0/8".parse().unwrap()],
    };
    state.publish(&name("tun1"), &isp1, 5, up);
    state.publish(&name("tun2"), &isp2, 6, TunnelState::Down { cause: "WAN link down".to_owned() });
    for (wan, interface, link) in [
        (isp1, "eth0", WanState::Up { addresses: vec!["198.51.100.7".parse().unwrap()] }),
        (isp2, "eth1", WanState::Down { cause: "no carrier".to_owned() }),
    ] {
        let interface = interface.parse().unwrap();
        state.publish_wan(WanStatus { wan, interface, ifindex: 2, state: link, since_unix_us: 0, generation: 0 });
    }
    let now = SystemTime::now();
    state.edit(&name("tun1"), |detail| {
        detail.times_up = 1;
        detail.child_rekeys = 2;
        let round_trip = Some(Duration::from_micros(12_500));
        detail.probe = Questions { asked: 100, answered: 96, lost: 3, round_trip };
        detail.ike = Some(IkeSa {
            spis: (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210),
            initiated: true,
            peer: "hub1.example.net".to_owned(),
            remote: "203.0.113.1:4500".parse().unwrap(),
            suite: "aes256gcm16-prfsha384-x25519".to_owned(),
            since: now,
            rekeyed: None,
        });
        detail.children.push(ChildSa {
            spi_in: spi(0x00c0_ffee),
            spi_out: spi(0xdead_beef),
            suite: "aes256gcm16-esn".to_owned(),
            local_selectors: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
            remote_selectors: vec!["10.0.0.0/8".to_owned()],
            in_use: true,
            since: now,
        });
    });
    state.edit(&name("tun2"), |detail| {
        detail.last_error = Some(Stamped { at: now, value: "peer does not answer".to_owned() });
    });
    (state, requests)
}

/// Looking a little later than everything happened.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(62)
}

#[test]
fn tunnels_are_listed_one_a_line() {
    let tunnels = view::tunnels(&state().0, None);
    assert_eq!(
        tunnel::table(&tunnels, later()),
        "\
Tunnel  WAN   Peer         State  For        MTU  Sent  Received  Cause
tun1    isp1  203.0.113.1  up     00:01:02  1438   20k      1.0k
tun2    isp2  203.0.113.2  down   00:01:02     -     -         -  WAN link down
"
    );
}

#[test]
fn one_tunnel_is_told_in_full() {
    let state = state().0;
    let text = |only: &str| tunnel::text(&view::tunnels(&state, Some(&name(only)))[0], later());
    assert_eq!(
        text("tun1"),
        "\
Tunnel tun1 over isp1: up for 00:01:02
  Description: to the hub
  Interface index: 5
  MTU: 1438, addresses: 169.254.1.2
  Carries: 10.0.0.0/8
  Local address: 198.51.100.7
  Peer: 203.0.113.1, hub1.example.net
  We are: edge1.example.net
  Probe: 169.254.1.1 answers in 12.5 ms; asked every 500ms 100 times, 3 lost, silent after 1.5s
  Came up: 1, IKE SA rekeyed: 0, child SA rekeyed: 2
  Sent: 20 packets, 20000 octets
  Received: 10 packets, 1000 octets
  Dropped: 3 without SA
"
    );
    assert_eq!(
        text("tun2"),
        "\
Tunnel tun2 over isp2: down (WAN link down) for 00:01:02
  Interface index: 6
  Peer: 203.0.113.2
  We are: edge1.example.net
  Came up: 0, IKE SA rekeyed: 0, child SA rekeyed: 0
  Last error, 00:01:02 ago: peer does not answer
"
    );
}

#[test]
fn a_tunnel_in_which_nobody_answers_is_down_while_it_is_up() {
    let state = state().0;
    let (tun1, isp1) = (name("tun1"), "isp1".parse().unwrap());
    let told = || state.tunnels().get(&tun1).unwrap();
    let before = told();
    state.set_silent(&tun1, Some("probe: nobody answers".to_owned()));
    let down = TunnelState::Down { cause: "probe: nobody answers".to_owned() };
    assert_eq!((told().state, told().generation), (down.clone(), before.generation + 1));
    assert_eq!(state.negotiated(&tun1), Some(before.state.clone()), "its SAs are there");
    let text = tunnel::text(&view::tunnels(&state, Some(&tun1))[0], later());
    assert!(text.contains("isp1: down (probe: nobody answers)"), "{text}");
    assert!(text.contains("  Probe: nobody answers at 169.254.1.1; asked"), "{text}");
    // It is negotiated anew: its own causes are told meanwhile, and then it still is silent.
    let lost = TunnelState::Down { cause: "peer does not answer".to_owned() };
    state.publish(&tun1, &isp1, 5, lost.clone());
    assert_eq!(told().state, lost);
    state.publish(&tun1, &isp1, 5, before.state.clone());
    assert_eq!(told().state, down);
    state.set_silent(&tun1, None);
    assert_eq!(told().state, before.state);
}

#[test]
fn associations_are_told_with_their_counters() {
    assert_eq!(
        sa::text(&view::tunnels(&state().0, None), later()),
        "\
tun1: IKE SA 0123456789abcdef_i fedcba9876543210_r, we are initiator, aes256gcm16-prfsha384-x25519
  peer hub1.example.net at 203.0.113.1:4500, established 00:01:02 ago
  child SA 0x00c0ffee in, 0xdeadbeef out, aes256gcm16-esn, in use, installed 00:01:02 ago
    0.0.0.0/0 ::/0 === 10.0.0.0/8
    in:  10 packets, 1000 octets, sequence 12, last 1.5 s ago, 2 replayed
    out: 20 packets, 20000 octets, sequence 20
tun2: no IKE SA (WAN link down)
"
    );
}

#[test]
fn links_are_listed_with_their_tunnels() {
    assert_eq!(
        wan::text(&view::wans(&state().0, None), later()),
        "\
WAN   Interface  State  For       Addresses     Gateway       Tunnels up  Cause
isp1  eth0       up     00:01:02  198.51.100.7  198.51.100.1  1 of 1
isp2  eth1       down   00:01:02  -             -             0 of 1      no carrier
"
    );
}

#[test]
fn json_has_what_the_text_has_keyed_by_name() {
    let state = state().0;
    let tunnels = view::tunnels(&state, None);
    let json = tunnel::json(&tunnels);
    assert_eq!(json["tun1"]["state"], "up");
    assert_eq!(json["tun1"]["mtu"], 1438);
    assert_eq!(json["tun1"]["dropped"]["withoutSa"], 3);
    assert_eq!(json["tun1"]["probe"]["roundTripUs"], 12_500);
    assert_eq!((&json["tun1"]["probe"]["asked"], &json["tun1"]["probe"]["lost"]), (&100.into(), &3.into()));
    assert_eq!(json["tun2"]["cause"], "WAN link down");
    assert_eq!(json["tun2"]["lastError"]["error"], "peer does not answer");
    let json = sa::json(&tunnels);
    assert_eq!(json["tun1"]["ikeSa"]["initiatorSpi"], "0123456789abcdef");
    assert_eq!(json["tun1"]["childSas"][0]["in"]["replays"], 2);
    assert_eq!(json["tun2"]["ikeSa"], serde_json::Value::Null);
    let json = wan::json(&view::wans(&state, None));
    assert_eq!(json["isp1"]["tunnelsUp"], 1);
    assert_eq!(json["isp2"]["cause"], "no carrier");
}

#[test]
fn octets_keep_two_digits() {
    for (count, text) in [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (1250, "1.2k"),
        (34_567, "34k"),
        (999_999, "999k"),
        (1_000_000, "1.0M"),
        (u64::MAX, "18E"),
    ] {
        assert_eq!(octets(count), text);
    }
}

#[test]
fn uptimes_grow_their_units() {
    let text = |seconds| uptime(Duration::from_secs(seconds));
    assert_eq!([text(62), text(93_780), text(1_500_000)], ["00:01:02", "1d02h03m", "02w3d08h"]);
}

#[test]
fn columns_fit_their_cells() {
    let mut table = Table::new(&["Name", ">Count", "Note"]);
    table.row(vec!["a long one".to_owned(), "1".to_owned(), String::new()]);
    table.row(vec!["b".to_owned(), "123456".to_owned(), "x".to_owned()]);
    assert_eq!(table.render(), "Name         Count  Note\na long one       1\nb           123456  x\n");
}
