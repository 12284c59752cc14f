//! WAV files written byte by byte, in every shape that others write.

use proptest::prelude::*;

use super::*;

/// A file of these samples, stored as `kind` with so many bits, in little-endian order.
struct File {
    kind: u16,
    channels: u16,
    rate: u32,
    bits: u16,
    /// Bytes of one sample of one channel.
    container: u16,
    /// The `fmt ` chunk in the extensible format, with so many valid bits.
    valid: Option<u16>,
    /// Between the format and the samples.
    extra: Vec<u8>,
    /// In place of the length of the samples.
    length: Option<u32>,
    data: Vec<u8>,
    /// Behind the samples.
    trailer: Vec<u8>,
}

impl File {
    fn of(samples: &[i16]) -> Self {
        let data = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let (extra, trailer) = (Vec::new(), Vec::new());
        let (kind, channels, rate, bits, container) = (1, 1, 16_000, 16, 2);
        Self { kind, channels, rate, bits, container, valid: None, extra, length: None, data, trailer }
    }

    fn bytes(&self) -> Vec<u8> {
        let block = self.container * self.channels;
        let mut format = if self.valid.is_some() { 0xFFFE } else { self.kind }.to_le_bytes().to_vec();
        format.extend(self.channels.to_le_bytes());
        format.extend(self.rate.to_le_bytes());
        format.extend((self.rate * u32::from(block)).to_le_bytes());
        format.extend(block.to_le_bytes());
        format.extend(self.bits.to_le_bytes());
        if let Some(valid) = self.valid {
            format.extend([22, 0]);
            format.extend(valid.to_le_bytes());
            format.extend([4, 0, 0, 0]);
            format.extend(self.kind.to_le_bytes());
            format.extend(GUID);
        }
        let length = self.length.unwrap_or(self.data.len() as u32);
        let parts = [
            b"RIFF\x24\xF0\xFF\x7FWAVE",
            b"fmt ".as_slice(),
            &(format.len() as u32).to_le_bytes(),
            &format,
            &self.extra,
            b"data",
            &length.to_le_bytes(),
            &self.data,
            &self.trailer,
        ];
        parts.concat()
    }
}

fn read(bytes: &[u8], piece: usize) -> Result<(Option<u32>, Vec<f32>), SoundError> {
    let mut reader = WavReader::default();
    let mut samples = Vec::new();
    for piece in bytes.chunks(piece) {
        samples.extend(reader.push(piece)?);
    }
    samples.extend(reader.finish()?);
    Ok((reader.sample_rate(), samples))
}

/// Whole, and byte by byte.
fn samples(bytes: &[u8]) -> Vec<f32> {
    let whole = read(bytes, bytes.len()).unwrap().1;
    for piece in [1, 2, 3, 7] {
        assert_eq!(read(bytes, piece).unwrap().1, whole, "in pieces of {piece}");
    }
    whole
}

const SPEECH: [i16; 6] = [0, 16_384, -32_768, 1, -1, 8_192];
const HEARD: [f32; 6] = [0.0, 0.5, -1.0, 1.0 / 32_768.0, -1.0 / 32_768.0, 0.25];

#[test]
fn samples_are_read_up_to_their_length_or_the_end() {
    let chunk = b"LIST\x04\0\0\0INFO";
    for (length, trailer) in [
        (None, &b""[..]),
        // What stands behind them is no sound.
        (None, chunk),
        (None, b"id3 \x03\0\0\0abc"),
        // A program that writes to a pipe does not know it.
        (Some(0), b""),
        (Some(0x7FFF_F000), b""),
        (Some(0x7FFF_FFFF), b""),
        (Some(u32::MAX), b""),
        // One that was cut short does not keep it.
        (Some(1_000_000), b""),
    ] {
        let file = File { length, trailer: trailer.to_vec(), ..File::of(&SPEECH) };
        assert_eq!(samples(&file.bytes()), HEARD, "{length:?} {trailer:?}");
    }
    let none = File { length: Some(0), trailer: chunk.to_vec(), ..File::of(&[]) };
    assert!(samples(&none.bytes()).is_empty());
}

#[test]
fn chunks_of_an_odd_length_have_their_pad_byte_or_have_it_not() {
    for extra in [
        &b"note\x03\0\0\0abc\0"[..],
        b"note\x03\0\0\0abc",
        b"LIST\x05\0\0\0INFOx\0",
        b"LIST\x05\0\0\0INFOxbext\x01\0\0\0b",
        b"wild\x03\0\0\0abcJUNK\x02\0\0\0ab",
        // Padded with something else.
        b"note\x01\0\0\0a LIST\x02\0\0\0ab",
        b"note\0\0\0\0",
        &[b"JUNK\x51\xC3\0\0".as_slice(), &[7; 50_001], b"\0"].concat(),
    ] {
        let file = File { extra: extra.to_vec(), ..File::of(&SPEECH) };
        assert_eq!(samples(&file.bytes()), HEARD, "{:?}", &extra[..extra.len().min(40)]);
    }
}

#[test]
fn every_coding_means_the_same_sound() {
    let file = |kind, bits, container, valid, data: Vec<u8>| {
        File { kind, bits, container, valid, data, ..File::of(&[]) }.bytes()
    };
    // Two bits of the container are not used: 0.5, -1 and 0.25.
    let in_24 = [[0, 0, 0x40], [0, 0, 0x80], [0, 0, 0x20]].concat();
    let in_32 = [[0, 0, 0, 0x40], [0, 0, 0, 0x80], [0, 0, 0, 0x20]].concat();
    let in_16 = [[0, 0x40], [0, 0x80], [0, 0x20]].concat();
    let floats = [0.5f32, -1.0, 0.25];
    let in_float: Vec<u8> = floats.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let in_double: Vec<u8> = floats.iter().flat_map(|sample| f64::from(*sample).to_le_bytes()).collect();
    for (name, bytes) in [
        ("8 bits", file(1, 8, 1, None, vec![0xC0, 0, 0xA0])),
        ("16 bits", file(1, 16, 2, None, in_16.clone())),
        ("12 bits in 16", file(1, 12, 2, None, in_16.clone())),
        ("12 valid bits of 16", file(1, 16, 2, Some(12), in_16)),
        ("24 bits", file(1, 24, 3, None, in_24.clone())),
        ("20 bits in 24", file(1, 20, 3, None, in_24.clone())),
        ("22 valid bits of 24", file(1, 24, 3, Some(22), in_24)),
        ("24 bits in 32", file(1, 24, 4, None, in_32.clone())),
        ("24 valid bits of 32", file(1, 32, 4, Some(24), in_32.clone())),
        ("32 bits", file(1, 32, 4, None, in_32)),
        ("floats", file(3, 32, 4, None, in_float.clone())),
        ("extensible floats", file(3, 32, 4, Some(32), in_float)),
        ("doubles", file(3, 64, 8, None, in_double)),
    ] {
        assert_eq!(samples(&bytes), floats, "{name}");
    }
    // Companded: the loudest, the quietest, and silence.
    let a_law = samples(&file(6, 8, 1, None, vec![0xAA, 0x2A, 0xD5, 0x55]));
    assert_eq!(a_law, [32_256.0, -32_256.0, 8.0, -8.0].map(|sample: f32| sample / 32_768.0));
    let u_law = samples(&file(7, 8, 1, None, vec![0x80, 0x00, 0xFF, 0x7F]));
    assert_eq!(u_law, [32_124.0, -32_124.0, 0.0, 0.0].map(|sample: f32| sample / 32_768.0));
}

#[test]
fn a_header_that_contradicts_itself_is_believed_where_two_of_its_fields_agree() {
    let mut bytes = File::of(&SPEECH).bytes();
    // Bytes of a frame, as they would be in stereo.
    bytes[32] = 4;
    assert_eq!(samples(&bytes), HEARD);
    bytes[32..34].fill(0);
    assert_eq!(samples(&bytes), HEARD);
}

#[test]
fn channels_are_mixed_and_every_one_is_heard() {
    for channels in 1..=8 {
        let frame = |value: i16| (0..channels).map(move |channel| if channel == channels - 1 { value } else { 0 });
        let all: Vec<i16> = [16_384, -32_768].into_iter().flat_map(frame).collect();
        let file = File { channels, ..File::of(&all) };
        let share = 1.0 / f32::from(channels);
        let heard = samples(&file.bytes());
        assert_eq!(heard.len(), 2);
        assert!((heard[0] - 0.5 * share).abs() < 1e-6 && (heard[1] + share).abs() < 1e-6, "{channels}: {heard:?}");
    }
}

#[test]
fn rates_beyond_speech_are_brought_down_and_take_as_long() {
    for (rate, expected) in [(8_000, 8_000), (11_025, 11_025), (48_000, 48_000), (88_200, 48_000), (192_000, 48_000)] {
        let second: Vec<i16> = (0..rate).map(|at| if at % 100 < 50 { 3_000 } else { -3_000 }).collect();
        let file = File { rate, ..File::of(&second) };
        let (told, heard) = read(&file.bytes(), 10_000).unwrap();
        assert_eq!((told, heard.len()), (Some(expected), expected as usize));
    }
}

#[test]
fn large_files_tell_their_length_elsewhere() {
    let file = File { length: Some(u32::MAX), trailer: b"LIST\x04\0\0\0INFO".to_vec(), ..File::of(&SPEECH) }.bytes();
    for name in [b"RF64", b"BW64"] {
        let mut long = b"ds64\x1C\0\0\0".to_vec();
        long.extend(200u64.to_le_bytes());
        long.extend(12u64.to_le_bytes());
        long.extend([0; 12]);
        let bytes = [&name[..], &[0xFF; 4], b"WAVE", &long, &file[12..]].concat();
        assert_eq!(samples(&bytes), HEARD);
        // Not told there either: until the end.
        let open = [
            &name[..],
            &[0xFF; 4],
            b"WAVE",
            b"ds64\x1C\0\0\0",
            &[0; 28],
            &File { length: Some(u32::MAX), ..File::of(&SPEECH) }.bytes()[12..],
        ]
        .concat();
        assert_eq!(samples(&open), HEARD);
    }
}

#[test]
fn wave64_and_big_endian_files_are_read() {
    let plain = File::of(&SPEECH).bytes();
    let chunk = |name: &[u8], body: &[u8]| {
        let padded = [body, &vec![0; body.len().next_multiple_of(8) - body.len()]].concat();
        [name, &WAVE64, &(body.len() as u64 + 24).to_le_bytes(), &padded].concat()
    };
    let wave64 = [
        [b"riff".as_slice(), &WAVE64_RIFF, &200u64.to_le_bytes(), b"wave", &WAVE64].concat(),
        chunk(b"junk", b"abc"),
        chunk(b"fmt ", &plain[20..36]),
        chunk(b"data", &plain[44..]),
    ];
    assert_eq!(samples(&wave64.concat()), HEARD);

    let mut rifx =
        b"RIFX\0\0\0\x30WAVEfmt \0\0\0\x10\0\x01\0\x01\0\0\x3E\x80\0\0\x7D\0\0\x02\0\x10data\0\0\0\x0C".to_vec();
    rifx.extend(SPEECH.iter().flat_map(|sample| sample.to_be_bytes()));
    assert_eq!(samples(&rifx), HEARD);
}

#[test]
fn one_file_after_another_is_one_sound() {
    let file = File::of(&SPEECH).bytes();
    assert_eq!(samples(&[file.clone(), file.clone()].concat()), [HEARD, HEARD].concat());
    let other = File { rate: 8_000, ..File::of(&SPEECH) }.bytes();
    let error = read(&[file, other].concat(), 9).unwrap_err().to_string();
    assert!(error.contains("rate change"), "{error}");
}

#[test]
fn what_cannot_be_read_says_what_it_is() {
    let of = |file: File| read(&file.bytes(), 9).unwrap_err().to_string();
    for (file, words) in [
        (File { channels: 9, ..File::of(&SPEECH) }, "has 9 channels at 16000 Hz: 1 to 8 at 8000 to 192000 Hz are read"),
        (File { channels: 0, ..File::of(&SPEECH) }, "has 0 channels"),
        (File { rate: 0, ..File::of(&SPEECH) }, "at 0 Hz"),
        (File { rate: 384_000, ..File::of(&SPEECH) }, "at 384000 Hz"),
        (File { kind: 0x55, ..File::of(&SPEECH) }, "is WAV with 16 bits in MP3"),
        (File { kind: 3, ..File::of(&SPEECH) }, "16 bits in floats"),
        (File { kind: 1, bits: 64, container: 8, ..File::of(&SPEECH) }, "64 bits in PCM"),
    ] {
        let told = of(file);
        assert!(told.contains(words), "{told}");
    }
    let samples = [f32::NAN, 20_000.0].map(f32::to_le_bytes);
    for sample in samples {
        let told = of(File { kind: 3, bits: 32, container: 4, data: sample.to_vec(), ..File::of(&[]) });
        assert!(told.contains("has a sample of"), "{told}");
    }
    assert_eq!(read(b"Error: no such voice", 3), Err(SoundError::NotWav));
    assert_eq!(read(b"RIFF\0\0\0\0AVI LIST", 3), Err(SoundError::NotWav));
    assert_eq!(read(b"RIFF....WAVEdata........", 100), Err(SoundError::NoFormat));
    assert_eq!(read(&File::of(&SPEECH).bytes()[..40], 100), Err(SoundError::Empty));
    assert_eq!(read(b"RIFF", 100), Err(SoundError::NotWav));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((0usize..120, any::<u8>()), 0..8),
        piece in 1usize..50,
    ) {
        let _ = read(&bytes, piece);
        let _ = read(&[b"RIFF\0\0\0\0WAVEfmt ".to_vec(), bytes].concat(), piece);
        let mut file = File { extra: b"note\x03\0\0\0abc".to_vec(), valid: Some(12), ..File::of(&SPEECH) }.bytes();
        for (at, value) in changes {
            if let Some(byte) = file.get_mut(at) {
                *byte = value;
            }
        }
        let whole = read(&file, file.len());
        prop_assert_eq!(read(&file, piece), whole, "pieces change something");
    }
}
