//! How many bits a second an encoder is given for pictures of a size.
//!
//! In here: the rule, and passing it on to a running encoder when the size changes. Not in here: the names of an encoder's
//! properties, which its description has (`description`). Runs on: whoever asks; a change of size, on the encoder's own thread.

use std::sync::{Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::Description;

/// What is enough for a talking face of 512x512 at 25 fps.
const ENOUGH: f64 = 1_500_000.0;
const PIXELS: f64 = 512.0 * 512.0;
/// Larger pictures have larger areas in which nothing happens: four times the pixels need 2.8 times the bits.
const EXPONENT: f64 = 0.75;
/// A picture of a few pixels is still recognised, and the largest is still played by a phone.
const RANGE: (f64, f64) = (200_000.0, 12_000_000.0);

/// Bits a second for pictures of this size, in pixels, at 25 fps.
pub(super) fn bitrate(width: u32, height: u32) -> u32 {
    let pixels = f64::from(width) * f64::from(height);
    let bits = (ENOUGH * (pixels / PIXELS).powf(EXPONENT)).clamp(RANGE.0, RANGE.1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the range")]
    let thousands = (bits / 1000.0).round() as u32;
    thousands * 1000
}

/// The placeholders of it in a publish description.
pub(super) fn values(width: u32, height: u32) -> [(&'static str, String); 3] {
    let bits = bitrate(width, height);
    [
        ("bitrate", bits.to_string()),
        ("bitrate_kbps", (bits / 1000).to_string()),
        ("max_bitrate_kbps", (bits / 750).to_string()),
    ]
}

/// Has an encoder follow the size of what it is given: before pictures of another size come to it, it is given
/// anew what its description writes as a bitrate. What the description has as a number stays.
pub(super) fn follow_size(encoder: &gst::Element, description: &Description) {
    let Some(pad) = encoder.static_pad("sink") else { return };
    let has = |(property, _): &(String, String)| encoder.find_property(property).is_some();
    let names = values(0, 0).map(|(name, _)| name);
    let given: Vec<(String, String)> = description.properties_of(&names).into_iter().filter(has).collect();
    // Only this pad's streaming thread takes the lock.
    let last = Mutex::new(None);
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let size = info.event().and_then(|event| match event.view() {
            gst::EventView::Caps(caps) => size_of(caps.caps()),
            _ => None,
        });
        if let (Some((width, height)), Some(encoder)) = (size, pad.parent_element())
            && let Some(before) = last.lock().unwrap_or_else(PoisonError::into_inner).replace((width, height))
            && before != (width, height)
        {
            let values = values(width, height);
            for (property, placeholder) in &given {
                if let Some((_, value)) = values.iter().find(|(name, _)| name == placeholder) {
                    encoder.set_property_from_str(property, value);
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
}

fn size_of(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let structure = caps.structure(0)?;
    let length = |name| structure.get::<i32>(name).ok().and_then(|length| u32::try_from(length).ok());
    Some((length("width")?, length("height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_pictures_have_more_bits_and_fewer_a_pixel() {
        assert_eq!(bitrate(512, 512), 1_500_000);
        assert_eq!(bitrate(1024, 1024), 4_243_000);
        assert_eq!(bitrate(1080, 1920), 7_075_000);
        assert_eq!(bitrate(1920, 1920), 10_893_000);
        assert_eq!((bitrate(16, 16), bitrate(8192, 8192)), (200_000, 12_000_000));
        let sizes: Vec<u32> = (1..=30).map(|step| step * 64).collect();
        for pair in sizes.windows(2) {
            let [small, large] = [pair[0], pair[1]].map(|size| (bitrate(size, size), size * size));
            assert!(
                large.0 >= small.0
                    && u64::from(large.0) * u64::from(small.1) <= u64::from(small.0) * u64::from(large.1)
            );
        }
    }
}
