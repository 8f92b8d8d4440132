//! Any octets as an MRT record: read or refused; what it says of routes becomes UPDATEs or nothing, and what was read
//! reads the same after it is written.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mrt::{Body, Record, entry_attributes, frame_length};

fuzz_target!(|data: &[u8]| {
    let _ = frame_length(data);
    let _ = entry_attributes(data);
    let Ok(record) = Record::parse(&Bytes::copy_from_slice(data)) else { return };
    match &record.body {
        Body::Rib(rib) => rib.entries.iter().for_each(|entry| drop(entry.to_update(&rib.prefix))),
        Body::TableDump(dump) => drop(dump.entry.to_update(&dump.prefix)),
        _ => {}
    }
    let mut out = BytesMut::new();
    record.emit(&mut out);
    if out.is_empty() {
        return; // of a type that is not known
    }
    let again = Record::parse(&out.freeze()).expect("what we write can be read");
    assert_eq!(again.body, record.body);
});
