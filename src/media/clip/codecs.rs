//! Which of GStreamer's elements read a clip.
//!
//! In here: tables by container and by format. Nothing is plugged but what stands in them: no element that opens other
//! files or addresses, none that draws pages or subtitles, no decoder of a GPU (they differ between machines), and none of
//! the hundreds of old formats that nobody brings a face in. Not in here: plugging (`decoder`).

use gstreamer as gst;

/// What the streams are packed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::media) enum Container {
    /// ISO 14496-12 and QuickTime.
    Mp4,
    /// WebM too.
    Matroska,
    Avi,
    Ogg,
    Flv,
    /// WMV.
    Asf,
    MpegProgram,
    MpegTransport,
}

impl Container {
    pub const fn demuxer(self) -> &'static str {
        match self {
            Self::Mp4 => "qtdemux",
            Self::Matroska => "matroskademux",
            Self::Avi => "avidemux",
            Self::Ogg => "oggdemux",
            Self::Flv => "flvdemux",
            Self::Asf => "asfdemux",
            Self::MpegProgram => "mpegpsdemux",
            Self::MpegTransport => "tsdemux",
        }
    }

    /// Whether its index leads to the very frame of a time; the others are read from the start.
    pub const fn seeks_exactly(self) -> bool {
        matches!(self, Self::Mp4 | Self::Matroska)
    }
}

/// How a format is decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codec {
    /// As people call it.
    pub name: &'static str,
    /// Puts the stream's own size into its caps, and frames into whole buffers.
    pub parser: Option<&'static str>,
    /// Of which one is enough, the best first.
    pub decoders: &'static [&'static str],
}

const fn codec(name: &'static str, parser: Option<&'static str>, decoders: &'static [&'static str]) -> Codec {
    Codec { name, parser, decoders }
}

/// The decoders of a stream's format, those that keep its alpha channel or the plain ones; `None` for what is not read here.
pub(super) fn codec_of(caps: &gst::CapsRef, alpha: bool) -> Option<Codec> {
    let structure = caps.structure(0)?;
    let has_alpha = alpha && structure.get::<bool>("codec-alpha").unwrap_or(false);
    let version = |field: &str| structure.get::<i32>(field).ok();
    Some(match structure.name().as_str() {
        "video/x-h264" => codec("H.264", Some("h264parse"), &["avdec_h264", "openh264dec"]),
        "video/x-h265" => codec("HEVC", Some("h265parse"), &["avdec_h265", "libde265dec"]),
        "video/x-vp8" if has_alpha => codec("VP8", None, &["vp8alphadecodebin"]),
        "video/x-vp9" if has_alpha => codec("VP9", Some("vp9parse"), &["vp9alphadecodebin"]),
        "video/x-vp8" => codec("VP8", None, &["vp8dec"]),
        "video/x-vp9" => codec("VP9", Some("vp9parse"), &["vp9dec", "avdec_vp9"]),
        "video/x-av1" => codec("AV1", Some("av1parse"), &["dav1ddec", "av1dec"]),
        "image/jpeg" => codec("Motion JPEG", Some("jpegparse"), &["jpegdec", "avdec_mjpeg"]),
        "video/x-theora" => codec("Theora", None, &["theoradec"]),
        "video/mpeg" => match version("mpegversion") {
            Some(1 | 2) => codec("MPEG-2", Some("mpegvideoparse"), &["avdec_mpeg2video", "mpeg2dec"]),
            Some(4) => codec("MPEG-4", Some("mpeg4videoparse"), &["avdec_mpeg4"]),
            _ => return None,
        },
        "video/x-h263" => codec("H.263", Some("h263parse"), &["avdec_h263"]),
        "video/x-flash-video" => codec("Flash", None, &["avdec_flv"]),
        "video/x-prores" => codec("ProRes", None, &["avdec_prores"]),
        "video/x-dv" => codec("DV", None, &["avdec_dvvideo", "dvdec"]),
        "video/x-wmv" => match version("wmvversion") {
            Some(1) => codec("WMV 7", None, &["avdec_wmv1"]),
            Some(2) => codec("WMV 8", None, &["avdec_wmv2"]),
            Some(3) => codec("WMV 9", None, &["avdec_wmv3"]),
            _ => return None,
        },
        _ => return None,
    })
}

/// The Debian package of a demuxer, a parser or a decoder.
pub(super) fn package(element: &str) -> &'static str {
    match element {
        "qtdemux" | "matroskademux" | "avidemux" | "flvdemux" | "vp8dec" | "vp9dec" | "jpegdec" | "dvdec"
        | "deinterlace" => "gstreamer1.0-plugins-good",
        "oggdemux" | "theoradec" | "appsink" => "gstreamer1.0-plugins-base",
        "asfdemux" | "mpeg2dec" => "gstreamer1.0-plugins-ugly",
        _ if element.starts_with("avdec_") => "gstreamer1.0-libav",
        "filesrc" => "libgstreamer1.0-0",
        _ => "gstreamer1.0-plugins-bad",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [&str; 18] = [
        "video/x-h264",
        "video/x-h265",
        "video/x-vp8",
        "video/x-vp9",
        "video/x-av1",
        "image/jpeg",
        "video/x-theora",
        "video/mpeg,mpegversion=1",
        "video/mpeg,mpegversion=2",
        "video/mpeg,mpegversion=4",
        "video/x-h263",
        "video/x-flash-video",
        "video/x-prores",
        "video/x-dv",
        "video/x-wmv,wmvversion=1",
        "video/x-wmv,wmvversion=2",
        "video/x-wmv,wmvversion=3",
        "video/x-vp9,codec-alpha=true",
    ];

    #[test]
    fn each_format_has_a_decoder_where_the_packages_of_setup_are_installed() {
        crate::media::init().unwrap();
        let is_there = |name: &str| gst::ElementFactory::find(name).is_some();
        for format in FORMATS {
            let codec = codec_of(&format.parse::<gst::Caps>().unwrap(), false).unwrap();
            assert!(codec.decoders.iter().any(|name| is_there(name)), "{}: {:?}", codec.name, codec.decoders);
            assert!(codec.parser.is_none_or(is_there), "{:?}", codec.parser);
        }
        use Container::{Asf, Avi, Flv, Matroska, Mp4, MpegProgram, MpegTransport, Ogg};
        for container in [Mp4, Matroska, Avi, Ogg, Flv, Asf, MpegProgram, MpegTransport] {
            assert!(is_there(container.demuxer()), "{container:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_not_decoded() {
        crate::media::init().unwrap();
        for format in ["video/x-raw", "application/x-cenc", "video/x-indeo", "image/svg+xml", "application/x-hls"] {
            assert!(codec_of(&format.parse::<gst::Caps>().unwrap(), false).is_none(), "{format}");
        }
    }
}
