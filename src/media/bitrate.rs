//! How many bits a second an encoder is given for pictures of a size.
//!
//! In here: the rule, and passing it on to a running encoder when the size or what its viewers take changes. Not in
//! here: the names of an encoder's properties, which its description has (`description`). Runs on: whoever asks; a
//! change of size, on the encoder's own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::Description;
use super::rungs::Rung;

/// What is enough for a talking face of 512x512 at 25 fps.
const ENOUGH: f64 = 1_500_000.0;
const PIXELS: f64 = 512.0 * 512.0;
/// Larger pictures have larger areas in which nothing happens: four times the pixels need 2.8 times the bits.
const EXPONENT: f64 = 0.75;
/// A picture of a few pixels is still recognised, and the largest is still played by a phone.
const RANGE: (f64, f64) = (200_000.0, 12_000_000.0);

/// Bits a second for pictures of this size, in pixels, at 25 fps, on a rung.
pub(super) fn bitrate(width: u32, height: u32, rung: Rung) -> u32 {
    let pixels = f64::from(width) * f64::from(height);
    let bits = (ENOUGH * (pixels / PIXELS).powf(EXPONENT)).clamp(RANGE.0, RANGE.1) * rung.share();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the range")]
    let thousands = (bits / 1000.0).round() as u32;
    thousands * 1000
}

/// The placeholders of it in a publish description.
pub(super) fn values(bits: u32) -> [(&'static str, String); 3] {
    [
        ("bitrate", bits.to_string()),
        ("bitrate_kbps", (bits / 1000).to_string()),
        ("max_bitrate_kbps", (bits / 750).to_string()),
    ]
}

/// The bits of one encoder while it runs: as many as its pictures need, fewer if its viewers cannot take them.
#[derive(Debug)]
pub(super) struct EncoderRate {
    /// What the pictures need.
    most: AtomicU32,
    wanted: AtomicU32,
    /// What the encoder has.
    set: AtomicU32,
    /// Its properties that are a bitrate, each with its placeholder.
    properties: Vec<(String, String)>,
}

impl EncoderRate {
    /// Has an encoder follow what is wanted and the size of what `source` gives: what its description writes as a bitrate is
    /// set anew, on the encoder's own thread before the next picture comes to it. What the description has as a number stays.
    pub fn follow(
        encoder: &gst::Element,
        source: &gst::Element,
        description: &Description,
        (width, height): (u32, u32),
        rung: Rung,
    ) -> Arc<Self> {
        let has = |(property, _): &(String, String)| encoder.find_property(property).is_some();
        let names = values(0).map(|(name, _)| name);
        let properties = description.properties_of(&names).into_iter().filter(has).collect();
        let most = bitrate(width, height, rung);
        let [most, wanted, set] = [most, u32::MAX, most].map(AtomicU32::new);
        let rate = Arc::new(Self { most, wanted, set, properties });
        if let Some(pad) = source.static_pad("src") {
            let rate = Arc::clone(&rate);
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
                if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
                    && let Some((width, height)) = size_of(caps.caps())
                {
                    rate.most.store(bitrate(width, height, rung), Ordering::Relaxed);
                }
                gst::PadProbeReturn::Ok
            });
        }
        if let Some(pad) = encoder.static_pad("sink") {
            let rate = Arc::clone(&rate);
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER, move |pad, _| {
                if let Some(encoder) = pad.parent_element() {
                    rate.apply(&encoder);
                }
                gst::PadProbeReturn::Ok
            });
        }
        rate
    }

    /// Bits a second; never more than the pictures need.
    pub fn want(&self, bits: u32) {
        self.wanted.store(bits, Ordering::Relaxed);
    }

    fn apply(&self, encoder: &gst::Element) {
        let bits = self.wanted.load(Ordering::Relaxed).min(self.most.load(Ordering::Relaxed));
        let set = self.set.load(Ordering::Relaxed);
        // An encoder takes a new rate at a price, so small steps are left out.
        let is_near = bits.abs_diff(set) < set / 20 && bits != self.most.load(Ordering::Relaxed);
        if is_near || bits == set {
            return;
        }
        self.set.store(bits, Ordering::Relaxed);
        let values = values(bits);
        for (property, placeholder) in &self.properties {
            if let Some((_, value)) = values.iter().find(|(name, _)| name == placeholder) {
                encoder.set_property_from_str(property, value);
            }
        }
    }
}

fn size_of(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let structure = caps.structure(0)?;
    let length = |name| structure.get::<i32>(name).ok().and_then(|length| u32::try_from(length).ok());
    Some((length("width")?, length("height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(width: u32, height: u32) -> u32 {
        bitrate(width, height, Rung::Full)
    }

    #[test]
    fn larger_pictures_have_more_bits_and_fewer_a_pixel() {
        assert_eq!(of(512, 512), 1_500_000);
        assert_eq!(of(1024, 1024), 4_243_000);
        assert_eq!(of(1080, 1920), 7_075_000);
        assert_eq!(of(1920, 1920), 10_893_000);
        assert_eq!((of(16, 16), of(8192, 8192)), (200_000, 12_000_000));
        let sizes: Vec<u32> = (1..=30).map(|step| step * 64).collect();
        for pair in sizes.windows(2) {
            let [small, large] = [pair[0], pair[1]].map(|size| (of(size, size), size * size));
            assert!(
                large.0 >= small.0
                    && u64::from(large.0) * u64::from(small.1) <= u64::from(small.0) * u64::from(large.1)
            );
        }
    }
}
