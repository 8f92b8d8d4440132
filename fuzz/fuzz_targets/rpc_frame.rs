//! Octets of a peer on the RPC socket: framing, envelope, and every request and event inside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpc::{
    Execute, Text, TunnelEvent, WanEvent, WatchTunnels, WatchWans,
    envelope::Body,
    frame::{BytesMut, Decoder, Encoder, EnvelopeCodec},
    hello,
    wire::Wire,
};

fuzz_target!(|data: &[u8]| {
    // In two pieces, as a socket might.
    let (first, second) = data.split_at(data.len() / 2);
    let mut buffer = BytesMut::from(first);
    for piece in [&[][..], second] {
        buffer.extend_from_slice(piece);
        while let Ok(Some(envelope)) = EnvelopeCodec.decode(&mut buffer) {
            let mut again = BytesMut::new();
            EnvelopeCodec.encode(envelope.clone(), &mut again).expect("what fitted a frame fits again");
            assert_eq!(EnvelopeCodec.decode(&mut again).expect("our own frame"), Some(envelope.clone()));
            match envelope.body {
                Some(Body::Hello(theirs)) => drop(hello::settle(&theirs)),
                Some(Body::Call(call)) => {
                    drop(Execute::from_bytes(call.request.clone()));
                    drop(WatchTunnels::from_bytes(call.request.clone()));
                    drop(WatchWans::from_bytes(call.request));
                }
                Some(Body::Event(octets)) => {
                    drop(Text::from_bytes(octets.clone()));
                    if let Ok(event) = TunnelEvent::from_bytes(octets.clone()) {
                        assert_eq!(TunnelEvent::from_bytes(event.to_bytes()), Ok(event));
                    }
                    if let Ok(event) = WanEvent::from_bytes(octets) {
                        assert_eq!(WanEvent::from_bytes(event.to_bytes()), Ok(event));
                    }
                }
                _ => {}
            }
        }
    }
});
