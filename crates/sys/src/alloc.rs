//! An allocator that counts: for tests that hold code to not allocating.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The system's allocator with a count of what was asked of it, by all threads together. Made a test program's own by
/// `#[global_allocator]`.
#[derive(Debug, Default)]
pub struct Counting {
    count: AtomicUsize,
}

impl Counting {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self { count: AtomicUsize::new(0) }
    }

    /// Allocations and reallocations so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

// SAFETY: every call is handed to the system's allocator unchanged, which keeps the contract; counting touches no memory
// but the counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System` by one of the other methods, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for `dealloc`; the caller answers for the new size.
        unsafe { System.realloc(block, layout, size) }
    }
}
