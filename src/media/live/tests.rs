//! Files of a folder edited under running sessions.

use std::path::Path;

use gstreamer::prelude::*;

use super::*;
use crate::media::Codec;
use crate::media::testing::{Browser, Stage, encoders, join, until_connected};

/// A folder with the shipped files, and what uses it.
struct Folder {
    folder: tempfile::TempDir,
    live: Arc<LivePipelines>,
}

impl Folder {
    fn open(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir("pipelines").unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let encoders = (*encoders(names)).clone();
        let live = LivePipelines::start(encoders, PipelineDir::find(folder.path()));
        Self { folder, live }
    }

    /// As an editor does it: another file in its place.
    fn edit(&self, file: &str, from: &str, to: &str) -> Vec<PipelineFile> {
        let path = self.folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        write(&path, &text.replace(from, to));
        self.live.look(false)
    }
}

fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

fn fault(file: &PipelineFile) -> String {
    let fault = file.fault.clone().unwrap();
    format!("{}:{:?}:{:?} {}", file.file, fault.line, fault.column, fault.message)
}

#[test]
fn only_what_has_changed_is_looked_at_and_each_change_once() {
    let folder = Folder::open(&["x264enc"]);
    assert!(!folder.live.is_changed() && folder.live.look(false).is_empty());
    let changed = folder.edit("render-mp4.launch", "quantizer=19", "quantizer=20");
    assert_eq!(changed.len(), 1);
    assert_eq!(
        (changed[0].file.as_str(), changed[0].state, changed[0].in_use),
        ("render-mp4.launch", FileState::Ok, false)
    );
    assert!(!folder.live.is_changed() && folder.live.look(false).is_empty());
    std::fs::write(folder.folder.path().join("notes.txt"), "nothing of ours").unwrap();
    std::fs::write(folder.folder.path().join("other.launch"), "fakesrc ! fakesink").unwrap();
    assert!(folder.live.is_changed());
    assert!(folder.live.look(true).is_empty(), "it may be half written");
    let changed = folder.live.look(true);
    assert_eq!((changed.len(), changed[0].state), (1, FileState::Refused));
    assert!(fault(&changed[0]).contains("must begin with publish-"), "{changed:?}");
    std::fs::remove_file(folder.folder.path().join("viewer-h264.launch")).unwrap();
    let changed = folder.live.look(false);
    assert_eq!((changed[0].state, changed[0].in_use), (FileState::Gone, true));
    let all = folder.live.files();
    let shipped = std::fs::read_dir("pipelines").unwrap().flatten();
    let shipped = shipped.filter(|file| file.path().extension().is_some_and(|kind| kind == "launch")).count();
    assert_eq!(all.len(), shipped + 1, "the one that is gone is told of, too");
    assert!(all.iter().filter(|file| file.state == FileState::Ok).count() >= 9, "{all:#?}");
    assert!(
        all.iter().all(|file| !file.fault.as_ref().is_some_and(|fault| fault.message.contains("/tmp"))),
        "{all:#?}"
    );
}

#[test]
fn a_bad_description_is_refused_with_its_place_and_the_one_before_goes_on() {
    let folder = Folder::open(&["x264enc"]);
    let before = folder.live.encoders().preferred.publish.text().to_owned();
    let file = "publish-x264enc.launch";
    for (from, to, place) in [
        ("bitrate={bitrate_kbps}", "bit-rate={bitrate_kbps}", "publish-x264enc.launch:Some(10):Some(7)"),
        ("block=false", "block=true", "publish-x264enc.launch:Some(4):Some(63)"),
        ("! x264enc", "! x266enc", "publish-x264enc.launch:Some(9):Some(5)"),
        ("profile=constrained-baseline", "profile=high", "publish-x264enc.launch:Some(11):Some(18)"),
        (
            "x264enc name=video_encoder tune=zerolatency speed-preset=superfast threads=1 sliced-threads=false\n      bitrate={bitrate_kbps} vbv-buf-capacity=400 key-int-max=500 bframes=0 ref=1 aud=false\n  ! video/x-h264,profile=constrained-baseline,stream-format=byte-stream,alignment=au",
            "vp8enc name=video_encoder deadline=1 target-bitrate={bitrate}\n ! video/x-vp8",
            "publish-x264enc.launch:Some(9):",
        ),
    ] {
        let text = std::fs::read_to_string(folder.folder.path().join(file)).unwrap();
        let changed = folder.edit(file, from, to);
        assert_eq!((changed.len(), changed[0].state, changed[0].in_use), (1, FileState::Refused, true), "{to}");
        assert!(fault(&changed[0]).starts_with(place), "{to}: {}", fault(&changed[0]));
        assert_eq!(folder.live.encoders().preferred.publish.text(), before);
        write(&folder.folder.path().join(file), &text);
        assert_eq!(folder.live.look(false)[0].state, FileState::Ok, "what is in use");
    }
    let told = folder.live.files().into_iter().find(|told| told.file == file).unwrap();
    assert_eq!((told.state, told.changes, told.fault), (FileState::Ok, 0, None));
}

/// What viewers get while a file is edited under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_over_to_an_edited_file_and_those_who_watch_see_nothing_of_it() {
    let folder = Folder::open(&["x264enc", "vp8enc"]);
    let stage = Stage::of(&folder.live);
    let (mut browser, _viewer, mut told) = join(&stage, Browser::new("H264"), None).await;
    until_connected(&mut told).await;
    browser.decoded("video", 5).await;
    let (publisher, other) = (stage.own(), stage.broadcast.publisher(Codec::Vp8).unwrap());
    let [before, untouched] = [&publisher, &other].map(|publisher| publisher.gst_pipeline());
    let live = Arc::clone(&folder.live);
    let path = folder.folder.path().to_owned();
    let edited = tokio::task::spawn_blocking(move || {
        let folder = path.join("publish-x264enc.launch");
        let text = std::fs::read_to_string(&folder).unwrap();
        write(&folder, &text.replace("bitrate={bitrate_kbps}", "bitrate=300"));
        live.look(false)
    });
    let changed = edited.await.unwrap();
    assert_eq!((changed[0].state, changed[0].in_use, changed[0].changes), (FileState::Ok, true, 1), "{changed:?}");
    assert_ne!(publisher.gst_pipeline(), before);
    assert_eq!(other.gst_pipeline(), untouched, "another encoder's file");
    let encoder = publisher.gst_pipeline().by_name("video_encoder").unwrap();
    assert_eq!(encoder.property::<u32>("bitrate"), 300);
    while browser.decoded.try_recv().is_ok() {}
    browser.decoded("video", 5).await;
    browser.decoded("audio", 5).await;
    assert!(!publisher.has_failed());

    // A viewer description counts for those who come.
    let live = Arc::clone(&folder.live);
    let path = folder.folder.path().join("viewer-h264.launch");
    let edited = tokio::task::spawn_blocking(move || {
        let text = std::fs::read_to_string(&path).unwrap();
        write(&path, &text.replace("latency=40", "latency=60"));
        live.look(false)
    });
    let changed = edited.await.unwrap();
    assert_eq!((changed[0].state, changed[0].in_use), (FileState::Ok, true), "{changed:?}");
    let (mut second, viewer, mut told) = join(&stage, Browser::new("H264"), None).await;
    until_connected(&mut told).await;
    second.decoded("video", 5).await;
    let webrtc = viewer.pipeline().by_name("webrtc").unwrap();
    assert_eq!(webrtc.property::<u32>("latency"), 60);
}
