//! The encoder's output of whole recordings, kept between two batches: a sentence that is drawn in several is heard once,
//! and several sentences are drawn in turns.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::flat;
use super::windows::Window;
use crate::musetalk::Result;

/// Windows that are kept for the next batch: 190 MB of MuseTalk's in 16 bits. A batch that needs more keeps more.
const KEPT: usize = 32;

/// What was heard, one window a slot.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// `[1 + slots * positions, states * d]`: a row of zeros, which is what there is outside of a recording, then the windows.
    rows: Option<Tensor>,
    slots: Vec<Slot>,
    batches: u64,
}

#[derive(Debug)]
struct Slot {
    audio: Arc<[f32]>,
    /// The sample that the window begins with.
    start: i64,
    /// The last batch that needed it.
    used: u64,
}

impl Heard {
    /// A batch needs these windows: those that are yet to be heard.
    pub fn missing<'a>(&mut self, wanted: &[Window<'a>]) -> Vec<Window<'a>> {
        self.batches += 1;
        let mut missing = Vec::new();
        for window in wanted {
            match self.slots.iter_mut().find(|slot| slot.has(window.audio, window.start)) {
                Some(slot) => slot.used = self.batches,
                None => missing.push(*window),
            }
        }
        missing
    }

    /// Takes in the windows that were missing, `[windows, positions, states, d]`.
    pub fn keep(&mut self, missing: &[Window<'_>], hidden: &Tensor) -> Result<()> {
        let kept = self.try_to_keep(missing, hidden);
        if kept.is_err() {
            // Slots that were not filled must not be found.
            *self = Self { batches: self.batches, ..Self::default() };
        }
        kept
    }

    fn try_to_keep(&mut self, missing: &[Window<'_>], hidden: &Tensor) -> Result<()> {
        let (_, positions, states, size) = hidden.size4()?;
        let mut places = Vec::new();
        for window in missing {
            let first = first_row(self.take_slot(window), positions);
            places.extend(first..first + positions);
        }
        let (needed, had) =
            (first_row(self.slots.len(), positions), self.rows.as_ref().map_or(0, |rows| rows.size()[0]));
        if had < needed {
            let larger = Tensor::f_zeros([needed, states * size], (hidden.kind(), hidden.device()))?;
            if let Some(rows) = &self.rows {
                larger.f_narrow(0, 0, had)?.f_copy_(rows)?;
            }
            self.rows = Some(larger);
        }
        if let Some(rows) = &mut self.rows {
            let places = Tensor::f_from_slice(&places)?.f_to_device(hidden.device())?;
            let _ = rows.f_index_copy_(0, &places, &flat(hidden)?)?;
        }
        Ok(())
    }

    /// Gives a window the slot of one that nobody needs, or a new one.
    fn take_slot(&mut self, window: &Window<'_>) -> usize {
        let batch = self.batches;
        let unused = || self.slots.iter().enumerate().filter(|(_, slot)| slot.used < batch);
        // Nobody else has the sound of a sentence that is over.
        let over = unused().find(|(_, slot)| Arc::strong_count(&slot.audio) == 1);
        let oldest = || unused().min_by_key(|(_, slot)| slot.used).filter(|_| self.slots.len() >= KEPT);
        let free = over.or_else(oldest).map(|(at, _)| at);
        let slot = Slot { audio: Arc::clone(window.audio), start: window.start, used: batch };
        match free.and_then(|at| Some((at, self.slots.get_mut(at)?))) {
            Some((at, old)) => {
                *old = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        }
    }

    /// Where in [`Heard::rows`] a row of a recording is, counted from the recording's beginning.
    pub fn place(&self, audio: &Arc<[f32]>, row: i64, positions: i64, row_samples: i64) -> i64 {
        let rows = i64::try_from(audio.len()).unwrap_or(i64::MAX) / row_samples;
        // Rows of the audio's own length only: what the encoder makes of the padding is not used.
        if !(0..rows).contains(&row) {
            return 0;
        }
        let start = row / positions * positions * row_samples;
        let slot = self.slots.iter().position(|slot| slot.has(audio, start));
        slot.map_or(0, |slot| first_row(slot, positions) + row % positions)
    }

    /// All that is kept, `[rows, width]`, the first row of which is silence.
    pub fn rows(&self, width: i64, kind: Kind, device: Device) -> Result<Tensor> {
        Ok(match &self.rows {
            Some(rows) => rows.shallow_clone(),
            None => Tensor::f_zeros([1, width], (kind, device))?,
        })
    }
}

impl Slot {
    fn has(&self, audio: &Arc<[f32]>, start: i64) -> bool {
        self.start == start && Arc::ptr_eq(&self.audio, audio)
    }
}

fn first_row(slot: usize, positions: i64) -> i64 {
    1 + i64::try_from(slot).unwrap_or(0) * positions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Arc<[f32]> {
        vec![0.0; 6400].into()
    }

    /// Windows of two rows of one state of one number, which is `value`.
    fn hidden(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).view([-1, 1, 1, 1]).repeat([1, 2, 1, 1])
    }

    fn value(heard: &Heard, audio: &Arc<[f32]>, row: i64) -> f64 {
        let rows = heard.rows(1, Kind::Float, Device::Cpu).unwrap();
        rows.double_value(&[heard.place(audio, row, 2, 320), 0])
    }

    #[test]
    fn what_was_heard_is_found_again_and_outside_of_a_recording_is_silence() {
        let (one, other, mut heard) = (recording(), recording(), Heard::default());
        let wanted = [Window { audio: &one, start: 0 }, Window { audio: &other, start: 640 }];
        assert_eq!(heard.missing(&wanted).len(), 2);
        heard.keep(&wanted, &hidden(&[5.0, 7.0])).unwrap();
        assert!(heard.missing(&wanted).is_empty());
        assert_eq!([0, 1].map(|row| value(&heard, &one, row)), [5.0; 2]);
        assert_eq!([-1, 2, 3, 20].map(|row| value(&heard, &other, row)), [0.0, 7.0, 7.0, 0.0]);
    }

    #[test]
    fn a_sentence_that_is_over_makes_room_and_one_that_is_not_stays() {
        let (mut heard, goes_on) = (Heard::default(), recording());
        let first = [Window { audio: &goes_on, start: 0 }];
        heard.missing(&first);
        heard.keep(&first, &hidden(&[1.0])).unwrap();
        for sentence in 0..100 {
            let audio = recording();
            let next = [Window { audio: &audio, start: 0 }];
            assert_eq!(heard.missing(&next).len(), 1);
            heard.keep(&next, &hidden(&[sentence as f32])).unwrap();
        }
        assert_eq!((heard.slots.len(), value(&heard, &goes_on, 0)), (2, 1.0));
    }

    #[test]
    fn of_more_sentences_than_there_is_room_for_the_last_ones_are_kept() {
        let (mut heard, all) = (Heard::default(), (0..40).map(|_| recording()).collect::<Vec<_>>());
        for audio in &all {
            let next = [Window { audio, start: 0 }];
            heard.missing(&next);
            heard.keep(&next, &hidden(&[1.0])).unwrap();
        }
        assert_eq!(heard.slots.len(), KEPT);
        let last: Vec<Window<'_>> = all[8..].iter().map(|audio| Window { audio, start: 0 }).collect();
        assert!(heard.missing(&last).is_empty());
        // All of one batch at once have room, however many.
        let every: Vec<Window<'_>> = all.iter().map(|audio| Window { audio, start: 0 }).collect();
        let missing = heard.missing(&every);
        heard.keep(&missing, &hidden(&[2.0; 8])).unwrap();
        assert_eq!((heard.slots.len(), heard.missing(&every).len()), (40, 0));
    }
}
