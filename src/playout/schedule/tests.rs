//! The rules of the schedule, tick by tick.

use tokio::sync::Semaphore;

use super::*;
use crate::avatar::fixture;
use crate::timeline::PLAYOUT_SAMPLES_PER_FRAME;

struct Bench {
    schedule: Schedule,
    avatar: Arc<Avatar>,
    permits: Arc<Semaphore>,
}

fn bench() -> Bench {
    let avatar = Arc::new(fixture::avatar());
    Bench { schedule: Schedule::new(Arc::clone(&avatar)), avatar, permits: Arc::new(Semaphore::new(64)) }
}

fn mouth(value: u8) -> Arc<I420Frame> {
    Arc::new(I420Frame { width: 64, height: 64, data: vec![value; 64 * 64 * 3 / 2] })
}

impl Bench {
    fn begin(&mut self, start_pose: u64) -> (SegmentId, UtteranceId, CancellationToken) {
        let (segment, utterance, cancelled) = (SegmentId::next(), UtteranceId::next(), CancellationToken::new());
        self.schedule.apply(Command::Begin { segment, utterance, start_pose, cancelled: cancelled.clone() });
        (segment, utterance, cancelled)
    }

    fn frame(&mut self, segment: SegmentId, value: i16, own: bool) {
        let permit = Arc::clone(&self.permits).try_acquire_owned().unwrap();
        let audio = Box::new([value; PLAYOUT_SAMPLES_PER_FRAME]);
        self.schedule.apply(Command::Frame { segment, audio, own, permit });
    }

    fn mouth(&mut self, segment: SegmentId, index: u64) {
        let picture = mouth(200 + u8::try_from(index).unwrap());
        self.schedule.apply(Command::Mouth { segment, index, picture });
    }

    fn own(&self, pose: u64) -> Arc<I420Frame> {
        Arc::clone(&self.avatar.frame(pose).picture)
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
    let (segment, utterance, cancelled) = bench.begin(2);
    for index in 0..3u64 {
        bench.frame(segment, 10 + i16::try_from(index).unwrap(), false);
        bench.mouth(segment, index);
    }
    bench.schedule.apply(Command::EndSegment { segment });
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
            Change::FirstMouth(utterance),
            Change::Ended { utterance, frames: 3, interrupted: false }
        ]
    );
}

#[test]
fn the_head_rests_until_the_first_mouth_is_there_and_goes_on_from_the_same_pose() {
    let mut bench = bench();
    bench.schedule.tick();
    let (segment, ..) = bench.begin(1);
    bench.frame(segment, 5, false);
    for _ in 0..3 {
        let shown = bench.schedule.tick();
        assert_eq!(shown.kind, Kind::Held);
        assert!(Arc::ptr_eq(&shown.frame, &bench.own(0)) && shown.audio.is_none());
    }
    bench.mouth(segment, 0);
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
    let (segment, ..) = bench.begin(0);
    for value in [1, 2, 3] {
        bench.frame(segment, value, false);
    }
    bench.mouth(segment, 0);
    let first = bench.schedule.tick();
    let second = bench.schedule.tick();
    assert_eq!((second.kind, heard(&second)), (Kind::Repeated, 2));
    assert!(Arc::ptr_eq(&first.frame, &second.frame));
    bench.mouth(segment, 1);
    bench.mouth(segment, 2);
    let third = bench.schedule.tick();
    assert_eq!((third.kind, heard(&third), third.frame.data[0]), (Kind::Mouth, 3, 202));
}

#[test]
fn missing_sound_is_silence_with_a_shut_mouth_and_nothing_of_it_is_skipped_later() {
    let mut bench = bench();
    let (segment, ..) = bench.begin(0);
    bench.frame(segment, 1, false);
    bench.mouth(segment, 0);
    bench.schedule.tick();
    let starved = bench.schedule.tick();
    assert_eq!(starved.kind, Kind::Starved);
    assert!(Arc::ptr_eq(&starved.frame, &bench.own(0)));
    bench.frame(segment, 2, false);
    bench.mouth(segment, 1);
    assert_eq!(heard(&bench.schedule.tick()), 2);
}

#[test]
fn nothing_of_a_cancelled_utterance_leaves_after_the_cancellation() {
    let mut bench = bench();
    let (segment, utterance, cancelled) = bench.begin(0);
    for index in 0..5 {
        bench.frame(segment, 9, false);
        bench.mouth(segment, index);
    }
    bench.schedule.tick();
    cancelled.cancel();
    bench.frame(segment, 9, false);
    let shown = bench.schedule.tick();
    assert!(shown.audio.is_none() && shown.utterance.is_none());
    assert!(Arc::ptr_eq(&shown.frame, &bench.own(1)), "the head goes on from where it was");
    bench.mouth(segment, 5);
    assert_eq!(bench.schedule.tick().kind, Kind::Idle);
    assert_eq!(bench.permits.available_permits(), 64, "dropped frames give their permits back");
    assert!(bench.schedule.take_changes().contains(&Change::Ended { utterance, frames: 1, interrupted: true }));
}

#[test]
fn a_silent_stretch_of_speech_shows_the_avatars_own_frame() {
    let mut bench = bench();
    let (segment, ..) = bench.begin(0);
    bench.frame(segment, 0, true);
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
    bench.schedule.apply(Command::EndSegment { segment: first });
    let (second, ..) = bench.begin(1);
    bench.frame(second, 2, false);
    bench.mouth(second, 0);
    assert_eq!([heard(&bench.schedule.tick()), heard(&bench.schedule.tick())], [1, 2]);
    assert_eq!(bench.schedule.next_pose(), 2);
}

#[test]
fn an_utterance_cancelled_before_it_was_heard_reports_nothing() {
    let mut bench = bench();
    let (segment, _, cancelled) = bench.begin(0);
    bench.frame(segment, 1, false);
    cancelled.cancel();
    bench.schedule.tick();
    assert_eq!(bench.schedule.take_changes(), []);
}

proptest::proptest! {
    /// Whatever arrives in whatever order, sound leaves in order, each piece once, and the pose never jumps.
    #[test]
    fn sound_is_never_lost_twice_or_out_of_order(script in proptest::collection::vec((0u8..4, 0u64..12), 1..200)) {
        let mut bench = bench();
        let (segment, ..) = bench.begin(0);
        let (mut announced, mut expected) = (0i16, 1i16);
        let mut pose = 0;
        for (step, index) in script {
            match step {
                0 if announced < 60 => { announced += 1; bench.frame(segment, announced, false); }
                1 => bench.mouth(segment, index),
                _ => {
                    let shown = bench.schedule.tick();
                    if shown.audio.is_some() {
                        proptest::prop_assert_eq!(heard(&shown), expected);
                        expected += 1;
                    }
                    let next = bench.schedule.next_pose();
                    let late = matches!(shown.kind, Kind::Idle | Kind::Starved) || shown.audio.is_some();
                    proptest::prop_assert!(next == pose || next == pose + 1 || late);
                    pose = next;
                }
            }
        }
    }
}
