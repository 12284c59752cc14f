//! Descriptions as shipped, and with each fault an engineer may make.

use super::report::example_values;
use super::*;

fn build(file: &str, text: impl Into<String>) -> Result<gst::Pipeline, DescriptionError> {
    crate::media::init().unwrap();
    let description = Description::new(file, text.into())?;
    description.build(&example_values(description.kind()))
}

fn shipped(file: &str) -> String {
    EMBEDDED.iter().find(|(name, _)| *name == file).unwrap().1.to_owned()
}

/// A shipped file with one thing changed, and the error that makes.
fn broken(file: &str, from: &str, to: &str) -> String {
    let text = shipped(file);
    assert!(text.contains(from), "{file} has no {from:?}");
    build(file, text.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn every_shipped_description_keeps_its_contract() {
    crate::media::init().unwrap();
    for report in list(&PipelineDir::Embedded).unwrap() {
        assert_ne!(report.status, CheckStatus::Faulty, "{:?}", report.fault);
    }
}

#[test]
fn the_directory_and_the_built_in_copies_hold_the_same_files() {
    let directory = PipelineDir::find(Path::new("pipelines"));
    assert_ne!(directory, PipelineDir::Embedded);
    assert_eq!(directory.files().unwrap(), PipelineDir::Embedded.files().unwrap());
}

#[test]
fn an_edited_file_is_used_without_a_new_build() {
    let directory = tempfile::tempdir().unwrap();
    let edited = shipped("publish-vp8enc.launch").replace("target-bitrate={bitrate}", "target-bitrate=700000");
    std::fs::write(directory.path().join("publish-vp8enc.launch"), edited).unwrap();
    crate::media::init().unwrap();
    let description = PipelineDir::find(directory.path()).read("publish-vp8enc.launch").unwrap();
    let pipeline = description.build(&publish_values(640, 480, 25, Rung::Full)).unwrap();
    assert_eq!(pipeline.by_name(names::VIDEO_ENCODER).unwrap().property::<i32>("target-bitrate"), 700_000);
}

#[test]
fn a_missing_element_is_named_with_its_line_and_package() {
    let error = broken("publish-x264enc.launch", "! x264enc", "! avenc_h264");
    assert!(error.contains("line 9, column 5: no element \"avenc_h264\""), "{error}");
    assert!(error.contains("gstreamer1.0-libav"), "{error}");
    let error = broken("publish-x264enc.launch", "! x264enc", "! x264encoder");
    assert!(error.contains("no element \"x264encoder\"; check the spelling"), "{error}");
}

#[test]
fn a_syntax_error_is_named_with_its_line() {
    let error = broken("publish-x264enc.launch", "bitrate={bitrate_kbps}", "bit-rate={bitrate_kbps}");
    assert!(error.contains("line 10, column 7: no property \"bit-rate\" in element \"x264enc\""), "{error}");
    for (from, to) in [("! appsink name=video_out", "! ! appsink name=video_out"), ("! appsink name=audio_out", "!")] {
        let error = broken("publish-x264enc.launch", from, to);
        assert!(error.starts_with("pipeline publish-x264enc.launch"), "{error}");
        assert!(error.contains("syntax error") || error.contains("link"), "{error}");
    }
}

#[test]
fn a_description_of_nothing_is_refused() {
    for text in ["", "# only a comment\n", "   \n\n"] {
        assert!(build("publish-x.launch", text).unwrap_err().to_string().contains("empty"));
    }
    // One element alone parses to that element and not to a pipeline.
    let error = build("viewer-x.launch", "webrtcbin name=webrtc").unwrap_err().to_string();
    assert!(
        error.contains("element \"video\": no element has this name; give appsrc the property name=video"),
        "{error}"
    );
}

#[test]
fn each_name_that_is_missing_is_told() {
    for (file, name) in [
        ("publish-x264enc.launch", "video"),
        ("publish-x264enc.launch", "audio"),
        ("publish-x264enc.launch", "video_encoder"),
        ("publish-x264enc.launch", "video_out"),
        ("publish-x264enc.launch", "audio_out"),
        ("viewer-h264.launch", "video"),
        ("viewer-h264.launch", "audio"),
        ("viewer-h264.launch", "microphone"),
        ("viewer-vp8.launch", "heard"),
        ("render-mp4.launch", "file"),
        ("render-webm.launch", "matte"),
        ("render-webm.launch", "matte_out"),
        ("output-rtmp.launch", "audio"),
        ("output-record.launch", "video"),
    ] {
        let error = broken(file, &format!("name={name}"), "name=other");
        assert!(error.contains(&format!("element {name:?}: no element has this name")), "{file}: {error}");
    }
}

#[test]
fn an_output_that_nothing_can_be_known_of_is_told() {
    let error = broken("output-srt.launch", "name=sink", "name=other");
    assert!(error.contains("element \"sink\": no element has this name"), "{error}");
    let error = broken("output-record.launch", "sync=false", "sync=true");
    assert!(error.contains("write sync=false"), "{error}");
    let error = broken("output-record.launch", "appsrc name=captions", "identity ! identity name=captions");
    assert!(error.contains("element \"captions\""), "{error}");
}

#[test]
fn a_name_on_the_wrong_element_is_told() {
    let error = broken("publish-x264enc.launch", "! appsink name=video_out", "! fakesink name=video_out");
    assert!(error.contains("element \"video_out\": it is fakesink; this name belongs to appsink"), "{error}");
    let text = "appsrc name=audio ! identity name=video_encoder ! fakesink";
    let text = format!(
        "{text}\n{}",
        shipped("publish-x264enc.launch").replace("name=audio ", "name=a ").replace("name=video_encoder", "")
    );
    let error = build("publish-x.launch", text).unwrap_err().to_string();
    assert!(error.contains("element \"audio\""), "{error}");
}

#[test]
fn wrong_caps_are_told_with_the_right_ones() {
    for (from, to) in [
        ("format=I420", "format=NV12"),
        ("width={width}", "width=640"),
        ("colorimetry=bt601", "colorimetry=bt709"),
        ("rate=48000", "rate=44100"),
        ("channels=1", "channels=2"),
    ] {
        let error = broken("publish-vp8enc.launch", from, to);
        assert!(error.contains("it has caps") && error.contains("write these caps"), "{to}: {error}");
    }
}

#[test]
fn a_microphone_that_the_ears_cannot_use_is_told() {
    for (from, to, fix) in [
        ("rate=16000", "rate=48000", "rate=16000,channels=1 in front of it"),
        ("layout=interleaved,rate=16000,channels=1", "layout=interleaved", "rate=16000,channels=1 in front of it"),
        ("async=false", "async=true", "write async=false"),
        ("drop=true", "drop=false", "write drop=true"),
        ("sync=false", "sync=true", "write sync=false"),
        ("rtpopusdepay", "identity", "this name belongs to rtpopusdepay"),
    ] {
        let error = broken("viewer-vp8.launch", from, to);
        assert!(error.contains(fix), "{to}: {error}");
    }
}

#[test]
fn a_property_that_would_stop_playout_is_told() {
    for (from, to, fix) in [
        ("block=false", "block=true", "write block=false"),
        ("is-live=true", "is-live=false", "write is-live=true"),
        ("leaky-type=downstream", "leaky-type=none", "write leaky-type=downstream"),
        ("max-bytes=0", "max-bytes=1000", "write max-bytes=0"),
        ("format=time", "format=bytes", "write format=time"),
        ("max-buffers=4", "max-buffers=0", "write max-buffers=4"),
    ] {
        let error = broken("publish-x264enc.launch", from, to);
        assert!(error.contains(fix), "{error}");
    }
}

#[test]
fn an_encoder_for_another_codec_is_told() {
    let error = broken(
        "publish-vp8enc.launch",
        "! vp8enc name=video_encoder deadline=1 cpu-used=-12 threads=1 target-bitrate={bitrate} end-usage=cbr\n      keyframe-max-dist=500 lag-in-frames=0 error-resilient=default buffer-size=600 buffer-initial-size=300 buffer-optimal-size=400\n  ! video/x-vp8",
        "! vp9enc name=video_encoder",
    );
    assert!(error.contains("vp9enc makes neither H.264 nor VP8"), "{error}");
}

#[test]
fn a_viewer_whose_payload_type_is_not_the_offers_is_refused() {
    let error = broken("viewer-h264.launch", "payload={video_pt}", "payload=96");
    assert!(error.contains("payload"), "{error}");
    let text =
        shipped("viewer-h264.launch").replace("pt={video_pt}", "pt=96").replace("payload={video_pt}", "payload=96");
    let error = build("viewer-h264.launch", text).unwrap_err().to_string();
    assert!(error.contains("element \"webrtc\": its video input"), "{error}");
    let text = shipped("viewer-h264.launch").replace("encoding-name=OPUS,", "");
    let text = text.replace("! rtpopuspay name=audio_pay", "! rtpgstpay name=audio_pay");
    assert!(build("viewer-h264.launch", text).is_err());
}

#[test]
fn a_viewer_whose_sound_or_picture_has_a_time_of_its_own_is_refused() {
    let error = broken("viewer-vp8.launch", "name=video_pay timestamp-offset=0", "name=video_pay");
    assert!(error.contains("element \"video_pay\"") && error.contains("write timestamp-offset=0"), "{error}");
    let error = broken("viewer-vp8.launch", "name=audio_pay timestamp-offset=0", "name=audio_pay");
    assert!(error.contains("element \"audio_pay\"") && error.contains("write timestamp-offset=0"), "{error}");
    let error = broken("viewer-vp8.launch", "name=audio_pay", "name=opus_pay");
    assert!(error.contains("no element has this name") && error.contains("name=audio_pay"), "{error}");
}

#[test]
fn an_unknown_placeholder_is_told_with_those_that_exist() {
    let error = broken("publish-x264enc.launch", "{width}", "{breadth}");
    assert!(
        error.contains("line 5, column 41: placeholder {breadth} is unknown here; there are {width} {height} {fps}"),
        "{error}"
    );
    let error = broken("publish-x264enc.launch", "{width}", "{width");
    assert!(error.contains("line 5"), "{error}");
}

#[test]
fn a_file_whose_name_does_not_say_what_it_is_for_is_refused() {
    for name in ["x264.launch", "stream-x264.launch", "pipelines/x.launch"] {
        assert!(
            Description::new(name, String::new())
                .unwrap_err()
                .to_string()
                .contains("publish-, viewer-, render- or output-")
        );
    }
}

#[test]
fn a_hash_inside_quotes_is_no_comment() {
    assert_eq!(without_comment("filesink location=\"a#b\" # where"), "filesink location=\"a#b\" ");
}

#[test]
fn check_reports_one_line_per_file_and_says_what_is_unavailable() {
    crate::media::init().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("publish-broken.launch");
    std::fs::write(&broken, shipped("publish-x264enc.launch").replace("name=video ", "name=vidoe ")).unwrap();
    let missing = directory.path().join("publish-missing.launch");
    let hardware = directory.path().join("publish-nosuch.launch");
    std::fs::write(&hardware, shipped("publish-x264enc.launch").replace("! x264enc", "! nvnosuchenc")).unwrap();
    let good = PathBuf::from("pipelines/viewer-vp8.launch");
    let reports = check(&[broken, missing, hardware, good]);
    let statuses: Vec<CheckStatus> = reports.iter().map(|report| report.status).collect();
    assert_eq!(statuses, [CheckStatus::Faulty, CheckStatus::Faulty, CheckStatus::Unavailable, CheckStatus::Ok]);
    let json = serde_json::to_value(&reports[0]).unwrap();
    assert_eq!(json["status"], "faulty");
    assert_eq!(json["fault"]["element"], "element \"video\"");
}

/// The 1.22 element's properties, from its reference page: it cannot be built here without NVIDIA's driver.
const NVH264ENC_PROPERTIES: &[&str] = &[
    "name",
    "preset",
    "bitrate",
    "rc-mode",
    "qp-min",
    "qp-max",
    "qp-const",
    "gop-size",
    "max-bitrate",
    "spatial-aq",
    "aq-strength",
    "nonref-p",
    "zerolatency",
    "strict-gop",
    "weighted-pred",
    "vbv-buffer-size",
    "temporal-aq",
    "rc-lookahead",
    "i-adapt",
    "b-adapt",
    "bframes",
    "const-quality",
    "aud",
    "cuda-device-id",
];

#[test]
fn nvh264enc_is_given_only_properties_it_has() {
    let text = shipped("publish-nvh264enc.launch");
    let text: String = text.lines().map(|line| without_comment(line).to_owned() + "\n").collect();
    let element = text.split('!').find(|element| element.trim_start().starts_with("nvh264enc")).unwrap();
    let given: Vec<&str> = element.split_whitespace().skip(1).map(|word| word.split_once('=').unwrap().0).collect();
    assert!(given.contains(&"zerolatency") && given.contains(&"bitrate"));
    for property in given {
        assert!(NVH264ENC_PROPERTIES.contains(&property), "nvh264enc has no property {property:?}");
    }
}

#[test]
fn a_location_with_quotes_stays_one_value() {
    let description = Description::new("render-mp4.launch", shipped("render-mp4.launch")).unwrap();
    crate::media::init().unwrap();
    let path = "/tmp/a \"b\" \\ c # d.mp4";
    let pipeline = description.build(&render_values(512, 512, 25, path)).unwrap();
    assert_eq!(pipeline.by_name(names::FILE).unwrap().property::<String>("location"), path);
}

#[test]
fn each_rung_is_a_pipeline_of_its_own_and_the_first_is_without_the_others() {
    crate::media::init().unwrap();
    for file in ["publish-x264enc.launch", "publish-openh264enc.launch", "publish-vp8enc.launch"] {
        let description = Description::new(file, shipped(file)).unwrap();
        assert_eq!(description.rungs(), Rung::ALL);
        for (rung, elements, kbps) in [(Rung::Full, 2, 1500), (Rung::Middle, 1, 600), (Rung::Low, 1, 240)] {
            let of = description.rung(rung);
            let pipeline = of.build(&publish_values(512, 512, 25, rung)).unwrap();
            let sources = pipeline
                .iterate_elements()
                .into_iter()
                .flatten()
                .filter(|element| element.is::<gstreamer_app::AppSrc>());
            assert_eq!(sources.count(), elements, "{file} {rung:?}");
            let encoder = pipeline.by_name(&of.name(names::VIDEO_ENCODER)).unwrap();
            let (property, placeholder) = of.properties_of(&["bitrate", "bitrate_kbps"])[0].clone();
            let bits = encoder.property_value(&property).serialize().unwrap().parse::<u32>().unwrap();
            assert_eq!(bits, if placeholder == "bitrate" { kbps * 1000 } else { kbps }, "{file} {rung:?}");
        }
    }
}

#[test]
fn a_fault_in_a_further_rung_is_told_as_any_other() {
    let text = shipped("publish-x264enc.launch").replace("name=video_encoder_low", "name=video_encoder");
    let description = Description::new("publish-x264enc.launch", text).unwrap();
    let error = description.rung(Rung::Low).build(&publish_values(512, 512, 25, Rung::Low)).unwrap_err().to_string();
    assert!(error.contains("video_encoder_low"), "{error}");
}
