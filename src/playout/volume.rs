//! How loud a session speaks: lower while somebody else may be taking the turn.
//!
//! In here: the volume that others set and the fader that follows it without a click. Not in here: who sets it
//! (`conversation`). Runs on: set from any thread, faded on the playout thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::timeline::PLAYOUT_SAMPLES_PER_FRAME;

/// -12 dB: plainly lower, still understood.
const LOW: f32 = 0.25;
/// Ticks (2 s) after which the voice is raised again by itself, should whoever lowered it be gone.
const LOW_FOR: u32 = 50;

/// A session's volume; shared with its playout.
#[derive(Debug, Default)]
pub struct Volume {
    /// Ticks left at the lower volume.
    low_for: AtomicU32,
}

impl Volume {
    /// Speaks lower until [`Self::raise`], for two seconds at most.
    pub fn lower(&self) {
        self.low_for.store(LOW_FOR, Ordering::Relaxed);
    }

    /// Speaks as loud as ever.
    pub fn raise(&self) {
        self.low_for.store(0, Ordering::Relaxed);
    }

    /// The gain of the next tick.
    fn next(&self) -> f32 {
        let before =
            self.low_for.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1)));
        if before.unwrap_or(0) > 0 { LOW } else { 1.0 }
    }
}

/// Moves the gain to the volume within one frame.
#[derive(Debug)]
pub(super) struct Fader {
    volume: Arc<Volume>,
    gain: f32,
}

impl Fader {
    pub fn new(volume: Arc<Volume>) -> Self {
        Self { volume, gain: 1.0 }
    }

    /// Once for each tick, with its sound if it has any.
    pub fn tick(&mut self, sound: Option<&mut [i16; PLAYOUT_SAMPLES_PER_FRAME]>) {
        let (from, to) = (self.gain, self.volume.next());
        self.gain = to;
        let Some(sound) = sound else { return };
        if (from, to) == (1.0, 1.0) {
            return;
        }
        let step = (to - from) / PLAYOUT_SAMPLES_PER_FRAME as f32;
        for (at, sample) in sound.iter_mut().enumerate() {
            #[allow(clippy::cast_possible_truncation, reason = "a gain of at most 1 stays within 16 bits")]
            let faded = (f32::from(*sample) * (from + step * at as f32)) as i16;
            *sample = faded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faded(fader: &mut Fader) -> [i16; PLAYOUT_SAMPLES_PER_FRAME] {
        let mut sound = [20_000; PLAYOUT_SAMPLES_PER_FRAME];
        fader.tick(Some(&mut sound));
        sound
    }

    #[test]
    fn the_voice_goes_down_and_up_without_a_click() {
        let volume = Arc::new(Volume::default());
        let mut fader = Fader::new(Arc::clone(&volume));
        assert_eq!(faded(&mut fader), [20_000; PLAYOUT_SAMPLES_PER_FRAME]);
        volume.lower();
        let mut heard = vec![20_000];
        heard.extend(faded(&mut fader));
        heard.extend(faded(&mut fader));
        volume.raise();
        heard.extend(faded(&mut fader));
        heard.extend(faded(&mut fader));
        assert_eq!((heard[PLAYOUT_SAMPLES_PER_FRAME + 1], heard[heard.len() - 1]), (5000, 20_000));
        assert!(heard.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 20), "the gain jumps");
    }

    #[test]
    fn a_voice_that_nobody_raises_again_raises_itself() {
        let volume = Arc::new(Volume::default());
        let mut fader = Fader::new(Arc::clone(&volume));
        volume.lower();
        for _ in 0..LOW_FOR {
            fader.tick(None);
        }
        faded(&mut fader);
        assert_eq!(faded(&mut fader), [20_000; PLAYOUT_SAMPLES_PER_FRAME]);
    }
}
