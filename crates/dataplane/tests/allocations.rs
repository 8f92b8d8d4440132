//! Packets cross without an allocation: a program of its own, since the allocator that counts is the whole program's.

#[allow(dead_code)]
#[path = "userspace/common.rs"]
mod common;

use common::*;
use sys::alloc::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

#[test]
fn nothing_is_allocated_for_a_packet() {
    const PACKETS: usize = 3000;
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    crosses(&near, &far, b"buffers are there from now on");
    crosses(&far, &near, b"at both ends");
    let (near_at, far_at) = (near.local_addr().unwrap(), far.local_addr().unwrap());
    let mut buffer = [0; 1400];
    let before = ALLOCATOR.count();
    for _ in 0..PACKETS {
        near.send_to(&[7; 1000], far_at).unwrap();
        let (length, _) = far.recv_from(&mut buffer).unwrap();
        far.send_to(&buffer[..length], near_at).unwrap();
        near.recv_from(&mut buffer).unwrap();
    }
    let allocated = ALLOCATOR.count() - before;
    // A rare one is the test harness's or for the question, once a second, what the path takes.
    assert!(allocated < PACKETS / 20, "{allocated} allocations for {PACKETS} packets each way");
}
