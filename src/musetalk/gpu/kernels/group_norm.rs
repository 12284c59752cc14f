//! Group norm: two kernels for large maps, one for small ones.

use tch::{Kind, Tensor};

use super::{Argument, Kernel, Shape, channels_innermost, int, is_aligned, is_vector, launch, loaded_for, pack};
use crate::musetalk::Result;

/// Up to so many numbers a group of a sample is done by one block in one launch. Beyond, a block takes longer than a second
/// launch costs.
const WHOLE_GROUP: i64 = 32_768;

/// What a group norm does besides reading a map.
#[derive(Clone, Copy, Debug)]
pub struct GroupNormOf<'a> {
    /// A number for each channel, by which it is multiplied.
    pub weight: &'a Tensor,
    /// A number for each channel, which is added then.
    pub bias: &'a Tensor,
    /// A divisor of the channels.
    pub groups: i64,
    /// Against dividing by nothing.
    pub eps: f64,
    /// A number for each channel that is added to the map before its norm: the bias of the convolution that made it.
    pub shift: Option<&'a Tensor>,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// Of a map, `[samples, channels, height, width]`, whose channels are innermost in memory, to a new one like it. `None` if
/// another way has to be taken.
pub fn group_norm(x: &Tensor, norm: GroupNormOf<'_>) -> Result<Option<Tensor>> {
    let Some(loaded) = loaded_for(x) else { return Ok(None) };
    let Some([samples, channels, height, width]) = channels_innermost(x) else { return Ok(None) };
    let vectors = [Some(norm.weight), Some(norm.bias), norm.shift];
    if !vectors.into_iter().flatten().all(|vector| is_vector(vector, channels, x)) {
        return Ok(None);
    }
    let map = Map { samples, channels, pixels: height * width, groups: norm.groups, pack: pack(x.f_kind()?) };
    let Some(plan) = map.plan() else { return Ok(None) };
    let y = x.f_empty_like()?;
    if !is_aligned(&y) || y.stride() != x.stride() {
        return Ok(None);
    }
    #[allow(clippy::cast_possible_truncation, reason = "a small number in either kind")]
    let eps = Argument::Float(norm.eps as f32);
    let silu = Argument::Int(u32::from(norm.silu));
    let shift = || norm.shift.map_or(Argument::Null, Argument::Memory);
    let [source, target] = [Argument::Memory(x), Argument::Memory(&y)];
    let [weight, bias] = [norm.weight, norm.bias].map(Argument::Memory);
    let numbers = |numbers: &[i64]| numbers.iter().map(|number| int(*number)).collect::<Option<Vec<u32>>>();
    let launched = match plan {
        Plan::Whole { kernel, shape } => {
            let Some(sizes) = numbers(&[map.pixels, channels]) else { return Ok(None) };
            let sizes = sizes.into_iter().map(Argument::Int);
            let arguments = [source, shift(), weight, bias, target].into_iter().chain(sizes).chain([eps, silu]);
            launch(loaded, kernel, shape, &arguments.collect::<Vec<_>>())
        }
        Plan::Parts { sums, apply, chunk, chunks, span } => {
            let partial = Tensor::f_empty([samples, chunks, map.groups, 2], (Kind::Float, x.device()))?;
            let of_sums = numbers(&[map.pixels, channels, map.groups, chunk]);
            let of_apply = numbers(&[map.pixels, channels, map.groups, chunks, span]);
            let (Some(of_sums), Some(of_apply)) = (of_sums, of_apply) else { return Ok(None) };
            let mut arguments = vec![Argument::Memory(x), shift(), Argument::Memory(&partial)];
            arguments.extend(of_sums.into_iter().map(Argument::Int));
            let first = launch(loaded, Kernel::GroupNormSums, sums, &arguments);
            let arguments = [source, shift(), weight, bias, Argument::Memory(&partial), target];
            let arguments = arguments.into_iter().chain(of_apply.into_iter().map(Argument::Int)).chain([eps, silu]);
            first && launch(loaded, Kernel::GroupNormApply, apply, &arguments.collect::<Vec<_>>())
        }
    };
    Ok(launched.then_some(y))
}

/// The sizes of a map.
#[derive(Clone, Copy, Debug)]
struct Map {
    samples: i64,
    channels: i64,
    pixels: i64,
    groups: i64,
    /// Numbers that are loaded at once.
    pack: i64,
}

/// Which kernels in which shapes.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Whole { kernel: Kernel, shape: Shape },
    Parts { sums: Shape, apply: Shape, chunk: i64, chunks: i64, span: i64 },
}

fn divided_up(number: i64, by: i64) -> i64 {
    (number + by - 1) / by
}

fn to_warps(threads: i64) -> i64 {
    divided_up(threads, 32) * 32
}

impl Map {
    /// `None` if the kernels cannot.
    fn plan(self) -> Option<Plan> {
        let Self { samples, channels, pixels, groups, .. } = self;
        if groups < 1 || channels % groups != 0 || samples > 65_535 || int(pixels * channels).is_none() {
            return None;
        }
        if pixels * (channels / groups) <= WHOLE_GROUP { self.whole() } else { self.parts() }
    }

    /// A block for each group. Its threads have four loads each, or several times that.
    fn whole(self) -> Option<Plan> {
        let size = self.channels / self.groups;
        let (kernel, pack) = match size {
            _ if size % 4 == 0 => (Kernel::GroupNormWhole4, 4),
            _ if size % 2 == 0 => (Kernel::GroupNormWhole2, 2),
            _ => (Kernel::GroupNormWhole1, 1),
        };
        let columns = size / pack;
        let threads = to_warps(divided_up(columns * self.pixels, 4)).clamp(64, 512).max(to_warps(columns));
        let grid = (int(self.groups)?, int(self.samples)?);
        (threads <= 512).then_some(Plan::Whole { kernel, shape: Shape { grid, threads: int(threads)?, shared: 0 } })
    }

    /// Enough blocks for the largest GPU, and eight pixels a thread at least. Each block of the second kernel reads all partial
    /// sums of its sample, so there are not many.
    fn parts(self) -> Option<Plan> {
        let Self { samples, channels, pixels, groups, pack } = self;
        let columns = channels / pack;
        let threads = to_warps(columns).max(256);
        if channels % pack != 0 || threads > 640 || groups > 256 {
            return None;
        }
        let rows = threads / columns;
        let parts = |most: i64, each: i64| {
            let count = divided_up(most, samples).min(pixels / (rows * each)).max(1);
            let length = divided_up(pixels, count);
            (length, divided_up(pixels, length))
        };
        let (chunk, chunks) = parts(512.min(128 * samples), 8);
        let (span, spans) = parts(2048, 4);
        let lanes = threads / groups;
        let shared = |pairs: i64| int(8 * pairs);
        let shape = |blocks: i64, shared: u32| {
            Some(Shape { grid: (int(blocks)?, int(samples)?), threads: int(threads)?, shared })
        };
        Some(Plan::Parts {
            sums: shape(chunks, shared(rows * channels + lanes * groups)?)?,
            apply: shape(spans, shared(lanes * groups + groups)?)?,
            chunk,
            chunks,
            span,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_the_networks_has_a_plan_that_covers_it_and_fits_a_block() {
        let mut maps = Vec::new();
        for channels in [32, 64, 96, 128, 160, 256, 320, 512, 640, 960, 1280, 1920, 2560] {
            for side in [1, 4, 7, 8, 16, 31, 32, 64, 128, 256] {
                for (samples, pack) in [(1, 4), (1, 8), (2, 8), (7, 4), (16, 8), (32, 8), (600, 8)] {
                    maps.push(Map { samples, channels, pixels: side * side, groups: 32, pack });
                }
            }
        }
        for map in maps {
            match map.plan().unwrap_or_else(|| panic!("{map:?} has no plan")) {
                Plan::Whole { kernel, shape } => {
                    let size = map.channels / map.groups;
                    let pack = match kernel {
                        Kernel::GroupNormWhole1 => 1,
                        Kernel::GroupNormWhole2 => 2,
                        _ => 4,
                    };
                    assert_eq!(size % pack, 0, "{map:?}");
                    assert!(size / pack <= i64::from(shape.threads) && shape.threads <= 512, "{map:?}");
                    assert_eq!(shape.threads % 32, 0);
                    assert_eq!((i64::from(shape.grid.0), i64::from(shape.grid.1)), (map.groups, map.samples));
                }
                Plan::Parts { sums, apply, chunk, chunks, span } => {
                    assert!(chunk * chunks >= map.pixels && chunk * (chunks - 1) < map.pixels, "{map:?}");
                    let spans = i64::from(apply.grid.0);
                    assert!(span * spans >= map.pixels && span * (spans - 1) < map.pixels, "{map:?}");
                    assert_eq!(i64::from(sums.grid.0), chunks);
                    assert!(chunks <= 128, "{map:?}: {chunks} chunks");
                    assert!(map.channels / map.pack <= i64::from(sums.threads) && sums.threads <= 640, "{map:?}");
                    // What a block may have without being asked for more.
                    assert!(sums.shared <= 48 * 1024 && apply.shared <= 48 * 1024, "{map:?}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_divide_has_no_plan() {
        let map = Map { samples: 1, channels: 100, pixels: 1 << 16, groups: 32, pack: 8 };
        assert_eq!(map.plan(), None);
        // Twelve channels are no whole number of packs.
        assert_eq!(Map { channels: 12, groups: 4, ..map }.plan(), None);
        assert!(Map { channels: 12, groups: 4, pixels: 64, ..map }.plan().is_some());
        assert_eq!(Map { groups: 0, ..map }.plan(), None);
    }
}
