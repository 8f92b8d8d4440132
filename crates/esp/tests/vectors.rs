//! Published vectors: packets that others sealed must open, and ours must be theirs.

use esp::{Cipher, HEADROOM, InboundSa, Keymat, OpenError, Opened, OutboundSa};
use net_types::Spi;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// One vector file: `name: hex` lines, continued by lines that begin with a space; `#` begins a comment.
fn field(file: &str, name: &str) -> Vec<u8> {
    let mut found = String::new();
    let mut inside = false;
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once(':') {
            Some((key, value)) => {
                inside = key == name;
                if inside {
                    found.push_str(value);
                }
            }
            None if inside => found.push_str(line),
            None => {}
        }
    }
    assert!(!found.is_empty(), "no {name} in the vector");
    hex(&found)
}

#[test]
fn the_packet_of_rfc_7634_opens() {
    let file = include_str!("../testdata/rfc7634-appendix-a.txt");
    let keymat = Keymat::new(Cipher::ChaCha20Poly1305, field(file, "keymat")).unwrap();
    let packet = field(file, "packet");
    let spi = Spi::try_from(esp::spi_of(&packet).unwrap()).unwrap();
    let sa = InboundSa::new(spi, &keymat, false);
    let mut copy = packet.clone();
    let Ok(Opened::Packet(inner)) = sa.opener().open(&mut copy) else { panic!("the vector does not open") };
    assert_eq!(copy[HEADROOM..HEADROOM + inner.length], field(file, "inner"));
    assert_eq!(inner.source, std::net::IpAddr::from([198, 51, 100, 5]));
    assert!(matches!(sa.opener().open(&mut packet.clone()), Err(OpenError::Replay(_))), "and once only");
}

#[test]
fn sealing_twice_under_one_key_gives_what_the_other_opens() {
    for cipher in [Cipher::Aes128Gcm16, Cipher::Aes256Gcm16, Cipher::ChaCha20Poly1305] {
        for esn in [false, true] {
            let material: Vec<u8> = (0..cipher.keymat_len() as u8).collect();
            let spi = Spi::try_from(0xc0ff_ee00).unwrap();
            let keymat = Keymat::new(cipher, material).unwrap();
            let (out, inbound) = (OutboundSa::new(spi, &keymat, esn), InboundSa::new(spi, &keymat, esn));
            let inner = field(include_str!("../testdata/rfc7634-appendix-a.txt"), "inner");
            for _ in 0..3 {
                let mut buffer = vec![0; cipher.sealed_len(inner.len())];
                buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(&inner);
                assert_eq!(out.seal(&mut buffer, inner.len()), Ok(buffer.len()));
                assert!(matches!(inbound.opener().open(&mut buffer), Ok(Opened::Packet(_))));
                assert_eq!(buffer[HEADROOM..HEADROOM + inner.len()], inner);
            }
        }
    }
}
