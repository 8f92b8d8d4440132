//! Frames recorded from earlier versions still mean what they meant, and are still what we send.
//!
//! `testdata/NAME.hex` holds one frame. To record a new kind of frame, add it here, and take the octets from the failure.

use std::{fs, net::IpAddr};

use bytes::BytesMut;
use proptest::prelude::*;
use rpc::{
    Configure, Configured, Execute, Text, TunnelEvent, TunnelState, TunnelStatus, WanEvent, WanState, WanStatus,
    WatchTunnels, WatchWans,
    envelope::{Body, CallBody, Cancel, End, Envelope, ErrorBody, Hello},
    frame::EnvelopeCodec,
    wire::{Call, Stream, Wire},
};
use tokio_util::codec::{Decoder, Encoder};

fn unary<C: Call>(request: &C) -> Body {
    Body::Call(CallBody { method: C::METHOD.into(), request: request.to_bytes(), credit: 0 })
}

fn call<S: Stream>(request: &S) -> Body {
    Body::Call(CallBody { method: S::METHOD.into(), request: request.to_bytes(), credit: 64 })
}

fn tunnel(state: TunnelState) -> Body {
    let status = TunnelStatus {
        tunnel: "tun1".parse().unwrap(),
        ifindex: 7,
        wan: "isp1".parse().unwrap(),
        state,
        since_unix_us: 1_767_225_600_000_000,
        generation: 3,
    };
    Body::Event(TunnelEvent::Status(status).to_bytes())
}

fn up(addresses: Vec<IpAddr>, selectors: &[&str]) -> TunnelState {
    TunnelState::Up { mtu: 1438, addresses, selectors: selectors.iter().map(|text| text.parse().unwrap()).collect() }
}

fn wan(state: WanState) -> Body {
    let status = WanStatus {
        wan: "isp1".parse().unwrap(),
        interface: "eth0".parse().unwrap(),
        ifindex: 2,
        state,
        since_unix_us: 1_767_225_600_000_000,
        generation: 1,
    };
    Body::Event(WanEvent::Status(status).to_bytes())
}

fn frames() -> Vec<(&'static str, Envelope)> {
    let addresses = vec!["169.254.1.2".parse().unwrap(), "fd00:1::2".parse().unwrap()];
    let hello = Hello {
        version: 1,
        oldest: 1,
        features: vec!["execute".into(), "watch".into()],
        program: "holdfast".into(),
        software: "0.1.0".into(),
    };
    let refusal = ErrorBody { code: 2, message: "unknown command".into() };
    vec![
        ("hello", Envelope::new(0, Body::Hello(hello))),
        ("call-execute", Envelope::new(1, call(&Execute { line: "show bgp summary json".into() }))),
        ("call-configure", Envelope::new(4, unary(&Configure { lines: "router bgp 65001\n".into() }))),
        (
            "reply-configured",
            Envelope::new(
                4,
                Body::Reply(Configured { warnings: "1:1: warning: there is nothing to take back".into() }.to_bytes()),
            ),
        ),
        ("call-watch-tunnels", Envelope::new(2, call(&WatchTunnels))),
        ("call-watch-wans", Envelope::new(3, call(&WatchWans))),
        ("event-text", Envelope::new(1, Body::Event(Text("IPv4 Unicast Summary\n".into()).to_bytes()))),
        ("event-tunnel-negotiating", Envelope::new(2, tunnel(TunnelState::Negotiating))),
        ("event-tunnel-up", Envelope::new(2, tunnel(up(addresses.clone(), &[])))),
        ("event-tunnel-up-selectors", Envelope::new(2, tunnel(up(vec![], &["10.2.0.0/24", "fd00:2::/48"])))),
        ("event-tunnel-down", Envelope::new(2, tunnel(TunnelState::Down { cause: "peer sent DELETE".into() }))),
        (
            "event-tunnel-removed",
            Envelope::new(2, Body::Event(TunnelEvent::Removed("tun1".parse().unwrap()).to_bytes())),
        ),
        ("event-tunnel-synced", Envelope::new(2, Body::Event(TunnelEvent::Synced.to_bytes()))),
        ("event-wan-up", Envelope::new(3, wan(WanState::Up { addresses }))),
        ("event-wan-down", Envelope::new(3, wan(WanState::Down { cause: "no carrier".into() }))),
        ("event-wan-removed", Envelope::new(3, Body::Event(WanEvent::Removed("isp1".parse().unwrap()).to_bytes()))),
        ("event-wan-synced", Envelope::new(3, Body::Event(WanEvent::Synced.to_bytes()))),
        ("end", Envelope::new(1, Body::End(End {}))),
        ("error", Envelope::new(1, Body::Error(refusal))),
        ("credit", Envelope::new(1, Body::Credit(32))),
        ("cancel", Envelope::new(1, Body::Cancel(Cancel {}))),
    ]
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn recorded(name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    unhex(&fs::read_to_string(&path).unwrap_or_default())
}

#[test]
fn recorded_frames_are_read_and_written_as_ever() {
    for (name, envelope) in frames() {
        let mut now = BytesMut::new();
        EnvelopeCodec.encode(envelope.clone(), &mut now).unwrap();
        assert_eq!(hex(&now), hex(&recorded(name)), "testdata/{name}.hex");
        let decoded = EnvelopeCodec.decode(&mut BytesMut::from(&recorded(name)[..])).unwrap().unwrap();
        assert_eq!(decoded, envelope, "{name}");
    }
}

fn events(envelope: Envelope) -> [Result<String, String>; 3] {
    let Some(Body::Event(octets)) = envelope.body else { return ["", "", ""].map(|_| Err(String::new())) };
    [
        TunnelEvent::from_bytes(octets.clone()).map(|event| format!("{event:?}")),
        WanEvent::from_bytes(octets.clone()).map(|event| format!("{event:?}")),
        Text::from_bytes(octets).map(|event| format!("{event:?}")),
    ]
}

#[test]
fn recorded_events_mean_what_they_meant() {
    for (name, wanted) in [("event-tunnel-up", 0), ("event-wan-down", 1), ("event-text", 2)] {
        let envelope = EnvelopeCodec.decode(&mut BytesMut::from(&recorded(name)[..])).unwrap().unwrap();
        let ours = frames().into_iter().find(|(ours, _)| *ours == name).unwrap().1;
        assert_eq!(events(envelope)[wanted], events(ours)[wanted]);
    }
}

proptest! {
    /// Damage to a good frame gives another value or a refusal, never a panic.
    #[test]
    fn damaged_frames_are_read_or_refused(which in 0usize..18, at in any::<proptest::sample::Index>(), octet in any::<u8>(), cut in any::<proptest::sample::Index>()) {
        let frames = frames();
        let (name, _) = &frames[which % frames.len()];
        let mut octets = recorded(name);
        let position = at.index(octets.len());
        octets[position] = octet;
        octets.truncate(1 + cut.index(octets.len()));
        if let Ok(Some(envelope)) = EnvelopeCodec.decode(&mut BytesMut::from(&octets[..])) {
            let _ = events(envelope);
        }
    }
}
