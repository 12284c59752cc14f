//! Checks of whole and of damaged folders, of each kind and format.

use std::fs;

use super::*;
use crate::avatar::AvatarStore;
use crate::kit::avatar::{film, still};
use crate::models::checkpoint::write_safetensors;
use crate::models::{CheckpointError, DType};

/// A drawn avatar of format 1.
fn drawn(root: &Path) -> AvatarStore {
    let folder = root.join("tiny");
    crate::kit::avatar::write(&folder);
    let latents = [("latents".to_owned(), vec![4, 1], DType::F32)];
    let written = write_safetensors(&folder.join(files::LATENTS), &latents, |_| Ok::<_, CheckpointError>(vec![0; 16]));
    written.unwrap();
    AvatarStore::new(root)
}

#[test]
fn every_kind_of_avatar_is_found_whole() {
    let root = tempfile::tempdir().unwrap();
    let store = drawn(root.path());
    film(&store, "anna", 3);
    still(&store, "bert");
    for id in store.list() {
        let checked = store.check(&id, &mut |_| ()).unwrap();
        assert!(checked.problems.is_empty() && checked.unlisted.is_empty(), "{checked:?}");
    }
    let summary = store.summary(&"anna".parse().unwrap()).unwrap();
    assert_eq!(summary.frames, 3);
    assert_eq!(summary.bytes, summary.manifest.files.values().map(|file| file.bytes).sum::<u64>());
}

#[test]
fn each_damaged_file_is_named_with_what_is_wrong() {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    film(&store, "anna", 3);
    let (id, folder) = ("anna".parse().unwrap(), root.path().join("anna"));
    for name in ["frames.mjpeg", "regions.mjpeg", "index.safetensors", "mask.png", "mesh.safetensors"] {
        let path = folder.join(name);
        let whole = fs::read(&path).unwrap();
        let problems = || store.check(&id, &mut |_| ()).unwrap().problems;
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&path, changed).unwrap();
        assert!(
            matches!(&problems()[..], [one] if one.contains(name) && one.contains("hash differs")),
            "{:?}",
            problems()
        );
        fs::write(&path, &whole[1..]).unwrap();
        assert!(matches!(&problems()[..], [one] if one.contains(name) && one.contains("bytes")), "{:?}", problems());
        // Seen without reading a file, so before a server shows it.
        assert!(store.load(&id).unwrap_err().to_string().contains(name));
        fs::remove_file(&path).unwrap();
        assert!(matches!(&problems()[..], [one] if one.contains(name)), "{:?}", problems());
        assert!(store.load(&id).unwrap_err().to_string().contains("is missing"));
        fs::write(&path, whole).unwrap();
    }
    fs::write(folder.join("notes.txt"), b"").unwrap();
    fs::write(folder.join("preview.png"), b"").unwrap();
    let checked = store.check(&id, &mut |_| ()).unwrap();
    assert_eq!((checked.problems, checked.unlisted), (vec![], vec!["preview.png".to_owned(), "notes.txt".to_owned()]));
    let other = root.path().join("other");
    fs::rename(&folder, &other).unwrap();
    let checked = store.check(&"other".parse().unwrap(), &mut |_| ()).unwrap();
    assert!(checked.problems[0].contains("\"anna\"") && checked.problems[0].contains("\"other\""), "{checked:?}");
    fs::write(other.join("avatar.toml"), "id = 1").unwrap();
    assert!(store.check(&"other".parse().unwrap(), &mut |_| ()).unwrap().problems[0].contains("avatar.toml"));
}

#[test]
fn frames_that_match_their_hash_and_are_no_pictures_are_found() {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    film(&store, "anna", 3);
    let (id, path) = ("anna".parse().unwrap(), root.path().join("anna/frames.mjpeg"));
    let length = fs::read(&path).unwrap().len();
    fs::write(&path, vec![0; length]).unwrap();
    store.record(&id, &mut |_| ()).unwrap();
    let problems = store.check(&id, &mut |_| ()).unwrap().problems;
    assert!(matches!(&problems[..], [one] if one.contains("frame 0") && one.contains("JPEG")), "{problems:?}");
}

#[test]
fn an_avatar_of_format_1_is_read_as_it_is_and_becomes_one_of_format_2() {
    let root = tempfile::tempdir().unwrap();
    let (store, id) = (drawn(root.path()), "tiny".parse().unwrap());
    let before = store.manifest(&id).unwrap();
    assert_eq!((before.format, before.kind, before.frames), (1, Kind::Drawn, None));
    assert_eq!(store.summary(&id).unwrap().frames, 4);
    let after = store.record(&id, &mut |_| ()).unwrap();
    assert_eq!(after, store.manifest(&id).unwrap());
    assert_eq!((after.format, after.frames, after.files.len()), (FORMAT, Some(4), 7));
    assert_eq!(Manifest { format: 1, frames: None, files: Files::new(), ..after }, before);
    assert!(store.check(&id, &mut |_| ()).unwrap().problems.is_empty());
    assert_eq!(store.load(&id).unwrap().manifest.frames, Some(4));
}
