//! Which files an avatar's folder may have, which ones it must, and what they were when it was written.
//!
//! Nothing else is read from an archive that somebody sends, and nothing else is packed into one. Names are compared whole:
//! they are all of lower case and have at most one slash, so no name leads out of the folder and no two meet on a file system
//! that does not tell cases apart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::film::{FRAMES, INDEX, REGIONS};
use super::manifest::{Kind, Manifest, TUNED_FOLDER};
use super::{AvatarError, manifest};
use crate::models::manifest::Recorded;

/// The manifest itself.
pub const MANIFEST: &str = "avatar.toml";
/// The upright photo of an avatar that was made from one.
pub const SOURCE: &str = "source.png";
/// Through which mouths are pasted.
pub const MASK: &str = "mask.png";
/// The face's points, in the photo or in each frame of the clip.
pub const MESH: &str = "mesh.safetensors";
/// What the family `portrait` knows of the mouth.
pub const PORTRAIT: &str = "portrait.safetensors";
/// What conditions MuseTalk's networks and the demo's.
pub const LATENTS: &str = "latents.safetensors";
/// Where the crop lies in each frame of a drawn avatar.
pub const BOXES: &str = "boxes.json";
/// What a page shows of it in a list: at most 256 pixels a side.
pub const PREVIEW: &str = "preview.png";
/// The frames of a drawn avatar: `0000.png` and so on.
pub const PICTURES: &str = "frames";

const KNOWN: [&str; 11] = [SOURCE, MASK, MESH, PORTRAIT, LATENTS, BOXES, PREVIEW, FRAMES, REGIONS, INDEX, "LICENSE"];
/// In the folder of an avatar's own small decoder.
const KNOWN_OF_DECODER: [&str; 2] = ["config.json", "diffusion_pytorch_model.safetensors"];
/// The longest manifest that is read, in bytes: one with the hashes of 3000 frames takes a third.
pub const LONGEST_MANIFEST: u64 = 1 << 20;

/// The files of an avatar's folder by name, with length and hash; folders are written with a slash.
pub type Files = BTreeMap<String, Recorded>;

/// The name of a frame of a drawn avatar within the folder.
pub fn picture(index: usize) -> String {
    format!("{PICTURES}/{index:04}.png")
}

/// Whether this is the name of such a frame, among names that are known.
pub(super) fn is_picture(name: &str) -> bool {
    name.split_once('/').is_some_and(|(folder, _)| folder == PICTURES)
}

/// Whether an avatar's folder may have a file of this name, besides its manifest.
pub fn is_known(name: &str) -> bool {
    match name.split_once('/') {
        None => KNOWN.contains(&name),
        Some((manifest::TUNED_FOLDER, file)) => KNOWN_OF_DECODER.contains(&file),
        Some((PICTURES, file)) => {
            let number = file.strip_suffix(".png").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            number.and_then(|digits| digits.parse().ok()).is_some_and(|number| picture(number) == name)
        }
        Some(_) => false,
    }
}

/// The first file that an avatar of this kind needs and that is not among these.
pub fn missing(kind: Kind, frames: u32, has: impl Fn(&str) -> bool) -> Option<String> {
    let needed: &[&str] = match kind {
        Kind::Photo => &[SOURCE, MASK, MESH],
        Kind::Clip => &[FRAMES, REGIONS, INDEX, MASK],
        Kind::Drawn => &[BOXES, MASK],
    };
    let pictures = if kind == Kind::Drawn { frames as usize } else { 0 };
    let mut names = needed.iter().map(|name| (*name).to_owned()).chain((0..pictures).map(picture));
    names.find(|name| !has(name))
}

/// The most bytes that a file of this name may have: those that are read whole must fit into memory.
pub(super) fn most_bytes(name: &str) -> u64 {
    const MB: u64 = 1 << 20;
    match name {
        BOXES | "LICENSE" | "decoder/config.json" => MB,
        // What a film of the most frames needs is 12 MB.
        INDEX => 16 * MB,
        FRAMES | REGIONS => u64::MAX,
        // Pictures of 16 bits without any compression.
        _ if name.ends_with(".png") => 64 * MB,
        _ => 4096 * MB,
    }
}

/// The files of a folder that belong to an avatar, and those that do not, in order of their names. Hidden ones and the
/// manifest are neither.
pub fn walk(folder: &Path) -> Result<(Vec<String>, Vec<String>), AvatarError> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let mut sort = |name: String| match is_known(&name) {
        true => known.push(name),
        false => unknown.push(name),
    };
    for name in names(folder)? {
        let path = folder.join(&name);
        if [PICTURES, TUNED_FOLDER].contains(&name.as_str()) && path.is_dir() {
            names(&path)?.into_iter().for_each(|file| sort(format!("{name}/{file}")));
        } else if name != MANIFEST {
            sort(name);
        }
    }
    known.sort();
    unknown.sort();
    Ok((known, unknown))
}

fn names(folder: &Path) -> Result<Vec<String>, AvatarError> {
    let failed = |error: io::Error| AvatarError::file(folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

/// Length and hash of a file as it is. `each` is told of every piece that was read, in bytes.
pub(super) fn record(path: &Path, each: &mut dyn FnMut(u64)) -> Result<Recorded, AvatarError> {
    let failed = |error: io::Error| AvatarError::file(path, error);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let (mut file, mut buffer) = (File::open(path).map_err(failed)?, vec![0; 1 << 18]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok(Recorded { bytes, sha256: hex(hash) });
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        bytes += read as u64;
        each(read as u64);
    }
}

/// A finished hash in hexadecimal.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether all files that the manifest lists are there and as long as it says: what can be seen without reading them.
/// A manifest of format 1 lists none.
pub fn check_lengths(folder: &Path, manifest: &Manifest) -> Result<(), AvatarError> {
    for (name, Recorded { bytes, .. }) in &manifest.files {
        let path = folder.join(name);
        match path.metadata() {
            Ok(about) if about.is_file() && about.len() == *bytes => {}
            Ok(about) => {
                let problem = format!("has {} bytes, {MANIFEST} says {bytes}: it is damaged", about.len());
                return Err(AvatarError::file(&path, problem));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(AvatarError::file(&path, "is missing"));
            }
            Err(error) => return Err(AvatarError::file(&path, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_an_avatars_files_are_known() {
        let known = ["mask.png", "frames/0000.png", "frames/0124.png", "frames/12345.png", "decoder/config.json"];
        for name in known {
            assert!(is_known(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../mask.png",
            "/mask.png",
            "./mask.png",
            "mask.png/",
            "MASK.png",
            "Mask.PNG",
            "mask.png\0",
            "frames",
            "frames/",
            "frames/0.png",
            "frames/00000.png",
            "frames/../0000.png",
            "frames//0000.png",
            "frames/+001.png",
            "frames/٠٠٠٠.png",
            "frames\\0000.png",
            "decoder/../mask.png",
            "decoder/x",
            "frames/0000.png/x",
            "avatar.toml",
        ] {
            assert!(!is_known(name), "{name}");
        }
    }
}
