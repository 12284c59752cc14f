//! Tables about elements: which encoders `--encoder auto` tries, and which Debian package has an element.
//!
//! In here: names only. Not in here: anything that asks GStreamer.

/// Encoders in the order `auto` tries them: hardware first, software always there.
///
/// Each has its `publish-<name>.launch`. x264 before OpenH264, since at the same rate it draws the better picture.
pub const AUTO: &[&str] = &["nvh264enc", "x264enc", "openh264enc", "vp8enc"];

/// Elements that exist only where their hardware and driver do; their absence is no fault of a description.
pub fn needs_hardware(element: &str) -> bool {
    ["nv", "cuda", "va", "qsv", "msdk", "v4l2", "amf", "vulkan"].iter().any(|prefix| element.starts_with(prefix))
}

/// The Debian 12 package that holds an element, if it is one that descriptions here are likely to use.
pub fn debian_package(element: &str) -> Option<&'static str> {
    Some(match element {
        "x264enc" => "gstreamer1.0-plugins-ugly",
        "nicesrc" | "nicesink" => "gstreamer1.0-nice",
        "vp8enc" | "vp8dec" | "vp9enc" | "rtph264pay" | "rtpvp8pay" | "rtpopuspay" | "rtpbin" | "mp4mux" | "qtmux"
        | "flvmux" | "aacparse" | "v4l2sink" => "gstreamer1.0-plugins-good",
        "opusenc" | "opusdec" | "appsrc" | "appsink" | "videoconvert" | "audioconvert" | "audioresample"
        | "videoscale" => "gstreamer1.0-plugins-base",
        "webrtcbin" | "openh264enc" | "openh264dec" | "h264parse" | "opusparse" | "dtlsdec" | "dtlsenc" | "srtpenc"
        | "sctpenc" | "av1enc" | "x265enc" | "cudaupload" | "cudaconvert" | "rtmp2sink" | "srtsink" | "hlssink2"
        | "mpegtsmux" | "voaacenc" => "gstreamer1.0-plugins-bad",
        _ if element.starts_with("nv") => "gstreamer1.0-plugins-bad, with NVIDIA's driver and a GPU that has NVENC",
        _ if element.starts_with("va") && element.ends_with("enc") => {
            "gstreamer1.0-plugins-bad, with a VA-API driver and device"
        }
        _ if element.starts_with("avdec_") || element.starts_with("avenc_") => "gstreamer1.0-libav",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_ends_with_software_so_that_there_is_always_one() {
        assert!(AUTO.iter().skip(1).all(|name| !needs_hardware(name)));
        assert!(AUTO.iter().all(|name| debian_package(name).is_some()));
    }
}
