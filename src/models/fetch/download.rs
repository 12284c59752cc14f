//! One file: fetched piece by piece, gone on with after every cut, and in its place only once its hash is right.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::hub::cause;
use super::{FetchError, Hash, Hub, Planned, Result, failed, target};
use crate::models::manifest::digest;

/// How far a file is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The file within its repository.
    pub file: &'a str,
    /// How much of it is here.
    pub bytes: u64,
    /// Its whole length in bytes.
    pub of: u64,
}

/// Waits double up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where a file grows. The hash is in its name, so that another version is never gone on with.
fn part(file: &Planned, folder: &Path) -> PathBuf {
    let target = target(file, folder);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!("{name}.{}.part", &file.hash.text()[..12]))
}

/// Bytes that are there already.
pub(super) fn present(file: &Planned, folder: &Path) -> u64 {
    let size = |path: &Path| path.metadata().map_or(0, |about| about.len());
    size(&target(file, folder)).max(size(&part(file, folder)))
}

pub(super) async fn download(
    hub: &Hub,
    file: &Planned,
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let (finished, part) = (target(file, folder), part(file, folder));
    progress(Progress { file: file.to, bytes: present(file, folder), of: file.bytes });
    if finished.is_file() && check(&finished, file).await.is_ok() {
        return Ok(());
    }
    if let Some(parent) = part.parent() {
        std::fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
    }
    let url = hub.file_url(file.repo, &file.commit, file.file);
    let attempt = Attempt { hub, file, url: &url, part: &part };
    let patience = hub.settings.patience;
    // Of a large file a megabyte counts as getting on, of a small one a hundredth.
    let worthwhile = (file.bytes / 100).clamp(1, 1 << 20);
    let (mut failures, mut wait) = (0, patience.first_wait);
    loop {
        let before = attempt.length()?;
        if before == file.bytes {
            break;
        }
        let (error, asked) = match attempt.run(before, progress).await {
            Ok(()) => continue,
            Err((error, Some(asked))) => (error, asked),
            Err((error, None)) => return Err(error),
        };
        let got_on = attempt.length()?.saturating_sub(before) >= worthwhile;
        (failures, wait) = if got_on { (0, patience.first_wait) } else { (failures + 1, wait) };
        if failures >= patience.attempts {
            return Err(error);
        }
        tracing::warn!(%error, "going on");
        tokio::time::sleep(asked.max(wait)).await;
        wait = (2 * wait).min(LONGEST_WAIT);
    }
    if let Err(error) = check(&part, file).await {
        std::fs::remove_file(&part).map_err(|source| failed(&part, source))?;
        return Err(error);
    }
    std::fs::rename(&part, &finished).map_err(|source| failed(&finished, source))
}

/// What one connection is for.
struct Attempt<'a> {
    hub: &'a Hub,
    file: &'a Planned,
    url: &'a str,
    part: &'a Path,
}

/// An error and, if another attempt may help, how long the server wants us to wait.
type Failure = (FetchError, Option<Duration>);

impl Attempt<'_> {
    /// Bytes in the part file; one that is too long is of no use and goes.
    fn length(&self) -> Result<u64> {
        match self.part.metadata() {
            Ok(about) if about.len() <= self.file.bytes => Ok(about.len()),
            Ok(_) => {
                std::fs::remove_file(self.part).map_err(|source| failed(self.part, source))?;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(source) => Err(failed(self.part, source)),
        }
    }

    fn interrupted(&self, problem: String) -> Failure {
        let attempts = self.hub.settings.patience.attempts;
        (FetchError::Interrupted { url: self.url.to_owned(), problem, attempts }, Some(Duration::ZERO))
    }

    fn wrong_length(&self, sent: u64) -> Failure {
        (FetchError::Length { url: self.url.to_owned(), sent, wanted: self.file.bytes }, None)
    }

    /// Fetches what is missing after `have` bytes, until the end or the next cut.
    async fn run(&self, have: u64, progress: &mut dyn FnMut(Progress<'_>)) -> std::result::Result<(), Failure> {
        let mut request = self.hub.get(self.url);
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let stall = self.hub.settings.patience.stall;
        let stalled = |_| self.interrupted(format!("nothing came for {} s", stall.as_secs()));
        let broken = |error: reqwest::Error| self.interrupted(cause(&error));
        let mut response = tokio::time::timeout(stall, request.send()).await.map_err(stalled)?.map_err(broken)?;
        let mut at = self.start(have, &response)?;
        if let Some(announced) = response.content_length().filter(|announced| at + announced != self.file.bytes) {
            return Err(self.wrong_length(at.saturating_add(announced)));
        }
        let unwritten = |source| (failed(self.part, source), None);
        // A server that ignores ranges begins again.
        let mut options = tokio::fs::OpenOptions::new();
        let options = options.create(true).write(true).append(at > 0).truncate(at == 0);
        let mut to = options.open(self.part).await.map_err(unwritten)?;
        loop {
            let chunk = match tokio::time::timeout(stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    to.flush().await.map_err(unwritten)?;
                    return Err(broken(error));
                }
                Err(elapsed) => {
                    to.flush().await.map_err(unwritten)?;
                    return Err(stalled(elapsed));
                }
            };
            let more = chunk.len() as u64;
            if at + more > self.file.bytes {
                return Err(self.wrong_length(at + more));
            }
            to.write_all(&chunk).await.map_err(unwritten)?;
            at += more;
            progress(Progress { file: self.file.to, bytes: at, of: self.file.bytes });
        }
        to.flush().await.map_err(unwritten)?;
        if at < self.file.bytes { Err(self.interrupted(format!("ends after {at} bytes"))) } else { Ok(()) }
    }

    /// Where in the file the reply begins.
    fn start(&self, have: u64, response: &Response) -> std::result::Result<u64, Failure> {
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // The server's file is shorter than what is here: what is here is of another one.
            return Err(self.wrong_length(have));
        }
        self.hub.refused(self.url, response)?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(0);
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.parse().ok()) != Some(have) {
            let problem = format!("was asked for bytes from {have} on and sends {range:?}");
            return Err((FetchError::Reply { url: self.url.to_owned(), problem }, None));
        }
        Ok(have)
    }
}

/// Whether the file at `path` is the planned one.
async fn check(path: &Path, file: &Planned) -> Result<()> {
    let (at, wanted) = (path.to_owned(), file.hash.clone());
    let found = tokio::task::spawn_blocking(move || hash(&at, &wanted)).await;
    let found = found.map_err(std::io::Error::other).and_then(|found| found).map_err(|source| failed(path, source))?;
    if found == file.hash.text() {
        return Ok(());
    }
    Err(FetchError::Checksum { path: path.display().to_string(), found, wanted: file.hash.text().to_owned() })
}

/// A file's hash of the same kind as `like`.
fn hash(path: &Path, like: &Hash) -> std::io::Result<String> {
    match like {
        Hash::Sha256(_) => digest(path, Sha256::new()),
        Hash::GitBlob(_) => {
            let header = format!("blob {}\0", path.metadata()?.len());
            digest(path, Sha1::new_with_prefix(header))
        }
    }
}
