//! The rules of the schedule, tick by tick; in `swap`, those of another avatar that takes over.

mod swap;

use tokio::sync::Semaphore;

use super::*;
use crate::kit;
use crate::timeline::PLAYOUT_SAMPLES_PER_FRAME;

struct Bench {
    schedule: Schedule,
    own: OwnFrames,
    /// For whom frames are announced and mouths drawn.
    avatar: AvatarNumber,
    permits: Arc<Semaphore>,
}

fn bench() -> Bench {
    let own = OwnFrames::of(Arc::new(kit::avatar::tiny()));
    Bench {
        schedule: Schedule::new(own.clone()),
        own,
        avatar: AvatarNumber::default(),
        permits: Arc::new(Semaphore::new(64)),
    }
}

fn mouth(value: u8) -> Arc<I420Frame> {
    Arc::new(I420Frame { width: 64, height: 64, data: vec![value; 64 * 64 * 3 / 2] })
}

impl Bench {
    fn begin(&mut self, start_pose: u64) -> (SentenceId, UtteranceId, CancellationToken) {
        let (utterance, cancelled) = (UtteranceId::next(), CancellationToken::new());
        let sentence = utterance.sentence(0);
        self.schedule.apply(Command::BeginSentence { sentence, start_pose, cancelled: cancelled.clone() });
        (sentence, utterance, cancelled)
    }

    fn frame(&mut self, sentence: SentenceId, value: i16, own: bool) {
        let permit = Arc::clone(&self.permits).try_acquire_owned().unwrap();
        let audio = Box::new([value; PLAYOUT_SAMPLES_PER_FRAME]);
        self.schedule.apply(Command::Frame { sentence, audio, own, avatar: self.avatar, permit });
    }

    fn mouth(&mut self, sentence: SentenceId, index: u64) {
        let picture = mouth(200 + u8::try_from(index).unwrap());
        self.schedule.apply(Command::Mouth { sentence, index, picture, fresh: true, avatar: self.avatar });
    }

    /// Another avatar is to take over, and is drawn for from now on. Says when it is seen.
    fn swap(&mut self, own: &OwnFrames) -> oneshot::Receiver<()> {
        let (shown, seen) = oneshot::channel();
        (self.own, self.avatar) = (own.clone(), AvatarNumber(self.avatar.0 + 1));
        self.schedule.apply(Command::Swap { own: own.clone(), avatar: self.avatar, shown });
        seen
    }

    fn own(&self, pose: u64) -> Arc<I420Frame> {
        self.own.picture(pose)
    }
}

fn heard(shown: &Shown) -> i16 {
    shown.audio.as_ref().map_or(0, |audio| audio[0])
}

#[test]
fn idle_shows_the_avatars_own_frames_bit_for_bit_and_silence() {
    let mut bench = bench();
    for pose in 0..9 {
        let shown = bench.schedule.tick();
        assert!(Arc::ptr_eq(&shown.frame, &bench.own(pose)) && shown.audio.is_none() && shown.utterance.is_none());
    }
}

#[test]
fn speech_joins_the_idle_loop_where_it_was_drawn_for_and_leaves_it_the_same_way() {
    let mut bench = bench();
    bench.schedule.tick();
    let (sentence, utterance, cancelled) = bench.begin(2);
    for index in 0..3u64 {
        bench.frame(sentence, 10 + i16::try_from(index).unwrap(), false);
        bench.mouth(sentence, index);
    }
    bench.schedule.apply(Command::EndSentence { sentence });
    bench.schedule.apply(Command::EndUtterance { utterance, cancelled });
    let shown = bench.schedule.tick();
    assert!(Arc::ptr_eq(&shown.frame, &bench.own(1)), "idle runs up to the pose the speech was drawn for");
    for index in 0..3u8 {
        let shown = bench.schedule.tick();
        assert_eq!((shown.kind, heard(&shown)), (Kind::Mouth, 10 + i16::from(index)));
        assert_eq!(shown.frame.data[0], 200 + index);
    }
    let shown = bench.schedule.tick();
    assert!(Arc::ptr_eq(&shown.frame, &bench.own(5)), "poses 2, 3 and 4 were spoken");
    assert_eq!(
        bench.schedule.take_changes(),
        [
            Change::Started(utterance),
            Change::SentenceStarted(sentence),
            Change::FirstMouth(utterance),
            Change::Ended { utterance, frames: 3, interrupted: false }
        ]
    );
}

#[test]
fn the_head_rests_until_the_first_mouth_is_there_and_goes_on_from_the_same_pose() {
    let mut bench = bench();
    bench.schedule.tick();
    let (sentence, ..) = bench.begin(1);
    bench.frame(sentence, 5, false);
    for _ in 0..3 {
        let shown = bench.schedule.tick();
        assert_eq!(shown.kind, Kind::Held);
        assert!(Arc::ptr_eq(&shown.frame, &bench.own(0)) && shown.audio.is_none());
    }
    bench.mouth(sentence, 0);
    assert_eq!(bench.schedule.tick().kind, Kind::Mouth);
    assert_eq!(bench.schedule.next_pose(), 2);
}

#[test]
fn a_head_that_rested_too_long_moves_again() {
    let mut bench = bench();
    bench.schedule.tick();
    bench.begin(1);
    let held = (0..100).take_while(|_| bench.schedule.tick().kind == Kind::Held).count();
    assert_eq!(held, MAX_HOLD as usize);
    let pose = bench.schedule.next_pose();
    bench.schedule.tick();
    assert_eq!(bench.schedule.next_pose(), pose + 1);
}

#[test]
fn a_late_mouth_repeats_the_last_picture_while_the_sound_goes_on_and_is_dropped_when_it_comes() {
    let mut bench = bench();
    let (sentence, ..) = bench.begin(0);
    for value in [1, 2, 3] {
        bench.frame(sentence, value, false);
    }
    bench.mouth(sentence, 0);
    let first = bench.schedule.tick();
    let second = bench.schedule.tick();
    assert_eq!((second.kind, heard(&second)), (Kind::Repeated, 2));
    assert!(Arc::ptr_eq(&first.frame, &second.frame));
    bench.mouth(sentence, 1);
    bench.mouth(sentence, 2);
    let third = bench.schedule.tick();
    assert_eq!((third.kind, heard(&third), third.frame.data[0]), (Kind::Mouth, 3, 202));
}

#[test]
fn missing_sound_is_silence_with_a_shut_mouth_and_nothing_of_it_is_skipped_later() {
    let mut bench = bench();
    let (sentence, ..) = bench.begin(0);
    bench.frame(sentence, 1, false);
    bench.mouth(sentence, 0);
    bench.schedule.tick();
    let starved = bench.schedule.tick();
    assert_eq!(starved.kind, Kind::Starved);
    assert!(Arc::ptr_eq(&starved.frame, &bench.own(0)));
    bench.frame(sentence, 2, false);
    bench.mouth(sentence, 1);
    assert_eq!(heard(&bench.schedule.tick()), 2);
}

#[test]
fn nothing_of_a_cancelled_utterance_leaves_after_the_cancellation() {
    let mut bench = bench();
    let (sentence, utterance, cancelled) = bench.begin(0);
    for index in 0..5 {
        bench.frame(sentence, 9, false);
        bench.mouth(sentence, index);
    }
    bench.schedule.tick();
    cancelled.cancel();
    bench.frame(sentence, 9, false);
    let shown = bench.schedule.tick();
    assert!(shown.audio.is_none() && shown.utterance.is_none());
    assert!(Arc::ptr_eq(&shown.frame, &bench.own(1)), "the head goes on from where it was");
    bench.mouth(sentence, 5);
    assert_eq!(bench.schedule.tick().kind, Kind::Idle);
    assert_eq!(bench.permits.available_permits(), 64, "dropped frames give their permits back");
    assert!(bench.schedule.take_changes().contains(&Change::Ended { utterance, frames: 1, interrupted: true }));
}

#[test]
fn a_silent_stretch_of_speech_shows_the_avatars_own_frame() {
    let mut bench = bench();
    let (sentence, ..) = bench.begin(0);
    bench.frame(sentence, 0, true);
    let shown = bench.schedule.tick();
    assert_eq!(shown.kind, Kind::Own);
    assert!(Arc::ptr_eq(&shown.frame, &bench.own(0)));
}

#[test]
fn the_second_sentence_starts_where_the_first_ends() {
    let mut bench = bench();
    let (first, ..) = bench.begin(0);
    bench.frame(first, 1, false);
    bench.mouth(first, 0);
    bench.schedule.apply(Command::EndSentence { sentence: first });
    let (second, ..) = bench.begin(1);
    bench.frame(second, 2, false);
    bench.mouth(second, 0);
    assert_eq!([heard(&bench.schedule.tick()), heard(&bench.schedule.tick())], [1, 2]);
    assert_eq!(bench.schedule.next_pose(), 2);
}

#[test]
fn an_utterance_cancelled_before_it_was_heard_reports_nothing() {
    let mut bench = bench();
    let (sentence, _, cancelled) = bench.begin(0);
    bench.frame(sentence, 1, false);
    cancelled.cancel();
    bench.schedule.tick();
    assert_eq!(bench.schedule.take_changes(), []);
}

/// What a sentence must sound and show, as whoever announces it sees it.
struct Announced {
    id: SentenceId,
    cancelled: CancellationToken,
    start_pose: u64,
    sounds: Vec<i16>,
    heard: usize,
    ended: bool,
}

impl Announced {
    fn is_live(&self) -> bool {
        !(self.cancelled.is_cancelled() || self.ended && self.heard == self.sounds.len())
    }
}

/// The rules of the schedule as a viewer sees them, checked at each tick.
struct Viewer {
    bench: Bench,
    sentences: Vec<Announced>,
    /// Ticks that the head rested since speech was last heard.
    rests: u32,
    /// The head rested as long as it may and moved on without the speech it had waited for.
    gave_up: bool,
    last: Arc<I420Frame>,
}

impl Viewer {
    fn new() -> Self {
        let bench = bench();
        let last = bench.own(0);
        Self { bench, sentences: Vec::new(), rests: 0, gave_up: false, last }
    }

    /// Announces a sentence as the animator does: from where the one before ends, else from a pose that is still to come.
    fn begin(&mut self, lead: u64) {
        let start_pose = match self.sentences.iter().rfind(|sentence| sentence.is_live()) {
            Some(before) if !before.ended => return,
            Some(before) => before.start_pose + before.sounds.len() as u64,
            None => self.bench.schedule.next_pose() + lead,
        };
        let (id, _, cancelled) = self.bench.begin(start_pose);
        self.sentences.push(Announced { id, cancelled, start_pose, sounds: Vec::new(), heard: 0, ended: false });
    }

    fn frame(&mut self, own: bool) {
        let sound = 1 + self.sentences.iter().map(|sentence| sentence.sounds.len() as i16).sum::<i16>();
        let Some(open) = self.sentences.last_mut().filter(|sentence| sentence.is_live() && !sentence.ended) else {
            return;
        };
        if open.sounds.len() < 50 && self.bench.permits.available_permits() > 0 {
            open.sounds.push(sound);
            let id = open.id;
            self.bench.frame(id, sound, own);
        }
    }

    fn mouth(&mut self, index: u64) {
        if let Some(id) = self.sentences.iter().find(|sentence| sentence.is_live()).map(|sentence| sentence.id) {
            self.bench.mouth(id, index);
        }
    }

    fn end(&mut self) {
        if let Some(open) = self.sentences.last_mut() {
            open.ended = true;
            self.bench.schedule.apply(Command::EndSentence { sentence: open.id });
        }
    }

    fn cancel(&mut self) {
        if let Some(front) = self.sentences.iter().find(|sentence| sentence.is_live()) {
            front.cancelled.cancel();
        }
    }

    fn tick(&mut self) -> Result<(), proptest::test_runner::TestCaseError> {
        use proptest::{prop_assert, prop_assert_eq};
        let pose = self.bench.schedule.next_pose();
        let waiting = self.sentences.iter().any(|sentence| sentence.is_live() && sentence.start_pose <= pose);
        let shown = self.bench.schedule.tick();
        let next = self.bench.schedule.next_pose();
        match shown.kind {
            Kind::Mouth | Kind::Own | Kind::Repeated => {
                let front = self.sentences.iter_mut().find(|sentence| sentence.is_live()).unwrap();
                prop_assert_eq!(heard(&shown), front.sounds[front.heard], "each sound once and in order");
                let meant = front.start_pose + front.heard as u64;
                front.heard += 1;
                prop_assert_eq!(next, meant + 1, "speech goes on by its index");
                prop_assert!(meant == pose || self.gave_up, "speech joins at {} what stood at {}", meant, pose);
                let own = self.bench.own(meant);
                let picture = match shown.kind {
                    Kind::Own => Arc::ptr_eq(&shown.frame, &own),
                    Kind::Repeated => Arc::ptr_eq(&shown.frame, &self.last),
                    _ => !Arc::ptr_eq(&shown.frame, &own),
                };
                prop_assert!(picture, "{:?} shows something else", shown.kind);
                (self.rests, self.gave_up) = (0, false);
            }
            _ if next == pose => {
                prop_assert!(shown.audio.is_none() && matches!(shown.kind, Kind::Held | Kind::Starved));
                prop_assert!(Arc::ptr_eq(&shown.frame, &self.bench.own(pose.saturating_sub(1))), "the head rests");
                self.rests += 1;
            }
            _ => {
                prop_assert!(shown.audio.is_none() && matches!(shown.kind, Kind::Idle | Kind::Starved));
                prop_assert_eq!(next, pose + 1);
                prop_assert!(Arc::ptr_eq(&shown.frame, &self.bench.own(pose)), "the avatar's own frames go on");
                if waiting {
                    prop_assert!(self.rests >= MAX_HOLD, "the head moved on after {} rests", self.rests);
                    self.gave_up = true;
                }
            }
        }
        self.last = shown.frame;
        Ok(())
    }
}

proptest::proptest! {
    /// Whatever arrives in whatever order, sound leaves in order, each piece once, and the pose goes on by index: from
    /// idle into speech, through it, and out of it again. Only a head that rested as long as it may moves on alone.
    #[test]
    fn sound_and_pose_go_on_by_index(script in proptest::collection::vec((0u8..16, 0u64..12), 1..400)) {
        let mut viewer = Viewer::new();
        for (step, number) in script {
            match step {
                0 => viewer.begin(number % 6),
                1..=3 => viewer.frame(number == 0),
                4..=6 => viewer.mouth(number),
                7 => viewer.end(),
                8 if number == 0 => viewer.cancel(),
                _ => viewer.tick()?,
            }
        }
    }
}

#[test]
fn every_utterance_that_was_given_to_it_ends_once_heard_or_not() {
    let mut bench = bench();
    let ended = |bench: &mut Bench| -> Vec<(UtteranceId, u64, bool)> {
        let ended = |change| match change {
            Change::Ended { utterance, frames, interrupted } => Some((utterance, frames, interrupted)),
            _ => None,
        };
        bench.schedule.take_changes().into_iter().filter_map(ended).collect()
    };
    // Heard, and interrupted while more of it is made: its last command comes after its end.
    let (sentence, heard, cancelled) = bench.begin(0);
    bench.frame(sentence, 5, true);
    bench.schedule.tick();
    cancelled.cancel();
    bench.schedule.tick();
    assert_eq!(ended(&mut bench), [(heard, 1, true)]);
    bench.schedule.apply(Command::EndUtterance { utterance: heard, cancelled });
    bench.schedule.tick();
    assert_eq!(ended(&mut bench), []);

    // Whole and waiting behind another one, and being made: neither is ever heard.
    let (first, second) = (bench.begin(90), bench.begin(91));
    bench.frame(first.0, 6, true);
    bench.schedule.apply(Command::EndUtterance { utterance: first.1, cancelled: first.2.clone() });
    first.2.cancel();
    second.2.cancel();
    bench.schedule.tick();
    assert_eq!(ended(&mut bench), [(first.1, 0, true)]);
    bench.schedule.apply(Command::EndUtterance { utterance: second.1, cancelled: second.2 });
    bench.schedule.tick();
    assert_eq!(ended(&mut bench), [(second.1, 0, true)]);

    // Of no sound at all.
    let (sentence, silent, cancelled) = bench.begin(0);
    bench.schedule.apply(Command::EndSentence { sentence });
    bench.schedule.apply(Command::EndUtterance { utterance: silent, cancelled });
    bench.schedule.tick();
    assert_eq!(ended(&mut bench), [(silent, 0, false)]);

    // Being heard when the session closes.
    let (sentence, open, _) = bench.begin(0);
    bench.frame(sentence, 7, true);
    bench.schedule.tick();
    bench.schedule.close();
    assert_eq!(ended(&mut bench), [(open, 1, true)]);
}
