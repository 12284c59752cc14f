//! The decoder's pictures of a batch to finished planes, in one launch for up to 32 frames.

use tch::{Kind, Tensor};

use super::{Argument, Kernel, Shape, int, launch, loaded_for};
use crate::musetalk::Result;

/// As many frames as a kernel's arguments have room for.
const AT_ONCE: usize = 32;
/// Words of `Region` and of `Strides` in `paste.cu`.
const REGION: usize = 10;
const STRIDES: usize = 5;
const THREADS: u32 = 256;

/// Where a frame's crop is pasted: one of the regions of an avatar that are of one size.
#[derive(Clone, Copy, Debug)]
pub struct PasteInto<'a> {
    /// `[n, height, width, 3]` bytes: the frames' own colours.
    pub own: &'a Tensor,
    /// `[n, height, width, 1]` bytes
    pub alpha: &'a Tensor,
    /// Rows of the crop above and below each of the region's, as 64-bit integers, and how far between them, in 32 bits: `n`
    /// times as many as the region is high.
    pub rows: [&'a Tensor; 3],
    /// The same for columns.
    pub columns: [&'a Tensor; 3],
    /// Which of the `n`.
    pub place: i64,
}

impl PasteInto<'_> {
    /// Height and width of the region; `None` if something is not what it is said to be.
    fn size(&self, picture: &Tensor) -> Option<(i64, i64)> {
        let (count, height, width, channels) = self.own.size4().ok()?;
        let is = |tensor: &Tensor, kind: Kind, numbers: i64| {
            tensor.f_kind().ok() == Some(kind)
                && i64::try_from(tensor.numel()).ok() == Some(count * numbers)
                && tensor.is_contiguous()
                && tensor.device() == picture.device()
        };
        let neighbours = |[first, second, between]: [&Tensor; 3], numbers: i64| {
            is(first, Kind::Int64, numbers) && is(second, Kind::Int64, numbers) && is(between, Kind::Float, numbers)
        };
        let right = channels == 3
            && height % 2 == 0
            && width % 2 == 0
            && (0..count).contains(&self.place)
            && is(self.own, Kind::Uint8, height * width * 3)
            && is(self.alpha, Kind::Uint8, height * width)
            && neighbours(self.rows, height)
            && neighbours(self.columns, width);
        right.then_some((height, width))
    }

    /// As `Region` in `paste.cu`, with planes at this address.
    fn words(&self, (height, width): (i64, i64), planes: u64) -> Option<[u64; REGION]> {
        let at = |tensor: &Tensor, numbers: i64, bytes: i64| address(tensor, self.place.checked_mul(numbers * bytes)?);
        let neighbours = |[first, second, between]: [&Tensor; 3], numbers: i64| {
            Some([at(first, numbers, 8)?, at(second, numbers, 8)?, at(between, numbers, 4)?])
        };
        let [row_first, row_second, row_between] = neighbours(self.rows, height)?;
        let [column_first, column_second, column_between] = neighbours(self.columns, width)?;
        Some([
            at(self.own, height * width * 3, 1)?,
            at(self.alpha, height * width, 1)?,
            row_first,
            row_second,
            row_between,
            column_first,
            column_second,
            column_between,
            planes,
            pair(height, width)?,
        ])
    }
}

/// Two 32-bit integers in one word, as they lie one after the other in memory.
fn pair(first: i64, second: i64) -> Option<u64> {
    let bytes: Vec<u8> = [int(first)?, int(second)?].iter().flat_map(|value| value.to_ne_bytes()).collect();
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// Where the byte at `offset` of a tensor lies on the device.
fn address(tensor: &Tensor, offset: i64) -> Option<u64> {
    u64::try_from(tensor.data_ptr().addr()).ok()?.checked_add_signed(offset)
}

/// The planes of each frame's region, Y, U and V, one frame after the other: `[bytes]`, and how many each frame has. `picture` is
/// `[frames, 3, rows, columns]`, with any strides; the crops have `before` black rows above it, and black ones below it as far
/// as regions reach. `None` if another way has to be taken.
pub fn paste(picture: &Tensor, before: i64, into: &[PasteInto<'_>]) -> Result<Option<(Tensor, Vec<usize>)>> {
    let Some(loaded) = loaded_for(picture) else { return Ok(None) };
    let (frames, channels, rows, _) = picture.size4()?;
    let sizes: Option<Vec<(i64, i64)>> = into.iter().map(|into| into.size(picture)).collect();
    let Some(sizes) = sizes.filter(|sizes| channels == 3 && usize::try_from(frames).ok() == Some(sizes.len())) else {
        return Ok(None);
    };
    let bytes: Vec<i64> = sizes.iter().map(|(height, width)| height * width / 2 * 3).collect();
    let planes = Tensor::f_empty([bytes.iter().sum::<i64>()], (Kind::Uint8, picture.device()))?;
    let (Some(strides), Some(regions)) = (strides(picture, before, rows), regions(into, &sizes, &bytes, &planes))
    else {
        return Ok(None);
    };
    let mut first = 0;
    for (regions, sizes) in regions.chunks(AT_ONCE).zip(sizes.chunks(AT_ONCE)) {
        let squares = sizes.iter().map(|(height, width)| height * width / 4).max().unwrap_or(0);
        let count = i64::try_from(sizes.len()).unwrap_or(0);
        let (Some(squares), Some(frames)) = (int(squares), int(count)) else { return Ok(None) };
        let mut words = regions.concat();
        words.resize(AT_ONCE * REGION, 0);
        let part = picture.f_narrow(0, first, count)?;
        first += count;
        // Nothing to paste is no grid.
        if squares == 0 {
            continue;
        }
        let shape = Shape { grid: (squares.div_ceil(THREADS), frames), threads: THREADS, shared: 0 };
        let arguments = [Argument::Memory(&part), Argument::Words(&strides), Argument::Words(&words)];
        if !launch(loaded, Kernel::Paste, shape, &arguments) {
            return Ok(None);
        }
    }
    let bytes = bytes.iter().map(|bytes| usize::try_from(*bytes).unwrap_or(0)).collect();
    Ok(Some((planes, bytes)))
}

/// As `Strides` in `paste.cu`.
fn strides(picture: &Tensor, before: i64, rows: i64) -> Option<[u64; STRIDES]> {
    let (frame, channel, row, column) = picture.stride4().ok()?;
    let [frame, channel, row, column] = [frame, channel, row, column].map(u64::try_from);
    Some([frame.ok()?, channel.ok()?, row.ok()?, column.ok()?, pair(before, rows)?])
}

fn regions(into: &[PasteInto<'_>], sizes: &[(i64, i64)], bytes: &[i64], planes: &Tensor) -> Option<Vec<[u64; REGION]>> {
    let mut at = 0;
    let mut regions = Vec::with_capacity(into.len());
    for ((into, size), bytes) in into.iter().zip(sizes).zip(bytes) {
        regions.push(into.words(*size, address(planes, at)?)?);
        at += bytes;
    }
    Some(regions)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_region_is_laid_out_as_the_kernel_reads_it() {
        let bytes = |shape: &[i64]| Tensor::zeros(shape, (Kind::Uint8, Device::Cpu));
        let lines = |numbers: i64| {
            [Kind::Int64, Kind::Int64, Kind::Float].map(|kind| Tensor::zeros([3, numbers], (kind, Device::Cpu)))
        };
        let (own, alpha, rows, columns) = (bytes(&[3, 4, 6, 3]), bytes(&[3, 4, 6, 1]), lines(4), lines(6));
        let picture = Tensor::zeros([1, 3, 5, 8], (Kind::Half, Device::Cpu));
        let into = PasteInto { own: &own, alpha: &alpha, rows: rows.each_ref(), columns: columns.each_ref(), place: 2 };
        let size = into.size(&picture).unwrap();
        assert_eq!(size, (4, 6));
        let words = into.words(size, 77).unwrap();
        let offset = |at: usize, tensor: &Tensor| words[at] - address(tensor, 0).unwrap();
        assert_eq!(offset(0, &own), 2 * 4 * 6 * 3);
        assert_eq!(offset(1, &alpha), 2 * 4 * 6);
        assert_eq!([2, 3, 4].map(|at| offset(at, &rows[at - 2])), [64, 64, 32]);
        assert_eq!([5, 6, 7].map(|at| offset(at, &columns[at - 5])), [96, 96, 48]);
        assert_eq!(words[8], 77);
        assert_eq!(words[9].to_ne_bytes()[..4], 4_u32.to_ne_bytes());
        assert_eq!(words[9].to_ne_bytes()[4..], 6_u32.to_ne_bytes());
        assert!(PasteInto { place: 3, ..into }.size(&picture).is_none());
        assert!(PasteInto { alpha: &own, ..into }.size(&picture).is_none());
    }

    #[test]
    fn strides_are_the_pictures_own() {
        let picture = Tensor::zeros([2, 5, 8, 3], (Kind::Half, Device::Cpu)).permute([0, 3, 1, 2]);
        let words = strides(&picture, 16, 5).unwrap();
        assert_eq!(words[..4], [120, 1, 24, 3]);
        assert_eq!(words[4].to_ne_bytes()[..4], 16_u32.to_ne_bytes());
    }
}
