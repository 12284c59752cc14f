//! Drafts: in their place at once or not at all, by one at a time, and what a killed process leaves.

use super::*;
use crate::avatar::AvatarStore;
use crate::avatar::manifest::Kind;
use crate::kit::avatar::{film, manifest, still};

fn id() -> AvatarId {
    "anna".parse().unwrap()
}

/// What is in the folder of all avatars, hidden or not.
fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_finished_draft_is_an_avatar_with_its_files_recorded() {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    film(&store, "anna", 3);
    assert_eq!(names(root.path()), ["anna"]);
    let manifest = store.manifest(&id()).unwrap();
    assert_eq!((manifest.format, manifest.frames), (2, Some(3)));
    let recorded: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
    assert_eq!(
        recorded,
        ["frames.mjpeg", "index.safetensors", "mask.png", "mesh.safetensors", "portrait.safetensors", "regions.mjpeg"]
    );
    files::check_lengths(&root.path().join("anna"), &manifest).unwrap();
}

#[test]
fn a_draft_that_is_given_up_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let draft = Draft::begin(root.path(), &id(), false).unwrap();
    fs::write(draft.path().join("frames.mjpeg"), b"half").unwrap();
    assert_eq!(AvatarStore::new(root.path()).list(), []);
    drop(draft);
    assert!(names(root.path()).is_empty());
}

#[test]
fn a_draft_that_is_no_avatar_is_refused_by_file_or_field_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    for (name, id, named) in [
        ("mask.png", "anna", "mesh.safetensors"),
        ("frames.mjpeg.part", "anna", "frames.mjpeg.part"),
        ("mask.png", "bert", "must be \"anna\""),
    ] {
        let draft = Draft::begin(root.path(), &self::id(), false).unwrap();
        fs::write(draft.path().join("source.png"), b"").unwrap();
        fs::write(draft.path().join(name), b"").unwrap();
        let error = draft.finish(manifest(id, Kind::Photo, 1), &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        assert!(names(root.path()).is_empty());
    }
}

#[test]
fn of_two_who_make_one_id_the_second_is_refused_while_the_first_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    let first = store.begin(&id(), true).unwrap();
    fs::write(first.path().join("mask.png"), b"mine").unwrap();
    let refused = store.begin(&id(), true).unwrap_err();
    assert!(matches!(&refused, StoreError::Busy { .. }), "{refused}");
    let other = store.begin(&"anna-2".parse().unwrap(), false).unwrap();
    store.list();
    assert_eq!(fs::read(first.path().join("mask.png")).unwrap(), b"mine");
    drop((first, other));
    store.begin(&id(), false).unwrap();
}

#[test]
fn an_avatar_that_is_there_is_replaced_only_when_asked() {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    film(&store, "anna", 3);
    assert!(matches!(store.begin(&id(), false).unwrap_err(), StoreError::Exists { .. }));
    let held = crate::avatar::film::Film::open(&root.path().join("anna"), &store.manifest(&id()).unwrap()).unwrap();
    let draft = store.begin(&id(), true).unwrap();
    for name in ["source.png", "mask.png", "mesh.safetensors"] {
        fs::write(draft.path().join(name), b"new").unwrap();
    }
    draft.finish(manifest("anna", Kind::Photo, 1), &mut |_| ()).unwrap();
    assert_eq!(store.manifest(&id()).unwrap().kind, Kind::Photo);
    assert_eq!(names(root.path()), ["anna"]);
    // Whoever shows the old one goes on.
    held.picture(2).unwrap();
}

#[test]
fn one_that_appears_meanwhile_is_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    let draft = store.begin(&id(), false).unwrap();
    for name in ["source.png", "mask.png", "mesh.safetensors"] {
        fs::write(draft.path().join(name), b"new").unwrap();
    }
    fs::create_dir(root.path().join("anna")).unwrap();
    let refused = draft.finish(manifest("anna", Kind::Photo, 1), &mut |_| ()).unwrap_err();
    assert!(matches!(refused, StoreError::Exists { .. }), "{refused}");
    assert_eq!(names(root.path()), ["anna"]);
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next_list_and_nothing_else_is() {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    still(&store, "bert");
    // As a process leaves it that was killed: without a lock.
    for name in [".anna.draft-0123abcd", ".bert.gone-00000000"] {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("mask.png"), b"half").unwrap();
    }
    let kept = [".anna", ".anna.draft-1", ".git", ".x y.draft-00000000", "anna.draft-00000000"];
    kept.iter().for_each(|name| fs::create_dir(root.path().join(name)).unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("precious"), b"").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), root.path().join(".anna.gone-11111111")).unwrap();
    assert_eq!(store.list(), ["bert".parse().unwrap()]);
    let mut wanted: Vec<String> = kept.iter().chain(&["bert"]).map(|name| (*name).to_owned()).collect();
    wanted.sort();
    assert_eq!(names(root.path()), wanted);
    assert!(elsewhere.path().join("precious").exists());
}

#[test]
fn a_deleted_avatar_is_gone_at_once_and_readable_for_whoever_has_it_open() {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    film(&store, "anna", 3);
    let held = crate::avatar::film::Film::open(&root.path().join("anna"), &store.manifest(&id()).unwrap()).unwrap();
    store.delete(&id()).unwrap();
    assert!(names(root.path()).is_empty());
    held.picture(1).unwrap();
    assert!(matches!(store.delete(&id()).unwrap_err(), StoreError::Avatar(AvatarError::Unknown { .. })));
}

#[test]
fn deleting_a_link_leaves_what_it_leads_to() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    still(&AvatarStore::new(elsewhere.path()), "anna");
    std::os::unix::fs::symlink(elsewhere.path().join("anna"), root.path().join("anna")).unwrap();
    AvatarStore::new(root.path()).delete(&id()).unwrap();
    assert!(names(root.path()).is_empty() && elsewhere.path().join("anna/avatar.toml").is_file());
}
