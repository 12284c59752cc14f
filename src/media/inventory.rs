//! What of GStreamer is installed, for `doctor`.
//!
//! In here: registry look-ups. Not in here: whether descriptions and encoders work (`description`, `encoder`).

use gstreamer as gst;

use super::elements::debian_package;

/// Elements that no description names but `webrtcbin` makes for itself; without one of them no peer connects.
const BEHIND_WEBRTCBIN: &[&str] =
    &["webrtcbin", "rtpbin", "nicesrc", "nicesink", "dtlsdec", "dtlsenc", "srtpenc", "srtpdec"];

/// An element that is needed and not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingElement {
    pub element: &'static str,
    /// The Debian package that has it, if that is known.
    pub package: Option<&'static str>,
}

/// Version of the GStreamer library in use, such as `GStreamer 1.22.0`.
pub fn version() -> String {
    gst::version_string().to_string()
}

/// What WebRTC needs and is not there. `media::init` comes first.
pub fn missing_elements() -> Vec<MissingElement> {
    missing_among(BEHIND_WEBRTCBIN)
}

fn missing_among(elements: &[&'static str]) -> Vec<MissingElement> {
    let missing = elements.iter().filter(|element| gst::ElementFactory::find(element).is_none());
    missing.map(|element| MissingElement { element, package: debian_package(element) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing() {
        crate::media::init().unwrap();
        let missing = missing_among(&["identity", "no-such-element"]);
        assert_eq!(missing, [MissingElement { element: "no-such-element", package: None }]);
        assert!(version().starts_with("GStreamer 1."), "{}", version());
    }
}
