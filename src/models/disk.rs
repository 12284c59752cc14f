//! How much room a disk has.

use std::path::Path;

/// Whether `bytes` fit beside what must stay free; else the megabytes that are free and those wanted.
pub fn ensure_free(folder: &Path, bytes: u64) -> Result<(), (u64, u64)> {
    // The system itself needs some.
    const RESERVE: u64 = 256 << 20;
    let wanted = bytes + RESERVE;
    match rustix::fs::statvfs(folder) {
        Ok(about) if about.f_bavail.saturating_mul(about.f_frsize) < wanted => {
            Err((about.f_bavail.saturating_mul(about.f_frsize) >> 20, wanted >> 20))
        }
        // A file system that does not say will say so when it is full.
        _ => Ok(()),
    }
}
