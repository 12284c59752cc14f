//! What bytes are, told by the bytes: names, headers and media types lie.
//!
//! In here: that, and no reading. Raw samples have no mark, so what is none of all this may be that. Pure.

use std::fmt;

/// Bytes that tell every form: the longest frame of an MP3 and the beginning of the next one.
pub const ENOUGH: usize = 4_096;
/// As many tell text from sound: a third of a millisecond of it.
const TEXT: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Wav,
    /// What `encoded` reads.
    Encoded(&'static str),
    /// Something that is known and not read.
    Foreign(&'static str),
    Text,
    /// None of these.
    Unmarked,
}

impl fmt::Display for Form {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Wav => "WAV",
            Self::Encoded(form) | Self::Foreign(form) => form,
            Self::Text => "it is text",
            Self::Unmarked => "its first bytes are those of nothing known",
        })
    }
}

/// What begins so; `None` as long as too few bytes are there to tell. `is_all` if there are no more.
pub fn of(bytes: &[u8], is_all: bool) -> Option<Form> {
    if bytes.len() < TEXT && !is_all {
        return None;
    }
    let at = |place: usize, mark: &[u8]| bytes.get(place..).is_some_and(|rest| rest.starts_with(mark));
    Some(if at(0, b"RIFF") || at(0, b"RF64") || at(0, b"BW64") || at(0, b"RIFX") || at(0, b"riff\x2E\x91\xCF\x11") {
        Form::Wav
    } else if at(0, b"fLaC") {
        Form::Encoded("FLAC")
    } else if at(0, b"OggS") {
        Form::Encoded("Ogg")
    } else if at(4, b"ftyp") || at(4, b"moov") {
        Form::Encoded("MP4")
    } else if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) {
        Form::Encoded("AIFF")
    } else if at(0, b"caff") {
        Form::Encoded("CAF")
    } else if at(0, b"\x1A\x45\xDF\xA3") {
        Form::Encoded("Matroska or WebM")
    } else if at(0, b"ID3") && bytes.get(3).is_some_and(|version| (2..=4).contains(version)) {
        Form::Encoded("MP3")
    } else if at(0, b".snd") {
        Form::Foreign("AU")
    } else if at(0, b"#!AMR") {
        Form::Foreign("AMR")
    } else if at(0, b"\x30\x26\xB2\x75\x8E\x66\xCF\x11") {
        Form::Foreign("WMA")
    } else if at(0, b"\x1F\x8B\x08") {
        Form::Foreign("gzip")
    } else if at(0, b"MThd") {
        Form::Foreign("MIDI")
    } else if at(0, b"%PDF") || at(0, b"\x89PNG") || at(0, b"\xFF\xD8\xFF") || at(0, b"PK\x03\x04") {
        Form::Foreign("a file of another kind")
    } else if let Some(length) = packet(bytes) {
        match bytes.get(length..) {
            // The next one tells that it was no accident.
            Some(next) if next.len() >= HEADER => match packet(next) {
                Some(_) if is_adts(bytes) => Form::Encoded("AAC"),
                Some(_) => Form::Encoded("MP3"),
                None => Form::Unmarked,
            },
            _ if !is_all => return None,
            _ if is_adts(bytes) => Form::Encoded("AAC"),
            _ => Form::Encoded("MP3"),
        }
    } else if is_text(bytes) {
        Form::Text
    } else {
        Form::Unmarked
    })
}

/// Of a packet of MP3 or AAC: what its length is told by.
const HEADER: usize = 6;

/// A packet of AAC with a header of its own, and not one of MPEG's other layers.
fn is_adts(bytes: &[u8]) -> bool {
    bytes.get(1).is_some_and(|byte| byte & 0b1111_0110 == 0b1111_0000)
}

/// How long the packet of MP3, MP2 or AAC is that begins here, if one does.
fn packet(bytes: &[u8]) -> Option<usize> {
    let header: [u8; HEADER] = *bytes.first_chunk()?;
    if header[0] != 0xFF || header[1] & 0xE0 != 0xE0 {
        return None;
    }
    if is_adts(bytes) {
        let rate = header[2] >> 2 & 0xF;
        let length = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        return (rate < 13 && length > 7).then_some(length);
    }
    let (version, layer) = (header[1] >> 3 & 3, header[1] >> 1 & 3);
    let (rate, sampling, padding) = (header[2] >> 4, header[2] >> 2 & 3, usize::from(header[2] >> 1 & 1));
    // Version 1 is none, layer 0 is none and 3 (the first) nobody uses; rate 0 is free and 15 none; sampling 3 is none.
    if version == 1 || !matches!(layer, 1 | 2) || !(1..15).contains(&rate) || sampling == 3 {
        return None;
    }
    const RATES: [[u32; 14]; 3] = [
        [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
        [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let is_first = version == 3;
    let table = match (is_first, layer) {
        (true, 1) => 0,
        (true, _) => 1,
        _ => 2,
    };
    let sampling = [44_100, 48_000, 32_000][usize::from(sampling)] >> [2, 0, 1, 0][usize::from(version)];
    let slots = if is_first || layer == 2 { 144_000 } else { 72_000 };
    let length = slots * RATES[table][usize::from(rate) - 1] / sampling;
    Some(length as usize + padding)
}

/// Sound has zeros and control characters among so many bytes.
fn is_text(bytes: &[u8]) -> bool {
    let begins = &bytes[..bytes.len().min(4 * TEXT)];
    let text = match std::str::from_utf8(begins) {
        Ok(text) => text,
        // A character may be cut in two at the end.
        Err(error) if begins.len() - error.valid_up_to() < 4 => {
            std::str::from_utf8(&begins[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|character| !character.is_control() || character.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of MP3 with 32 kbit/s at 24 kHz: 96 bytes.
    const MP3: [u8; 4] = [0xFF, 0xF3, 0x44, 0xC4];

    #[test]
    fn forms_are_told_by_their_marks() {
        let padded = |begin: &[u8]| [begin, &[0; 40]].concat();
        for (begin, form) in [
            (&b"RIFF\0\0\0\0WAVE"[..], Form::Wav),
            (b"RF64", Form::Wav),
            (b"\0\0\0\x20ftypM4A ", Form::Encoded("MP4")),
            (b"OggS", Form::Encoded("Ogg")),
            (b"ID3\x04", Form::Encoded("MP3")),
            (b"\x1A\x45\xDF\xA3", Form::Encoded("Matroska or WebM")),
            (b"\x1F\x8B\x08\0", Form::Foreign("gzip")),
            // Silence, and a voice that begins quietly.
            (b"\0\0\0\0", Form::Unmarked),
            (b"\xFF\xFF\xFF\xFF\0\0\x01\0\xFE\xFF", Form::Unmarked),
        ] {
            assert_eq!(of(&padded(begin), true), Some(form), "{begin:?}");
            assert_eq!(of(&padded(begin), false), Some(form), "{begin:?}");
        }
        for text in [
            "{\"error\": \"x\"}",
            "<!DOCTYPE html><html>",
            "Error: no such voice",
            "错误：没有这个声音",
            "\r\n\r\ndata: {\"a\"}",
        ] {
            assert_eq!(of(text.as_bytes(), true), Some(Form::Text), "{text}");
        }
        assert_eq!(of(b"{\"error", false), None);
        assert_eq!(of(b"", true), Some(Form::Unmarked));
    }

    #[test]
    fn an_mp3_is_two_packets_one_behind_the_other_and_samples_that_begin_like_one_are_none() {
        let (mut mp3, mut raw) = (vec![0x55; 300], vec![0x55; 300]);
        mp3[..4].copy_from_slice(&MP3);
        mp3[96..100].copy_from_slice(&MP3);
        raw[..4].copy_from_slice(&MP3);
        assert_eq!(of(&mp3, false), Some(Form::Encoded("MP3")));
        assert_eq!(of(&raw, false), Some(Form::Unmarked));
        assert_eq!(of(&mp3[..90], false), None);
        assert_eq!(of(&mp3[..90], true), Some(Form::Encoded("MP3")));
        let mut aac = vec![0; 100];
        for at in [0, 40] {
            aac[at..at + 7].copy_from_slice(&[0xFF, 0xF1, 0x50, 0x80, 0x05, 0x00, 0xFC]);
        }
        assert_eq!(of(&aac, false), Some(Form::Encoded("AAC")));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80), first in 0xE0u8..) {
            let _ = of(&bytes, true);
            let _ = of(&[vec![0xFF, first], bytes].concat(), false);
        }
    }
}
