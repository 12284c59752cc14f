//! Archives: carried bit for bit, and those that are refused.

use std::collections::BTreeMap;

use super::*;
use crate::avatar::AvatarStore;
use crate::kit::avatar::{film, still};

type Entries = Vec<(String, EntryType, Vec<u8>)>;

fn packed(store: &AvatarStore, id: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    store.export(&id.parse().unwrap(), &mut archive, &mut |_| ()).unwrap();
    archive
}

fn import(store: &AvatarStore, archive: &[u8], id: Option<&str>) -> Result<AvatarId, StoreError> {
    let id = id.map(|id| id.parse().unwrap());
    let mut archive = archive;
    let from = Import {
        archive: &mut archive,
        name: "anna.mouthpiece",
        id: id.as_ref(),
        overwrite: false,
        limits: Limits { bytes: 1 << 20, files: 20 },
    };
    store.import(from, &mut |_| ())
}

/// A store with "anna", from a clip, and the entries of its archive.
fn anna() -> (tempfile::TempDir, Entries) {
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path());
    film(&store, "anna", 2);
    let archive = packed(&store, "anna");
    let mut entries = Vec::new();
    for entry in Archive::new(&archive[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        entries.push((entry.path().unwrap().display().to_string(), entry.header().entry_type(), bytes));
    }
    (root, entries)
}

/// An archive as somebody would write it who wants us harm.
fn tar(entries: &Entries) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, kind, bytes) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        // Not `set_path`, which refuses what is tried here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if *kind == EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Everything under a folder, by name.
fn everything(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(everything(&entry.path()).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
            found.insert(name, Vec::new());
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn what_is_exported_is_imported_bit_for_bit_and_exported_the_same_again() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, other) = (AvatarStore::new(root.path()), AvatarStore::new(elsewhere.path()));
    film(&store, "anna", 2);
    still(&store, "bert");
    for id in ["anna", "bert"] {
        let archive = packed(&store, id);
        assert_eq!(import(&other, &archive, None).unwrap().as_str(), id);
        assert_eq!(packed(&other, id), archive);
    }
    assert_eq!(everything(root.path()), everything(elsewhere.path()));
    assert_eq!(import(&other, &packed(&store, "anna"), Some("carla")).unwrap().as_str(), "carla");
    assert!(other.check(&"carla".parse().unwrap(), &mut |_| ()).unwrap().problems.is_empty());
}

#[test]
fn an_avatar_of_format_1_is_packed_in_the_present_one() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, other) = (AvatarStore::new(root.path()), AvatarStore::new(elsewhere.path()));
    crate::kit::avatar::write(&root.path().join("tiny"));
    let latents = root.path().join("tiny/latents.safetensors");
    std::fs::write(&latents, [&2_u64.to_le_bytes()[..], b"{}"].concat()).unwrap();
    import(&other, &packed(&store, "tiny"), None).unwrap();
    let id: AvatarId = "tiny".parse().unwrap();
    let (before, after) = (store.manifest(&id).unwrap(), other.manifest(&id).unwrap());
    assert_eq!((before.format, after.format, after.frames), (1, 2, Some(4)));
    assert_eq!(other.load(&id).unwrap().frames().len(), 4);
}

#[test]
fn an_archive_that_would_do_harm_is_refused_in_one_line_and_leaves_nothing() {
    let (_root, good) = anna();
    let toml = String::from_utf8(good[0].2.clone()).unwrap();
    let with = |change: &dyn Fn(&mut Entries)| {
        let mut entries = good.clone();
        change(&mut entries);
        tar(&entries)
    };
    let manifest = |from: &str, to: &str| {
        let text = toml.replacen(from, to, 1);
        assert_ne!(text, toml, "{from}");
        with(&move |entries| entries[0].2 = text.clone().into_bytes())
    };
    let extra = |name: &str, kind: EntryType| with(&|entries| entries.push((name.to_owned(), kind, b"x".to_vec())));
    let renamed = |name: &str| with(&|entries| entries[3].0 = name.to_owned());
    let whole = tar(&good);
    let root = tempfile::tempdir().unwrap();
    let store = AvatarStore::new(root.path().join("avatars"));
    for (archive, named) in [
        (Vec::new(), "is empty"),
        (b"PK\x03\x04 a zip, or anything else that is text and not an archive".repeat(20), "is no archive"),
        ("\u{1b}[2J of a terminal\nor two\n".repeat(40).into_bytes(), "none of a tar file's"),
        (vec![0; 2048], "is empty"),
        (extra("../../evil", EntryType::Regular), "which its manifest does not list"),
        (extra("/etc/passwd", EntryType::Regular), "which its manifest does not list"),
        (renamed("../mask.png"), "which its manifest does not list"),
        (renamed("./mask.png"), "which its manifest does not list"),
        (renamed("MASK.PNG"), "which its manifest does not list"),
        (extra("mask.png", EntryType::Regular), "\"mask.png\" more than once"),
        (extra("avatar.toml", EntryType::Regular), "\"avatar.toml\" more than once"),
        (extra("link", EntryType::Symlink), "is a link"),
        (extra("link", EntryType::Link), "is a link"),
        (extra("fifo", EntryType::Fifo), "only plain files"),
        (extra("dev", EntryType::Block), "only plain files"),
        (extra("folder", EntryType::Directory), "only plain files"),
        (extra("long", EntryType::GNULongName), "only plain files"),
        (extra("pax", EntryType::XHeader), "only plain files"),
        (extra("sparse", EntryType::GNUSparse), "only plain files"),
        (with(&|entries| drop(entries.remove(3))), "ends without \"mask.png\""),
        (with(&|entries| drop(entries.remove(0))), "begins with \"frames.mjpeg\""),
        (with(&|entries| entries[0].1 = EntryType::Symlink), "is a link"),
        (with(&|entries| entries[3].2.push(0)), "its manifest says"),
        (with(&|entries| entries[3].2[20] ^= 1), "its hash differs"),
        (with(&|entries| entries[0].2 = vec![b'#'; 2 << 20]), "a manifest of 2097152 bytes"),
        (with(&|entries| entries[0].2 = vec![0xff; 40]), "manifest that cannot be read"),
        (manifest("id = \"anna\"", "id = \"../anna\""), "avatar id"),
        (manifest("name = \"Tiny\"", "name = \"\\u001b[2J\""), "control character"),
        (manifest("[files.\"mask.png\"]", "[files.\"../mask.png\"]"), "no file of an avatar"),
        (manifest("format = 2", "format = 1"), "format 1"),
        (manifest("format = 2", "format = 3"), "a newer one wrote it"),
        (manifest("frames = 2", "frames = 3"), "has 2 frames, avatar.toml says 3"),
        (manifest("width = 96", "width = 64"), "must be 64x64"),
        (whole[..1024 + toml.len().next_multiple_of(512) + 100].to_vec(), "cut off"),
        (whole[..700].to_vec(), "manifest"),
    ] {
        let error = import(&store, &archive, None).unwrap_err().to_string();
        assert!(error.starts_with("anna.mouthpiece ") && error.contains(named), "{named}: {error}");
        assert!(!error.contains(root.path().to_str().unwrap()), "a path is told: {error}");
        let left = everything(root.path());
        assert!(left.keys().all(|name| name == "avatars"), "{named}: {left:?}");
    }
    import(&store, &whole, None).unwrap();
    assert!(matches!(import(&store, &whole, None).unwrap_err(), StoreError::Exists { .. }));
}

#[test]
fn more_bytes_or_files_than_are_allowed_are_refused_before_they_are_read() {
    let (_root, good) = anna();
    let store = AvatarStore::new(tempfile::tempdir().unwrap().path());
    let toml = String::from_utf8(good[0].2.clone()).unwrap();
    let huge = good.iter().find(|(name, ..)| name == "frames.mjpeg").unwrap().2.len();
    let (before, after) = (format!("bytes = {huge}\n"), format!("bytes = {}\n", u64::MAX / 4));
    assert!(toml.contains(&before), "{toml}");
    let archive =
        tar(&vec![("avatar.toml".to_owned(), EntryType::Regular, toml.replace(&before, &after).into_bytes())]);
    let error = import(&store, &archive, None).unwrap_err().to_string();
    assert!(error.contains("at most 1048576 are taken"), "{error}");
    let mut archive = &tar(&good)[..];
    let limits = Limits { bytes: 1 << 20, files: 4 };
    let from = Import { archive: &mut archive, name: "a", id: None, overwrite: false, limits };
    assert!(store.import(from, &mut |_| ()).unwrap_err().to_string().contains("lists 6 files, at most 4"));
}

#[test]
fn a_damaged_avatar_is_not_packed() {
    let (root, _) = anna();
    let store = AvatarStore::new(root.path());
    let path = root.path().join("anna/mask.png");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let out = root.path().join("anna.mouthpiece");
    let error = store.export_to(&"anna".parse().unwrap(), &out, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("mask.png") && error.contains("hash differs") && !out.exists(), "{error}");
    let error = store.export(&"anna".parse().unwrap(), &mut File::create("/dev/full").unwrap(), &mut |_| ());
    assert!(error.unwrap_err().to_string().contains("No space left"));
}
