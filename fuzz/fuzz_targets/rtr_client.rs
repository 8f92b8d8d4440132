//! Any octets from an RTR cache, in pieces: read or refused, and what is told adds up to what is held.
//!
//! The first octet is the length of the pieces.
#![no_main]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use rtr::{Client, Output};

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else { return };
    let mut now = Instant::now();
    let (mut client, mut held) = (Client::new([None; 3]), BTreeSet::new());
    let mut outputs = client.connected(now);
    for octets in stream.chunks(usize::from(*piece).max(1)) {
        now += Duration::from_secs(1);
        outputs.extend(client.received(now, octets));
        outputs.extend(client.timeout(now));
        let mut closed = false;
        for output in outputs.drain(..) {
            match output {
                Output::Synced(changes) | Output::Flushed(changes) => {
                    changes.withdrawn.iter().for_each(|roa| assert!(held.remove(roa)));
                    changes.announced.iter().for_each(|roa| assert!(held.insert(*roa)));
                }
                Output::Close(why) => {
                    let _ = why.to_string();
                    closed = true;
                }
                Output::Send(_) => {}
            }
        }
        if closed {
            client.lost();
            outputs.extend(client.connected(now));
        }
        assert_eq!(&held, client.roas());
    }
});
