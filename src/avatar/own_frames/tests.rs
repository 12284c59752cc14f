//! Own frames that are not in memory: made ahead while somebody watches, and kept no longer than they are of use.

use super::*;
use crate::avatar::manifest::MatteSource;
use crate::avatar::{Manifest, Photo};
use crate::kit;
use crate::picture::{Mask, MouthFrame, blend, matte};
use crate::still::HeadPose;

/// Asks for a pose until it is there, as playout does tick after tick.
fn shown(own: &OwnFrames, pose: u64) -> Arc<I420Frame> {
    loop {
        if let Some(picture) = own.show(pose) {
            return picture;
        }
        std::thread::yield_now();
    }
}

fn photo() -> Arc<Avatar> {
    let root = tempfile::tempdir().unwrap();
    let store = crate::avatar::AvatarStore::new(root.path());
    kit::avatar::still(&store, "bert");
    Arc::new(store.load(&"bert".parse().unwrap()).unwrap())
}

/// The same avatar, cut out.
fn cut_out(opaque: &Avatar, matte: Mask) -> Arc<Avatar> {
    let root = tempfile::tempdir().unwrap();
    let store = crate::avatar::AvatarStore::new(root.path());
    kit::avatar::still(&store, "bert");
    let Material::Photo(photo) = store.load(&"bert".parse().unwrap()).unwrap().material else { unreachable!() };
    let Photo { still, frame, .. } = Arc::into_inner(photo).unwrap();
    let photo = Photo { still, frame, matte: Some(matte) };
    let manifest = Manifest { matte: Some(MatteSource::Own), ..opaque.manifest.clone() };
    Arc::new(Avatar { manifest, base: photo.base(), material: Material::Photo(Arc::new(photo)), ..opaque.clone() })
}

#[test]
fn a_film_is_decoded_ahead_of_the_pose_that_is_shown_and_forgotten_behind_it() {
    let (makers, threads) = FrameMakers::spawn().unwrap();
    let (avatar, audience) = (Arc::new(kit::avatar::filmed()), Audience::default());
    let _seat = audience.enter();
    let own = makers.frames_of(Arc::clone(&avatar), audience);
    for pose in 0..40 {
        assert_eq!(*shown(&own, pose), *avatar.canvas(own.index(pose)).unwrap().picture, "pose {pose}");
        let state = own.state();
        assert!(state.ready.keys().all(|known| (pose.saturating_sub(BEHIND)..=pose + AHEAD).contains(known)));
    }
    drop(own);
    assert!(threads.join());
}

#[test]
fn what_nobody_watches_is_not_decoded() {
    let (makers, threads) = FrameMakers::spawn().unwrap();
    let own = makers.frames_of(Arc::new(kit::avatar::filmed()), Audience::default());
    for pose in 0..9 {
        assert!(Arc::ptr_eq(&own.show(pose).unwrap(), &own.avatar().base));
    }
    assert!(own.state().ready.is_empty());
    assert!(threads.join());
}

#[test]
fn a_frame_that_cannot_be_read_is_replaced_and_the_next_ones_come() {
    let own = OwnFrames::of(Arc::new(kit::avatar::filmed()));
    let Material::Film(_) = &own.avatar().material else { panic!("it is a film") };
    own.state().path.play(usize::MAX - 1, 2);
    assert!(Arc::ptr_eq(&own.picture(0), &own.avatar().base));
    let frame = own.with_mouth(1, |_| panic!("there is no place for a mouth"));
    assert_eq!(frame, *own.avatar().base);
    assert_eq!(*own.picture(2), *own.avatar().canvas(own.index(2)).unwrap().picture);
}

/// A photo whose mouth is replaced is the same head at the same pose, to the bit, but for what lies around the mouth.
#[test]
fn a_photo_that_speaks_is_the_one_that_idles_but_for_its_mouth() {
    let own = OwnFrames::of(photo());
    let avatar = Arc::clone(own.avatar());
    let canvas = avatar.canvas(0).unwrap();
    let crop = canvas.crop;
    let mouth =
        MouthFrame { width: crop.width, height: crop.height, rgb: vec![255; (crop.width * crop.height * 3) as usize] };
    let (width, height) = (avatar.manifest.width as usize, avatar.manifest.height as usize);
    // As far as the head turns at most, the filter reaches, and skin for a lid behind a shine is taken from beside it.
    let reach = 26;
    let near = |x: usize, y: usize| {
        let (left, top) = (usize::try_from(crop.x).unwrap(), usize::try_from(crop.y).unwrap());
        let across = left.saturating_sub(reach)..left + crop.width as usize + reach;
        across.contains(&x) && (top.saturating_sub(reach)..top + crop.height as usize + reach).contains(&y)
    };
    let mut moved = false;
    // The mesh is none of a face: lids that go down on it take skin from where the mouth is.
    for pose in (0..300).step_by(7).filter(|pose| own.head(*pose).lids == 0.0) {
        let idle = own.picture(pose);
        let speaking = own.with_mouth(pose, |frame| blend::paste(frame, &avatar.mask, &mouth));
        assert_ne!(speaking, *idle);
        moved |= *idle != *canvas.picture;
        for (at, (one, other)) in idle.data.iter().zip(&speaking.data).take(width * height).enumerate() {
            assert!(one == other || near(at % width, at / width), "pose {pose} at {},{}", at % width, at / width);
        }
    }
    assert!(moved, "the head moves meanwhile");
}

#[test]
fn the_matte_of_a_photo_moves_with_its_head_and_no_colour_changes() {
    let opaque = photo();
    let matte = kit::avatar::square(opaque.manifest.width, opaque.manifest.height);
    let cut_out = cut_out(&opaque, matte);
    let size = (opaque.manifest.width, opaque.manifest.height);
    let (opaque, cut_out) = (OwnFrames::of(opaque), OwnFrames::of(cut_out));
    // The same movements of both.
    let pose = HeadPose { shift: [0.05, 0.0], yaw: 8.0, ..HeadPose::default() };
    let draw = |own: &OwnFrames| match &own.avatar().material {
        Material::Photo(photo) => photo.draw(&photo.frame.picture, &pose),
        _ => unreachable!(),
    };
    let [colours, moved] = matte::parted(&draw(&cut_out), size);
    assert_eq!(colours, draw(&opaque));
    let [own, rests] = matte::parted(&cut_out.avatar().base, size);
    assert_eq!(own, *opaque.avatar().base);
    let middle = |matte: &I420Frame| {
        let lit = matte.data.iter().take((size.0 * size.1) as usize).enumerate().filter(|(_, level)| **level > 125);
        let columns: Vec<f32> = lit.map(|(at, _)| (at % size.0 as usize) as f32).collect();
        columns.iter().sum::<f32>() / columns.len() as f32
    };
    assert!(middle(&moved) > middle(&rests) + 0.5, "{} {}", middle(&moved), middle(&rests));
    let picture = cut_out.picture(40);
    assert_eq!((picture.width, picture.height), cut_out.avatar().manifest.frame_size());
}

#[test]
fn a_gesture_that_there_is_none_of_is_refused_with_those_that_there_are() {
    let own = OwnFrames::of(photo());
    assert_eq!(own.gestures(), ["nod", "shake", "tilt"]);
    assert_eq!(own.gesture("nod"), Ok(()));
    assert!(own.gesture("wave").unwrap_err().to_string().contains("\"wave\"; it has: nod, shake, tilt"));
    let drawn = OwnFrames::of(Arc::new(kit::avatar::tiny()));
    assert!(drawn.gesture("nod").unwrap_err().to_string().contains("it has: none"));
}

#[test]
fn a_photo_that_speaks_is_not_drawn_a_second_time_without_its_mouth() {
    let (makers, threads) = FrameMakers::spawn().unwrap();
    let audience = Audience::default();
    let _seat = audience.enter();
    let own = makers.frames_of(photo(), audience);
    shown(&own, AHEAD);
    for pose in 5..30 {
        own.pass(pose);
    }
    {
        let state = own.state();
        assert!(state.missing().is_none() && state.ready.keys().all(|known| *known >= 29 - BEHIND));
    }
    assert_eq!(*shown(&own, 30), *own.picture(30), "and is there again as it falls silent");
    drop(own);
    assert!(threads.join());
}
