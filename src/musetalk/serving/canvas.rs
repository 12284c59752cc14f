//! Pasting on the device: from the decoder's picture to the finished planes of the part of the frame that changes.
//!
//! In here: what an avatar's frames need for that, resident on the device, and the arithmetic of `picture::blend` and
//! `picture::color` as tensor work, to the bit on a CPU. Frames of one avatar whose regions are of one size are pasted
//! together, whichever sessions they are of; where `gpu::kernels` can, all frames of a batch are. Not in here: when it pays
//! (`musetalk`): on a GPU, where whole crops would have to be copied out; a CPU is quicker with plain integers. Runs on: the
//! engine's thread.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::pixels::to_rgb8;
use crate::avatar::Avatar;
use crate::lipsync::LipSyncError;
use crate::musetalk::Result;
use crate::musetalk::gpu::kernels::{self, PasteInto};
use crate::picture::RegionPlanes;
use crate::picture::blend::{Placing, neighbours};
use crate::picture::{AvatarFrame, Mask};

/// An avatar's own frames on the device.
#[derive(Debug)]
pub struct Canvas {
    /// Those whose regions are of one size together.
    sizes: Vec<Regions>,
    /// Of each frame: which of the sizes, and its place there.
    frames: Vec<(usize, i64)>,
}

/// The regions of `n` own frames, each of `h` by `w` pixels.
#[derive(Debug)]
struct Regions {
    /// `[n, h, w, 3]` bytes
    own: Tensor,
    /// `[n, h, w, 1]` bytes
    alpha: Tensor,
    /// Which rows of the generated crop lie above and below each row of the region, and how far between them: `[n, h, 1]`.
    rows: Neighbours,
    /// The same for columns: `[n, 1, w]`.
    columns: Neighbours,
}

#[derive(Debug)]
struct Neighbours {
    first: Tensor,
    second: Tensor,
    between: Tensor,
}

/// The planes of a batch's frames on the device, and in which order.
pub enum Planes {
    /// All frames one after the other, and how many bytes each has.
    InOrder(Tensor, Vec<usize>),
    /// Those of one size together: `[m, bytes of a frame]`, and which frames of the batch they are.
    BySize(Vec<(Tensor, Vec<usize>)>),
}

/// What is known of regions of one size before it goes to the device.
#[derive(Default)]
struct Gathered {
    own: Vec<u8>,
    alpha: Vec<u8>,
    rows: GatheredNeighbours,
    columns: GatheredNeighbours,
    count: i64,
}

#[derive(Default)]
struct GatheredNeighbours {
    first: Vec<i64>,
    second: Vec<i64>,
    between: Vec<f32>,
}

impl GatheredNeighbours {
    /// For `length` pixels of the region from `start` on, of a box of `destination` pixels at `origin` that shows `source`
    /// generated ones. Those outside of the box get the nearest; nothing of them is seen.
    fn add(&mut self, (start, length): (u32, u32), (origin, destination): (i32, u32), source: u32) {
        for at in start..start + length {
            let inside = (i64::from(at) - i64::from(origin)).clamp(0, i64::from(destination) - 1);
            let (one, other, weight) = neighbours(u32::try_from(inside).unwrap_or(0), destination, source);
            self.first.push(i64::from(one));
            self.second.push(i64::from(other));
            self.between.push(weight);
        }
    }

    fn on(&self, device: Device, shape: [i64; 3]) -> Result<Neighbours> {
        Ok(Neighbours {
            first: Tensor::f_from_slice(&self.first)?.f_view(shape)?.f_to_device(device)?,
            second: Tensor::f_from_slice(&self.second)?.f_view(shape)?.f_to_device(device)?,
            between: Tensor::f_from_slice(&self.between)?.f_view(shape)?.f_to_device(device)?,
        })
    }
}

impl Gathered {
    fn add(&mut self, own: &AvatarFrame, mask: &Mask, side: u32) {
        let (region, crop) = (&own.region, own.crop);
        self.own.extend_from_slice(&region.rgb);
        self.alpha.extend(Placing { region, crop }.alpha(mask));
        self.rows.add((region.y, region.height), (crop.y, crop.height), side);
        self.columns.add((region.x, region.width), (crop.x, crop.width), side);
        self.count += 1;
    }

    fn on(&self, device: Device, (height, width): (i64, i64)) -> Result<Regions> {
        let bytes = |data: &[u8], channels: i64| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(data)?.f_view([self.count, height, width, channels])?.f_to_device(device)?)
        };
        Ok(Regions {
            own: bytes(&self.own, 3)?,
            alpha: bytes(&self.alpha, 1)?,
            rows: self.rows.on(device, [self.count, height, 1])?,
            columns: self.columns.on(device, [self.count, 1, width])?,
        })
    }
}

impl Canvas {
    /// For crops of `side` by `side` pixels.
    pub fn new(avatar: &Avatar, side: u32, device: Device) -> Result<Self> {
        Self::of_frames(avatar.frames(), &avatar.mask, side, device)
    }

    /// [`Canvas::new`] of these frames and this mask.
    pub fn of_frames(own: &[AvatarFrame], mask: &Mask, side: u32, device: Device) -> Result<Self> {
        let mut gathered: Vec<((i64, i64), Gathered)> = Vec::new();
        let mut frames = Vec::with_capacity(own.len());
        for own in own {
            let size = (i64::from(own.region.height), i64::from(own.region.width));
            let at = gathered.iter().position(|(other, _)| *other == size).unwrap_or(gathered.len());
            if at == gathered.len() {
                gathered.push((size, Gathered::default()));
            }
            if let Some((_, of_size)) = gathered.get_mut(at) {
                frames.push((at, of_size.count));
                of_size.add(own, mask, side);
            }
        }
        let sizes = gathered.iter().map(|(size, gathered)| gathered.on(device, *size)).collect::<Result<_>>()?;
        Ok(Self { sizes, frames })
    }

    /// Which of the sizes a frame's region has, and its place there.
    fn place(&self, pose: usize) -> Result<(usize, i64)> {
        self.frames.get(pose).copied().ok_or_else(|| LipSyncError::Latents {
            path: String::new(),
            problem: format!("pose {pose} was asked for, the avatar has {} frames", self.frames.len()),
        })
    }
}

impl Canvas {
    /// Where the kernel finds what it needs of a frame.
    fn region_of(&self, pose: usize) -> Result<PasteInto<'_>> {
        let (size, place) = self.place(pose)?;
        let regions = self.sizes.get(size).ok_or_else(|| LipSyncError::Latents {
            path: String::new(),
            problem: format!("pose {pose} has no region"),
        })?;
        let Regions { own, alpha, rows, columns } = regions;
        let [rows, columns] = [rows, columns].map(|at| [&at.first, &at.second, &at.between]);
        Ok(PasteInto { own, alpha, rows, columns, place })
    }
}

/// Frames whose regions are of one avatar and one size.
struct Group<'a> {
    regions: &'a Regions,
    /// Which frames of the batch.
    of: Vec<usize>,
    /// Their places among the regions.
    places: Vec<i64>,
}

/// Pastes the crops of a picture, each into the own frame of its avatar and pose. The picture is `[frames, 3, rows, side]`:
/// the crops have black rows, `before` above it and as many below it as make them square.
pub fn paste(picture: &Tensor, before: i64, frames: &[(&Canvas, usize)]) -> Result<Planes> {
    let into: Vec<PasteInto<'_>> =
        frames.iter().map(|(canvas, pose)| canvas.region_of(*pose)).collect::<Result<_>>()?;
    if let Some((planes, bytes)) = kernels::paste(picture, before, &into)? {
        return Ok(Planes::InOrder(planes, bytes));
    }
    let (_, _, rows, side) = picture.size4()?;
    let crops = to_rgb8(&picture.f_pad([0, 0, before, side - before - rows], "constant", -1.0)?)?;
    by_size(&crops, frames)
}

/// The same by plain operators, from crops of `[frames, side, side, 3]` bytes.
fn by_size(crops: &Tensor, frames: &[(&Canvas, usize)]) -> Result<Planes> {
    let mut groups: BTreeMap<(*const Canvas, usize), Group<'_>> = BTreeMap::new();
    for (at, (canvas, pose)) in frames.iter().enumerate() {
        let (size, place) = canvas.place(*pose)?;
        let Some(regions) = canvas.sizes.get(size) else { continue };
        let key = (std::ptr::from_ref::<Canvas>(canvas), size);
        let group = groups.entry(key).or_insert_with(|| Group { regions, of: Vec::new(), places: Vec::new() });
        group.of.push(at);
        group.places.push(place);
    }
    let device = crops.device();
    let index = |places: &[i64]| -> Result<Tensor> { Ok(Tensor::f_from_slice(places)?.f_to_device(device)?) };
    let alone = groups.len() == 1;
    let paste = |Group { regions, of, places }: Group<'_>| {
        let own: Vec<i64> = of.iter().map(|&at| i64::try_from(at).unwrap_or(0)).collect();
        let crops = if alone { crops.shallow_clone() } else { crops.f_index_select(0, &index(&own)?)? };
        Ok((regions.planes(&index(&places)?, &crops)?, of))
    };
    Ok(Planes::BySize(groups.into_values().map(paste).collect::<Result<_>>()?))
}

impl Planes {
    /// Brings the planes of all frames to the host, in one copy or in one for each size of regions.
    ///
    /// The copy is not pinned: the bytes are wanted at once, so there is nothing to overlap it with on the one stream that
    /// tch gives, and pinning a fresh buffer costs more than the 100 kB that a frame's region has.
    pub fn fetch(&self) -> Result<Vec<RegionPlanes>> {
        let groups = match self {
            Self::InOrder(planes, bytes) => {
                let all = fetched(planes)?;
                let mut rest = all.as_slice();
                let mut next = |bytes: &usize| {
                    let (data, after) = rest.split_at_checked(*bytes).unwrap_or_default();
                    rest = after;
                    RegionPlanes { data: data.to_vec() }
                };
                return Ok(bytes.iter().map(&mut next).collect());
            }
            Self::BySize(groups) => groups,
        };
        let mut frames = BTreeMap::new();
        for (planes, of) in groups {
            let all = fetched(planes)?;
            let each = all.chunks_exact((all.len() / of.len().max(1)).max(1));
            frames.extend(of.iter().zip(each).map(|(at, data)| (*at, RegionPlanes { data: data.to_vec() })));
        }
        Ok(frames.into_values().collect())
    }
}

/// The bytes of a tensor on the host.
fn fetched(bytes: &Tensor) -> Result<Vec<u8>> {
    let bytes = bytes.f_to_device(Device::Cpu)?;
    let mut all = vec![0; bytes.numel()];
    let total = all.len();
    bytes.f_copy_data_u8(&mut all, total)?;
    Ok(all)
}

impl Regions {
    /// Y, U and V of the regions at `places`, one after the other, `[m, bytes]`, from crops of `[m, side, side, 3]` bytes.
    fn planes(&self, places: &Tensor, crops: &Tensor) -> Result<Tensor> {
        let colour = self.scaled(places, crops)?.f_to_kind(Kind::Int)?;
        let own = self.own.f_index_select(0, places)?.f_to_kind(Kind::Int)?;
        let alpha = self.alpha.f_index_select(0, places)?.f_to_kind(Kind::Int)?;
        let rest = alpha.f_mul_scalar(-1)?.f_add_scalar(255)?;
        let total = colour.f_mul(&alpha)?.f_add(&own.f_mul(&rest)?)?.f_add_scalar(128)?;
        let mixed = shifted(&shifted(&total, 8)?.f_add(&total)?, 8)?;
        to_planes(&mixed)
    }

    /// The crops as the regions see them, `[m, h, w, 3]`: bilinear, in the order of steps of `picture::blend`.
    fn scaled(&self, places: &Tensor, crops: &Tensor) -> Result<Tensor> {
        let crops = crops.f_to_kind(Kind::Float)?;
        let count = crops.size4()?.0;
        let frame = Tensor::f_arange(count, (Kind::Int64, crops.device()))?.f_view([count, 1, 1])?;
        let (rows, columns) = (self.rows.at(places)?, self.columns.at(places)?);
        let pixels = |row: &Tensor, column: &Tensor| -> Result<Tensor> {
            Ok(crops.f_index(&[Some(&frame), Some(row), Some(column)])?)
        };
        let across = |row: &Tensor| -> Result<Tensor> {
            mix(&pixels(row, &columns.first)?, &pixels(row, &columns.second)?, &columns.between.f_unsqueeze(-1)?)
        };
        let value = mix(&across(&rows.first)?, &across(&rows.second)?, &rows.between.f_unsqueeze(-1)?)?;
        // Halves up, as in integers; libtorch's own rounding takes them to the even side.
        Ok(value.f_add_scalar(0.5)?.f_floor()?)
    }
}

impl Neighbours {
    /// Those of the regions at `places`.
    fn at(&self, places: &Tensor) -> Result<Self> {
        Ok(Self {
            first: self.first.f_index_select(0, places)?,
            second: self.second.f_index_select(0, places)?,
            between: self.between.f_index_select(0, places)?,
        })
    }
}

fn mix(one: &Tensor, other: &Tensor, between: &Tensor) -> Result<Tensor> {
    Ok(other.f_sub(one)?.f_mul(between)?.f_add(one)?)
}

fn shifted(values: &Tensor, bits: i64) -> Result<Tensor> {
    Ok(values.f_bitwise_right_shift_tensor_scalar(bits)?)
}

/// `[m, h, w, 3]` integers as I420 in BT.601's limited range, `[m, bytes]`.
fn to_planes(rgb: &Tensor) -> Result<Tensor> {
    let (count, height, width, _) = rgb.size4()?;
    let weighed = |rgb: &Tensor, weights: [i64; 3], round: i64, bits: i64, offset: i64| -> Result<Tensor> {
        let channel = |at: usize| rgb.f_select(-1, i64::try_from(at).unwrap_or(0))?.f_mul_scalar(weights[at]);
        let sum = channel(0)?.f_add(&channel(1)?)?.f_add(&channel(2)?)?.f_add_scalar(round)?;
        let levels = shifted(&sum, bits)?.f_add_scalar(offset)?.f_clamp(0, 255)?;
        Ok(levels.f_to_kind(Kind::Uint8)?.f_flatten(1, -1)?)
    };
    let squares = rgb.f_view([count, height / 2, 2, width / 2, 2, 3])?;
    let sums = squares.f_sum_dim_intlist([2i64, 4].as_slice(), false, Kind::Int)?;
    let luma = weighed(rgb, [66, 129, 25], 128, 8, 16)?;
    let blue = weighed(&sums, [-38, -74, 112], 512, 10, 128)?;
    let red = weighed(&sums, [112, -94, -18], 512, 10, 128)?;
    Ok(Tensor::f_cat(&[luma, blue, red], 1)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::{CropBox, I420Frame, MouthFrame, Region, blend, color};

    /// Numbers from a seed.
    fn noise(seed: u32, count: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    /// A picture's own frame with a region and a box of these places and sizes.
    fn own_frame(crop: CropBox, [left, top, columns, rows]: [u32; 4], seed: u32) -> AvatarFrame {
        let rgb = noise(seed, (columns * rows * 12) as usize);
        let region = Region { x: 2 * left, y: 2 * top, width: 2 * columns, height: 2 * rows, rgb };
        let picture = I420Frame { width: 64, height: 64, data: vec![9; 64 * 64 * 3 / 2] };
        AvatarFrame { picture: picture.into(), crop, region }
    }

    proptest! {
        /// Boxes of any size that may reach out of the region, masks and crops of other sizes than the box; regions of two
        /// sizes, frames of two avatars in any order.
        #[test]
        fn what_the_device_pastes_is_what_compose_pastes_to_the_bit(
            (x, y, width, height) in (-9..40i32, -9..40i32, 1..50u32, 1..50u32),
            (region, other) in ((0..12u32, 0..12u32, 1..12u32, 1..12u32), (0..12u32, 0..12u32, 1..12u32, 1..12u32)),
            (mask_side, side) in (1..40u32, 2..40u32),
            order in proptest::collection::vec((any::<bool>(), 0..3usize), 1..6),
            seed in any::<u32>(),
        ) {
            let crop = CropBox { x, y, width, height };
            let [region, other] = [region, other].map(|(left, top, columns, rows)| [left, top, columns, rows]);
            let frames = [(region, seed), (other, seed ^ 3), (region, seed ^ 7)];
            let own: Vec<AvatarFrame> = frames.map(|(region, seed)| own_frame(crop, region, seed)).into();
            let mask = Mask { width: mask_side, height: mask_side, alpha: noise(seed ^ 5, (mask_side * mask_side) as usize) };
            let avatars = [&own[..], &own[..]].map(|own| Canvas::of_frames(own, &mask, side, Device::Cpu).unwrap());
            let mouth = |at: usize| {
                let rgb = noise(seed ^ (at as u32 + 9), (side * side * 3) as usize);
                MouthFrame { width: side, height: side, rgb }
            };
            let crops: Vec<Tensor> = (0..order.len())
                .map(|at| Tensor::from_slice(&mouth(at).rgb).view([1, i64::from(side), i64::from(side), 3]))
                .collect();
            let picture = Tensor::cat(&crops, 0).permute([0, 3, 1, 2]).to_kind(Kind::Float) / 255.0 * 2.0 - 1.0;
            let asked: Vec<(&Canvas, usize)> =
                order.iter().map(|(second, pose)| (&avatars[usize::from(*second)], *pose)).collect();
            let planes = paste(&picture, 0, &asked).unwrap().fetch().unwrap();
            prop_assert_eq!(planes.len(), order.len());
            for (at, ((_, pose), planes)) in order.iter().zip(&planes).enumerate() {
                let own = &own[*pose];
                let mut pasted = own.picture.as_ref().clone();
                color::write_planes(&mut pasted, &own.region, &planes.data);
                prop_assert_eq!(&pasted, &blend::paste(own, &mask, &mouth(at)));
            }
        }
    }
}
