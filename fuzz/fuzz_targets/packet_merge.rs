//! Inner packets of a hostile peer on their way into the interface, merged and cut again; and anything as a super-packet.
#![no_main]

use dataplane::offload::{cut_any, round_trip};

/// Makes the checksums of an IPv4 packet right, so that it is worth merging.
fn mend(packet: &mut [u8]) {
    let sum = |start: u32, octets: &[u8]| -> [u8; 2] {
        let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let mut sum = words.fold(start, |sum, word| sum + word);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    };
    if packet.len() < 48 {
        return;
    }
    packet[0] = 0x45;
    let length = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&length);
    packet[10..12].fill(0);
    let check = sum(0, &packet[..20]);
    packet[10..12].copy_from_slice(&check);
    let field = if packet[9] == 6 { 36 } else { 26 };
    packet[field..field + 2].fill(0);
    let pseudo: u32 = u32::from(packet[9])
        + (packet.len() as u32 - 20)
        + packet[12..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let check = sum(pseudo, &packet[20..]);
    packet[field..field + 2].copy_from_slice(&check);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _any = cut_any(data);
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut rest = data;
    while let Some((&[length, mended], more)) = rest.split_first_chunk() {
        let (packet, more) = more.split_at(usize::from(length).min(more.len()));
        let mut packet = packet.to_vec();
        if mended & 1 == 0 {
            mend(&mut packet);
        }
        packets.push(packet);
        rest = more;
    }
    let lengths = |packets: &[Vec<u8>]| {
        let mut lengths: Vec<usize> = packets.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        lengths
    };
    let before = lengths(&packets);
    assert_eq!(lengths(&round_trip(&mut packets)), before);
});
