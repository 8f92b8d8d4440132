//! Whatever arrives is an IKEv2 message or is refused; what was read can be written and reads the same again.
#![no_main]

use ike_wire::{HEADER_LEN, Message, emit_chain, first_type, parse_inner};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::parse(data) {
        match &message.protected {
            Some(protected) => assert_eq!(protected.body.end, data.len()),
            None => {
                let again = message.emit().expect("it came in one datagram");
                assert_eq!(Message::parse(&again), Ok(message));
            }
        }
    }
    // The contents of an encrypted payload, as if it had been opened.
    let Some((first, chain)) = data.get(HEADER_LEN - 1..).and_then(<[u8]>::split_first) else { return };
    if let Ok(payloads) = parse_inner((*first).into(), chain) {
        let mut again = Vec::new();
        emit_chain(&payloads, ike_wire::PayloadType::None, &mut again).expect("it came in one datagram");
        assert_eq!(parse_inner(first_type(&payloads), &again), Ok(payloads));
    }
});
