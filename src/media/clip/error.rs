//! Why a photo or a clip cannot be used: one sentence, which begins with the file.
//!
//! In here: the words and the limits that they name. Not in here: where they are found out (`sniff`, `decoder`, `photo`).

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pixels of a clip's frame: 4096 x 2304 and 3840 x 2160 are within, upright or not. A decoder holds up to twenty frames.
pub const MOST_CLIP_PIXELS: u64 = 4096 * 2304;
/// Pixels of a photo: 50 million, what phones take at most, is 150 MB as RGB.
pub const MOST_PHOTO_PIXELS: u64 = 8192 * 6400;
/// Pixels of the shorter side of anything; no face is found in less.
pub const LEAST_SIDE: u32 = 16;
/// How long a clip may be, after it was trimmed.
pub const LONGEST_CLIP: Duration = Duration::from_secs(130 * 60);

/// A photo or a clip that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{} {fault}", path.display())]
pub struct SourceError {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What is the matter with it.
    pub fault: SourceFault,
}

/// What is the matter with a photo or a clip; the words follow the file's name.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// The system's own words.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A folder, a device, a pipe.
    #[error("is no regular file")]
    NotAFile,
    /// Not one byte.
    #[error("is empty")]
    Empty,
    /// Judged by its first bytes, whatever its name.
    #[error("is neither a photo nor a clip: it seems to be {seems}")]
    NeitherPhotoNorClip {
        /// With its article.
        seems: &'static str,
    },
    /// A kind of picture that nothing here decodes.
    #[error("is {seems}, which is not read here: {instead}")]
    NotReadHere {
        /// With its article.
        seems: &'static str,
        /// What would be right.
        instead: &'static str,
    },
    /// A clip was asked for.
    #[error("is a photo, not a clip")]
    Photo,
    /// A photo was asked for.
    #[error("is a clip, not a photo")]
    Clip,
    /// Transparency is wanted of pictures that have none.
    #[error("has no alpha channel; --alpha plain cuts from a plain background")]
    Opaque,
    /// A container without video, or without anything that can be played.
    #[error("has no video; a clip needs pictures, its sound alone is not enough")]
    NoVideo,
    /// Video in a format that is not decoded here.
    #[error("holds {codec} video, which is not decoded here: write it as H.264, HEVC, VP8, VP9 or AV1")]
    Codec {
        /// GStreamer's name of the format.
        codec: String,
    },
    /// An element that is needed is not installed.
    #[error("needs GStreamer's {element}, which is not installed: install {package}")]
    Missing {
        /// The element, or those of which one is enough.
        element: String,
        /// The Debian package.
        package: &'static str,
    },
    /// Refused from the header, before memory is taken for it.
    #[error("is of {width}x{height} pixels; at most {} million are read: scale it down", most / 1_000_000)]
    TooManyPixels {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// How many pixels may be.
        most: u64,
    },
    /// Nothing can be seen in it.
    #[error("is of {width}x{height} pixels; each side must have at least {LEAST_SIDE}")]
    TooSmall {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// A photo's file is larger than any photo is.
    #[error("is of {megabytes} MB; a photo may have {most_megabytes}")]
    TooLarge {
        /// Of the file.
        megabytes: u64,
        /// What may be.
        most_megabytes: u64,
    },
    /// After trimming.
    #[error("lasts {}; a clip may last {}: trim it", clock(*lasts), clock(LONGEST_CLIP))]
    TooLong {
        /// Of what would be used.
        lasts: Duration,
    },
    /// Nothing is left after trimming.
    #[error("ends at {}, before the part that was asked for, which starts at {}", clock(*ends), clock(*start))]
    TrimmedAway {
        /// Where the clip ends.
        ends: Duration,
        /// Where the part starts.
        start: Duration,
    },
    /// All of its frames are at one time.
    #[error("shows one picture only: a clip must move; take a photo for a still face")]
    OnePicture,
    /// The data cannot be decoded.
    #[error("is damaged at {}: {reason}", clock(*at))]
    Damaged {
        /// How far it could be read.
        at: Duration,
        /// The decoder's own words.
        reason: String,
    },
    /// The decoder neither reads nor gives anything.
    #[error("cannot be decoded: nothing came for {} s after {}", waited.as_secs(), clock(*at))]
    Stalled {
        /// How far it was read.
        at: Duration,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The decoder does not start.
    #[error("cannot be decoded: {0}")]
    Start(String),
}

impl SourceFault {
    pub(in crate::media) fn of(self, path: &Path) -> SourceError {
        SourceError { path: path.to_path_buf(), fault: self }
    }
}

/// Hours, minutes and seconds as people write them: `8:00:00`, `2:10.5`, `0:03.04`.
pub(super) fn clock(time: Duration) -> String {
    let (whole, hundredths) = (time.as_secs(), time.subsec_millis() / 10);
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    let fraction = if hundredths == 0 { String::new() } else { format!(".{hundredths:02}") };
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}{fraction}")
    } else {
        format!("{minutes}:{seconds:02}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_write_them() {
        let told = |milliseconds| clock(Duration::from_millis(milliseconds));
        assert_eq!([told(0), told(3_040), told(130_500), told(28_800_000)], ["0:00", "0:03.04", "2:10.50", "8:00:00"]);
    }

    #[test]
    fn a_fault_is_told_in_one_sentence_that_begins_with_the_file() {
        let told = |fault: SourceFault| fault.of(Path::new("anna.mp4")).to_string();
        let lasts = Duration::from_secs(8 * 3600);
        assert_eq!(told(SourceFault::TooLong { lasts }), "anna.mp4 lasts 8:00:00; a clip may last 2:10:00: trim it");
        let bomb = SourceFault::TooManyPixels { width: 16_384, height: 16_384, most: MOST_PHOTO_PIXELS };
        assert_eq!(told(bomb), "anna.mp4 is of 16384x16384 pixels; at most 52 million are read: scale it down");
    }
}
