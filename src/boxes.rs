//! MP4 files as what they are: boxes in boxes.
//!
//! In here: finding the index of a file and a box in it, reading and setting its numbers. Not in here: what is read or set,
//! which is `media::mp4_repair`'s and `speech::sound`'s. Lengths are never believed: a box reaches no further than what it is in.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// The tables of a film of ten hours have 10 MB.
const LONGEST_INDEX: u64 = 256 << 20;

/// Where the `moov` box of an MP4 file has its contents; `None` if it is no such file.
fn index_of(file: &mut (impl Read + Seek)) -> io::Result<Option<Range<u64>>> {
    let end = file.seek(SeekFrom::End(0))?;
    let (mut at, mut is_mp4) = (0, false);
    while at + 8 <= end {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 16];
        let there = if at + 16 <= end { 16 } else { 8 };
        file.read_exact(&mut head[..there])?;
        let (kind, size) = (&head[4..8], u64::from(number(&head, 0)));
        let (begins, size) = match size {
            0 => (8, end - at),
            1 => (16, u64::from(number(&head, 8)) << 32 | u64::from(number(&head, 12))),
            size => (8, size),
        };
        is_mp4 |= kind == b"ftyp";
        if !is_mp4 || size < begins || at.checked_add(size).is_none_or(|next| next > end) {
            return Ok(None);
        }
        if kind == b"moov" {
            return Ok(Some(at + begins..at + size).filter(|place| place.end - place.start <= LONGEST_INDEX));
        }
        at += size;
    }
    Ok(None)
}

/// The number at a place, 0 beyond the end.
pub fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// What a `moov` box holds. Places are those of the contents of boxes.
pub struct Boxes(pub Vec<u8>);

impl Boxes {
    /// The index of a file and where it begins.
    pub fn of(file: &mut (impl Read + Seek)) -> io::Result<Option<(Self, u64)>> {
        let Some(place) = index_of(file)? else { return Ok(None) };
        let mut index = vec![0; usize::try_from(place.end - place.start).unwrap_or(0)];
        file.seek(SeekFrom::Start(place.start))?;
        file.read_exact(&mut index)?;
        Ok(Some((Self(index), place.start)))
    }

    /// The place of the whole index.
    pub fn whole(&self) -> Range<usize> {
        0..self.0.len()
    }

    /// Every box of a kind right within a place.
    pub fn all(&self, within: Range<usize>, kind: [u8; 4]) -> Vec<Range<usize>> {
        let (mut at, mut found) = (within.start, Vec::new());
        while let Some(head) = self.0.get(at..within.end).and_then(|rest| rest.first_chunk::<8>()) {
            let size = number(head, 0) as usize;
            if size < 8 || size > within.end - at {
                break;
            }
            if head[4..] == kind {
                found.push(at + 8..at + size);
            }
            at += size;
        }
        found
    }

    /// The first box of a kind right within a place.
    pub fn child(&self, within: &Range<usize>, kind: [u8; 4]) -> Option<Range<usize>> {
        self.all(within.clone(), kind).into_iter().next()
    }

    /// The box that is reached through the first of each of these kinds.
    pub fn path(&self, within: &Range<usize>, kinds: &[[u8; 4]]) -> Option<Range<usize>> {
        kinds.iter().try_fold(within.clone(), |within, kind| self.child(&within, *kind))
    }

    /// The 32 bits at a place; `None` beyond the end.
    pub fn number(&self, at: usize) -> Option<u32> {
        self.0.get(at..at + 4).map(|bytes| number(bytes, 0))
    }

    /// The 64 bits at a place; `None` beyond the end.
    pub fn wide(&self, at: usize) -> Option<u64> {
        Some(u64::from(self.number(at)?) << 32 | u64::from(self.number(at + 4)?))
    }

    /// Whether a box tells its times in 64 bits.
    pub fn is_wide(&self, place: &Range<usize>) -> bool {
        self.0.get(place.start) == Some(&1)
    }

    /// Sets a time, which stands in one of two places and widths.
    pub fn set(&mut self, place: &Range<usize>, [short, long]: [usize; 2], value: u64) {
        let (at, bytes) = match self.is_wide(place) {
            true => (place.start + long, value.to_be_bytes().to_vec()),
            false => (place.start + short, u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes().to_vec()),
        };
        if let Some(field) = self.0.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(&bytes);
        }
    }
}
