//! What the outer header says of a packet's class and of congestion, and what the inner one learns of it (RFC 6040, RFC 4301
//! §5.1.2): normal mode at both ends, which is what IKEv2 associations have.

use crate::{Dscp, offload::checksum};

/// The two bits of ECN (RFC 3168 §5).
const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// What happens to a packet as it leaves the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Forward(u8),
    Drop,
}

/// Congestion was met by a packet whose sender does not take part in ECN: it must be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Congested;

/// TOS or traffic class of the outer header: ECN is copied (RFC 6040 §4.1).
pub(crate) fn outer_tos(inner: &[u8], dscp: Dscp) -> u8 {
    let tos = tos(inner);
    match dscp {
        Dscp::Copy => tos,
        Dscp::Set(dscp) => dscp << 2 | tos & ECN,
    }
}

/// Lets the inner packet know what the outer one met (RFC 6040 §4.2).
pub(crate) fn learn(inner: &mut [u8], outer_tos: u8) -> Result<(), Congested> {
    let (tos, outer) = (tos(inner), outer_tos & ECN);
    if outer == NOT_ECT || outer == tos & ECN {
        return Ok(()); // the usual cases, of which the table leaves the packet as it is
    }
    match decapsulate(tos & ECN, outer) {
        Verdict::Drop => Err(Congested),
        Verdict::Forward(ecn) => {
            if ecn != tos & ECN {
                set_tos(inner, tos & !ECN | ecn);
            }
            Ok(())
        }
    }
}

/// RFC 6040 figure 4.
fn decapsulate(inner: u8, outer: u8) -> Verdict {
    match (inner, outer) {
        (NOT_ECT, CE) => Verdict::Drop,
        (NOT_ECT, _) => Verdict::Forward(NOT_ECT),
        (_, CE) | (CE, _) => Verdict::Forward(CE),
        (ECT_0, ECT_1) => Verdict::Forward(ECT_1),
        (inner, _) => Verdict::Forward(inner),
    }
}

fn tos(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => *second,
        [first, second, ..] => first << 4 | second >> 4,
        _ => 0,
    }
}

fn set_tos(packet: &mut [u8], tos: u8) {
    match packet {
        [first, second, rest @ ..] if *first >> 4 == 4 => {
            let Some(check) = rest.get_mut(8..10) else { return };
            let old = [*first, *second];
            *second = tos;
            checksum::replace(check, old, [*first, tos]);
        }
        [first, second, ..] => {
            *first = *first & 0xf0 | tos >> 4;
            *second = *second & 0x0f | tos << 4;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::checksum::Sum;

    fn v4(tos: u8) -> Vec<u8> {
        let mut packet = vec![0x45, tos, 0, 20, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let check = Sum::default().add(&packet).checksum();
        packet[10..12].copy_from_slice(&check);
        packet
    }

    fn v6(tos: u8) -> Vec<u8> {
        let mut packet = vec![0x60 | tos >> 4, tos << 4 | 0x0a, 0xbc, 0xde];
        packet.resize(40, 7);
        packet
    }

    #[test]
    fn the_whole_table_of_rfc_6040_holds() {
        // Rows: inner Not-ECT, ECT(0), ECT(1), CE; columns: outer Not-ECT, ECT(0), ECT(1), CE. Figure 4.
        let order = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
            [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
            [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
            [Some(CE), Some(CE), Some(CE), Some(CE)],
        ];
        for (inner, row) in order.into_iter().zip(table) {
            for (outer, expected) in order.into_iter().zip(row) {
                for make in [v4, v6] {
                    let mut packet = make(0xb8 | inner);
                    let learnt = learn(&mut packet, 0x28 | outer).ok().map(|()| packet);
                    let expected = expected.map(|ecn| make(0xb8 | ecn)); // the DSCP inside stays
                    assert_eq!(learnt, expected, "inner {inner:02b}, outer {outer:02b}");
                }
            }
        }
    }

    #[test]
    fn the_outer_header_says_what_the_policy_says_and_copies_ecn() {
        for make in [v4, v6] {
            for ecn in [NOT_ECT, ECT_0, ECT_1, CE] {
                let packet = make(0xb8 | ecn);
                assert_eq!(outer_tos(&packet, Dscp::Copy), 0xb8 | ecn);
                assert_eq!(outer_tos(&packet, Dscp::Set(10)), 10 << 2 | ecn);
            }
        }
        assert_eq!(outer_tos(&[], Dscp::Copy), 0);
    }
}
