//! Getting a model's files from the Hugging Face Hub or a mirror of it.
//!
//! In here: what a model's files are, how large and under which licences, and fetching those that are not there yet.
//! `hub` speaks to the server, `download` gets one file. Not the `hf-hub` crate: it starts again after a cut, checks no
//! hash of what it gets, and brings some 300 crates. Not in here: asking for consent, drawing a progress bar
//! (`commands::fetch`).

mod download;
mod hub;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use download::Progress;
pub use hub::{Hash, Hub};

use super::catalog::Download;

/// How to reach the hub.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Such as `https://huggingface.co`, or a mirror's address.
    pub endpoint: String,
    /// For files that need a login or accepted conditions. Sent to the endpoint only, not to where it redirects.
    pub token: Option<String>,
    /// When to give up.
    pub patience: Patience,
}

/// When to give up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts in a row that brought next to nothing.
    pub attempts: u32,
    /// Before the second attempt; doubles from one to the next.
    pub first_wait: Duration,
    /// A connection that brings nothing for so long is dead.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 6, first_wait: Duration::from_secs(1), stall: Duration::from_secs(30) }
    }
}

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address of the hub is none.
    #[error("endpoint {endpoint:?} is no address ({problem}): use https://host or http://host:port")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The hub wants a login.
    #[error(
        "{url} wants a login ({status}): accept the conditions on the model's page, then give a token with HF_TOKEN"
    )]
    Unauthorised {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The hub has no such file.
    #[error("{url} does not exist (404)")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The hub goes on refusing.
    #[error("{url} answers {status}, and still does after {attempts} attempts")]
    Busy {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How often it was tried.
        attempts: u32,
    },
    /// The hub answers with another status.
    #[error("{url} answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The connection breaks off again and again.
    #[error(
        "{url}: {problem}, {attempts} times in a row: what there is by now is kept, the same command goes on from it"
    )]
    Interrupted {
        /// What was asked for.
        url: String,
        /// How it breaks off.
        problem: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The hub's answer cannot be read.
    #[error("{url}: {problem}")]
    Reply {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file has another length than the hub lists.
    #[error("{url} sends {sent} bytes where the hub lists {wanted}")]
    Length {
        /// What was asked for.
        url: String,
        /// Bytes that came.
        sent: u64,
        /// Bytes that the hub lists.
        wanted: u64,
    },
    /// The file is another one than the hub lists.
    #[error(
        "{path} is not what the hub lists: its hash is {found} instead of {wanted}. It was removed; fetch it again"
    )]
    Checksum {
        /// The file.
        path: String,
        /// The hash of what came.
        found: String,
        /// The hash that the hub lists.
        wanted: String,
    },
    /// The disk has too little room.
    #[error("{folder} has {free} MB left on its disk, {wanted} MB are needed")]
    Disk {
        /// The folder that is meant.
        folder: String,
        /// Megabytes that are left.
        free: u64,
        /// Megabytes that are needed.
        wanted: u64,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's own error.
        source: std::io::Error,
    },
}

type Result<T> = std::result::Result<T, FetchError>;

/// One file to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The repository on the hub, `owner/name`.
    pub repo: &'static str,
    /// The file within the repository.
    pub file: &'static str,
    /// Under the folder that everything is fetched to.
    pub to: &'static str,
    /// The repository's commit that is fetched: 40 hex digits.
    pub commit: String,
    /// Its length as the hub lists it.
    pub bytes: u64,
    /// What its bytes must add up to.
    pub hash: Hash,
    /// As the hub's page states it.
    pub licence: String,
}

/// Asks the hub what the files are now: sizes, hashes, licences.
pub async fn plan(hub: &Hub, downloads: &[Download]) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    let mut described: Vec<(&str, hub::Repository)> = Vec::new();
    for download in downloads {
        if described.iter().all(|(repo, _)| *repo != download.repo) {
            described.push((download.repo, hub.describe(download.repo).await?));
        }
        let Some((_, repository)) = described.iter().find(|(repo, _)| *repo == download.repo) else { continue };
        let Some(file) = repository.file(download.file) else {
            return Err(FetchError::NotFound { url: hub.file_url(download.repo, &repository.commit, download.file) });
        };
        planned.push(Planned {
            repo: download.repo,
            file: download.file,
            to: download.to,
            commit: repository.commit.clone(),
            bytes: file.bytes,
            hash: file.hash.clone(),
            licence: repository.licence.clone(),
        });
    }
    Ok(planned)
}

/// Gets every planned file into `folder`, going on with what an earlier attempt left there. `reserve` bytes must stay
/// free for what is made of them.
pub async fn fetch(
    hub: &Hub,
    planned: &[Planned],
    folder: &Path,
    reserve: u64,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let missing: u64 = planned.iter().map(|file| file.bytes.saturating_sub(download::present(file, folder))).sum();
    super::disk::ensure_free(folder, missing.saturating_add(reserve)).map_err(|(free, wanted)| FetchError::Disk {
        folder: folder.display().to_string(),
        free,
        wanted,
    })?;
    for file in planned {
        download::download(hub, file, folder, progress).await?;
    }
    Ok(())
}

fn failed(path: &Path, source: std::io::Error) -> FetchError {
    FetchError::Io { path: path.display().to_string(), source }
}

fn target(file: &Planned, folder: &Path) -> PathBuf {
    folder.join(file.to)
}
