//! Any octets as an ESP packet, as an inner packet, and as something to seal and open again.
#![no_main]

use std::sync::LazyLock;

use esp::{Cipher, HEADROOM, InboundSa, Inner, Keymat, Opened, OutboundSa};
use net_types::Spi;

static KEYMAT: LazyLock<Keymat> =
    LazyLock::new(|| Keymat::new(Cipher::Aes128Gcm16, vec![0x5a; 20]).expect("16 octets of key, 4 of salt"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let spi = Spi::try_from(0x1234_5678).expect("not reserved"); // the one in the seeds that were captured
    for esn in [false, true] {
        let inbound = InboundSa::new(spi, &KEYMAT, esn);
        assert!(inbound.opener().open(&mut data.to_vec()).is_err(), "a forgery was taken");
    }
    for next in [4, 41] {
        if let Ok(inner) = Inner::parse(next, data) {
            assert!(inner.length <= data.len());
        }
    }
    let outbound = OutboundSa::new(spi, &KEYMAT, true);
    let inbound = InboundSa::new(spi, &KEYMAT, true);
    let mut buffer = vec![0; outbound.cipher().sealed_len(data.len())];
    buffer[HEADROOM..HEADROOM + data.len()].copy_from_slice(data);
    if outbound.seal(&mut buffer, data.len()).is_ok() {
        if let Ok(Opened::Packet(inner)) = inbound.opener().open(&mut buffer) {
            assert_eq!(&buffer[HEADROOM..HEADROOM + inner.length], &data[..inner.length]);
        }
    }
});
