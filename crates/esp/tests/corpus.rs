//! The fuzzer's seeds, and every truncation and many mutations of them, without the fuzzer.

use esp::{Cipher, InboundSa, Inner, Keymat};
use net_types::Spi;

#[test]
fn seeds_and_their_mutations_are_refused_without_panic() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/esp_open");
    let keymat = Keymat::new(Cipher::Aes128Gcm16, vec![0x5a; 20]).unwrap();
    let sa = InboundSa::new(Spi::try_from(0x1234_5678).unwrap(), &keymat, false);
    let mut seeds = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        seeds += 1;
        let judge = |octets: &[u8]| {
            assert!(sa.opener().open(&mut octets.to_vec()).is_err());
            for next in [4, 41, 59] {
                assert!(Inner::parse(next, octets).is_ok_and(|inner| inner.length > octets.len()).eq(&false));
            }
        };
        for end in 0..=seed.len() {
            judge(&seed[..end]);
        }
        for at in 0..seed.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut octets = seed.clone();
                octets[at] = value;
                judge(&octets);
            }
        }
    }
    assert!(seeds >= 5, "the corpus is not where this test looks");
}
