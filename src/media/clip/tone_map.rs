//! HDR to SDR: light of up to 10 000 cd/m2 and BT.2020's colours, as a screen of sRGB shows them.
//!
//! In here: arithmetic on R'G'B' of 16 bits: PQ and HLG (ITU-R BT.2100-2) to light, its compression (the EETF of ITU-R
//! BT.2390-10, 5.4, on the largest of the three so that hues stay), BT.2020's primaries to BT.709's (BT.2087-0), sRGB's
//! curve. White of SDR is 203 cd/m2 (BT.2408-5). Not in here: YUV to RGB and scaling (`render`).

use gst_video::{VideoColorPrimaries, VideoTransferFunction};
use gstreamer_video as gst_video;

/// Of SDR's white, in cd/m2.
const WHITE: f32 = 203.0;
/// Of PQ's largest code.
const PQ_PEAK: f32 = 10_000.0;
/// What HLG is graded for, and most of PQ; a stream may say that it is brighter.
const USUAL_PEAK: f32 = 1_000.0;
/// HLG's system gamma for that peak.
const HLG_GAMMA: f32 = 1.2;
/// What SDR of wide colours is shown with (BT.1886).
const SDR_GAMMA: f32 = 2.4;
/// Entries of a table over codes; a code's upper 12 bits choose one.
const CODES: usize = 4096;
/// Entries of tables over light, by its square root, so that the dark has more.
const LIGHTS: usize = 4096;

/// How colours of one kind become sRGB's.
#[derive(Debug)]
pub(in crate::media) struct ToneMap {
    /// Light of a code: cd/m2 of PQ, the scene's light of HLG from 0 to 1, SDR's from 0 to white.
    light: Vec<f32>,
    /// What a screen makes of HLG's light, by the root of the pixel's; empty of others.
    system: Vec<f32>,
    /// What light is multiplied with, by the root of the brightest of its colours; leads from cd/m2 to 1 for white.
    gain: Vec<f32>,
    /// sRGB of light from 0 to 1, by its root.
    level: Vec<u8>,
    is_wide: bool,
}

impl ToneMap {
    /// What a stream needs, `None` if its colours are a screen's own. `brightest` is its own word on it, in cd/m2.
    pub fn of(info: &gst_video::VideoInfo, brightest: Option<f32>) -> Option<Self> {
        let colours = info.colorimetry();
        let is_wide = colours.primaries() == VideoColorPrimaries::Bt2020;
        let transfer = colours.transfer();
        let is_hdr = matches!(transfer, VideoTransferFunction::Smpte2084 | VideoTransferFunction::AribStdB67);
        (is_hdr || is_wide).then(|| Self::new(transfer, is_wide, brightest.unwrap_or(USUAL_PEAK)))
    }

    fn new(transfer: VideoTransferFunction, is_wide: bool, brightest: f32) -> Self {
        let peak = brightest.clamp(WHITE, PQ_PEAK);
        let codes = |curve: fn(f32) -> f32| (0..CODES).map(|code| curve(code as f32 / (CODES - 1) as f32)).collect();
        let lights = || (0..LIGHTS).map(|at| (at as f32 / (LIGHTS - 1) as f32).powi(2));
        let level = lights().map(srgb).collect();
        let compressed: Vec<f32> = lights().map(|light| gain(light * PQ_PEAK, peak)).collect();
        let (light, gain) = match transfer {
            VideoTransferFunction::Smpte2084 => (codes(pq_to_light), compressed),
            VideoTransferFunction::AribStdB67 => (codes(hlg_to_scene), compressed),
            _ => (codes(|code| code.powf(SDR_GAMMA) * WHITE), vec![1.0 / WHITE; LIGHTS]),
        };
        let system = match transfer {
            VideoTransferFunction::AribStdB67 => {
                lights().map(|light| USUAL_PEAK * light.powf(HLG_GAMMA - 1.0)).collect()
            }
            _ => Vec::new(),
        };
        Self { light, system, gain, level, is_wide }
    }

    /// One pixel of R, G, B and alpha, 16 bits each, the small end first.
    pub fn apply(&self, pixel: &[u8; 8]) -> [u8; 3] {
        let [_, red, _, green, _, blue, ..] = *pixel;
        let [low_red, _, low_green, _, low_blue, ..] = *pixel;
        let code = |high: u8, low: u8| usize::from(u16::from_le_bytes([low, high]) >> 4);
        let of = |code: usize| self.light.get(code).copied().unwrap_or_default();
        let mut rgb = [of(code(red, low_red)), of(code(green, low_green)), of(code(blue, low_blue))];
        // The primaries are BT.2020's, whose luminance this is (BT.2100-2, table 5).
        if let Some(display) = at_root(&self.system, 0.2627 * rgb[0] + 0.678 * rgb[1] + 0.0593 * rgb[2]) {
            rgb = rgb.map(|scene| scene * display);
        }
        let brightest = rgb.iter().copied().fold(0.0, f32::max);
        let gain = at_root(&self.gain, brightest / PQ_PEAK).copied().unwrap_or_default();
        rgb = rgb.map(|light| light * gain);
        if self.is_wide {
            rgb = within_gamut(to_bt709(rgb));
        }
        rgb.map(|light| at_root(&self.level, light).copied().unwrap_or_default())
    }
}

/// The entry of a table over the roots of 0 to 1.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and what is no number is 0"
)]
fn at_root<T>(table: &[T], light: f32) -> Option<&T> {
    let last = table.len().checked_sub(1)?;
    table.get(((light.sqrt() * last as f32 + 0.5) as usize).min(last))
}

/// BT.2100-2, table 4: cd/m2 of PQ's code from 0 to 1.
fn pq_to_light(code: f32) -> f32 {
    let (m1, m2) = (2610.0 / 16_384.0, 2523.0 / 4096.0 * 128.0);
    let (c1, c2, c3) = (3424.0 / 4096.0, 2413.0 / 4096.0 * 32.0, 2392.0 / 4096.0 * 32.0);
    let root = code.powf(1.0 / m2);
    PQ_PEAK * ((root - c1).max(0.0) / (c2 - c3 * root)).powf(1.0 / m1)
}

/// And back.
fn light_to_pq(light: f32) -> f32 {
    let (m1, m2) = (2610.0 / 16_384.0, 2523.0 / 4096.0 * 128.0);
    let (c1, c2, c3) = (3424.0 / 4096.0, 2413.0 / 4096.0 * 32.0, 2392.0 / 4096.0 * 32.0);
    let power = (light.max(0.0) / PQ_PEAK).powf(m1);
    ((c1 + c2 * power) / (1.0 + c3 * power)).powf(m2)
}

/// BT.2100-2, table 5: the scene's light from 0 to 1 of HLG's code.
fn hlg_to_scene(code: f32) -> f32 {
    let (a, b, c) = (0.178_832_77, 0.284_668_92, 0.559_910_7);
    if code <= 0.5 { code * code / 3.0 } else { (((code - c) / a).exp() + b) / 12.0 }
}

/// What light of the brightest colour is multiplied with so that the stream's peak is white, with 1 for white.
fn gain(light: f32, peak: f32) -> f32 {
    if light <= 0.0 {
        return 1.0 / WHITE;
    }
    let top = light_to_pq(peak);
    let (code, most) = ((light_to_pq(light) / top).min(1.0), light_to_pq(WHITE) / top);
    let knee = 1.5 * most - 0.5;
    let mapped = if code < knee || most >= 1.0 {
        code
    } else {
        let t = (code - knee) / (1.0 - knee);
        let (square, cube) = (t * t, t * t * t);
        (2.0 * cube - 3.0 * square + 1.0) * knee
            + (cube - 2.0 * square + t) * (1.0 - knee)
            + (3.0 * square - 2.0 * cube) * most
    };
    pq_to_light(mapped * top) / light / WHITE
}

/// BT.2087-0: linear light of BT.2020's primaries in those of BT.709.
fn to_bt709([red, green, blue]: [f32; 3]) -> [f32; 3] {
    [
        1.660_5 * red - 0.587_6 * green - 0.072_8 * blue,
        -0.124_6 * red + 1.132_9 * green - 0.008_3 * blue,
        -0.018_2 * red - 0.100_6 * green + 1.118_7 * blue,
    ]
}

/// A colour that a screen does not have gets as much grey as it needs; its luminance stays.
fn within_gamut(rgb: [f32; 3]) -> [f32; 3] {
    let luminance = (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]).clamp(0.0, 1.0);
    let least = rgb.iter().copied().fold(f32::INFINITY, f32::min);
    let most = rgb.iter().copied().fold(0.0, f32::max);
    if least >= 0.0 && most <= 1.0 {
        return rgb;
    }
    let mut keep: f32 = 1.0;
    if least < 0.0 {
        keep = keep.min(luminance / (luminance - least));
    }
    if most > 1.0 {
        keep = keep.min((1.0 - luminance) / (most - luminance));
    }
    rgb.map(|light| (luminance + (light - luminance) * keep).clamp(0.0, 1.0))
}

/// IEC 61966-2-1.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255, and the cast saturates")]
fn srgb(light: f32) -> u8 {
    let code = if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
    (code * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const PQ: VideoTransferFunction = VideoTransferFunction::Smpte2084;
    const HLG: VideoTransferFunction = VideoTransferFunction::AribStdB67;

    fn mapped(map: &ToneMap, rgb: [f32; 3]) -> [u8; 3] {
        let mut pixel = [255; 8];
        for (bytes, code) in pixel.chunks_mut(2).zip(rgb) {
            bytes.copy_from_slice(&((code * 65_535.0).round() as u16).to_le_bytes());
        }
        map.apply(&pixel)
    }

    #[test]
    fn pq_and_its_inverse_agree_with_the_recommendation() {
        for (light, code) in [(0.0, 0.0), (100.0, 0.508), (203.0, 0.5807), (1000.0, 0.7518), (10_000.0, 1.0)] {
            assert!((light_to_pq(light) - code).abs() < 1e-3, "{light}: {}", light_to_pq(light));
            assert!((pq_to_light(light_to_pq(light)) - light).abs() <= light * 2e-3, "{light}");
        }
    }

    #[test]
    fn hlg_agrees_with_the_recommendation() {
        for (code, scene) in [(0.0, 0.0), (0.5, 1.0 / 12.0), (1.0, 1.0)] {
            assert!((hlg_to_scene(code) - scene).abs() < 1e-3, "{code}");
        }
        // 75 % is SDR's white: 203 cd/m2 on a screen of 1000.
        let scene = hlg_to_scene(0.75);
        assert!((USUAL_PEAK * scene.powf(HLG_GAMMA) - 203.0).abs() < 2.0);
    }

    #[test]
    fn greys_stay_grey_in_order_and_reach_from_black_to_white() {
        for transfer in [PQ, HLG] {
            let map = ToneMap::new(transfer, true, USUAL_PEAK);
            let greys: Vec<u8> = (0..=100)
                .map(|code| {
                    let [red, green, blue] = mapped(&map, [code as f32 / 100.0; 3]);
                    assert!(red.abs_diff(green) <= 1 && green.abs_diff(blue) <= 1, "{transfer:?} {code}");
                    green
                })
                .collect();
            assert!(greys.is_sorted(), "{greys:?}");
            assert_eq!((greys[0], greys[100]), (0, 255));
            let white = mapped(&map, [if transfer == PQ { 0.5807 } else { 0.75 }; 3])[1];
            assert!((215..250).contains(&white), "{transfer:?}: SDR's white becomes {white}");
        }
    }

    #[test]
    fn skin_in_hdr_is_as_bright_as_in_sdr() {
        // 40 cd/m2 of a scene whose white is 203 are 0.197 of it, which sRGB writes as 123.
        let grey = mapped(&ToneMap::new(PQ, true, USUAL_PEAK), [light_to_pq(40.0); 3])[0];
        assert!(grey.abs_diff(123) <= 1, "{grey}");
    }

    #[test]
    fn colours_that_a_screen_has_not_lose_saturation_and_no_hue() {
        let [red, green, blue] = mapped(&ToneMap::new(PQ, true, USUAL_PEAK), [0.0, light_to_pq(100.0), 0.0]);
        assert!(green > 150 && red < green / 2 + 40 && blue < green / 2 + 40, "{red} {green} {blue}");
        assert_eq!(within_gamut([0.2, 0.5, 0.9]), [0.2, 0.5, 0.9]);
    }

    #[test]
    fn wide_colours_of_sdr_keep_their_greys() {
        let map = ToneMap::new(VideoTransferFunction::Bt709, true, USUAL_PEAK);
        let greys: Vec<u8> = (0..=10).map(|code| mapped(&map, [code as f32 / 10.0; 3])[0]).collect();
        assert!(greys.is_sorted() && greys[0] == 0 && greys[10] == 255, "{greys:?}");
    }
}
