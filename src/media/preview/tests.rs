//! Shipped descriptions tried, and what an engineer may break without breaking the contract.

use super::consumer::viewer_within;
use super::*;
use crate::media::testing::encoders;

fn tried(file: &str, changes: &[(&str, &str)]) -> Result<Option<String>, MediaError> {
    crate::media::init().unwrap();
    let mut text = std::fs::read_to_string(format!("pipelines/{file}")).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let description = Description::new(file, text).unwrap();
    publish(&description, if file.contains("vp8") { Codec::Vp8 } else { Codec::H264 })
}

fn refused(file: &str, changes: &[(&str, &str)]) -> String {
    tried(file, changes).unwrap_err().to_string()
}

#[test]
fn what_is_shipped_passes_and_says_its_profile() {
    for (file, profile) in [
        ("publish-x264enc.launch", Some("constrained-baseline")),
        ("publish-openh264enc.launch", Some("constrained-baseline")),
        ("publish-vp8enc.launch", None),
    ] {
        let found = tried(file, &[]).unwrap();
        assert_eq!(found.as_deref().filter(|_| profile.is_some()), profile, "{file}");
    }
}

#[test]
fn what_viewers_could_not_watch_is_told_with_its_place() {
    let b_frames = [
        ("tune=zerolatency", "tune=fastdecode"),
        ("bframes=0", "bframes=2"),
        ("profile=constrained-baseline", "profile=main"),
    ];
    let error = refused("publish-x264enc.launch", &b_frames);
    assert!(error.contains("line 9, column 5") || error.contains("line 9, column 13"), "{error}");
    assert!(error.contains("B-frames"), "{error}");
    let avc = [("stream-format=byte-stream", "stream-format=avc")];
    let error = refused("publish-x264enc.launch", &avc);
    assert!(error.contains("line 12") && error.contains("byte-stream,alignment=au in front of it"), "{error}");
    let deaf = [
        ("! x264enc name=video_encoder tune", "! identity drop-allocation=true ! x264enc name=video_encoder tune"),
        ("! appsink name=video_out sync", "! identity error-after=2 name=breaks ! appsink name=video_out sync"),
    ];
    let error = refused("publish-x264enc.launch", &deaf);
    assert!(error.contains("breaks") && error.contains("line 12, column"), "{error}");
    let silent = [(
        "! appsink name=audio_out",
        "! fakesink audiotestsrc num-buffers=2 ! audio/x-raw,rate=48000,channels=1 ! appsink name=audio_out",
    )];
    let error = refused("publish-vp8enc.launch", &silent);
    assert!(error.contains("audio/x-raw") && error.contains("it takes Opus"), "{error}");
}

#[test]
fn an_encoder_that_gives_no_key_frame_when_asked_is_told() {
    let seen =
        |keys: &[u64]| (0..PICTURES).map(|number| Seen { number, is_key: keys.contains(&number) }).collect::<Vec<_>>();
    assert_eq!(judge(&seen(&[0, ASKED])), Ok(()));
    assert_eq!(judge(&seen(&[0, ASKED + 1])), Ok(()));
    assert!(judge(&seen(&[0])).unwrap_err().contains("when one is asked for"));
    assert!(judge(&seen(&[ASKED])).unwrap_err().contains("first picture"));
    assert!(judge(&[]).unwrap_err().contains("no picture"));
    assert!(judge(&seen(&[0, ASKED])[..6]).unwrap_err().contains("half"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_and_outputs_are_tried_with_a_stream() {
    let selected = encoders(&["x264enc"]).preferred.clone();
    let tried = tokio::task::spawn_blocking(move || {
        viewer(&selected).unwrap();
        // Its packets never leave.
        let text = selected
            .viewer
            .text()
            .replace("! rtph264pay name=video_pay", "! valve drop=true ! rtph264pay name=video_pay");
        let changed = Description::new("viewer-h264.launch", text).unwrap();
        let deaf = Selected { viewer: changed, ..selected.clone() };
        let error = viewer_within(&deaf, Duration::from_millis(700)).unwrap_err().to_string();
        assert!(error.contains("viewer-h264.launch, line 6, column 11") && error.contains("no picture"), "{error}");
        for kind in crate::session::OutputKind::ALL {
            let file = format!("output-{}.launch", kind.as_str());
            let text = std::fs::read_to_string(format!("pipelines/{file}")).unwrap();
            let shipped = Description::new(&file, text.clone()).unwrap();
            output(&shipped, kind, &selected).unwrap();
        }
    });
    tried.await.unwrap();
}
