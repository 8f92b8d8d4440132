//! Merging and cutting one after the other, for the fuzz target: what it feeds comes back, or something is wrong.

use std::{cell::RefCell, io::IoSlice};

use esp::{Cipher, Frame, HEADROOM};

use super::{
    Device, Mergeable, Merger, VnetHeader,
    split::{SplitError, complete, split},
};

/// What a kernel would make of packets after they were merged, in the order in which they were written.
///
/// # Panics
/// When something is written that cannot be cut, or is cut into another number of packets than was said.
pub fn round_trip(packets: &mut [Vec<u8>]) -> Vec<Vec<u8>> {
    let cutter = Cutter::default();
    let mut merger = Merger::new(Mergeable { tcp: true, udp: true }, &cutter);
    packets.iter_mut().for_each(|packet| merger.push(packet));
    merger.finish();
    cutter.packets.into_inner()
}

/// Cuts whatever a kernel might hand us: a header of ten octets and what stands behind it.
pub fn cut_any(octets: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (header, packet) = octets.split_first_chunk()?;
    let header = VnetHeader::parse(header).ok()?;
    cut(&header, packet).ok()
}

#[derive(Default)]
struct Cutter {
    packets: RefCell<Vec<Vec<u8>>>,
}

impl Device for &Cutter {
    fn write(&self, parts: &[IoSlice<'_>], packets: usize) {
        let octets: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let given = cut_any(&octets).expect("what was merged can be cut");
        assert_eq!(given.len(), packets);
        self.packets.borrow_mut().extend(given);
    }
}

fn cut(header: &VnetHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, SplitError> {
    let Some(how) = &header.cut else {
        let mut packet = packet.to_vec();
        complete(header, &mut packet)?;
        return Ok(vec![packet]);
    };
    let mut slab = vec![0; 4 << 20];
    slab.get_mut(HEADROOM..HEADROOM + packet.len()).ok_or(SplitError::Room)?.copy_from_slice(packet);
    let mut frames: Vec<Frame> = Vec::new();
    split(how, Cipher::Aes128Gcm16, &mut slab, 0, packet.len(), &mut frames)?;
    let octets = |frame: &Frame| slab[frame.start + HEADROOM..frame.start + HEADROOM + frame.length].to_vec();
    Ok(frames.iter().map(octets).collect())
}
