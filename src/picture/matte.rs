//! Mattes: how opaque each pixel of an avatar is, carried by its frames beside the colours.
//!
//! In here: where a matte lies in a frame, and putting both together and apart. A frame of a picture that has a matte is twice
//! as large: the colours are its left or upper half, the matte is the other one, in luma alone, so that whatever encodes,
//! scales or sends frames need not know of it. Luma 16 is transparent, 235 opaque, linear between; chroma is 128. Colours are
//! straight, not multiplied with the matte, and go on behind it (`extension`), so that nothing of an old background is seen
//! where an encoder or chroma of half the resolution mixes neighbours. Not in here: making mattes (`preparation`), showing
//! them (`client/matte.js`).

use super::{Cutout, I420Frame, Mask, RgbPicture, color};

/// Where the matte lies in a frame. The shorter side is doubled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MattePlace {
    /// The right half of the frame.
    Beside,
    /// The lower half of the frame.
    Below,
}

impl MattePlace {
    /// Where that of a picture of this size lies.
    pub const fn of(width: u32, height: u32) -> Self {
        if width > height { Self::Below } else { Self::Beside }
    }

    /// As programs are told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Beside => "beside",
            Self::Below => "below",
        }
    }

    /// Of the frame, for a picture of this size, in pixels.
    pub const fn frame_size(self, (width, height): (u32, u32)) -> (u32, u32) {
        match self {
            Self::Beside => (width.saturating_mul(2), height),
            Self::Below => (width, height.saturating_mul(2)),
        }
    }

    /// Lays the rows of one half and the other into those of both; each is of that many bytes a row.
    fn join(self, one: &[u8], other: &[u8], row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Below => out.extend(one.iter().chain(other)),
            Self::Beside => {
                for (one, other) in one.chunks_exact(row.max(1)).zip(other.chunks_exact(row.max(1))) {
                    out.extend_from_slice(one);
                    out.extend_from_slice(other);
                }
            }
        }
    }

    /// The rows of one half and of the other, each of that many bytes.
    fn part(self, both: &[u8], row: usize, one: &mut Vec<u8>, other: &mut Vec<u8>) {
        match self {
            Self::Below => {
                let (upper, lower) = both.split_at(both.len() / 2);
                one.extend_from_slice(upper);
                other.extend_from_slice(lower);
            }
            Self::Beside => {
                for row_of_both in both.chunks_exact(row.max(1) * 2) {
                    let (left, right) = row_of_both.split_at(row);
                    one.extend_from_slice(left);
                    other.extend_from_slice(right);
                }
            }
        }
    }
}

/// A frame of a picture and its matte, which is of the same size; one of another size is taken as opaque.
pub fn framed(colours: &I420Frame, matte: &Mask) -> I420Frame {
    let (width, height) = (colours.width, colours.height);
    let place = MattePlace::of(width, height);
    let luma = width as usize * height as usize;
    let levels: Vec<u8> = match (matte.width, matte.height) == (width, height) {
        true => matte.alpha.iter().map(|alpha| LIMITED[usize::from(*alpha)]).collect(),
        false => vec![LIMITED[255]; luma],
    };
    let (frame_width, frame_height) = place.frame_size((width, height));
    let mut data = Vec::with_capacity(luma * 3);
    let (own, chroma) = colours.data.split_at_checked(luma).unwrap_or_default();
    place.join(own, &levels, width as usize, &mut data);
    let none = vec![128; luma / 4];
    for plane in chroma.chunks_exact((luma / 4).max(1)) {
        place.join(plane, &none, width as usize / 2, &mut data);
    }
    I420Frame { width: frame_width, height: frame_height, data }
}

/// The same of RGB, as it is kept in a film; a picture without a matte stays as it is.
pub fn framed_rgb(cutout: &Cutout) -> std::borrow::Cow<'_, RgbPicture> {
    let Cutout { picture, matte } = cutout;
    let Some(matte) = matte else { return std::borrow::Cow::Borrowed(picture) };
    let place = MattePlace::of(picture.width, picture.height);
    let grey: Vec<u8> = matte.alpha.iter().flat_map(|alpha| [*alpha; 3]).collect();
    let mut rgb = Vec::with_capacity(picture.rgb.len() * 2);
    place.join(&picture.rgb, &grey, picture.width as usize * 3, &mut rgb);
    let (width, height) = place.frame_size((picture.width, picture.height));
    std::borrow::Cow::Owned(RgbPicture { width, height, rgb })
}

/// A frame as two: the colours, and the matte as a grey picture of its luma. Each is of `size`, half of the frame.
pub fn parted(frame: &I420Frame, (width, height): (u32, u32)) -> [I420Frame; 2] {
    let place = MattePlace::of(width, height);
    let (row, luma) = (width as usize, width as usize * height as usize);
    let (mut colours, mut matte) = (Vec::with_capacity(luma * 3 / 2), Vec::with_capacity(luma * 3 / 2));
    let (both, chroma) = frame.data.split_at_checked(luma * 2).unwrap_or_default();
    place.part(both, row, &mut colours, &mut matte);
    for both in chroma.chunks_exact((luma / 2).max(1)) {
        place.part(both, row / 2, &mut colours, &mut matte);
    }
    [colours, matte].map(|data| I420Frame { width, height, data })
}

/// A frame as a picture that is cut out; of `size`, half of the frame.
pub fn cutout(frame: &I420Frame, (width, height): (u32, u32)) -> Cutout {
    let [colours, matte] = parted(frame, (width, height));
    let luma = matte.data.iter().take(width as usize * height as usize);
    let alpha = luma.map(|level| full_range(*level)).collect();
    Cutout { picture: color::i420_to_rgb(&colours), matte: Some(Mask { width, height, alpha }) }
}

/// The opacity that a level of a matte's luma stands for, 0 to 255.
pub fn full_range(level: u8) -> u8 {
    let above = u32::from(level.saturating_sub(16)).min(219);
    u8::try_from((above * 255 + 109) / 219).unwrap_or(u8::MAX)
}

/// Opacity as luma.
const LIMITED: [u8; 256] = {
    let mut levels = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "16 to 235")]
        {
            levels[at] = (16 + (at * 219 + 127) / 255) as u8;
        }
        at += 1;
    }
    levels
};

#[cfg(test)]
mod tests {
    use super::*;

    fn cutout(width: u32, height: u32) -> Cutout {
        let count = width * height;
        let rgb = (0..count * 3).map(|at| (at * 31 % 251) as u8).collect();
        let alpha = (0..count).map(|at| (at * 7 % 256) as u8).collect();
        Cutout { picture: RgbPicture { width, height, rgb }, matte: Some(Mask { width, height, alpha }) }
    }

    #[test]
    fn a_frame_has_its_colours_to_the_bit_and_its_matte_from_16_to_235() {
        for (width, height, size) in [(8, 6, (8, 12)), (6, 8, (12, 8)), (8, 8, (16, 8))] {
            let Cutout { picture, matte } = cutout(width, height);
            let colours = color::rgb_to_i420(&picture.rgb, width, height);
            let frame = framed(&colours, matte.as_ref().unwrap());
            assert_eq!((frame.width, frame.height), size);
            assert_eq!(frame.data.len() as u32, width * height * 3);
            let [own, grey] = parted(&frame, (width, height));
            assert_eq!(own, colours);
            let luma = (width * height) as usize;
            assert!(grey.data[luma..].iter().all(|chroma| *chroma == 128));
            let back = super::cutout(&frame, (width, height)).matte.unwrap().alpha;
            assert!(back.iter().zip(&matte.as_ref().unwrap().alpha).all(|(is, was)| is.abs_diff(*was) <= 1));
            for (level, alpha) in grey.data.iter().zip(&matte.unwrap().alpha) {
                let exact = 16.0 + 219.0 * f32::from(*alpha) / 255.0;
                assert!((f32::from(*level) - exact).abs() <= 0.5, "{alpha} became {level}");
            }
        }
    }

    #[test]
    fn a_frame_of_rgb_is_the_same_frame() {
        let cutout = cutout(8, 8);
        let joined = framed_rgb(&cutout);
        let frame = color::rgb_to_i420(&joined.rgb, joined.width, joined.height);
        let colours = color::rgb_to_i420(&cutout.picture.rgb, 8, 8);
        let expected = framed(&colours, cutout.matte.as_ref().unwrap());
        assert_eq!((frame.width, frame.height), (16, 8));
        assert!(frame.data.iter().zip(&expected.data).all(|(one, other)| one.abs_diff(*other) <= 1));
        let opaque = Cutout { matte: None, ..cutout.clone() };
        assert_eq!(*framed_rgb(&opaque), cutout.picture);
    }
}
