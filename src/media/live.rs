//! The descriptions that all sessions use, and how changed ones come into use while the server runs.
//!
//! In here: looking at the folder, checking and trying what has changed, having running encodes go over to it, or keeping
//! what was there before. Not in here: what a description must hold (`description`), trying one (`preview`), how an encode
//! goes over (`publisher::replace`).
//! Runs on: whoever looks, on a thread that may block: for some milliseconds where nothing has changed, for some seconds at
//! most for each file and session where something has.

mod files;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::broadcast::Encodes;
use super::description::{CheckReport, CheckStatus, DescriptionFault, Kind, build_all, check_one, check_output};
use super::encoder::{self, encoder_of};
use super::publisher::Publisher;
use super::{Description, DescriptionError, Encoders, MediaError, PipelineDir, Selected, preview};
use crate::session::OutputKind;
use files::{Known, Signature};

/// The descriptions in use. One for all sessions of a server.
#[derive(Debug)]
pub(crate) struct LivePipelines {
    directory: PipelineDir,
    encoders: Mutex<Arc<Encoders>>,
    outputs: Mutex<HashMap<OutputKind, Result<Description, DescriptionError>>>,
    /// Of the sessions that are open.
    sessions: Mutex<Vec<Weak<Encodes>>>,
    /// What the files held when they were looked at last; held while somebody looks.
    files: Mutex<BTreeMap<String, Known>>,
    /// What is told of them, by their names.
    told: Mutex<BTreeMap<String, PipelineFile>>,
}

/// What is told of one file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PipelineFile {
    /// Its name in the folder.
    pub file: String,
    /// How it stands.
    pub state: FileState,
    /// Whether sessions use it, as it is or as it was before it was refused.
    pub in_use: bool,
    /// How often a change of it came into use.
    pub changes: u64,
    /// Why it is not used as it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<DescriptionFault>,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// It keeps its contract; what uses it uses it as it stands.
    Ok,
    /// It needs hardware that is not here.
    Unavailable,
    /// It cannot be used as it stands; if it was in use, what it held before goes on.
    Refused,
    /// It is not there any more; what it held before goes on.
    Gone,
}

impl LivePipelines {
    /// Those that were selected of a folder, and what else is in it. Reads all its files.
    pub(crate) fn start(encoders: Encoders, directory: PipelineDir) -> Arc<Self> {
        let mut live = Self::holding(encoders, directory);
        live.files = Mutex::new(files::known(&live.directory, |file| live.text_in_use(file)));
        Arc::new(live)
    }

    /// Encoders alone, of no folder.
    pub(crate) fn of(encoders: Encoders) -> Arc<Self> {
        Arc::new(Self::holding(encoders, PipelineDir::Embedded))
    }

    fn holding(encoders: Encoders, directory: PipelineDir) -> Self {
        let outputs = OutputKind::ALL.into_iter().map(|kind| (kind, directory.read(&output_file(kind)))).collect();
        Self {
            directory,
            encoders: Mutex::new(Arc::new(encoders)),
            outputs: Mutex::new(outputs),
            sessions: Mutex::default(),
            files: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// What sessions encode with.
    pub(crate) fn encoders(&self) -> Arc<Encoders> {
        Arc::clone(&lock(&self.encoders))
    }

    /// What an output of a kind is made by that begins now.
    pub(crate) fn output(&self, kind: OutputKind) -> Result<Description, DescriptionError> {
        let read = lock(&self.outputs).get(&kind).cloned();
        let description = read.unwrap_or_else(|| {
            Err(DescriptionError::Unreadable { file: output_file(kind), reason: "it was never read".to_owned() })
        })?;
        check_output(&description)?;
        Ok(description)
    }

    /// All files, as they stood when they were looked at last. Blocks for some tenths of a second the first time, in which
    /// they are checked.
    pub(crate) fn files(&self) -> Vec<PipelineFile> {
        let found = self.directory.files().unwrap_or_default();
        let untold: Vec<String> = found.into_iter().filter(|file| !lock(&self.told).contains_key(file)).collect();
        for file in untold {
            let CheckReport { status, fault, .. } = check_one(&self.directory, &file);
            let state = match status {
                CheckStatus::Ok => FileState::Ok,
                CheckStatus::Unavailable => FileState::Unavailable,
                CheckStatus::Faulty => FileState::Refused,
            };
            let now = self.now(&file, state, fault.map(|fault| fault.without(&self.directory)));
            // It may have changed meanwhile, which is told already.
            lock(&self.told).entry(file).or_insert(now);
        }
        lock(&self.told).values().cloned().collect()
    }

    /// Whether some file is another one than it was. Reads none.
    pub(crate) fn is_changed(&self) -> bool {
        let PipelineDir::Directory(directory) = &self.directory else { return false };
        let files = lock(&self.files);
        let found = self.directory.files().unwrap_or_default();
        let is_other =
            |file: &String| files.get(file).is_none_or(|known| !known.is_as(Signature::of(&directory.join(file))));
        found.iter().chain(files.keys()).any(is_other)
    }

    /// Whether there are files that may change.
    pub(crate) fn is_of_files(&self) -> bool {
        matches!(self.directory, PipelineDir::Directory(_))
    }

    /// A session's encodes go over to what changes.
    pub(super) fn join(&self, session: &Arc<Encodes>) {
        let mut sessions = lock(&self.sessions);
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(session));
    }

    /// Has what has changed come into use; says how each changed file stands now. With `settled`, only files that were the
    /// same the last time, so that none is taken half written. Blocks.
    pub(crate) fn look(&self, settled: bool) -> Vec<PipelineFile> {
        let PipelineDir::Directory(directory) = &self.directory else { return Vec::new() };
        let mut files = lock(&self.files);
        let found = match self.directory.files() {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "the folder of pipelines cannot be listed just now");
                return Vec::new();
            }
        };
        let mut changed = Vec::new();
        let names: Vec<String> =
            found.iter().chain(files.keys().filter(|known| !found.contains(known))).cloned().collect();
        for file in names {
            let known = files.entry(file.clone()).or_default();
            let signature = Signature::of(&directory.join(&file));
            if !known.is_to_be_read(signature, settled) {
                continue;
            }
            match files::read(&directory.join(&file)) {
                Ok(text) if known.text.as_ref() == Some(&text) => known.signature = signature,
                Ok(text) => {
                    *known = Known { text: Some(text.clone()), signature, ..Known::default() };
                    changed.push(self.edited(&file, text));
                }
                Err(reason) => {
                    *known = Known { text: None, signature, is_gone: true, ..Known::default() };
                    let state = if signature.is_none() { FileState::Gone } else { FileState::Refused };
                    let fault = DescriptionError::Unreadable { file: file.clone(), reason };
                    changed.push(self.tell(&file, state, Some(DescriptionFault::from(&fault))));
                }
            }
        }
        changed
    }

    /// One file as it is written now.
    fn edited(&self, file: &str, text: String) -> PipelineFile {
        if self.text_in_use(file).is_some_and(|used| used == text) {
            return self.tell(file, FileState::Ok, None);
        }
        match Description::new(file, text).map_err(MediaError::from).and_then(|changed| self.use_now(file, &changed)) {
            Ok(()) => {
                crate::metrics::pipeline_changed("used");
                let mut told = self.tell(file, FileState::Ok, None);
                told.changes += 1;
                lock(&self.told).insert(file.to_owned(), told.clone());
                tracing::info!(file, in_use = told.in_use, "a changed pipeline comes into use");
                told
            }
            Err(error) => {
                crate::metrics::pipeline_changed("refused");
                tracing::error!(file, reason = %error, "a changed pipeline is refused; the one before goes on");
                let is_hardware = matches!(&error, MediaError::Description(error) if error.is_missing_hardware());
                let state = match is_hardware && self.encoded(file).is_none() {
                    true => FileState::Unavailable,
                    false => FileState::Refused,
                };
                let fault = match &error {
                    MediaError::Description(error) => DescriptionFault::from(error),
                    error => DescriptionFault::told(error.to_string()),
                };
                self.tell(file, state, Some(fault))
            }
        }
    }

    fn tell(&self, file: &str, state: FileState, fault: Option<DescriptionFault>) -> PipelineFile {
        let now = self.now(file, state, fault);
        lock(&self.told).insert(file.to_owned(), now.clone());
        now
    }

    fn now(&self, file: &str, state: FileState, fault: Option<DescriptionFault>) -> PipelineFile {
        let changes = lock(&self.told).get(file).map_or(0, |told| told.changes);
        PipelineFile { file: file.to_owned(), state, in_use: self.is_in_use(file), changes, fault }
    }

    /// Checks it, tries it, and has what uses it use it.
    fn use_now(&self, file: &str, changed: &Description) -> Result<(), MediaError> {
        build_all(changed)?;
        let encoders = self.encoders();
        match changed.kind() {
            Kind::Render => Ok(()),
            Kind::Output => {
                let Some(kind) = OutputKind::ALL.into_iter().find(|kind| output_file(*kind) == file) else {
                    return Ok(());
                };
                // Outputs are of H.264, and nobody can start one where there is none.
                if let Some(h264) = encoders.iter().find(|selected| selected.codec == super::Codec::H264) {
                    preview::output(changed, kind, h264)?;
                }
                lock(&self.outputs).insert(kind, Ok(changed.clone()));
                Ok(())
            }
            Kind::Viewer => {
                let of_it = |selected: &&Selected| selected.codec.viewer_file() == file;
                let Some(used) = encoders.iter().find(of_it) else { return Ok(()) };
                let changed = Selected { viewer: changed.clone(), ..used.clone() };
                preview::viewer(&changed)?;
                *lock(&self.encoders) = Arc::new(encoders.with(changed.clone()));
                // Whoever watches goes on; who comes from now on is sent to by the changed one.
                self.publishers(&changed).iter().for_each(|publisher| publisher.is_followed_by(&changed));
                Ok(())
            }
            Kind::Publish => {
                let of_it = |selected: &&Selected| encoder_of(file) == Some(selected.encoder.as_str());
                let Some(used) = encoders.iter().find(of_it) else { return Ok(()) };
                let changed = self.follows(used, changed)?;
                self.go_over(&changed).inspect_err(|_| {
                    if let Err(error) = self.go_over(used) {
                        tracing::error!(%error, "an encode that has changed does not change back");
                    }
                })
            }
        }
    }

    /// An encoder that goes on as a changed description says, if viewers who are there can be sent what it makes.
    fn follows(&self, used: &Selected, changed: &Description) -> Result<Selected, MediaError> {
        let codec = encoder::codec(changed)?;
        if codec != used.codec {
            let (was, is) = (used.codec.encoding_name(), codec.encoding_name());
            let reason = format!(
                "this file's encoder made {was} when the server started and makes {is} now, which viewers have not agreed \
                 on: start the server again"
            );
            return Err(changed.fault_at(super::description::names::VIDEO_ENCODER, &reason).into());
        }
        let profile = preview::publish(changed, codec)?;
        let after = Selected { publish: changed.clone(), profile, ..used.clone() };
        if preview::can_follow(used, &after) {
            return Ok(after);
        }
        let name = |selected: &Selected| selected.profile.clone().unwrap_or_else(|| "unknown".to_owned());
        let reason = format!(
            "the H.264 profile was {} and is {} now, which viewers have not agreed on: write profile=constrained-baseline, \
             or start the server again",
            name(used),
            name(&after)
        );
        Err(changed.fault_at("profile", &reason).into())
    }

    /// Has new encodes use it and running ones go over to it, one after the other.
    fn go_over(&self, to: &Selected) -> Result<(), MediaError> {
        let encoders = self.encoders();
        *lock(&self.encoders) = Arc::new(encoders.with(to.clone()));
        for publisher in self.publishers(to) {
            // A rung that is taken out goes on as it is for those who watch it.
            let has_rung = to.publish.rungs().contains(&publisher.rung);
            if !has_rung || publisher.has_failed() {
                continue;
            }
            if publisher.is_of(to) {
                publisher.is_followed_by(to);
                continue;
            }
            match publisher.replace(to) {
                // Who has left needs nothing of it.
                Ok(()) | Err(MediaError::SessionEnds) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The running encodes of a codec, of all sessions.
    fn publishers(&self, of: &Selected) -> Vec<Arc<Publisher>> {
        let sessions: Vec<Arc<Encodes>> = lock(&self.sessions).iter().filter_map(Weak::upgrade).collect();
        sessions.iter().flat_map(|session| session.running(of.codec)).collect()
    }

    fn is_in_use(&self, file: &str) -> bool {
        self.text_in_use(file).is_some()
    }

    /// What sessions encode with, or send by, of a file.
    fn encoded(&self, file: &str) -> Option<String> {
        let encoders = self.encoders();
        let publish = encoders.iter().find(|selected| encoder_of(file) == Some(selected.encoder.as_str()));
        let viewer = encoders.iter().find(|selected| selected.codec.viewer_file() == file);
        let description = publish.map(|selected| &selected.publish).or(viewer.map(|selected| &selected.viewer));
        description.map(|description| description.text().to_owned())
    }

    /// What sessions use of a file.
    fn text_in_use(&self, file: &str) -> Option<String> {
        let of_output = || {
            let kind = OutputKind::ALL.into_iter().find(|kind| output_file(*kind) == file)?;
            let outputs = lock(&self.outputs);
            outputs.get(&kind)?.as_ref().ok().map(|description| description.text().to_owned())
        };
        self.encoded(file).or_else(of_output)
    }
}

fn output_file(kind: OutputKind) -> String {
    format!("output-{}.launch", kind.as_str())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
