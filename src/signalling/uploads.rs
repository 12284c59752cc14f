//! Files that are sent over HTTP: written to the disk as they come, and gone when nobody holds them any more.
//!
//! A file that is sent has no name on the disk from the beginning on, so that nothing of it stays behind, however the request
//! or the process ends; it is read by way of `/proc/self/fd`. In here: taking one, what bounds it, whether it is a photo or a
//! clip. Not in here: what is made of it (`api::avatars`). Runs on: the task of an HTTP connection; the disk is waited for on
//! threads of the runtime that may block.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::quota::Address;
use crate::media::{self, SourceFault};
use crate::models::disk::ensure_free;

/// The room on the disk is looked at again after so many bytes.
const BETWEEN_LOOKS: u64 = 16 << 20;
/// What is neither a photo nor a clip shows by its first bytes; the rest of it is not waited for.
const ENOUGH_TO_JUDGE: u64 = 64 << 10;
/// What is read of a file that is refused, and for how long: who still writes when the connection is closed may not hear why.
const DRAINED: (u64, Duration) = (4 << 20, Duration::from_millis(500));

/// How much may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// One file, in bytes.
    pub bytes: u64,
    /// Without a byte.
    pub idle: Duration,
    /// From the first to the last byte of one.
    pub total: Duration,
    /// Files at a time.
    pub at_once: usize,
    /// Of one address, at a time.
    pub of_address: usize,
}

impl Default for UploadLimits {
    /// Some minutes of a phone's 1080p, over a line of 5 Mbit/s.
    fn default() -> Self {
        Self {
            bytes: 512 << 20,
            idle: Duration::from_secs(20),
            total: Duration::from_secs(15 * 60),
            at_once: 4,
            of_address: 2,
        }
    }
}

/// Why a file is not taken. None of them names a path.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("{0} files are being sent already: wait until one is there")]
    Full(usize),
    #[error("{0} files are being sent from this address already: wait until one is there")]
    AddressFull(usize),
    #[error("the file has more than {} MB: trim or scale it down", .0 >> 20)]
    TooLarge(u64),
    #[error("the file came too slowly: nothing for {} s, or not all of it within {} s", .0.as_secs(), .1.as_secs())]
    Slow(Duration, Duration),
    #[error("the file broke off")]
    BrokeOff,
    #[error("the file {0}")]
    Unusable(String),
    #[error("the server's disk has no room for the file")]
    DiskFull,
    #[error("the file cannot be stored; the server's log says why")]
    Disk,
}

/// A file that was sent. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Upload {
    file: File,
}

impl Upload {
    /// By which it can be read as long as it is there.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// Those that are being sent.
#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    limits: UploadLimits,
    limits_addresses: bool,
    sending: Arc<Mutex<HashMap<Address, usize>>>,
}

/// That an address sends one; given back when dropped.
struct Sending {
    sending: Arc<Mutex<HashMap<Address, usize>>>,
    address: Address,
}

fn lock(sending: &Mutex<HashMap<Address, usize>>) -> MutexGuard<'_, HashMap<Address, usize>> {
    sending.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut sending = lock(&self.sending);
        if let Some(count) = sending.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                sending.remove(&self.address);
            }
        }
    }
}

impl Uploads {
    pub(super) fn new(folder: PathBuf, limits: UploadLimits, limits_addresses: bool) -> Self {
        Self { folder, limits, limits_addresses, sending: Arc::default() }
    }

    pub(super) fn limits(&self) -> &UploadLimits {
        &self.limits
    }

    fn begin(&self, address: Address) -> Result<Sending, UploadError> {
        let mut sending = lock(&self.sending);
        if sending.values().sum::<usize>() >= self.limits.at_once {
            return Err(UploadError::Full(self.limits.at_once));
        }
        let of_address = sending.entry(address).or_default();
        if self.limits_addresses && *of_address >= self.limits.of_address {
            return Err(UploadError::AddressFull(self.limits.of_address));
        }
        *of_address += 1;
        Ok(Sending { sending: Arc::clone(&self.sending), address })
    }

    /// Takes the body of a request, of which `announced` bytes were said to come. It is a photo or a clip, by its content.
    pub(super) async fn receive(
        &self,
        address: Address,
        pieces: &mut BodyDataStream,
        announced: Option<u64>,
    ) -> Result<Upload, UploadError> {
        let UploadLimits { bytes: most, idle, total, .. } = self.limits;
        if announced.is_some_and(|announced| announced > most) {
            return Err(UploadError::TooLarge(most));
        }
        let _sending = self.begin(address)?;
        let deadline = Instant::now() + total;
        let upload = self.create(announced.unwrap_or(0)).await?;
        let mut file = tokio::fs::File::from_std(upload.file.try_clone().map_err(|error| disk(&error))?);
        let (mut came, mut looked, mut is_judged) = (0, 0, false);
        loop {
            let late = |_| UploadError::Slow(idle, total);
            let next = timeout_at(deadline, timeout(idle, pieces.next())).await;
            let Some(piece) = next.map_err(late)?.map_err(late)? else { break };
            let piece = piece.map_err(|_| UploadError::BrokeOff)?;
            came += piece.len() as u64;
            if came > most {
                return Err(UploadError::TooLarge(most));
            }
            if came - looked > BETWEEN_LOOKS {
                looked = came;
                self.ensure_room(BETWEEN_LOOKS).await?;
            }
            file.write_all(&piece).await.map_err(|error| disk(&error))?;
            if !is_judged && came >= ENOUGH_TO_JUDGE {
                is_judged = true;
                file.flush().await.map_err(|error| disk(&error))?;
                judge(&upload.path()).await?;
            }
        }
        file.flush().await.map_err(|error| disk(&error))?;
        judge(&upload.path()).await?;
        Ok(upload)
    }

    async fn create(&self, announced: u64) -> Result<Upload, UploadError> {
        self.ensure_room(announced).await?;
        let folder = self.folder.clone();
        let created = spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            tempfile::tempfile_in(&folder)
        });
        let file = created.await.map_err(|_| UploadError::Disk)?.map_err(|error| disk(&error))?;
        Ok(Upload { file })
    }

    async fn ensure_room(&self, bytes: u64) -> Result<(), UploadError> {
        let folder = self.folder.clone();
        let looked = spawn_blocking(move || ensure_free(&folder, bytes)).await.map_err(|_| UploadError::Disk)?;
        looked.map_err(|_| UploadError::DiskFull)
    }
}

/// Reads on for a moment, so that whoever sends hears the answer.
pub(super) async fn drain(pieces: &mut BodyDataStream) {
    let (most, patience) = DRAINED;
    let reading = async {
        let mut came = 0;
        while let Some(Ok(piece)) = pieces.next().await {
            came += piece.len() as u64;
            if came > most {
                break;
            }
        }
    };
    // However far it came.
    let _ = timeout(patience, reading).await;
}

fn disk(error: &io::Error) -> UploadError {
    tracing::warn!(%error, "a file that is sent cannot be stored");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UploadError::DiskFull,
        _ => UploadError::Disk,
    }
}

/// Whether what is there of a file is a photo or a clip.
async fn judge(path: &Path) -> Result<(), UploadError> {
    let path = path.to_owned();
    let judged = spawn_blocking(move || media::sniff(&path)).await.map_err(|_| UploadError::Disk)?;
    match judged {
        Ok(_) => Ok(()),
        Err(error) => match error.fault {
            SourceFault::Read(error) => Err(disk(&error)),
            fault => Err(UploadError::Unusable(fault.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    fn address(last: u8) -> Address {
        Address::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    fn uploads(folder: &Path, limits: UploadLimits) -> Uploads {
        Uploads::new(folder.to_owned(), limits, true)
    }

    async fn receive(uploads: &Uploads, body: Body, announced: Option<u64>) -> Result<Upload, UploadError> {
        uploads.receive(address(1), &mut body.into_data_stream(), announced).await
    }

    fn never() -> Body {
        Body::from_stream(stream::pending::<Result<Bytes, io::Error>>())
    }

    #[tokio::test]
    async fn a_picture_is_kept_without_a_name_as_long_as_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
        picture.resize(200_000, 7);
        let uploads = uploads(folder.path(), UploadLimits::default());
        let upload = receive(&uploads, Body::from(picture.clone()), None).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
        assert_eq!(std::fs::read(upload.path()).unwrap(), picture);
        assert!(lock(&uploads.sending).is_empty());
    }

    #[tokio::test]
    async fn what_is_no_picture_is_told_and_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(folder.path(), UploadLimits::default());
        let text = stream::iter([Ok::<_, io::Error>(Bytes::from(vec![b'a'; 70_000]))]).chain(stream::pending());
        let error = receive(&uploads, Body::from_stream(text), None).await.unwrap_err();
        assert_eq!(error.to_string(), "the file is neither a photo nor a clip: it seems to be text");
        let error = receive(&uploads, Body::empty(), None).await.unwrap_err();
        assert_eq!(error.to_string(), "the file is empty");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_or_too_slow_or_breaks_off_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let limits = UploadLimits { bytes: 1 << 20, ..UploadLimits::default() };
        let uploads = uploads(folder.path(), limits);
        let announced = receive(&uploads, never(), Some(2 << 20)).await;
        assert!(matches!(announced, Err(UploadError::TooLarge(_))), "{announced:?}");
        let piece = || Ok::<_, io::Error>(Bytes::from(b"\xff\xd8\xff".repeat(10_000)));
        let endless = Body::from_stream(stream::repeat_with(piece));
        assert!(matches!(receive(&uploads, endless, None).await, Err(UploadError::TooLarge(_))));
        let began = Instant::now();
        assert!(matches!(receive(&uploads, never(), None).await, Err(UploadError::Slow(..))));
        assert_eq!(began.elapsed().as_secs(), limits.idle.as_secs());
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(15)).await;
            Some((Ok::<_, io::Error>(Bytes::from_static(b"\xff\xd8\xff")), ()))
        });
        let began = Instant::now();
        assert!(matches!(receive(&uploads, Body::from_stream(trickle), None).await, Err(UploadError::Slow(..))));
        assert_eq!(began.elapsed().as_secs(), limits.total.as_secs());
        let broken = stream::iter([piece(), Err(io::Error::other("gone"))]);
        let error = receive(&uploads, Body::from_stream(broken), None).await.unwrap_err();
        assert!(matches!(error, UploadError::BrokeOff), "{error}");
    }

    #[tokio::test]
    async fn an_address_sends_some_at_a_time_and_all_of_them_some_more() {
        let folder = tempfile::tempdir().unwrap();
        let limits = UploadLimits { at_once: 3, of_address: 2, ..UploadLimits::default() };
        let uploads = uploads(folder.path(), limits);
        let first = uploads.begin(address(1)).unwrap();
        let _second = uploads.begin(address(1)).unwrap();
        assert!(matches!(uploads.begin(address(1)).err(), Some(UploadError::AddressFull(2))));
        let _other = uploads.begin(address(2)).unwrap();
        assert!(matches!(uploads.begin(address(3)).err(), Some(UploadError::Full(3))));
        drop(first);
        assert!(uploads.begin(address(3)).is_ok());
    }
}
