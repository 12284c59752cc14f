//! Films with an alpha channel, as WebM: the bytes of the file.
//!
//! In here: Matroska's elements (RFC 9559) as WebM has them, and the alpha channel as libwebm, Chromium and Firefox read it:
//! `AlphaMode` in the track, and beside each picture a `BlockAdditional` of ID 1 with the matte as a picture of the same codec,
//! in whose luma 0 is transparent and 255 opaque. No element of GStreamer 1.22 writes that, and a crate for the dozen
//! elements here would bring all of Matroska's. Not in here: encoding (`cutout_file`).
//! Runs on: whoever writes.
//!
//! What is known at the end only, how long the film is and where its index lies, is written over at the beginning.

use std::io::{self, Seek, SeekFrom, Write};

/// Times in the file are in milliseconds.
const NANOSECONDS: u64 = 1_000_000;
/// A cluster is of this length at most: its blocks' times have 15 bits.
const LONGEST_CLUSTER_MS: u64 = 10_000;
/// What decoders of Opus want before a place that is sought (RFC 7845), in nanoseconds.
const SEEK_PREROLL: u64 = 80_000_000;
const VIDEO: u8 = 1;
const AUDIO: u8 = 2;

/// What the streams of a film are.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    /// `V_VP8` or `V_VP9`.
    pub codec: &'static str,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Of each picture, in nanoseconds.
    pub frame_duration: u64,
    /// `OpusHead` (RFC 7845, 5.1), the sound being mono of 48 kHz.
    pub opus_head: Vec<u8>,
}

/// A film being written.
#[derive(Debug)]
pub(super) struct WebmWriter<W> {
    out: W,
    streams: Streams,
    /// Bytes that are written.
    at: u64,
    /// Where the segment's content begins, from which places count.
    origin: u64,
    cluster: Vec<u8>,
    cluster_ms: u64,
    /// Time and place of each cluster that begins with a key frame.
    cues: Vec<(u64, u64)>,
    begins_with_key: bool,
    ends_ms: u64,
}

impl<W: Write + Seek> WebmWriter<W> {
    pub fn create(mut out: W, streams: Streams) -> io::Result<Self> {
        let head = head(&streams, 0, 0, 0);
        out.write_all(&head.bytes)?;
        let at = head.bytes.len() as u64;
        Ok(Self {
            out,
            streams,
            at,
            origin: head.origin,
            cluster: Vec::new(),
            cluster_ms: 0,
            cues: Vec::new(),
            begins_with_key: false,
            ends_ms: 0,
        })
    }

    /// Adds a picture and its matte; pictures and sound come in the order of their times.
    pub fn picture(&mut self, at_ms: u64, is_key: bool, colours: &[u8], matte: &[u8]) -> io::Result<()> {
        self.begin_cluster(at_ms, is_key)?;
        let mut group = element(0xa1, &self.block(VIDEO, at_ms, 0, colours));
        let mut more = unsigned(0xee, 1);
        more.extend(element(0xa5, matte));
        group.extend(element(0x75a1, &element(0xa6, &more)));
        if !is_key {
            // Of the picture before: the sign of a picture that is no key frame.
            let before = i64::try_from(self.streams.frame_duration / NANOSECONDS).unwrap_or(i64::MAX);
            group.extend(element(0xfb, &(-before).to_be_bytes()));
        }
        self.cluster.extend(element(0xa0, &group));
        self.ends_ms = self.ends_ms.max(at_ms + self.streams.frame_duration / NANOSECONDS);
        Ok(())
    }

    /// Adds a packet of Opus.
    pub fn sound(&mut self, at_ms: u64, packet: &[u8]) -> io::Result<()> {
        self.begin_cluster(at_ms, false)?;
        // Each can be decoded by itself.
        let block = self.block(AUDIO, at_ms, 0x80, packet);
        self.cluster.extend(element(0xa3, &block));
        Ok(())
    }

    /// Writes the index and what was not known at the beginning.
    pub fn finish(mut self) -> io::Result<()> {
        self.end_cluster()?;
        let place = self.at - self.origin;
        let cue = |(at_ms, cluster): &(u64, u64)| {
            let mut place = unsigned(0xf7, VIDEO.into());
            place.extend(unsigned(0xf1, *cluster));
            let mut cue = unsigned(0xb3, *at_ms);
            cue.extend(element(0xb7, &place));
            element(0xbb, &cue)
        };
        let cues: Vec<u8> = self.cues.iter().flat_map(cue).collect();
        self.write(&element(0x1c53_bb6b, &cues))?;
        let length = self.at - self.origin;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&head(&self.streams, self.ends_ms, place, length).bytes)?;
        self.out.flush()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn begin_cluster(&mut self, at_ms: u64, is_key: bool) -> io::Result<()> {
        let is_full = at_ms.saturating_sub(self.cluster_ms) >= LONGEST_CLUSTER_MS;
        if self.cluster.is_empty() || is_key || is_full {
            self.end_cluster()?;
            self.cluster_ms = at_ms;
            self.begins_with_key = is_key;
            self.cluster = unsigned(0xe7, at_ms);
        }
        Ok(())
    }

    fn end_cluster(&mut self) -> io::Result<()> {
        if self.cluster.is_empty() {
            return Ok(());
        }
        if self.begins_with_key {
            self.cues.push((self.cluster_ms, self.at - self.origin));
        }
        let cluster = element(0x1f43_b675, &std::mem::take(&mut self.cluster));
        self.write(&cluster)
    }

    /// A block's track, time within the cluster, flags and bytes.
    fn block(&self, track: u8, at_ms: u64, flags: u8, bytes: &[u8]) -> Vec<u8> {
        let within = i16::try_from(at_ms.saturating_sub(self.cluster_ms)).unwrap_or(i16::MAX);
        let mut block = vec![0x80 | track];
        block.extend(within.to_be_bytes());
        block.push(flags);
        block.extend_from_slice(bytes);
        block
    }
}

/// What a file begins with, of the same length whatever its numbers are.
struct Head {
    bytes: Vec<u8>,
    /// Where the segment's content begins.
    origin: u64,
}

fn head(streams: &Streams, lasts_ms: u64, cues: u64, length: u64) -> Head {
    let mut about = unsigned(0x4286, 1);
    for (id, value) in [(0x42f7, 1), (0x42f2, 4), (0x42f3, 8)] {
        about.extend(unsigned(id, value));
    }
    about.extend(element(0x4282, b"webm"));
    about.extend(unsigned(0x4287, 4));
    about.extend(unsigned(0x4285, 2));
    let mut bytes = element(0x1a45_dfa3, &about);
    bytes.extend(id_bytes(0x1853_8067));
    bytes.extend(long(length));
    let origin = bytes.len() as u64;

    let info = info(lasts_ms);
    let tracks = tracks(streams);
    let seek = |id: u32, place: u64| {
        let mut seek = element(0x53ab, &id_bytes(id));
        seek.extend(element(0x53ac, &place.to_be_bytes()));
        element(0x4dbb, &seek)
    };
    let seeks = |info: u64, tracks: u64| {
        let all = [seek(0x1549_a966, info), seek(0x1654_ae6b, tracks), seek(0x1c53_bb6b, cues)];
        element(0x114d_9b74, &all.concat())
    };
    // As long with any places.
    let first = seeks(0, 0).len() as u64;
    bytes.extend(seeks(first, first + info.len() as u64));
    bytes.extend(info);
    bytes.extend(tracks);
    Head { bytes, origin }
}

fn info(lasts_ms: u64) -> Vec<u8> {
    let mut info = unsigned(0x2ad7b1, NANOSECONDS);
    for id in [0x4d80, 0x5741] {
        info.extend(element(id, concat!("mouthpiece ", env!("CARGO_PKG_VERSION")).as_bytes()));
    }
    info.extend(element(0x4489, &(lasts_ms as f64).to_be_bytes()));
    element(0x1549_a966, &info)
}

fn tracks(streams: &Streams) -> Vec<u8> {
    let Streams { codec, width, height, frame_duration, opus_head } = streams;
    let track = |number: u8, codec: &str| {
        let mut track = unsigned(0xd7, number.into());
        track.extend(unsigned(0x73c5, number.into()));
        // 1 is video, 2 audio.
        track.extend(unsigned(0x83, number.into()));
        track.extend(unsigned(0x9c, 0));
        track.extend(element(0x86, codec.as_bytes()));
        track
    };
    let mut video = track(VIDEO, codec);
    video.extend(unsigned(0x23_e383, *frame_duration));
    video.extend(unsigned(0x55ee, 1));
    let mut pixels = unsigned(0xb0, (*width).into());
    pixels.extend(unsigned(0xba, (*height).into()));
    pixels.extend(unsigned(0x53c0, 1));
    // BT.601, limited range.
    pixels.extend(element(0x55b0, &[unsigned(0x55b1, 6), unsigned(0x55b9, 1)].concat()));
    video.extend(element(0xe0, &pixels));
    let mut audio = track(AUDIO, "A_OPUS");
    // Samples that a decoder drops at the beginning.
    let skipped = opus_head.get(10..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes);
    audio.extend(unsigned(0x56aa, u64::from(skipped) * 1_000_000_000 / 48_000));
    audio.extend(unsigned(0x56bb, SEEK_PREROLL));
    audio.extend(element(0x63a2, opus_head));
    audio.extend(element(0xe1, &[element(0xb5, &48_000_f64.to_be_bytes()), unsigned(0x9f, 1)].concat()));
    element(0x1654_ae6b, &[element(0xae, &video), element(0xae, &audio)].concat())
}

/// An element of any content.
fn element(id: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = id_bytes(id);
    bytes.extend(sized(content.len() as u64));
    bytes.extend_from_slice(content);
    bytes
}

fn unsigned(id: u32, value: u64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

/// IDs say how long they are by themselves.
fn id_bytes(id: u32) -> Vec<u8> {
    id.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

/// A length, in one byte if it fits.
fn sized(length: u64) -> Vec<u8> {
    match u8::try_from(length).ok().filter(|length| *length < 0x7f) {
        Some(length) => vec![0x80 | length],
        None => long(length).to_vec(),
    }
}

/// A length in eight bytes, so that one that is not known yet takes no other room.
fn long(length: u64) -> [u8; 8] {
    (length | 0x0100_0000_0000_0000).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IDs and contents of the elements in some bytes.
    fn read(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = bytes[0].leading_zeros() as usize + 1;
            let id = bytes[..length].iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
            bytes = &bytes[length..];
            let (size, length) = match bytes[0] {
                0x01 => (number(&bytes[1..8]), 8),
                short => (u64::from(short & 0x7f), 1),
            };
            let (content, rest) = bytes[length..].split_at(size as usize);
            found.push((id, content));
            bytes = rest;
        }
        found
    }

    fn find<'a>(bytes: &'a [u8], path: &[u32]) -> Vec<&'a [u8]> {
        let Some((first, rest)) = path.split_first() else { return vec![bytes] };
        let inside = read(bytes).into_iter().filter(|(id, _)| id == first);
        inside.flat_map(|(_, content)| find(content, rest)).collect()
    }

    fn number(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    const SEGMENT: u32 = 0x1853_8067;
    const CLUSTER: u32 = 0x1f43_b675;

    fn film() -> Vec<u8> {
        let mut file = io::Cursor::new(Vec::new());
        let opus_head = [&b"OpusHead\x01\x01"[..], &312_u16.to_le_bytes(), &[0; 7]].concat();
        let streams = Streams { codec: "V_VP8", width: 64, height: 48, frame_duration: 40_000_000, opus_head };
        let mut writer = WebmWriter::create(&mut file, streams).unwrap();
        for at in 0..120 {
            writer.picture(at * 40, at % 50 == 0, &[at as u8; 5], &[at as u8 + 1; 3]).unwrap();
            writer.sound(at * 40 + 20, &[7; 9]).unwrap();
        }
        writer.finish().unwrap();
        file.into_inner()
    }

    #[test]
    fn each_picture_has_its_matte_beside_it() {
        let film = film();
        let groups = find(&film, &[SEGMENT, CLUSTER, 0xa0]);
        assert_eq!(groups.len(), 120);
        for (at, group) in groups.iter().enumerate() {
            let block = find(group, &[0xa1])[0];
            assert_eq!((block[0], &block[4..]), (0x81, &[at as u8; 5][..]));
            assert_eq!(find(group, &[0x75a1, 0xa6, 0xa5])[0], [at as u8 + 1; 3]);
            assert_eq!(find(group, &[0xfb]).is_empty(), at % 50 == 0, "key frames have no reference");
        }
        assert_eq!(find(&film, &[SEGMENT, 0x1654_ae6b, 0xae, 0xe0, 0x53c0]).len(), 1);
        assert_eq!(find(&film, &[SEGMENT, CLUSTER, 0xa3]).len(), 120);
    }

    #[test]
    fn what_is_known_at_the_end_only_stands_at_the_beginning() {
        let film = film();
        let lasts = f64::from_be_bytes(find(&film, &[SEGMENT, 0x1549_a966, 0x4489])[0].try_into().unwrap());
        assert!((lasts - 4800.0).abs() < f64::EPSILON, "{lasts}");
        let segment = find(&film, &[SEGMENT])[0];
        // The index leads to clusters, and the table at the beginning to the index.
        for seek in find(segment, &[0x114d_9b74, 0x4dbb]) {
            let (id, place) = (find(seek, &[0x53ab])[0], number(find(seek, &[0x53ac])[0]));
            assert_eq!(&segment[place as usize..][..id.len()], id);
        }
        let cues = find(segment, &[0x1c53_bb6b, 0xbb]);
        let times: Vec<u64> = cues.iter().map(|cue| number(find(cue, &[0xb3])[0])).collect();
        assert_eq!(times, [0, 2000, 4000]);
        for (cue, time) in cues.iter().zip(times) {
            let place = number(find(cue, &[0xb7, 0xf1])[0]) as usize;
            let (id, cluster) = read(&segment[place..])[0];
            assert_eq!((id, number(find(cluster, &[0xe7])[0])), (CLUSTER, time));
        }
    }
}
