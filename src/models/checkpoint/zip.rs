//! The zip archives that `torch.save` writes: members stored as they are, one behind the other.
//!
//! Not the `zip` crate: it reserves memory for as many members as the archive claims to have, and can expand, which a
//! checkpoint never needs and a hostile one would use.

use std::collections::HashMap;

use super::source::{Cursor, Source};
use super::{Problem, Result, format};

/// Where a member's bytes are in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) start: u64,
    pub(super) length: u64,
}

#[derive(Debug)]
pub(super) struct Archive {
    members: HashMap<String, Member>,
}

const END: [u8; 4] = *b"PK\x05\x06";
const END_64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END_64: [u8; 4] = *b"PK\x06\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// The end record without its comment, and the longest comment.
const END_SIZE: u64 = 22;
const MOST_COMMENT: u64 = 0xffff;

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 2)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, |bytes| u64::from(u16::from_le_bytes(bytes)))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, |bytes| u64::from(u32::from_le_bytes(bytes)))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl Archive {
    pub(super) fn open(source: &Source) -> Result<Self> {
        let directory = Directory::find(source)?;
        let mut cursor = Cursor::new(source, directory.start, directory.end)?;
        let mut members = HashMap::new();
        let mut taken = Vec::new();
        while cursor.left() > 0 {
            let (name, local, length) = entry(&mut cursor)?;
            let start = content(source, local)?;
            let end = start.checked_add(length).filter(|&end| end <= directory.start);
            let Some(end) = end else { return format(std::format!("member {name} does not fit into the archive")) };
            taken.push((local, end));
            if members.insert(name.clone(), Member { start, length }).is_some() {
                return format(std::format!("has two members named {name}"));
            }
        }
        if members.len() as u64 != directory.entries {
            return format(std::format!("lists {} members, but has {}", directory.entries, members.len()));
        }
        // Archives that expand to more than their size let members share bytes.
        taken.sort_unstable();
        if taken.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return format("has members that share bytes");
        }
        Ok(Self { members })
    }

    pub(super) fn member(&self, name: &str) -> Option<Member> {
        self.members.get(name).copied()
    }

    /// The pickle, and the folder that it and everything else is in: the file's name when it was written.
    pub(super) fn pickle(&self) -> Option<(&str, Member)> {
        let mut pickles = self.members.iter().filter_map(|(name, member)| {
            let folder = name.strip_suffix("data.pkl")?;
            (folder.ends_with('/') && folder.matches('/').count() == 1).then_some((folder, *member))
        });
        pickles.next().filter(|_| pickles.next().is_none())
    }
}

/// The list of members at the end of an archive.
struct Directory {
    start: u64,
    end: u64,
    entries: u64,
}

impl Directory {
    fn find(source: &Source) -> Result<Self> {
        let length = source.length();
        let searched = length.min(END_SIZE + MOST_COMMENT);
        let tail = source.read_vec(length - searched, searched)?;
        // The comment behind the record is as long as the record says, so that no comment passes for a record.
        let whole = usize::try_from(END_SIZE).unwrap_or(0);
        let is_end =
            |&at: &usize| tail[at..].starts_with(&END) && at as u64 + END_SIZE + u16_at(&tail, at + 20) == searched;
        let Some(at) = (0..=tail.len().saturating_sub(whole)).rev().find(is_end) else {
            return Err(Problem::Truncated { length });
        };
        let record = &tail[at..];
        let mut found = Self { start: u32_at(record, 16), end: u32_at(record, 12), entries: u16_at(record, 10) };
        let mut behind = length - searched + at as u64;
        if let Some(locator) = behind.checked_sub(20).map(|at| source.read_vec(at, 20)).transpose()?
            && locator.starts_with(&END_64_LOCATOR)
        {
            behind = u64_at(&locator, 8);
            let record = source.read_vec(behind, 56)?;
            if !record.starts_with(&END_64) {
                return format("has a damaged list of members");
            }
            found = Self { start: u64_at(&record, 48), end: u64_at(&record, 40), entries: u64_at(&record, 32) };
        }
        // So far `end` is the length.
        match found.start.checked_add(found.end) {
            Some(end) if end <= behind => Ok(Self { end, ..found }),
            _ => Err(Problem::Truncated { length }),
        }
    }
}

/// The next entry of the directory: name, where its local header is, and how long its content.
fn entry(cursor: &mut Cursor<'_>) -> Result<(String, u64, u64)> {
    let record: [u8; 46] = cursor.take()?;
    if !record.starts_with(&ENTRY) {
        return format("has a damaged list of members");
    }
    let name = cursor.bytes(u16_at(&record, 28))?;
    let name = String::from_utf8(name).or_else(|_| format("has a member whose name is no text"))?;
    let extra = cursor.bytes(u16_at(&record, 30))?;
    cursor.skip(u16_at(&record, 32))?;
    let (method, encrypted) = (u16_at(&record, 10), u16_at(&record, 8) & 1 == 1);
    if method != 0 || encrypted {
        let how = if encrypted { "encrypted" } else { "compressed" };
        return format(std::format!("member {name} is {how}: PyTorch stores members as they are"));
    }
    let (mut stored, mut length, mut local) = (u32_at(&record, 20), u32_at(&record, 24), u32_at(&record, 42));
    // Numbers that do not fit are all ones here, and in an extra field in this order.
    let mut wide = zip64(&extra);
    for number in [&mut length, &mut stored, &mut local] {
        if *number == u64::from(u32::MAX)
            && let Some((first, rest)) = wide.split_at_checked(8)
        {
            *number = u64_at(first, 0);
            wide = rest;
        }
    }
    if stored != length {
        return format(std::format!("member {name} is {stored} bytes that claim to be {length}"));
    }
    Ok((name, local, length))
}

/// The extra field with 64-bit numbers, empty if there is none.
fn zip64(extra: &[u8]) -> &[u8] {
    let mut rest = extra;
    while let Some((head, body)) = rest.split_at_checked(4) {
        let length = usize::try_from(u16_at(head, 2)).unwrap_or(usize::MAX);
        let Some((field, behind)) = body.split_at_checked(length) else { break };
        if u16_at(head, 0) == 1 {
            return field;
        }
        rest = behind;
    }
    &[]
}

/// Where the content behind a local header begins.
fn content(source: &Source, local: u64) -> Result<u64> {
    let header = source.read_vec(local, 30)?;
    if !header.starts_with(&LOCAL) {
        return format("has a damaged member");
    }
    Ok(local + 30 + u16_at(&header, 26) + u16_at(&header, 28))
}
