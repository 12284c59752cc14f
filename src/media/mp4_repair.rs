//! The sound of a finished MP4 file put where players look for it.
//!
//! Opus says how many samples of its beginning are the encoder's own (RFC 7845, pre-skip), and MP4 says it a second time as
//! an edit list (Opus in ISOBMFF, 4.4). GStreamer's mp4mux writes the first with its bytes in the wrong order, so that
//! players leave out a third of a second of speech, and the second not at all; what it does to the time of the first packet
//! instead only works with GStreamer. The same faults are in every description that ends in `opusenc` and `mp4mux`, so the
//! file is repaired and not the description.
//!
//! In here: that, in place, box by box; a file that needs nothing, or is no MP4, stays as it is. Not in here: writing films
//! (`file`). Runs on: the caller's thread, which waits for the disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use crate::boxes::{Boxes, number};
use crate::timeline::FPS;

/// Opus counts in this rate whatever its input's was.
const OPUS_RATE: u64 = 48_000;
/// No sound has a faster rate, so what reads as one has its bytes in the wrong order.
const FASTEST_INPUT: u32 = 768_000;

/// Repairs what the file needs of it. `frames` is how many pictures it holds.
pub(super) fn repair(path: &Path, frames: u64) -> io::Result<()> {
    // A pipe or a device has nothing to go back to.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(());
    }
    let mut file = File::options().read(true).write(true).open(path)?;
    let Some((mut moov, begins)) = Boxes::of(&mut file)? else { return Ok(()) };
    let mut is_repaired = false;
    for track in moov.all(moov.whole(), *b"trak") {
        is_repaired |= repair_track(&mut moov, track, frames, &mut file)?;
    }
    if is_repaired {
        file.seek(SeekFrom::Start(begins))?;
        file.write_all(&moov.0)?;
    }
    Ok(())
}

/// Whether there was something to repair. Only Opus needs any.
fn repair_track(moov: &mut Boxes, track: Range<usize>, frames: u64, file: &mut File) -> io::Result<bool> {
    let Some(opus) = opus_of(moov, &track) else { return Ok(false) };
    let is_turned = moov.number(opus.start + 4).is_some_and(|rate| rate > FASTEST_INPUT)
        && moov.number(opus.start + 4).map(u32::swap_bytes).is_some_and(|rate| rate <= FASTEST_INPUT);
    if is_turned {
        // Pre-skip, rate of the input, gain.
        for field in [2..4, 4..8, 8..10] {
            moov.0[opus.start + field.start..opus.start + field.end].reverse();
        }
    }
    let skip = moov.0.get(opus.start + 2..opus.start + 4).map_or(0, |skip| u16::from_be_bytes([skip[0], skip[1]]));
    let is_cut = cut(moov, &track, u64::from(skip), frames, file)?.is_some();
    Ok(is_turned || is_cut)
}

/// Gives the first packet its whole length and cuts the encoder's own samples, and those after the last picture, off by
/// an edit list. `None` if the track is not as mp4mux leaves it.
fn cut(moov: &mut Boxes, track: &Range<usize>, skip: u64, frames: u64, file: &mut File) -> io::Result<Option<()>> {
    let Some(times) = Times::of(moov, track) else { return Ok(None) };
    let Some(packet) = first_packet(moov, &times.samples, file)? else { return Ok(None) };
    let to_track = |samples: u64| {
        let scaled = samples * u64::from(times.rate);
        scaled.is_multiple_of(OPUS_RATE).then_some(scaled / OPUS_RATE)
    };
    let (Some(skip), Some(packet)) = (to_track(skip), to_track(packet)) else { return Ok(None) };
    Ok(times.cut(moov, skip, packet, frames))
}

/// How many samples the first packet of a track holds.
fn first_packet(moov: &Boxes, samples: &Range<usize>, file: &mut File) -> io::Result<Option<u64>> {
    let of = |kind, wide: usize| {
        moov.child(samples, kind).filter(|place| place.len() >= 8 + wide).map(|place| place.start + 8)
    };
    let offset = match (of(*b"stco", 4), of(*b"co64", 8)) {
        (Some(at), _) => moov.number(at).map(u64::from),
        (None, Some(at)) => moov.wide(at),
        (None, None) => None,
    };
    let Some(offset) = offset else { return Ok(None) };
    let mut head = [0; 2];
    file.seek(SeekFrom::Start(offset))?;
    match file.read_exact(&mut head) {
        Ok(()) => Ok(Some(samples_of(head))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Samples of a packet that begins so (RFC 6716, 3.1).
fn samples_of([kind, count]: [u8; 2]) -> u64 {
    let size = usize::from(kind >> 3);
    let frame = match size {
        0..12 => [480, 960, 1920, 2880][size % 4],
        12..16 => [480, 960][size % 2],
        _ => [120, 240, 480, 960][size % 4],
    };
    frame
        * match kind & 3 {
            0 => 1,
            1 | 2 => 2,
            _ => u64::from(count & 0x3F),
        }
}

/// The boxes of a track that tell times, each checked to be long enough.
struct Times {
    /// `stbl`.
    samples: Range<usize>,
    movie: Range<usize>,
    header: Range<usize>,
    media: Range<usize>,
    edits: Range<usize>,
    lengths: Range<usize>,
    /// Of the film's own clock, and of the track's.
    movie_rate: u32,
    rate: u32,
}

impl Times {
    fn of(moov: &Boxes, track: &Range<usize>) -> Option<Self> {
        let long = |place: Range<usize>, [short, long]: [usize; 2]| {
            let wanted = if moov.is_wide(&place) { long } else { short };
            (place.len() >= wanted).then_some(place)
        };
        let samples = moov.path(track, &[*b"mdia", *b"minf", *b"stbl"])?;
        let movie = long(moov.child(&moov.whole(), *b"mvhd")?, [20, 32])?;
        let header = long(moov.child(track, *b"tkhd")?, [24, 36])?;
        let media = long(moov.path(track, &[*b"mdia", *b"mdhd"])?, [20, 32])?;
        let edits = long(moov.path(track, &[*b"edts", *b"elst"])?, [20, 28])?;
        let lengths = moov.child(&samples, *b"stts")?;
        let rate_of = |place: &Range<usize>| moov.number(place.start + if moov.is_wide(place) { 20 } else { 12 });
        let (movie_rate, rate) = (rate_of(&movie)?, rate_of(&media)?);
        (movie_rate > 0 && rate > 0).then_some(Self { samples, movie, header, media, edits, lengths, movie_rate, rate })
    }

    /// `skip` and `packet` in the track's time.
    fn cut(&self, moov: &mut Boxes, skip: u64, packet: u64, frames: u64) -> Option<()> {
        let entries = usize::try_from(moov.number(self.lengths.start + 4)?).ok()?;
        let mut runs = runs_of(moov, &self.lengths, entries)?;
        let edit = self.edits.start + 8;
        let is_wide = moov.is_wide(&self.edits);
        let skipped = if is_wide { moov.wide(edit + 8)? } else { u64::from(moov.number(edit + 4)?) };
        // As mp4mux leaves it, there is one edit of all, and its first packets are short by what is before the sound.
        if moov.number(self.edits.start + 4)? != 1 || skipped != 0 || skip == 0 {
            return None;
        }
        lengthen(&mut runs, packet, skip)?;
        let written = total(&runs);
        let wanted = written.min(skip + frames * u64::from(self.rate) / u64::from(FPS));
        let mut trimmed = runs.clone();
        if let Some(last) = runs.last().and_then(|run| u64::from(run.1).checked_sub(written - wanted)) {
            set_last(&mut trimmed, u32::try_from(last).ok()?);
        }
        // The table has room for so many runs.
        let runs = fitted(trimmed, entries).or_else(|| fitted(runs, entries))?;
        let shown = (wanted - skip) * u64::from(self.movie_rate) / u64::from(self.rate);
        set_runs(moov, &self.lengths, &runs);
        moov.set(&self.media, [16, 24], total(&runs));
        moov.set(&self.header, [20, 28], shown);
        moov.set(&self.edits, [8, 8], shown);
        moov.set(&self.edits, [12, 16], skip);
        let longest = moov.all(moov.whole(), *b"trak").into_iter().filter_map(|track| {
            let header = moov.child(&track, *b"tkhd")?;
            if moov.is_wide(&header) {
                moov.wide(header.start + 28)
            } else {
                moov.number(header.start + 20).map(u64::from)
            }
        });
        if let Some(longest) = longest.max() {
            moov.set(&self.movie, [16, 24], longest);
        }
        Some(())
    }
}

/// So many samples of such a length.
type Run = (u32, u32);

fn total(runs: &[Run]) -> u64 {
    runs.iter().map(|(count, length)| u64::from(*count) * u64::from(*length)).sum()
}

/// Gives the packets of the beginning their whole length; `None` unless that makes the track longer by just so much.
fn lengthen(runs: &mut [Run], packet: u64, by: u64) -> Option<()> {
    let mut missing = by;
    for (count, length) in runs {
        let lacks = u64::from(*count) * packet.checked_sub(u64::from(*length))?;
        missing = missing.checked_sub(lacks)?;
        *length = u32::try_from(packet).ok()?;
        if missing == 0 {
            return Some(());
        }
    }
    None
}

fn set_last(runs: &mut Vec<Run>, length: u32) {
    if let Some(last) = runs.last_mut() {
        last.0 -= 1;
        runs.push((1, length));
    }
}

/// The same lengths in exactly so many runs, `None` if that cannot be.
fn fitted(runs: Vec<Run>, entries: usize) -> Option<Vec<Run>> {
    let mut fitted: Vec<Run> = Vec::with_capacity(entries);
    for (count, length) in runs.into_iter().filter(|(count, _)| *count > 0) {
        match fitted.last_mut() {
            Some(last) if last.1 == length => last.0 += count,
            _ => fitted.push((count, length)),
        }
    }
    while fitted.len() < entries {
        let at = fitted.iter().position(|(count, _)| *count > 1)?;
        fitted[at].0 -= 1;
        fitted.insert(at, (1, fitted[at].1));
    }
    (fitted.len() == entries).then_some(fitted)
}

/// What a track says of its decoder, if it is Opus'.
fn opus_of(moov: &Boxes, track: &Range<usize>) -> Option<Range<usize>> {
    let described = moov.path(track, &[*b"mdia", *b"minf", *b"stbl", *b"stsd"])?;
    // After version, flags and count; then after what all sound says of itself.
    let entry = moov.child(&(described.start + 8..described.end), *b"Opus")?;
    moov.child(&(entry.start + 28..entry.end), *b"dOps").filter(|opus| opus.len() >= 11)
}

fn runs_of(moov: &Boxes, place: &Range<usize>, entries: usize) -> Option<Vec<Run>> {
    let table = moov.0.get(place.start + 8..place.end)?;
    if entries == 0 || entries > table.len() / 8 {
        return None;
    }
    let runs: Vec<Run> = table.chunks_exact(8).take(entries).map(|run| (number(run, 0), number(run, 4))).collect();
    runs.iter().all(|(count, _)| *count > 0).then_some(runs)
}

fn set_runs(moov: &mut Boxes, place: &Range<usize>, runs: &[Run]) {
    let table = moov.0[place.start + 8..place.end].chunks_exact_mut(8);
    for (entry, (count, length)) in table.zip(runs) {
        entry[..4].copy_from_slice(&count.to_be_bytes());
        entry[4..].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
