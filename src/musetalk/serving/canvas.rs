//! Pasting on the device: from the decoder's picture to the finished planes of the part of the frame that changes.
//!
//! In here: what an avatar's frames need for that, resident on the device, and the arithmetic of `picture::blend` and
//! `picture::color` as tensor work, to the bit on a CPU. Not in here: when it pays (`musetalk`): on a GPU, where whole crops
//! would have to be copied out; a CPU is quicker with plain integers. Runs on: the engine's thread.

use tch::{Device, Kind, Tensor};

use super::pixels::to_rgb8;
use crate::avatar::Avatar;
use crate::lipsync::LipSyncError;
use crate::musetalk::Result;
use crate::picture::RegionPlanes;
use crate::picture::blend::{Placing, neighbours};
use crate::picture::{AvatarFrame, Mask};

/// An avatar's own frames on the device.
#[derive(Debug)]
pub struct Canvas(Vec<Pose>);

/// The region of one own frame; `h` and `w` are its height and width.
#[derive(Debug)]
struct Pose {
    /// `[h, w, 3]` bytes
    own: Tensor,
    /// `[h, w, 1]` bytes
    alpha: Tensor,
    /// Which rows of the generated crop lie above and below each row of the region, and how far between them: `[h, 1, 1]`.
    rows: Neighbours,
    /// The same for columns: `[1, w, 1]`.
    columns: Neighbours,
}

#[derive(Debug)]
struct Neighbours {
    first: Tensor,
    second: Tensor,
    between: Tensor,
}

impl Neighbours {
    /// For `length` pixels of the region from `start` on, of a box of `destination` pixels at `origin` that shows `source`
    /// generated ones. Those outside of the box get the nearest; nothing of them is seen.
    fn new(
        (start, length): (u32, u32),
        (origin, destination): (i32, u32),
        source: u32,
        shape: [i64; 3],
        device: Device,
    ) -> Result<Self> {
        let (mut first, mut second, mut between) = (Vec::new(), Vec::new(), Vec::new());
        for at in start..start + length {
            let inside = (i64::from(at) - i64::from(origin)).clamp(0, i64::from(destination) - 1);
            let (one, other, weight) = neighbours(u32::try_from(inside).unwrap_or(0), destination, source);
            first.push(i64::from(one));
            second.push(i64::from(other));
            between.push(weight);
        }
        Ok(Self {
            first: Tensor::f_from_slice(&first)?.f_to_device(device)?,
            second: Tensor::f_from_slice(&second)?.f_to_device(device)?,
            between: Tensor::f_from_slice(&between)?.f_view(shape)?.f_to_device(device)?,
        })
    }
}

impl Canvas {
    /// For crops of `side` by `side` pixels.
    pub fn new(avatar: &Avatar, side: u32, device: Device) -> Result<Self> {
        let pose = |frame| Pose::new(frame, &avatar.mask, side, device);
        Ok(Self(avatar.frames().iter().map(pose).collect::<Result<_>>()?))
    }

    /// Pastes the crops of a picture, `[n, 3, side, side]`, each into the own frame of its pose: for each its planes.
    pub fn paste(&self, picture: &Tensor, poses: &[usize]) -> Result<Vec<Tensor>> {
        let crops = to_rgb8(picture)?;
        let pasted = (0i64..).zip(poses).map(|(at, &pose)| {
            let own = self.0.get(pose).ok_or_else(|| LipSyncError::Latents {
                path: String::new(),
                problem: format!("pose {pose} was asked for, the avatar has {} frames", self.0.len()),
            })?;
            own.planes(&crops.f_get(at)?)
        });
        pasted.collect()
    }
}

/// Brings the planes of all frames of a batch to the host in one copy.
///
/// The copy is not pinned: the bytes are wanted at once, so there is nothing to overlap it with on the one stream that
/// tch gives, and pinning a fresh buffer costs more than the 100 kB that a frame's region has.
pub fn fetch(planes: &[Tensor]) -> Result<Vec<RegionPlanes>> {
    let bytes = Tensor::f_cat(planes, 0)?.f_to_device(Device::Cpu)?;
    let mut all = vec![0; bytes.numel()];
    let total = all.len();
    bytes.f_copy_data_u8(&mut all, total)?;
    let mut rest = all.as_slice();
    let cut = planes.iter().map(|planes| {
        let (own, after) = rest.split_at(planes.numel().min(rest.len()));
        rest = after;
        RegionPlanes { data: own.to_vec() }
    });
    Ok(cut.collect())
}

impl Pose {
    fn new(own: &AvatarFrame, mask: &Mask, side: u32, device: Device) -> Result<Self> {
        let (region, crop) = (&own.region, own.crop);
        let (height, width) = (i64::from(region.height), i64::from(region.width));
        let bytes = |data: &[u8], channels: i64| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(data)?.f_view([height, width, channels])?.f_to_device(device)?)
        };
        let alpha = Placing { region, crop }.alpha(mask);
        let rows = (region.y, region.height);
        let columns = (region.x, region.width);
        Ok(Self {
            own: bytes(&region.rgb, 3)?,
            alpha: bytes(&alpha, 1)?,
            rows: Neighbours::new(rows, (crop.y, crop.height), side, [height, 1, 1], device)?,
            columns: Neighbours::new(columns, (crop.x, crop.width), side, [1, width, 1], device)?,
        })
    }

    /// Y, U and V of the region, one after the other, from a crop of `[side, side, 3]` bytes.
    fn planes(&self, crop: &Tensor) -> Result<Tensor> {
        let colour = self.scaled(crop)?.f_to_kind(Kind::Int)?;
        let (own, alpha) = (self.own.f_to_kind(Kind::Int)?, self.alpha.f_to_kind(Kind::Int)?);
        let rest = alpha.f_mul_scalar(-1)?.f_add_scalar(255)?;
        let total = colour.f_mul(&alpha)?.f_add(&own.f_mul(&rest)?)?.f_add_scalar(128)?;
        let mixed = shifted(&shifted(&total, 8)?.f_add(&total)?, 8)?;
        to_planes(&mixed)
    }

    /// The crop as the region sees it, `[h, w, 3]`: bilinear, in the order of steps of `picture::blend`.
    fn scaled(&self, crop: &Tensor) -> Result<Tensor> {
        let crop = crop.f_to_kind(Kind::Float)?;
        let across = |row: &Tensor| -> Result<Tensor> {
            let line = crop.f_index_select(0, row)?;
            let left = line.f_index_select(1, &self.columns.first)?;
            let right = line.f_index_select(1, &self.columns.second)?;
            mix(&left, &right, &self.columns.between)
        };
        let value = mix(&across(&self.rows.first)?, &across(&self.rows.second)?, &self.rows.between)?;
        // Halves up, as in integers; libtorch's own rounding takes them to the even side.
        Ok(value.f_add_scalar(0.5)?.f_floor()?)
    }
}

fn mix(one: &Tensor, other: &Tensor, between: &Tensor) -> Result<Tensor> {
    Ok(other.f_sub(one)?.f_mul(between)?.f_add(one)?)
}

fn shifted(values: &Tensor, bits: i64) -> Result<Tensor> {
    Ok(values.f_bitwise_right_shift_tensor_scalar(bits)?)
}

/// `[h, w, 3]` integers as I420 in BT.601's limited range, flat.
fn to_planes(rgb: &Tensor) -> Result<Tensor> {
    let (height, width, _) = rgb.size3()?;
    let weighed = |rgb: &Tensor, weights: [i64; 3], round: i64, bits: i64, offset: i64| -> Result<Tensor> {
        let channel = |at: usize| rgb.f_select(-1, i64::try_from(at).unwrap_or(0))?.f_mul_scalar(weights[at]);
        let sum = channel(0)?.f_add(&channel(1)?)?.f_add(&channel(2)?)?.f_add_scalar(round)?;
        let levels = shifted(&sum, bits)?.f_add_scalar(offset)?.f_clamp(0, 255)?;
        Ok(levels.f_to_kind(Kind::Uint8)?.f_flatten(0, -1)?)
    };
    let squares = rgb.f_view([height / 2, 2, width / 2, 2, 3])?;
    let sums = squares.f_sum_dim_intlist([1i64, 3].as_slice(), false, Kind::Int)?;
    let luma = weighed(rgb, [66, 129, 25], 128, 8, 16)?;
    let blue = weighed(&sums, [-38, -74, 112], 512, 10, 128)?;
    let red = weighed(&sums, [112, -94, -18], 512, 10, 128)?;
    Ok(Tensor::f_cat(&[luma, blue, red], 0)?)
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

    proptest! {
        /// Boxes of any size that may reach out of the region, masks and crops of other sizes than the box.
        #[test]
        fn what_the_device_pastes_is_what_compose_pastes_to_the_bit(
            (x, y, width, height) in (-9..40i32, -9..40i32, 1..50u32, 1..50u32),
            (left, top, columns, rows) in (0..12u32, 0..12u32, 1..12u32, 1..12u32),
            (mask_side, side) in (1..40u32, 2..40u32),
            seed in any::<u32>(),
        ) {
            let rgb = noise(seed, (columns * rows * 12) as usize);
            let region = Region { x: 2 * left, y: 2 * top, width: 2 * columns, height: 2 * rows, rgb };
            let picture = I420Frame { width: 64, height: 64, data: vec![9; 64 * 64 * 3 / 2] };
            let own = AvatarFrame { picture: picture.into(), crop: CropBox { x, y, width, height }, region };
            let mask = Mask { width: mask_side, height: mask_side, alpha: noise(seed ^ 5, (mask_side * mask_side) as usize) };
            let mouth = MouthFrame { width: side, height: side, rgb: noise(seed ^ 9, (side * side * 3) as usize) };

            let pose = Pose::new(&own, &mask, side, Device::Cpu).unwrap();
            let crop = Tensor::from_slice(&mouth.rgb).view([i64::from(side), i64::from(side), 3]);
            let planes = pose.planes(&crop).unwrap();
            let mut data = vec![0; planes.numel()];
            planes.copy_data_u8(&mut data, planes.numel());

            let mut pasted = own.picture.as_ref().clone();
            color::write_planes(&mut pasted, &own.region, &data);
            prop_assert_eq!(pasted, blend::paste(&own, &mask, &mouth));
        }
    }
}
