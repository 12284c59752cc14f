//! The outputs of one session: who may start which, where they go, and their end.
//!
//! In here: checking what is asked for, the list, those that every session begins with. Not in here: an output itself
//! (`media::output`), HTTP (`signalling`). Runs on: starting and stopping wait for files and threads, so both are done where
//! that may be; outputs that run are closed by the session's supervisor.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::BoxFuture;
use tokio::task::spawn_blocking;
use tracing::Instrument;

use super::super::admission::{Admission, ViewerSlot};
use super::is_full;
use crate::audience::Audience;
use crate::config;
use crate::ids::{AvatarId, SessionId};
use crate::lipsync::device_pool::DevicePool;
use crate::media::{
    Broadcast, LaunchCarrier, LivePipelines, Output, OutputPlan, Place, PlaceError, check_address, check_name,
};
use crate::session::{
    ErrorCode, Notice, NoticeBroadcast, OutputInfo, OutputKind, OutputOrder, Outputs, Refusal, notice_queue,
};

/// Outputs on the list of a session, those that ended included.
const MOST: usize = 8;
/// Captions and other notices that wait for the thread of an output, which takes them ten times a second.
const NOTICES: usize = 256;

/// What the outputs of a session are made with.
pub(super) struct SessionOutputs {
    pub(super) session: SessionId,
    pub(super) avatar: AvatarId,
    pub(super) settings: config::Outputs,
    pub(super) pipelines: Arc<LivePipelines>,
    pub(super) broadcast: Broadcast,
    pub(super) notices: NoticeBroadcast,
    pub(super) audience: Audience,
    pub(super) admission: Arc<Admission>,
    pub(super) devices: DevicePool,
    pub(super) running: Mutex<Running>,
}

/// Those there are, until the session ends.
#[derive(Default)]
pub(super) struct Running {
    outputs: Vec<Output>,
    is_closed: bool,
}

/// A session's outputs as whoever asks for them sees them. They do not keep it open.
pub(super) struct WeakOutputs(Weak<SessionOutputs>, bool);

impl WeakOutputs {
    pub(super) fn of(outputs: &Arc<SessionOutputs>) -> Self {
        Self(Arc::downgrade(outputs), outputs.settings.allowed)
    }
}

impl SessionOutputs {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts those that every session begins with. One that cannot be is told in the log; the session goes on without it.
    pub(super) fn begin(self: &Arc<Self>) {
        for order in self.settings.always.clone() {
            let kind = order.kind.as_str();
            if let Err(refusal) = self.start(order) {
                tracing::error!(kind, reason = %refusal, "an output that every session begins with does not");
            }
        }
    }

    /// Blocks for some milliseconds, in which files are made.
    fn start(self: &Arc<Self>, order: OutputOrder) -> Result<OutputInfo, Refusal> {
        let place = self.place(&order)?;
        let description = self.pipelines.output(order.kind).map_err(|error| {
            tracing::error!(%error, "an output has no pipeline");
            Refusal::new(ErrorCode::BadOutput, "the server has no usable pipeline for this kind; its log says why")
        })?;
        let codec = self.broadcast.h264().ok_or_else(|| {
            Refusal::new(ErrorCode::BadOutput, "the server encodes no H.264, which outputs are made of: see --encoder")
        })?;
        self.make_room()?;
        let slot: ViewerSlot =
            self.admission.admit_output(&self.audience, self.devices.frames_per_second()).map_err(is_full)?;
        place.claim().map_err(refused)?;
        let plan = OutputPlan {
            kind: order.kind,
            target: place.shown(),
            codec,
            carrier: Box::new(LaunchCarrier::new(description, place)),
        };
        self.run(plan, slot)
    }

    /// Has an output run and be told of.
    fn run(self: &Arc<Self>, plan: OutputPlan, slot: ViewerSlot) -> Result<OutputInfo, Refusal> {
        let (sender, notices) = notice_queue(NOTICES);
        self.notices.add(sender);
        let session = Arc::downgrade(self);
        let changed = move || {
            if let Some(session) = session.upgrade() {
                session.tell();
            }
        };
        let output = Output::start(plan, self.broadcast.clone(), notices, changed, slot).map_err(|error| {
            tracing::error!(%error, "no thread for an output");
            Refusal::new(
                ErrorCode::ServerFull,
                "the server has no thread left for an output: try again in a few seconds",
            )
        })?;
        let info = output.info();
        let mut running = self.running();
        if running.is_closed {
            drop(running);
            return Err(closing());
        }
        running.outputs.push(output);
        drop(running);
        self.tell();
        Ok(info)
    }

    /// Lets go of the oldest that has ended where the list is full.
    fn make_room(&self) -> Result<(), Refusal> {
        let mut running = self.running();
        if running.is_closed {
            return Err(closing());
        }
        if running.outputs.len() < MOST {
            return Ok(());
        }
        match running.outputs.iter().position(|output| output.info().state.is_end()) {
            Some(ended) => {
                let ended = running.outputs.remove(ended);
                // Its thread may be about to tell of its end, for which it needs the list.
                drop(running);
                drop(ended);
                Ok(())
            }
            None => Err(Refusal::new(ErrorCode::ServerFull, format!("{MOST} outputs of the session run: stop one"))),
        }
    }

    /// Where an output may go: to an address of its kind, or into the folder of the settings.
    fn place(&self, order: &OutputOrder) -> Result<Place, Refusal> {
        let bad = |message: String| Refusal::new(ErrorCode::BadOutput, message);
        let kind = order.kind;
        if order.name.is_some() && !matches!(kind, OutputKind::Record | OutputKind::Hls) {
            return Err(bad("name: this kind is not written into a folder, leave it out".to_owned()));
        }
        if matches!(kind, OutputKind::Rtmp | OutputKind::Srt) {
            let address = check_address(kind, order.url.as_deref()).map_err(|error| bad(error.to_string()))?;
            return Ok(Place::Address(address));
        }
        if order.url.is_some() {
            return Err(bad("url: this kind is not pushed anywhere, leave it out".to_owned()));
        }
        if kind == OutputKind::V4l2 {
            let device = self.settings.camera.clone().ok_or_else(|| off("no camera", "outputs.camera"))?;
            return Ok(Place::Device(device));
        }
        let folder = self.settings.folder.clone().ok_or_else(|| off("no folder to write into", "record_dir"))?;
        let name = order.name.clone().unwrap_or_else(|| self.name());
        check_name(&name).map_err(refused)?;
        Ok(match kind {
            OutputKind::Hls => Place::Folder(PathBuf::from(&folder).join(name)),
            _ => Place::Film { folder, name },
        })
    }

    /// Another one for each output: who speaks, when, and in which session.
    fn name(&self) -> String {
        let now = jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S").to_string();
        format!("{}-{now}-{}-{:04x}", self.avatar, self.session, rand::random::<u16>())
    }

    fn list(&self) -> Vec<OutputInfo> {
        self.running().outputs.iter().map(Output::info).collect()
    }

    /// Tells all clients of the session, where they may do something about it.
    fn tell(&self) {
        if self.settings.allowed {
            self.notices.tell(&Notice::Outputs(self.list()));
        }
    }

    /// Blocks until what it wrote is whole. False if there is none of this id.
    fn stop(&self, id: &str) -> bool {
        let mut running = self.running();
        let Some(at) = running.outputs.iter().position(|output| output.id().to_string() == id) else { return false };
        let output = running.outputs.remove(at);
        drop(running);
        drop(output);
        self.tell();
        true
    }

    /// Ends all of them, beside each other, and takes no more. Blocks for up to a second.
    pub(super) fn close(&self) {
        let mut running = self.running();
        running.is_closed = true;
        let mut outputs = std::mem::take(&mut running.outputs);
        drop(running);
        outputs.iter().for_each(Output::ask_to_stop);
        outputs.iter_mut().for_each(Output::stop);
    }
}

impl Outputs for WeakOutputs {
    fn allowed(&self) -> bool {
        self.1
    }

    fn start(&self, order: OutputOrder) -> BoxFuture<'static, Result<OutputInfo, Refusal>> {
        let session = self.0.upgrade();
        Box::pin(
            async move {
                let session = session.ok_or_else(closing)?;
                let span = tracing::Span::current();
                let started = spawn_blocking(move || span.in_scope(|| session.start(order)));
                started.await.map_err(|_| closing())?
            }
            .in_current_span(),
        )
    }

    fn list(&self) -> Vec<OutputInfo> {
        self.0.upgrade().map(|session| session.list()).unwrap_or_default()
    }

    fn stop(&self, id: &str) -> BoxFuture<'static, bool> {
        let (session, id) = (self.0.upgrade(), id.to_owned());
        Box::pin(async move {
            let Some(session) = session else { return false };
            spawn_blocking(move || session.stop(&id)).await.unwrap_or(false)
        })
    }
}

fn off(what: &str, setting: &str) -> Refusal {
    Refusal::new(ErrorCode::OutputsOff, format!("this server has {what}: its settings name none ({setting})"))
}

fn refused(error: PlaceError) -> Refusal {
    match error {
        PlaceError::Name => Refusal::new(ErrorCode::BadOutput, error.to_string()),
        PlaceError::Exists(_) => Refusal::new(ErrorCode::OutputExists, error.to_string()),
        PlaceError::Folder(error) => {
            tracing::error!(%error, "the folder of outputs cannot be written");
            Refusal::new(ErrorCode::BadOutput, "the server's folder of outputs cannot be written; its log says why")
        }
    }
}

fn closing() -> Refusal {
    Refusal::new(ErrorCode::ShuttingDown, "the session is closing")
}
