//! Any octets as a BMP message: read or refused. What was read reads the same after it is written, unless it has parts
//! that are not known here.
#![no_main]

use bmp::{Message, frame_length};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = frame_length(data);
    let Ok(message) = Message::parse(data) else { return };
    let mut out = BytesMut::new();
    message.emit(&mut out);
    let again = Message::parse(&out).expect("what we write can be read");
    let mut twice = BytesMut::new();
    again.emit(&mut twice);
    assert_eq!(out, twice);
});
