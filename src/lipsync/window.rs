//! Which audio a frame needs, and which frames need a mouth at all. Pure.
//!
//! MuseTalk's window of frame f at 25 fps is rows [2f-4, 2f+6) of the 50 Hz audio features: 80 ms before the frame's
//! start to 80 ms after its end. The features themselves see a little further (mel and convolutions, about 35 ms).

use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// Frames of sound after a frame's own that must be known before it is drawn: 80 ms of window and 40 ms of margin
/// for the support of the features.
const LOOK_AHEAD: usize = 3;

/// Loudest root mean square of a frame that counts as silence: -50 dB of full scale, below any vowel and above the
/// noise of a synthesiser or a decent microphone's gate.
const SILENCE_RMS: f32 = 0.003;

/// Frames around a frame that must be silent too before it shows the avatar's own: the mouth closes through the
/// network for two frames after the voice ends and opens two frames before it begins.
const QUIET_AROUND: usize = 2;

/// Number of frames of which everything they need is among the first `samples` (16 kHz) of a sentence,
/// whose audio is `complete` or goes on.
pub fn drawable_frames(samples: usize, complete: bool) -> usize {
    if complete { frames_of(samples) } else { (samples / LIPSYNC_SAMPLES_PER_FRAME).saturating_sub(LOOK_AHEAD) }
}

/// Frames that a whole sentence of so many samples (16 kHz) fills; the last may be part silence.
pub fn frames_of(samples: usize) -> usize {
    samples.div_ceil(LIPSYNC_SAMPLES_PER_FRAME)
}

/// Remembers how loud each frame of a sentence is.
#[derive(Debug, Default)]
pub struct Loudness {
    /// Root mean square of each whole frame so far.
    frames: Vec<f32>,
    square_sum: f32,
    samples: usize,
}

impl Loudness {
    /// Takes in the next samples of the sentence (16 kHz).
    pub fn push(&mut self, samples: &[f32]) {
        for sample in samples {
            self.square_sum += sample * sample;
            self.samples += 1;
            if self.samples == LIPSYNC_SAMPLES_PER_FRAME {
                self.finish_frame();
            }
        }
    }

    /// The sentence is over: its last frame may be short.
    pub fn finish(&mut self) {
        if self.samples > 0 {
            self.finish_frame();
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "640")]
    fn finish_frame(&mut self) {
        self.frames.push((self.square_sum / LIPSYNC_SAMPLES_PER_FRAME as f32).sqrt());
        (self.square_sum, self.samples) = (0.0, 0);
    }

    /// Whether a frame and its neighbours are silent, so that it needs no mouth. What lies outside the sentence is
    /// silent; only drawable frames may be asked for.
    pub fn is_quiet(&self, frame: usize) -> bool {
        let first = frame.saturating_sub(QUIET_AROUND);
        self.frames.iter().skip(first).take(frame + QUIET_AROUND + 1 - first).all(|rms| *rms < SILENCE_RMS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_drawable_once_its_whole_window_is_there() {
        assert_eq!(drawable_frames(0, false), 0);
        assert_eq!(drawable_frames(4 * 640 - 1, false), 0);
        assert_eq!(drawable_frames(4 * 640, false), 1);
        assert_eq!(drawable_frames(641, true), 2);
        assert_eq!(drawable_frames(0, true), 0);
    }

    #[test]
    fn frames_are_counted_in_integers_where_upstreams_floating_point_loses_some() {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let upstream = |samples: usize| (samples as f64 / 16_000.0 * 25.0).floor() as usize;
        assert_eq!((1..500).filter(|frames| upstream(frames * 640) < *frames).count(), 34);
        assert!((1..500).all(|frames| frames_of(frames * 640) == frames));
    }

    #[test]
    fn sound_of_any_length_has_a_frame_for_each_40_ms_begun() {
        // 8 s, 22.49 s, 60 s. Version 1.0 of MuseTalk draws 202, 564 and 1502.
        assert_eq!([128_000, 359_840, 960_000].map(frames_of), [200, 563, 1500]);
        assert_eq!([0, 1, 639, 640, 641].map(frames_of), [0, 1, 1, 1, 2]);
    }

    #[test]
    fn the_mouth_is_left_alone_from_the_third_frame_after_the_voice() {
        let mut loudness = Loudness::default();
        loudness.push(&vec![0.2; 640 * 3]);
        loudness.push(&vec![0.0; 640 * 5 + 100]);
        loudness.finish();
        let quiet: Vec<bool> = (0..9).map(|frame| loudness.is_quiet(frame)).collect();
        assert_eq!(quiet, [false, false, false, false, false, true, true, true, true]);
    }

    #[test]
    fn the_network_draws_the_frames_just_before_the_voice() {
        let mut loudness = Loudness::default();
        loudness.push(&vec![0.0; 640 * 5]);
        loudness.push(&vec![0.2; 640]);
        assert_eq!((0..5).map(|frame| loudness.is_quiet(frame)).collect::<Vec<_>>(), [true, true, true, false, false]);
    }
}
