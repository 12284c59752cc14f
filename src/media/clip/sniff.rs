//! What a file is, by its first bytes and not by its name.
//!
//! In here: the signatures. What is not listed is not decoded: nothing that names other files or addresses (playlists,
//! manifests, pages) is ever handed to a decoder. Not in here: decoding.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use image::ImageFormat;

use super::animation;
use super::codecs::Container;
use super::error::{SourceError, SourceFault};

/// What an avatar can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// One picture.
    Photo,
    /// Pictures that move.
    Clip,
}

/// A kind of file that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::media) enum Format {
    Photo(ImageFormat),
    /// Pictures that move and are decoded as pictures are.
    Animation(ImageFormat),
    Film(Container),
}

/// Says whether a file is a photo or a clip; whether all of it can be decoded shows later.
///
/// # Errors
/// The file cannot be read, or is neither; the words say what it seems to be.
pub fn sniff(path: &Path) -> Result<SourceKind, SourceError> {
    match format_of(path) {
        Ok(Format::Photo(_)) => Ok(SourceKind::Photo),
        Ok(Format::Animation(_) | Format::Film(_)) => Ok(SourceKind::Clip),
        Err(fault) => Err(fault.of(path)),
    }
}

/// Enough for the tables in front of the first picture of an animated PNG and for a page's opening.
const HEAD: u64 = 4096;

pub(in crate::media) fn format_of(path: &Path) -> Result<Format, SourceFault> {
    // Before it is opened, as a pipe would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(SourceFault::NotAFile);
    }
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    if head.is_empty() {
        return Err(SourceFault::Empty);
    }
    let format = judge(&head)?;
    let Format::Photo(picture @ (ImageFormat::Gif | ImageFormat::WebP | ImageFormat::Png)) = format else {
        return Ok(format);
    };
    file.seek(SeekFrom::Start(0))?;
    Ok(if animation::moves(file, picture) { Format::Animation(picture) } else { format })
}

fn judge(head: &[u8]) -> Result<Format, SourceFault> {
    let film = |container| Ok(Format::Film(container));
    let photo = |format| Ok(Format::Photo(format));
    let at = |offset: usize, bytes: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(bytes));
    if at(0, b"\xff\xd8\xff") {
        photo(ImageFormat::Jpeg)
    } else if at(0, b"\x89PNG\r\n\x1a\n") {
        photo(ImageFormat::Png)
    } else if at(0, b"GIF87a") || at(0, b"GIF89a") {
        photo(ImageFormat::Gif)
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        photo(ImageFormat::WebP)
    } else if at(0, b"BM") && at(6, &[0; 4]) {
        photo(ImageFormat::Bmp)
    } else if at(4, b"ftyp") {
        base_media(head.get(8..12).unwrap_or_default())
    } else if [b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot"].iter().any(|name| at(4, *name)) {
        film(Container::Mp4)
    } else if at(0, b"\x1a\x45\xdf\xa3") {
        film(Container::Matroska)
    } else if at(0, b"RIFF") && at(8, b"AVI ") {
        film(Container::Avi)
    } else if at(0, b"OggS") {
        film(Container::Ogg)
    } else if at(0, b"FLV\x01") {
        film(Container::Flv)
    } else if at(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11") {
        film(Container::Asf)
    } else if at(0, b"\x00\x00\x01\xba") {
        film(Container::MpegProgram)
    } else if [188, 192, 204].iter().any(|size| is_transport(head, *size)) {
        film(Container::MpegTransport)
    } else {
        Err(seems(head))
    }
}

/// ISO 14496-12's brands: most are films, some photos or sound.
fn base_media(brand: &[u8]) -> Result<Format, SourceFault> {
    let not_read = |seems, instead| Err(SourceFault::NotReadHere { seems, instead });
    match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"mif1" | b"msf1" | b"hevc" | b"hevx" => {
            not_read("a HEIC photo", "save it as JPEG or PNG")
        }
        b"avif" | b"avis" => not_read("an AVIF picture", "save it as JPEG or PNG"),
        b"crx " => not_read("a raw photo", "save it as JPEG or PNG"),
        b"M4A " | b"M4B " | b"M4P " => Err(SourceFault::NoVideo),
        _ => Ok(Format::Film(Container::Mp4)),
    }
}

/// MPEG-TS has a byte of 0x47 at the start of each packet; those of 192 bytes begin with a time.
fn is_transport(head: &[u8], size: usize) -> bool {
    let first = if size == 192 { 4 } else { 0 };
    let marks: Vec<bool> = head.iter().skip(first).step_by(size).map(|byte| *byte == 0x47).collect();
    marks.len() >= 3 && marks.iter().all(|mark| *mark)
}

/// Of what is not read here, what it is.
fn seems(head: &[u8]) -> SourceFault {
    let starts = |bytes: &[u8]| head.starts_with(bytes);
    if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II\x55\0") {
        return SourceFault::NotReadHere { seems: "a TIFF or a raw photo", instead: "save it as JPEG or PNG" };
    }
    if starts(b"\xff\x0a") || starts(b"\0\0\0\x0cJXL ") {
        return SourceFault::NotReadHere { seems: "a JPEG XL photo", instead: "save it as JPEG or PNG" };
    }
    let is_sound = [&b"ID3"[..], b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1", b"FORM", b"caff", b"#!AMR"]
        .iter()
        .any(|sound| starts(sound));
    if is_sound || (starts(b"RIFF") && head.get(8..12) == Some(b"WAVE")) {
        return SourceFault::NoVideo;
    }
    let text = std::str::from_utf8(head).or_else(|error| match error.error_len() {
        // The head ends within a character.
        None => Ok(std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()),
        Some(_) => Err(error),
    });
    let is_text = text.is_ok_and(|text| !text.chars().any(|c| c.is_control() && !"\n\r\t\x0c".contains(c)));
    let opening = head.trim_ascii_start().get(..9).unwrap_or_default().to_ascii_lowercase();
    let seems = match () {
        () if opening.starts_with(b"#extm3u") || opening.starts_with(b"[playlist") => "a playlist",
        () if opening.starts_with(b"<!doctype") || opening.starts_with(b"<html") => "a web page",
        () if opening.starts_with(b"<svg") => "an SVG drawing",
        () if is_text && opening.starts_with(b"<") => "XML",
        () if is_text => "text",
        () if starts(b"%PDF") => "a PDF",
        () if starts(b"PK\x03\x04") => "a ZIP archive",
        () if starts(b"\x1f\x8b") => "a gzip archive",
        () if starts(b"\x7fELF") || starts(b"MZ") => "a program",
        () if head.iter().all(|byte| *byte == 0) => "zeros",
        () => "something else",
    };
    SourceFault::NeitherPhotoNorClip { seems }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> String {
        match judge(bytes) {
            Ok(format) => format!("{format:?}"),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn files_are_known_by_their_first_bytes() {
        assert_eq!(said(b"\xff\xd8\xff\xe1...."), "Photo(Jpeg)");
        assert_eq!(said(b"\0\0\0\x20ftypisom...."), "Film(Mp4)");
        assert_eq!(said(b"\0\0\0\x14ftypqt  ...."), "Film(Mp4)");
        assert_eq!(said(b"\0\0\0\x08wide\0\0\0\0mdat"), "Film(Mp4)");
        assert_eq!(said(b"\x1a\x45\xdf\xa3\x9f\x42"), "Film(Matroska)");
        assert_eq!(said(b"RIFF\0\0\0\0AVI LIST"), "Film(Avi)");
        let mut transport = vec![0; 188 * 4];
        transport.iter_mut().step_by(188).for_each(|byte| *byte = 0x47);
        assert_eq!(said(&transport), "Film(MpegTransport)");
    }

    #[test]
    fn what_is_neither_is_told_what_it_seems_to_be() {
        for (bytes, seems) in [
            (&b"Hello, this is no film.\n"[..], "text"),
            ("vid\u{e9}o".as_bytes(), "text"),
            (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n", "a playlist"),
            (b"<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\">", "XML"),
            (b"<ASX version=\"3.0\"><ENTRY><REF HREF=\"file:///etc/passwd\"/></ENTRY></ASX>", "XML"),
            (b"  <!DOCTYPE html><title>x", "a web page"),
            (b"<svg onload=\"alert(1)\">", "an SVG drawing"),
            (b"PK\x03\x04\x14\0", "a ZIP archive"),
            (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
            (&[0; 600], "zeros"),
            (&[0x80, 0x81, 0x13, 0x99], "something else"),
        ] {
            assert_eq!(said(bytes), format!("is neither a photo nor a clip: it seems to be {seems}"));
        }
    }

    #[test]
    fn pictures_of_other_formats_and_sound_are_told_what_would_be_right() {
        assert_eq!(said(b"\0\0\0\x24ftypheic\0\0"), "is a HEIC photo, which is not read here: save it as JPEG or PNG");
        assert!(said(b"II*\0\x08\0\0\0").contains("JPEG or PNG"));
        for sound in [&b"ID3\x04\0"[..], b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x20ftypM4A \0\0", b"fLaC\0\0"] {
            assert!(said(sound).starts_with("has no video"), "{}", said(sound));
        }
    }
}
