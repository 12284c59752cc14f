//! When somebody begins to speak, pauses, and has said all.
//!
//! In here: decisions over frames of 16 ms of which is known whether they hold speech that is not the avatar's. Not in
//! here: how that is known (`listener`, `echo`), what is done about it (`listener`).
//! Pure: frames are the time.

use std::collections::VecDeque;

/// Somebody speaks once so many of so many frames hold speech: 64 of 128 ms. A click holds fewer.
const BEGINS: (usize, usize) = (4, 8);
/// Silence of 160 ms may be the end; it is time to ask what was said.
const PAUSE: usize = 10;
/// Silence of 416 ms is the end; the detector notices it some 80 ms late. Within sentences people pause for less, between
/// turns they wait 200 ms.
const END: usize = 26;
/// Silence after which it is the end once the button is let go: what was said before is on its way for some time.
const END_RELEASED: usize = 12;
/// Who has spoken for 700 ms over the avatar says more than "mm-hm".
const INSISTS: usize = 44;
/// Less speech than 128 ms in all is a noise.
const LEAST: usize = 8;
/// Recognisers take 30 s at a time.
const LONGEST: usize = 28 * 1000 / 16;

/// What has changed with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Began,
    /// Speaks over the avatar and does not stop. Told once a turn.
    Insists,
    /// May have ended.
    Paused,
    /// Had not ended.
    Resumed,
    Ended,
    /// Ended, and was none.
    Noise,
}

/// One speaker's turns.
#[derive(Debug, Default)]
pub struct Turns {
    recent: VecDeque<bool>,
    talk: Option<Talk>,
    /// The button to talk is held down.
    is_held: bool,
}

#[derive(Debug, Default)]
struct Talk {
    frames: usize,
    voiced: usize,
    silent: usize,
    over_avatar: usize,
    insisted: bool,
    paused: bool,
    /// Began by the button, which is let go by now.
    is_released: bool,
}

impl Turns {
    /// Whether a turn is under way.
    pub fn is_on(&self) -> bool {
        self.talk.is_some()
    }

    /// The button to talk goes down or up. Down, a turn begins and no pause ends it.
    pub fn hold(&mut self, is_held: bool) -> Option<Change> {
        self.is_held = is_held;
        match &mut self.talk {
            Some(talk) => {
                talk.is_released = !is_held;
                None
            }
            None if is_held => {
                self.talk = Some(Talk::default());
                Some(Change::Began)
            }
            None => None,
        }
    }

    /// The next frame: whether it holds speech of somebody else than the avatar, and whether the avatar speaks.
    pub fn frame(&mut self, is_voice: bool, avatar_speaks: bool) -> Option<Change> {
        if self.recent.len() == BEGINS.1 {
            self.recent.pop_front();
        }
        self.recent.push_back(is_voice);
        let Some(talk) = &mut self.talk else {
            let voiced = self.recent.iter().filter(|is_voice| **is_voice).count();
            if voiced < BEGINS.0 {
                return None;
            }
            self.talk = Some(Talk { frames: self.recent.len(), voiced, ..Talk::default() });
            return Some(Change::Began);
        };
        talk.frames += 1;
        if is_voice {
            talk.voiced += 1;
            talk.silent = 0;
            talk.over_avatar += usize::from(avatar_speaks);
            if std::mem::take(&mut talk.paused) {
                return Some(Change::Resumed);
            }
        } else {
            talk.silent += 1;
        }
        let end = if talk.is_released { END_RELEASED } else { END };
        if (talk.silent >= end && !self.is_held) || talk.frames >= LONGEST {
            let is_noise = talk.voiced < LEAST;
            self.talk = None;
            self.recent.clear();
            return Some(if is_noise { Change::Noise } else { Change::Ended });
        }
        if talk.silent >= PAUSE && !talk.paused && talk.voiced >= LEAST {
            talk.paused = true;
            return Some(Change::Paused);
        }
        // Most of the time: the echo of the avatar's own voice hides some of it.
        if is_voice && !talk.insisted && talk.over_avatar > 0 && talk.frames >= INSISTS && 2 * talk.voiced >= INSISTS {
            talk.insisted = true;
            return Some(Change::Insists);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `(frames, is_voice)` and tells what changed at which frame.
    fn play(turns: &mut Turns, avatar_speaks: bool, stretches: &[(usize, bool)]) -> Vec<(usize, Change)> {
        let frames = stretches.iter().flat_map(|(frames, is_voice)| std::iter::repeat_n(*is_voice, *frames));
        frames.enumerate().filter_map(|(at, is_voice)| Some((at, turns.frame(is_voice, avatar_speaks)?))).collect()
    }

    #[test]
    fn a_sentence_with_a_pause_in_it_is_one_turn() {
        let told = play(&mut Turns::default(), false, &[(50, false), (60, true), (20, false), (40, true), (60, false)]);
        let expected = [
            (53, Change::Began),
            (119, Change::Paused),
            (130, Change::Resumed),
            (179, Change::Paused),
            (195, Change::Ended),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn clicks_begin_nothing_and_a_cough_is_a_noise() {
        let clicks = [(3, true), (20, false), (3, true), (20, false)];
        assert_eq!(play(&mut Turns::default(), false, &clicks), []);
        let cough = play(&mut Turns::default(), true, &[(6, true), (60, false)]);
        assert_eq!(cough.iter().map(|(_, change)| *change).collect::<Vec<_>>(), [Change::Began, Change::Noise]);
    }

    #[test]
    fn only_who_goes_on_talking_over_the_avatar_insists() {
        let short = play(&mut Turns::default(), true, &[(20, true), (60, false)]);
        assert!(!short.iter().any(|(_, change)| *change == Change::Insists), "{short:?}");
        let mut turns = Turns::default();
        let long = play(&mut turns, true, &[(120, true)]);
        let insists: Vec<usize> =
            long.iter().filter(|(_, change)| *change == Change::Insists).map(|(at, _)| *at).collect();
        assert_eq!(insists.len(), 1, "told once");
        assert!(insists[0] <= 44, "within 700 ms: {insists:?}");
        let alone = play(&mut Turns::default(), false, &[(120, true)]);
        assert!(!alone.iter().any(|(_, change)| *change == Change::Insists), "there is nobody to talk over");
    }

    #[test]
    fn the_button_holds_a_turn_through_every_pause_and_ends_it_soon() {
        let mut turns = Turns::default();
        assert_eq!(turns.hold(true), Some(Change::Began));
        let held = play(&mut turns, false, &[(20, true), (200, false), (20, true)]);
        assert!(!held.iter().any(|(_, change)| *change == Change::Ended), "{held:?}");
        assert_eq!(turns.hold(false), None);
        let ended = play(&mut turns, false, &[(5, true), (40, false)]);
        assert_eq!(ended.last(), Some(&(16, Change::Ended)));
        assert!(!turns.is_on());
        assert_eq!(turns.hold(true), Some(Change::Began));
        turns.hold(false);
        let nothing = play(&mut turns, false, &[(40, false)]);
        assert_eq!(nothing, [(11, Change::Noise)], "held without a word");
    }

    #[test]
    fn who_never_stops_is_cut_where_recognisers_are() {
        let told = play(&mut Turns::default(), false, &[(LONGEST + 10, true)]);
        assert_eq!(told[..2], [(3, Change::Began), (LONGEST - 1, Change::Ended)]);
    }
}
