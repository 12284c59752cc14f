//! Where the bytes come from: a file that is read by position, or memory; and a reader that goes through a part of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Problem, Result};

#[derive(Debug)]
pub(super) enum Source {
    File { file: File, length: u64 },
    Memory(Vec<u8>),
}

impl Source {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("is not a file"));
        }
        Ok(Self::File { file, length: about.len() })
    }

    pub(super) fn length(&self) -> u64 {
        match self {
            Self::File { length, .. } => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buffer` from `offset` on.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let truncated = || Problem::Truncated { length: self.length() };
        match self {
            Self::File { file, .. } => match file.read_exact_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(truncated()),
                done => Ok(done?),
            },
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|_| truncated())?;
                let end = start.checked_add(buffer.len()).ok_or_else(truncated)?;
                buffer.copy_from_slice(bytes.get(start..end).ok_or_else(truncated)?);
                Ok(())
            }
        }
    }

    /// `length` bytes from `offset` on; memory is taken only if the file has them.
    pub(super) fn read_vec(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let truncated = Problem::Truncated { length: self.length() };
        match (offset.checked_add(length), usize::try_from(length)) {
            (Some(end), Ok(size)) if end <= self.length() => {
                let mut buffer = vec![0; size];
                self.read_at(offset, &mut buffer)?;
                Ok(buffer)
            }
            _ => Err(truncated),
        }
    }
}

/// Reads from one place in a source to another, through a small buffer.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    source: &'a Source,
    /// Where the next byte is, and where the part ends.
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` has been read.
    used: usize,
}

const BUFFER: u64 = 16 * 1024;

impl<'a> Cursor<'a> {
    /// The bytes from `start` to `end`, which must be in the file.
    pub(super) fn new(source: &'a Source, start: u64, end: u64) -> Result<Self> {
        if start > end || end > source.length() {
            return Err(Problem::Truncated { length: source.length() });
        }
        Ok(Self { source, at: start, end, buffer: Vec::new(), used: 0 })
    }

    pub(super) fn position(&self) -> u64 {
        self.at
    }

    pub(super) fn left(&self) -> u64 {
        self.end - self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        if self.used == self.buffer.len() {
            let more = self.left().min(BUFFER);
            if more == 0 {
                return Err(Problem::Truncated { length: self.source.length() });
            }
            self.buffer = self.source.read_vec(self.at, more)?;
            self.used = 0;
        }
        let byte = self.buffer[self.used];
        self.used += 1;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    pub(super) fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > self.left() {
            return Err(Problem::Truncated { length: self.source.length() });
        }
        let bytes = self.source.read_vec(self.at, length)?;
        self.skip(length)?;
        Ok(bytes)
    }

    pub(super) fn skip(&mut self, length: u64) -> Result<()> {
        if length > self.left() {
            return Err(Problem::Truncated { length: self.source.length() });
        }
        self.at += length;
        match usize::try_from(length) {
            Ok(length) if length <= self.buffer.len() - self.used => self.used += length,
            _ => self.used = self.buffer.len(),
        }
        Ok(())
    }

    /// Up to the next newline, which is passed over.
    pub(super) fn line(&mut self, most: usize) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if line.len() == most => {
                    return super::format(format!("has a line of over {most} bytes in its pickle"));
                }
                byte => line.push(byte),
            }
        }
        String::from_utf8(line).or_else(|_| super::format("has a line that is not text in its pickle"))
    }
}
