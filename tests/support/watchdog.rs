//! What ends a test that hangs, and the one way to wait for what nobody tells of.
//!
//! No test asserts anything about time by this: it only ends one that would fail anyway, after longer than the slowest
//! machine needs. Not in here: limits that are themselves what a test is about, which are the program's own.

#![allow(dead_code, reason = "shared by binaries that each need a part of it")]

use std::time::Duration;

/// Beyond anything that a test waits for on a machine at a tenth of its speed.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// Between two looks at what tells of no change: another process, its metrics, a file.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What comes of a future; with another ending, what should have come is told.
pub(crate) async fn comes<T>(what: &str, future: impl Future<Output = T>) -> T {
    guarded(future).await.unwrap_or_else(|Hung| panic!("{what}: not after {LIMIT:?}"))
}

/// Waits until something is so, looking again and again.
pub(crate) async fn until(what: &str, is_so: impl AsyncFnMut() -> bool) {
    comes(what, looking(is_so)).await;
}

/// Looks again and again until something is so, for ever.
pub(crate) async fn looking(mut is_so: impl AsyncFnMut() -> bool) {
    while !is_so().await {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// That something took longer than anything should.
#[derive(Debug)]
pub(crate) struct Hung;

/// As `comes`, for who can say more about what there is instead.
pub(crate) async fn guarded<T>(future: impl Future<Output = T>) -> Result<T, Hung> {
    tokio::time::timeout(LIMIT, future).await.map_err(|_| Hung)
}
