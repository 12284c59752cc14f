//! Any bytes at all through the reader of weights: an error or tensors, never a panic, and never more than four times
//! the file in memory (and a fixed allowance, which small files need for their buffers).
//!
//! With cargo-fuzz, from `tests/`:
//!
//!     cargo +nightly fuzz run checkpoint fixtures/checkpoints -- -runs=1000000 -max_len=20000
//!
//! Without it, on stable Rust:
//!
//!     cd tests/fuzz
//!     RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
//!       -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
//!       -Cllvm-args=-sanitizer-coverage-trace-compares" cargo build --release --target x86_64-unknown-linux-gnu
//!     mkdir -p corpus && target/x86_64-unknown-linux-gnu/release/checkpoint corpus ../fixtures/checkpoints \
//!       -runs=1000000 -max_len=20000

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use models::checkpoint::{Checkpoint, DType};

// The path is that of a folder, so that the module finds its own files beside it.
#[allow(dead_code, unused_imports)]
#[path = "../../../src/models"]
mod models {
    pub mod checkpoint;
}

/// What a file may cost whatever its size: the reader's buffers, and its tables before they are worth counting.
const ALLOWANCE: usize = 256 * 1024;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn read(bytes: Vec<u8>) {
    let Ok(file) = Checkpoint::from_bytes("fuzz", bytes) else { return };
    for tensor in file.tensors() {
        if let Ok(numbers) = file.read(tensor) {
            assert_eq!(numbers.len() as u64, tensor.bytes());
        }
        let _ = file.read_weights_as(tensor, DType::F16);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let bytes = data.to_vec();
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    read(bytes);
    let used = PEAK.load(Relaxed) - before;
    assert!(used <= 4 * data.len() + ALLOWANCE, "{used} bytes of memory for a file of {}", data.len());
});
