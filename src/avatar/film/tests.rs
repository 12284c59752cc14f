//! Films: what comes back, and which folders and indices are refused.

use super::*;
use crate::avatar::AvatarStore;
use crate::avatar::manifest::{Kind, MatteSource};
use crate::kit::avatar::{film, manifest, picture, square};
use crate::models::checkpoint::write_safetensors;
use crate::models::{CheckpointError, DType};
use crate::picture::{Cutout, matte};

/// A film of five frames in a folder of its own.
fn five() -> (tempfile::TempDir, PathBuf, Manifest) {
    let root = tempfile::tempdir().unwrap();
    film(&AvatarStore::new(root.path()), "anna", 5);
    let folder = root.path().join("anna");
    (root, folder, manifest("anna", Kind::Clip, 5))
}

#[test]
fn every_frame_comes_back_with_its_mouth_where_it_was() {
    let (_root, folder, manifest) = five();
    let film = Film::open(&folder, &manifest).unwrap();
    assert_eq!(film.len(), 5);
    for number in [3, 0, 4, 1, 2] {
        let source = picture(96, 64, u32::try_from(number).unwrap());
        let frame = film.frame(number).unwrap();
        assert_eq!(frame.crop, CropBox { x: 30 + (number % 4) as i32, y: 25, width: 33, height: 24 });
        let wanted = color::rgb_to_i420(&source.rgb, 96, 64);
        let farthest = frame.picture.data.iter().zip(&wanted.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(farthest <= 8, "frame {number} is {farthest} levels off");
        assert_eq!(*frame.picture, film.picture(number).unwrap());
        let region = frame.region;
        assert_eq!((region.x, region.y, region.width, region.height), ((30 + number as u32 % 4) & !1, 24, 34, 26));
        assert_eq!(region, film.region(number).unwrap());
    }
}

#[test]
fn pasting_a_region_unchanged_changes_not_one_bit_of_its_frame() {
    let (_root, folder, manifest) = five();
    let frame = Film::open(&folder, &manifest).unwrap().frame(1).unwrap();
    let Region { x, y, width, height, rgb } = frame.region;
    let mut pasted = (*frame.picture).clone();
    color::write_region(&mut pasted, x, y, width, height, &rgb);
    assert_eq!(pasted, *frame.picture);
}

#[test]
fn crops_may_have_a_size_of_their_own_in_each_frame() {
    let folder = tempfile::tempdir().unwrap();
    let mut film = FilmWriter::create(folder.path(), 96, 64).unwrap();
    let crop = |frame: u32| CropBox { x: 30 - frame as i32, y: 25, width: 33 + frame, height: 24 + 5 * frame };
    (0..4).for_each(|frame| film.push(&picture(96, 64, frame).into(), crop(frame)).unwrap());
    assert_eq!(film.finish().unwrap(), 4);
    let film = Film::open(folder.path(), &manifest("anna", Kind::Clip, 4)).unwrap();
    for number in [2, 0, 3, 1] {
        let frame = film.frame(number).unwrap();
        let crop = crop(number as u32);
        assert_eq!((frame.crop, film.crop(number)), (crop, Some(crop)));
        let size = (frame.region.width, frame.region.height);
        assert_eq!(size, ((crop.width + 2) & !1, ((crop.height + 2) & !1).min(64)));
    }
}

#[test]
fn a_film_with_mattes_has_them_below_and_regions_of_its_colours_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut film = FilmWriter::create(folder.path(), 96, 64).unwrap();
    let crop = CropBox { x: 30, y: 50, width: 33, height: 24 };
    let cutout = |frame| Cutout { picture: picture(96, 64, frame), matte: Some(square(96, 64)) };
    (0..3).for_each(|frame| film.push(&cutout(frame), crop).unwrap());
    let error = film.push(&picture(96, 64, 3).into(), crop).unwrap_err().to_string();
    assert!(error.contains("must have a matte"), "{error}");
    film.finish().unwrap();
    let manifest = Manifest { matte: Some(MatteSource::Own), ..manifest("anna", Kind::Clip, 3) };
    let film = Film::open(folder.path(), &manifest).unwrap();
    let frame = film.frame(1).unwrap();
    assert_eq!((frame.picture.width, frame.picture.height), (96, 128));
    assert!(frame.region.y + frame.region.height <= 64, "{:?}", frame.region.y);
    let [colours, matte] = matte::parted(&frame.picture, (96, 64));
    let own = color::rgb_to_i420(&picture(96, 64, 1).rgb, 96, 64);
    let off: u32 = colours.data.iter().zip(&own.data).map(|(is, was)| u32::from(is.abs_diff(*was))).sum();
    assert!(off / 9216 <= 1, "{off} levels together");
    for (level, alpha) in matte.data.iter().zip(&square(96, 64).alpha) {
        assert!(level.abs_diff(if *alpha == 255 { 235 } else { 16 }) <= 6, "{level}");
    }
    // Told that there is none, it would show both.
    assert!(Film::open(folder.path(), &Manifest { matte: None, ..manifest }).unwrap().picture(0).is_err());
}

#[test]
fn many_threads_read_one_film() {
    let (_root, folder, manifest) = five();
    let film = Film::open(&folder, &manifest).unwrap();
    let alone: Vec<I420Frame> = (0..5).map(|frame| film.picture(frame).unwrap()).collect();
    std::thread::scope(|scope| {
        for first in 0..4 {
            let (film, alone) = (&film, &alone);
            scope.spawn(move || {
                (0..5).map(|at| (first + at) % 5).for_each(|at| assert_eq!(film.picture(at).unwrap(), alone[at]))
            });
        }
    });
}

#[test]
fn the_region_is_even_inside_the_frame_and_around_all_of_the_crop_that_is() {
    let frame = (96, 64);
    for x in -40..100 {
        for (width, height) in [(33, 24), (34, 200), (1, 1), (96, 64)] {
            let crop = CropBox { x, y: x / 2, width, height };
            let Some(region) = region_of(crop, frame) else {
                let end = |at: i32, length: u32| at + length as i32;
                assert!(x >= 96 || end(x, width) <= 0 || x / 2 >= 64 || end(x / 2, height) <= 0, "{crop:?}");
                continue;
            };
            for (at, length, end, crop_at, crop_length) in
                [(region.x, region.width, 96, crop.x, width), (region.y, region.height, 64, crop.y, height)]
            {
                assert!(at % 2 == 0 && length % 2 == 0 && at + length <= end, "{crop:?} {region:?}");
                assert!(
                    at as i32 <= crop_at.max(0)
                        && (at + length) as i32 >= (crop_at + crop_length as i32).min(end as i32)
                );
                assert_eq!(length, ((crop_length + 2) & !1).min(end));
            }
        }
    }
}

#[test]
fn frames_and_crops_that_do_not_belong_to_a_film_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut film = FilmWriter::create(folder.path(), 96, 64).unwrap();
    let crop = CropBox { x: 30, y: 25, width: 33, height: 24 };
    let error = |result: Result<(), AvatarError>| result.unwrap_err().to_string();
    assert!(error(film.push(&picture(64, 64, 0).into(), crop)).contains("64x64, must be 96x64"));
    assert!(error(film.push(&picture(96, 64, 0).into(), CropBox { x: 96, ..crop })).contains("outside"));
    film.push(&picture(96, 64, 0).into(), crop).unwrap();
    for crop in
        [CropBox { width: 5000, ..crop }, CropBox { x: -5000, width: 4096, ..crop }, CropBox { height: 0, ..crop }]
    {
        assert!(error(film.push(&picture(96, 64, 1).into(), crop)).contains("outside"), "{crop:?}");
    }
    assert_eq!(film.finish().unwrap(), 1);
    assert!(FilmWriter::create(folder.path(), 96, 64).unwrap().finish().unwrap_err().to_string().contains("no frame"));
}

#[test]
fn a_full_disk_is_named_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join(FRAMES)).unwrap();
    let mut film = FilmWriter::create(folder.path(), 96, 64).unwrap();
    film.push(&picture(96, 64, 0).into(), CropBox { x: 30, y: 25, width: 33, height: 24 }).unwrap();
    let error = film.finish().unwrap_err().to_string();
    assert!(error.contains(FRAMES) && error.contains("No space left"), "{error}");
}

#[test]
fn files_that_do_not_belong_together_are_refused_by_name() {
    let (_root, folder, manifest) = five();
    let error = |manifest: &Manifest| Film::open(&folder, manifest).unwrap_err().to_string();
    let six = Manifest { frames: Some(6), ..manifest.clone() };
    assert!(error(&six).contains("has 5 frames, avatar.toml says 6"), "{}", error(&six));
    let narrow = Manifest { width: 64, height: 2, ..manifest.clone() };
    assert!(error(&narrow).contains("index.safetensors") && error(&narrow).contains("does not lie in the frame"));
    for name in [FRAMES, REGIONS] {
        let whole = std::fs::read(folder.join(name)).unwrap();
        std::fs::write(folder.join(name), &whole[..whole.len() - 1]).unwrap();
        assert!(
            error(&manifest).contains(INDEX) && error(&manifest).contains("their file has"),
            "{}",
            error(&manifest)
        );
        std::fs::remove_file(folder.join(name)).unwrap();
        assert!(error(&manifest).contains(name), "{}", error(&manifest));
        std::fs::write(folder.join(name), &whole).unwrap();
    }
    std::fs::write(folder.join(INDEX), b"no index").unwrap();
    assert!(error(&manifest).contains(INDEX), "{}", error(&manifest));
}

#[test]
fn a_damaged_frame_is_named_and_the_others_are_shown() {
    let (_root, folder, manifest) = five();
    let film = Film::open(&folder, &manifest).unwrap();
    let (start, end) = film.index.frame_at(2).unwrap();
    let mut bytes = std::fs::read(folder.join(FRAMES)).unwrap();
    bytes[start as usize..end as usize].fill(0);
    std::fs::write(folder.join(FRAMES), bytes).unwrap();
    let error = film.picture(2).unwrap_err().to_string();
    assert!(error.contains("frames.mjpeg") && error.contains("frame 2"), "{error}");
    film.picture(1).unwrap();
    assert!(film.picture(5).unwrap_err().to_string().contains("has 5 frames"));
    assert!(film.crop(5).is_none());
}

/// Replaces the index; the numbers of `crops` follow those of the two tables.
fn write_index(folder: &Path, tables: [&[i64]; 2], crops: &[[i32; 4]]) {
    let described = [
        ("frames".to_owned(), vec![tables[0].len() as u64], DType::I64),
        ("regions".to_owned(), vec![tables[1].len() as u64], DType::I64),
        ("crops".to_owned(), vec![crops.len() as u64, 4], DType::I32),
    ];
    write_safetensors(&folder.join(INDEX), &described, |at| {
        Ok::<Vec<u8>, CheckpointError>(match tables.get(at) {
            Some(table) => table.iter().flat_map(|number| number.to_le_bytes()).collect(),
            None => crops.iter().flatten().flat_map(|number| number.to_le_bytes()).collect(),
        })
    })
    .unwrap();
}

#[test]
fn an_index_that_lies_is_refused_and_takes_no_memory() {
    let (_root, folder, manifest) = five();
    let manifest = Manifest { frames: None, format: 1, ..manifest };
    let length = |name: &str| folder.join(name).metadata().unwrap().len() as i64;
    let (frames, regions) = (length(FRAMES), length(REGIONS));
    let crop = [30, 25, 33, 24];
    let open = || Film::open(&folder, &manifest).map_err(|error| error.to_string());
    for (tables, crops, named) in [
        ([&[0, frames][..], &[0, regions][..]], &[][..], "has 0 frames"),
        ([&[0, 5, frames], &[0, regions]], &[crop, crop], "regions must be I64 [3]"),
        ([&[1, frames], &[0, regions]], &[crop], "frames lie from 1"),
        ([&[0, frames], &[0, i64::MAX]], &[crop], "regions lie from 0"),
        ([&[0, frames], &[-1, regions]], &[crop], "begins at -1"),
        ([&[0, 5, frames], &[0, 5, regions]], &[crop, [30, 25, 4097, 24]], "crop 1"),
        ([&[0, frames], &[0, regions]], &[[5000, 0, 33, 24]], "crop 0"),
        ([&[0, frames], &[0, regions]], &[[0, 0, -33, 24]], "crop 0"),
        ([&[0, frames], &[0, regions]], &[[i32::MIN, i32::MIN, i32::MAX, 1]], "crop 0"),
    ] {
        write_index(&folder, tables, crops);
        let error = open().unwrap_err();
        assert!(error.contains(named) && error.contains(INDEX), "{named}: {error}");
    }
    // What lies between the first and the last place is seen when the frame is read.
    for between in [[-5, 9], [i64::MAX, 9], [9, i64::MAX], [50, 40]] {
        write_index(&folder, [&[0, between[0], between[1], frames], &[0, 5, 9, regions]], &[crop; 3]);
        let error = open().unwrap().picture(1).unwrap_err().to_string();
        assert!(error.contains("mjpeg") || error.contains(INDEX), "{error}");
    }
}
