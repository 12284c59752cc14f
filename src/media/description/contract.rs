//! What a parsed description must hold so that the code can use it.
//!
//! In here: one check per promise of `pipelines/README.md`, each an error that names the element and what would be
//! right. Not in here: reading and parsing.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::{Description, DescriptionError, Kind, Values, names, place};
use crate::media::Codec;
use crate::media::rungs::Rung;

type Checked = Result<(), DescriptionError>;

pub fn check(description: &Description, pipeline: &gst::Pipeline, values: &Values<'_>) -> Checked {
    let contract = Contract { description, pipeline, values };
    match description.kind() {
        Kind::Publish => contract.publish(),
        Kind::Viewer => contract.viewer(),
        Kind::Render => contract.render(),
        Kind::Output => contract.output(),
    }
}

/// The codec an encoder's output carries, from what it says it can produce.
pub fn codec_of(encoder: &gst::Element) -> Option<Codec> {
    let produced = encoder.static_pad("src")?.pad_template_caps();
    produced.iter().find_map(|structure| match structure.name().as_str() {
        "video/x-h264" => Some(Codec::H264),
        "video/x-vp8" => Some(Codec::Vp8),
        _ => None,
    })
}

struct Contract<'a> {
    description: &'a Description,
    pipeline: &'a gst::Pipeline,
    values: &'a Values<'a>,
}

impl Contract<'_> {
    fn publish(&self) -> Checked {
        let name = |name: &str| self.description.name(name);
        let is_first = self.description.rung == Rung::Full;
        let (video, audio) = (name(names::VIDEO), names::AUDIO.to_owned());
        self.raw_source(&video, &self.video_caps())?;
        if is_first {
            self.raw_source(&audio, AUDIO_CAPS)?;
        }
        for name in [&video, &audio].into_iter().take(if is_first { 2 } else { 1 }) {
            let source = self.element(name, "appsrc")?;
            self.property(name, &source, "is-live", "true")?;
            // One stalled encoder would otherwise stop playout for every session.
            self.property(name, &source, "block", "false")?;
            self.property(name, &source, "leaky-type", "downstream")?;
            // Without a bound a slow encoder makes everything late for ever; bounds by time and by count would mix.
            let bound = source.property::<u64>("max-buffers");
            if !(1..=25).contains(&bound) || source.property::<u64>("max-time") != 0 {
                return Err(self.fault_in(
                    name,
                    "max-buffers",
                    format!("its queue is not bounded by 1 to 25 buffers: max-buffers is {bound}"),
                    "write max-buffers=4 for video, max-buffers=10 for audio, and no max-time",
                ));
            }
        }
        let encoder = self.video_encoder()?;
        if codec_of(&encoder).is_none() {
            return Err(self.fault(
                &name(names::VIDEO_ENCODER),
                format!("{} makes neither H.264 nor VP8", factory_name(&encoder)),
                "browsers are served with one of these two: use an encoder for them",
            ));
        }
        self.element(&name(names::VIDEO_OUT), "appsink")?;
        if is_first {
            self.element(names::AUDIO_OUT, "appsink")?;
        }
        Ok(())
    }

    fn render(&self) -> Checked {
        let has_matte = self.description.file().ends_with(CUTOUT_FILE);
        let video = self.video_caps();
        let sources = [names::VIDEO, names::AUDIO, names::MATTE];
        for name in sources.into_iter().take(if has_matte { 3 } else { 2 }) {
            self.raw_source(name, if name == names::AUDIO { AUDIO_CAPS } else { &video })?;
            let source = self.element(name, "appsrc")?;
            // A file must get every frame; the writer waits for the encoder itself, so that an error can end the wait.
            self.property(name, &source, "block", "false")?;
            self.property(name, &source, "leaky-type", "none")?;
            self.property(name, &source, if name == names::AUDIO { "max-time" } else { "max-buffers" }, "0")?;
        }
        self.video_encoder()?;
        if !has_matte {
            self.element(names::FILE, "filesink")?;
            return Ok(());
        }
        for name in [names::VIDEO_OUT, names::MATTE_OUT, names::AUDIO_OUT] {
            let sink = self.element(name, "appsink")?;
            self.property(name, &sink, "sync", "false")?;
            // One would wait for the first buffer of another that it keeps from coming.
            self.property(name, &sink, "async", "false")?;
        }
        Ok(())
    }

    /// What encoded media goes in by is set up when the output joins the session.
    fn output(&self) -> Checked {
        self.element(names::VIDEO, "appsrc")?;
        self.element(names::AUDIO, "appsrc")?;
        if self.pipeline.by_name(names::CAPTIONS).is_some() {
            self.element(names::CAPTIONS, "appsrc")?;
        }
        let sink = self.named(names::SINK, "the element that everything leaves by")?;
        if sink.sink_pads().is_empty() {
            return Err(self.fault(
                names::SINK,
                format!("{} has nothing linked to it", factory_name(&sink)),
                "link what leaves to it: by this one the program knows whether the receiver takes anything",
            ));
        }
        if sink.find_property("sync").is_some() {
            // It would wait for times at which the session is long past.
            self.property(names::SINK, &sink, "sync", "false")?;
        }
        Ok(())
    }

    fn viewer(&self) -> Checked {
        let parts = self.description.parts;
        let webrtc = self.element(names::WEBRTC, "webrtcbin")?;
        if gst::ElementFactory::find("nicesrc").is_none() {
            return Err(DescriptionError::MissingElement {
                file: self.description.file().to_owned(),
                at: None,
                element: "nicesrc".to_owned(),
            });
        }
        // Captions are timed by the RTP time of the sound, latency by that of the picture; both are random otherwise.
        if parts.video {
            self.element(names::VIDEO, "appsrc")?;
            self.payloader(names::VIDEO_PAY, "the payloader of the video")?;
            self.rtp_input(&webrtc, "video", "video_pt")?;
        }
        if parts.audio {
            self.element(names::AUDIO, "appsrc")?;
            self.payloader(names::AUDIO_PAY, "rtpopuspay")?;
            self.rtp_input(&webrtc, "audio", "audio_pt")?;
        }
        let inputs = usize::from(parts.video) + usize::from(parts.audio);
        if webrtc.sink_pads().len() != inputs {
            return Err(self.fault(
                names::WEBRTC,
                format!("it has {} inputs where a viewer has {inputs} tracks", webrtc.sink_pads().len()),
                "keep video and sound in paragraphs of their own, with {video_pt} or {audio_pt} in each: a viewer without \
                 one of them is built without its paragraph",
            ));
        }
        if parts.microphone { self.microphone() } else { Ok(()) }
    }

    /// Where the viewer's voice comes in and goes out.
    fn microphone(&self) -> Checked {
        self.element(names::MICROPHONE, "rtpopusdepay")?;
        let heard = self.element(names::HEARD, "appsink")?;
        self.property(names::HEARD, &heard, "sync", "false")?;
        // Most viewers have no microphone, and the pipeline would wait for its first buffer for ever.
        self.property(names::HEARD, &heard, "async", "false")?;
        self.property(names::HEARD, &heard, "drop", "true")?;
        let fixed = heard.static_pad("sink").map(|pad| pad.peer_query_caps(None));
        let fits = fixed.as_ref().is_some_and(|caps| {
            HEARD_CAPS.parse::<gst::Caps>().is_ok_and(|wanted| caps.is_fixed() && caps.is_subset(&wanted))
        });
        if fits {
            return Ok(());
        }
        let found = fixed.map_or_else(|| "nothing".to_owned(), |caps| format!("{caps}"));
        Err(self.fault(names::HEARD, format!("it is given {found}"), format!("put {HEARD_CAPS} in front of it")))
    }

    fn payloader(&self, name: &str, kind: &str) -> Checked {
        let payloader = self.named(name, kind)?;
        if payloader.find_property("timestamp-offset").is_none() {
            return Err(self.wrong_kind(name, &payloader, kind));
        }
        self.property(name, &payloader, "timestamp-offset", "0")
    }

    /// webrtcbin crashes the process on a payload type that the offer holds for another codec: look at what arrives.
    fn rtp_input(&self, webrtc: &gst::Element, media: &str, placeholder: &str) -> Checked {
        let wanted = self.values.iter().find(|(name, _)| *name == placeholder).map_or("", |(_, value)| value);
        let inputs = webrtc.sink_pads();
        let offered = inputs.iter().filter_map(gst::Pad::peer).map(|peer| peer.query_caps(None));
        for caps in offered {
            let Some(structure) = caps.structure(0).filter(|structure| structure.get::<&str>("media") == Ok(media))
            else {
                continue;
            };
            return match structure.get::<i32>("payload") {
                Ok(payload) if payload.to_string() == wanted && structure.has_field("encoding-name") => Ok(()),
                _ => Err(self.fault(
                    names::WEBRTC,
                    format!("its {media} input has caps {structure}, not payload type {{{placeholder}}} of one codec"),
                    format!(
                        "put application/x-rtp,media={media},encoding-name=..,payload={{{placeholder}}},.. between the payloader and webrtc."
                    ),
                )),
            };
        }
        Err(self.fault(
            names::WEBRTC,
            format!("nothing with media={media} in its caps is linked to it"),
            format!("link a payloader through application/x-rtp,media={media},payload={{{placeholder}}},.. to webrtc."),
        ))
    }

    fn video_caps(&self) -> String {
        let value = |wanted: &str| self.values.iter().find(|(name, _)| *name == wanted).map_or("0", |(_, value)| value);
        format!(
            "video/x-raw,format=I420,width={},height={},framerate={}/1,colorimetry=bt601",
            value("width"),
            value("height"),
            value("fps")
        )
    }

    fn video_encoder(&self) -> Result<gst::Element, DescriptionError> {
        let name = self.description.name(names::VIDEO_ENCODER);
        let element = self.named(&name, "a video encoder")?;
        let class = element.factory().and_then(|factory| factory.metadata("klass").map(|class| class.to_string()));
        if class.is_some_and(|class| class.contains("Encoder") && class.contains("Video")) {
            Ok(element)
        } else {
            Err(self.wrong_kind(&name, &element, "a video encoder"))
        }
    }

    /// An appsrc whose caps are the raw media the code pushes.
    fn raw_source(&self, name: &str, wanted: &str) -> Checked {
        let element = self.element(name, "appsrc")?;
        self.property(name, &element, "format", "time")?;
        // A raw picture is larger than appsrc's default of 200000 bytes: it would hold one frame and drop the rest.
        self.property(name, &element, "max-bytes", "0")?;
        let found = element.property::<Option<gst::Caps>>("caps");
        let fits = wanted
            .parse::<gst::Caps>()
            .is_ok_and(|wanted| found.as_ref().is_some_and(|found| found.is_fixed() && found.is_subset(&wanted)));
        if fits {
            return Ok(());
        }
        let found = found.map_or_else(|| "no caps".to_owned(), |caps| format!("caps {caps}"));
        let fix = format!("it is given {wanted}: write these caps");
        Err(self.fault_in(name, "caps", format!("it has {found}"), fix))
    }

    fn property(&self, name: &str, element: &gst::Element, property: &str, wanted: &str) -> Checked {
        let found = element
            .property_value(property)
            .serialize()
            .map_or_else(|_| "?".to_owned(), |value| value.trim_matches('"').to_owned());
        if found == wanted {
            return Ok(());
        }
        Err(self.fault_in(name, property, format!("{property} is {found}"), format!("write {property}={wanted}")))
    }

    fn element(&self, name: &str, factory: &str) -> Result<gst::Element, DescriptionError> {
        let element = self.named(name, factory)?;
        if factory_name(&element) == factory { Ok(element) } else { Err(self.wrong_kind(name, &element, factory)) }
    }

    fn named(&self, name: &str, kind: &str) -> Result<gst::Element, DescriptionError> {
        self.pipeline.by_name(name).ok_or_else(|| {
            let at = place::of_kind_without(&self.description.text, kind, names::ALL);
            let (problem, fix) = ("no element has this name", format!("give {kind} the property name={name}"));
            self.description.contract(at, format!("element {name:?}"), problem, fix)
        })
    }

    fn wrong_kind(&self, name: &str, element: &gst::Element, wanted: &str) -> DescriptionError {
        self.fault(name, format!("it is {}", factory_name(element)), format!("this name belongs to {wanted}"))
    }

    fn fault(&self, name: &str, problem: impl Into<String>, fix: impl Into<String>) -> DescriptionError {
        self.fault_in(name, "name", problem, fix)
    }

    /// The fault of a property, or of the element if that is not written.
    fn fault_in(
        &self,
        name: &str,
        property: &str,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> DescriptionError {
        let at = place::of_named(&self.description.text, name, Some(property));
        self.description.contract(at, format!("element {name:?}"), problem, fix)
    }
}

/// Films with an alpha channel, whose streams the program packs itself.
const CUTOUT_FILE: &str = "render-webm.launch";
const HEARD_CAPS: &str = "audio/x-raw,format=S16LE,layout=interleaved,rate=16000,channels=1";
const AUDIO_CAPS: &str = "audio/x-raw,format=S16LE,layout=interleaved,rate=48000,channels=1";

fn factory_name(element: &gst::Element) -> String {
    element.factory().map_or_else(|| "not a plain element".to_owned(), |factory| factory.name().to_string())
}
