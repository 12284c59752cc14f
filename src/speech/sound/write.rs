//! Writes sound as 16-bit mono WAV.
//!
//! In here: the one writer of it in this program. Runs on: whoever calls; it waits for the disk if that is where it writes.

use std::io::{Seek, Write};

/// A whole file of samples at so many a second. Fails where writing does.
pub fn write_wav(
    file: impl Write + Seek,
    sample_rate: u32,
    samples: impl IntoIterator<Item = i16>,
) -> Result<(), hound::Error> {
    let (bits_per_sample, sample_format) = (16, hound::SampleFormat::Int);
    let mut writer =
        hound::WavWriter::new(file, hound::WavSpec { channels: 1, sample_rate, bits_per_sample, sample_format })?;
    samples.into_iter().try_for_each(|sample| writer.write_sample(sample))?;
    writer.finalize()
}
