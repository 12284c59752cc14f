//! Another avatar takes over: at which tick, and what becomes of what was drawn for the one before.

use super::*;
use crate::audience::{Audience, ViewerGuard};
use crate::avatar::FrameMakers;

/// Another avatar, whose frames are all in memory.
fn tall() -> OwnFrames {
    OwnFrames::of(Arc::new(kit::avatar::tall()))
}

#[test]
fn another_avatar_takes_over_between_two_ticks_and_the_pose_goes_on() {
    let mut bench = bench();
    bench.schedule.tick();
    let tall = tall();
    let mut seen = bench.swap(&tall);
    assert!(seen.try_recv().is_err());
    let shown = bench.schedule.tick();
    assert!(Arc::ptr_eq(&shown.frame, &tall.picture(1)) && shown.kind == Kind::Idle);
    assert_eq!((shown.frame.width, shown.frame.height), (80, 96));
    assert!(seen.try_recv().is_ok(), "whoever asked is told with the first picture");
}

#[test]
fn a_sentence_goes_on_in_sound_when_another_avatar_takes_over_and_no_old_picture_is_shown() {
    let mut bench = bench();
    let (sentence, utterance, cancelled) = bench.begin(0);
    for (index, value) in (0..6).zip(1..) {
        bench.frame(sentence, value, false);
        if index < 4 {
            bench.mouth(sentence, index);
        }
    }
    assert_eq!(heard(&bench.schedule.tick()), 1);
    let (old, tall) = (bench.avatar, tall());
    bench.swap(&tall);
    // Of the one before, and drawn too late.
    let picture = mouth(250);
    bench.schedule.apply(Command::Mouth { sentence, index: 4, picture, fresh: true, avatar: old });
    // The batch with frame 5 was sent after the swap, and one more is announced.
    bench.mouth(sentence, 5);
    bench.frame(sentence, 7, false);
    bench.mouth(sentence, 6);
    bench.schedule.apply(Command::EndSentence { sentence });
    bench.schedule.apply(Command::EndUtterance { utterance, cancelled });
    for index in 1..5u64 {
        let shown = bench.schedule.tick();
        assert_eq!((shown.kind, heard(&shown)), (Kind::Own, index as i16 + 1));
        assert!(Arc::ptr_eq(&shown.frame, &tall.picture(index)), "its own frame of the pose");
    }
    for index in 5..7u8 {
        let shown = bench.schedule.tick();
        assert_eq!((shown.kind, heard(&shown), shown.frame.data[0]), (Kind::Mouth, i16::from(index) + 1, 200 + index));
    }
    assert_eq!(bench.schedule.tick().kind, Kind::Idle);
    let ended = Change::Ended { utterance, frames: 7, interrupted: false };
    assert_eq!(bench.schedule.take_changes().last(), Some(&ended), "every frame of it was heard");
    assert_eq!(bench.permits.available_permits(), 64);
}

#[test]
fn a_frame_that_was_announced_for_the_avatar_before_shows_the_new_ones_own() {
    let mut bench = bench();
    let (sentence, ..) = bench.begin(0);
    let tall = tall();
    let permit = Arc::clone(&bench.permits).try_acquire_owned().unwrap();
    let (old, audio) = (bench.avatar, Box::new([9; PLAYOUT_SAMPLES_PER_FRAME]));
    bench.swap(&tall);
    bench.schedule.tick();
    bench.schedule.apply(Command::Frame { sentence, audio, own: false, avatar: old, permit });
    let shown = bench.schedule.tick();
    assert_eq!((shown.kind, heard(&shown)), (Kind::Own, 9));
    assert_eq!(shown.frame.width, 80);
}

/// An avatar whose frames nobody makes ahead any more, with a viewer who waits for them.
fn unmade() -> (OwnFrames, ViewerGuard) {
    let (makers, threads) = FrameMakers::spawn().unwrap();
    threads.join();
    let audience = Audience::default();
    let viewer = audience.enter();
    (makers.frames_of(Arc::new(kit::avatar::filmed()), audience), viewer)
}

#[test]
fn an_avatar_whose_frame_is_not_ready_is_waited_for_while_the_old_one_goes_on() {
    let (filmed, _viewer) = unmade();
    let mut bench = bench();
    let old = bench.own.clone();
    let mut seen = bench.swap(&filmed);
    for pose in 0..4 {
        assert!(Arc::ptr_eq(&bench.schedule.tick().frame, &old.picture(pose)) && seen.try_recv().is_err());
    }
    let made = filmed.picture(4);
    assert!(Arc::ptr_eq(&bench.schedule.tick().frame, &made) && seen.try_recv().is_ok());
}

#[test]
fn an_avatar_whose_frame_never_comes_takes_over_after_a_second() {
    let (filmed, _viewer) = unmade();
    let mut bench = bench();
    bench.swap(&filmed);
    let waited = (0..100).take_while(|_| bench.schedule.tick().frame.width == 64).count();
    assert_eq!(waited, MAX_SWAP_WAIT as usize);
    assert!(Arc::ptr_eq(&bench.schedule.tick().frame, &filmed.avatar().base));
}

#[test]
fn a_mouth_that_is_drawn_for_an_avatar_already_is_shown_in_its_face() {
    let (filmed, _viewer) = unmade();
    let mut bench = bench();
    let (sentence, ..) = bench.begin(0);
    bench.frame(sentence, 1, false);
    bench.mouth(sentence, 0);
    bench.frame(sentence, 2, false);
    let mut seen = bench.swap(&filmed);
    bench.mouth(sentence, 1);
    assert_eq!(bench.schedule.tick().frame.data[0], 200);
    assert!(seen.try_recv().is_err());
    assert_eq!(bench.schedule.tick().frame.data[0], 201);
    assert!(seen.try_recv().is_ok());
}
