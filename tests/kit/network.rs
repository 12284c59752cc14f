//! A network that draws as it is told, on an engine's thread of its own.

use mouthpiece::lipsync::engine::{Engine, EngineThread};
use mouthpiece::lipsync::{AvatarAssets, AvatarHandle, LipSync, LipSyncError, Mouth, MouthRun};
use mouthpiece::picture::MouthFrame;

/// 30 s.
const CONTEXT: usize = 30 * 16_000;

type Drawn = Result<Vec<Vec<MouthFrame>>, LipSyncError>;
type Draw = dyn FnMut(&[MouthRun]) -> Drawn + Send;
type Add = dyn FnMut(usize) -> AvatarHandle + Send;

/// Draws whatever a closure says, and knows of avatars no more than how many there were. Needs as much sound before a frame
/// as MuseTalk.
pub struct FakeNetwork {
    draw: Box<Draw>,
    add: Box<Add>,
    added: usize,
}

impl FakeNetwork {
    /// Is given whole batches, and may refuse them or panic.
    pub fn of_batches(draw: impl FnMut(&[MouthRun]) -> Drawn + Send + 'static) -> Self {
        Self { draw: Box::new(draw), add: Box::new(AvatarHandle), added: 0 }
    }

    /// Draws frame by frame: it is given the run and which frame of it.
    pub fn of_frames(mut draw: impl FnMut(&MouthRun, usize) -> MouthFrame + Send + 'static) -> Self {
        Self::of_batches(move |runs| {
            let mut run = |run: &MouthRun| (0..run.poses.len()).map(|at| draw(run, at)).collect();
            Ok(runs.iter().map(&mut run).collect())
        })
    }

    /// For sessions that nobody watches: what it draws are black pixels.
    pub fn unwatched() -> Self {
        Self::of_frames(|_, _| pixel([0; 3]))
    }

    /// What happens when an avatar is added, of which there were so many before.
    pub fn adding(self, add: impl FnMut(usize) -> AvatarHandle + Send + 'static) -> Self {
        Self { add: Box::new(add), ..self }
    }

    /// The engine that draws with it.
    pub async fn spawn(self) -> (Engine, EngineThread) {
        Engine::spawn(|| Ok(Box::new(self) as Box<dyn LipSync>)).await.unwrap()
    }
}

impl LipSync for FakeNetwork {
    fn context_samples(&self) -> usize {
        CONTEXT
    }

    fn add_avatar(&mut self, _: &AvatarAssets) -> Result<AvatarHandle, LipSyncError> {
        self.added += 1;
        Ok((self.add)(self.added - 1))
    }

    fn remove_avatar(&mut self, _: AvatarHandle) {}

    fn draw(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError> {
        let crops = (self.draw)(runs)?;
        Ok(crops.into_iter().map(|run| run.into_iter().map(Mouth::Crop).collect()).collect())
    }
}

/// A mouth of one pixel.
pub fn pixel(rgb: [u8; 3]) -> MouthFrame {
    plain(1, rgb)
}

/// A mouth of `side` by `side` pixels of one colour.
pub fn plain(side: u32, rgb: [u8; 3]) -> MouthFrame {
    MouthFrame { width: side, height: side, rgb: rgb.repeat((side * side) as usize) }
}

/// An error with libtorch's own words.
pub fn libtorch_error(message: &str) -> LipSyncError {
    tch::TchError::Torch(message.to_owned()).into()
}
