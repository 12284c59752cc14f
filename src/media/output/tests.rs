//! Outputs of a session without the session, into real receivers: GStreamer's, files, and ffmpeg where that is installed.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::*;
use crate::ids::UtteranceId;
use crate::media::testing::{PATIENCE, Stage};
use crate::media::{PipelineDir, VideoFormat};
use crate::session::{CaptionWord, Notice, NoticeSender, notice_queue};
use crate::timeline::{FRAME_DURATION, FrameIndex};

fn start(stage: &Stage, kind: OutputKind, place: Place) -> (Output, NoticeSender) {
    place.claim().unwrap();
    begin(stage, kind, place)
}

fn begin(stage: &Stage, kind: OutputKind, place: Place) -> (Output, NoticeSender) {
    let description = PipelineDir::Embedded.read(&format!("output-{}.launch", kind.as_str())).unwrap();
    let carrier = Box::new(LaunchCarrier::new(description, place.clone()));
    let plan = OutputPlan { kind, target: place.shown(), codec: Codec::H264, carrier };
    let (told, notices) = notice_queue(64);
    (Output::start(plan, stage.broadcast.clone(), notices, || {}, ()).unwrap(), told)
}

fn address(kind: OutputKind, url: &str) -> Place {
    Place::Address(check_address(kind, Some(url)).unwrap())
}

fn film(folder: &Path, name: &str) -> Place {
    Place::Film { folder: folder.to_owned(), name: name.to_owned() }
}

/// Waits until what is told of an output is so.
async fn until(output: &Output, what: &str, is_so: impl Fn(&OutputInfo) -> bool) -> OutputInfo {
    let mut ticks = tokio::time::interval(FRAME_DURATION);
    let so = async {
        loop {
            ticks.tick().await;
            let info = output.info();
            if is_so(&info) {
                return info;
            }
        }
    };
    tokio::time::timeout(PATIENCE, so).await.unwrap_or_else(|_| panic!("{what}: {:?}", output.info()))
}

async fn stop(mut output: Output) -> OutputInfo {
    tokio::task::spawn_blocking(move || {
        output.stop();
        output.info()
    })
    .await
    .unwrap()
}

/// An encode whose frames are counted, and that goes on by itself.
async fn another_frame(stage: &Stage) {
    let publisher = stage.own();
    let before = publisher.counters().encoded;
    let mut ticks = tokio::time::interval(FRAME_DURATION);
    let comes = async {
        while publisher.counters().encoded <= before + 5 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, comes).await.unwrap();
}

/// A receiver that hands out what comes to an appsink `out`, and dies when it is dropped.
struct Receiver(gst::Pipeline);

impl Receiver {
    fn new(text: &str) -> Self {
        let pipeline = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self(pipeline)
    }

    fn samples(&self, name: &str) -> gst_app::AppSink {
        self.0.by_name(name).unwrap().downcast().unwrap()
    }

    /// Waits for so many pictures, the first of which is a key frame.
    async fn pictures(&self, count: usize) {
        let sink = self.samples("out");
        let pulled = tokio::task::spawn_blocking(move || {
            for number in 0..count {
                let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(PATIENCE.as_secs())).unwrap();
                let is_delta = sample.buffer().unwrap().flags().contains(gst::BufferFlags::DELTA_UNIT);
                assert!(number > 0 || !is_delta, "it begins in the middle");
            }
        });
        pulled.await.unwrap();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// What a film holds: times of the pictures and packets of sound in milliseconds, and captions with theirs.
#[derive(Debug, Default)]
struct Film {
    video: Vec<u64>,
    audio: Vec<u64>,
    captions: Vec<(u64, u64, String)>,
}

impl Film {
    fn read(path: &Path) -> Self {
        let text = "filesrc name=file ! qtdemux name=d d.video_0 ! queue max-size-bytes=0 max-size-buffers=0 max-size-time=0 ! appsink name=v sync=false \
                    d.audio_0 ! queue max-size-bytes=0 max-size-buffers=0 max-size-time=0 ! appsink name=a sync=false \
                    d.subtitle_0 ! queue max-size-bytes=0 max-size-buffers=0 max-size-time=0 ! appsink name=t sync=false async=false";
        let pipeline = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
        pipeline.by_name("file").unwrap().set_property("location", path.to_str().unwrap());
        let reader = Receiver(pipeline);
        reader.0.set_state(gst::State::Playing).unwrap();
        let mut film = Self::default();
        let ms = |time: Option<gst::ClockTime>| time.map_or(0, gst::ClockTime::mseconds);
        for (name, times) in [("v", &mut film.video), ("a", &mut film.audio)] {
            let sink = reader.samples(name);
            while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(20)) {
                times.push(ms(sample.buffer().unwrap().pts()));
            }
        }
        let sink = reader.samples("t");
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(500)) {
            let buffer = sample.buffer().unwrap();
            let text = String::from_utf8(buffer.map_readable().unwrap().to_vec()).unwrap();
            let text = text.trim_matches(['\0', ' ']).to_owned();
            if !text.is_empty() {
                film.captions.push((ms(buffer.pts()), ms(buffer.duration()), text));
            }
        }
        film
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_the_disk_at_any_moment_plays_to_its_last_second_with_captions_as_a_track() {
    let stage = Stage::open(&["x264enc"]);
    let folder = tempfile::tempdir().unwrap();
    let (output, told) = start(&stage, OutputKind::Record, film(folder.path(), "talk"));
    let clock = stage.broadcast.audio_clock();
    let before = until(&output, "it is live", |info| info.state == OutputState::Live).await;
    let began = (0..100_000).find_map(|index| clock(FrameIndex(index))).unwrap();
    let soon = began + u32::try_from(before.frames).unwrap() * 1920 + 48_000;
    let word = |text: &str, start_ms, end_ms| CaptionWord { text: text.to_owned(), start_ms, end_ms };
    told.tell(Notice::Caption {
        sentence: UtteranceId::next().sentence(0),
        rtp_timestamp: Some(soon),
        words: vec![word("Good ", 0, 300), word("morning.", 300, 900)],
    });
    let info = until(&output, "it is recorded", |info| info.frames > before.frames + 75).await;
    // What a process leaves that is killed now.
    let left = folder.path().join("left.mp4");
    std::fs::copy(folder.path().join("talk.mp4"), &left).unwrap();
    let ended = stop(output).await;
    assert_eq!((ended.state, ended.message, ended.dropped), (OutputState::Ended, None, 0));

    let (left, whole) = (Film::read(&left), Film::read(&folder.path().join("talk.mp4")));
    assert!(left.video.len() as u64 + 25 >= info.frames, "{} of {} pictures", left.video.len(), info.frames);
    assert!(whole.video.len() as u64 >= info.frames, "{} of {} pictures", whole.video.len(), info.frames);
    for film in [&left, &whole] {
        assert!(film.video[0] < 100 && film.audio[0] < 100, "it begins at {} and {} ms", film.video[0], film.audio[0]);
        assert!(film.video.windows(2).all(|pair| (35..=45).contains(&(pair[1] - pair[0]))), "{:?}", film.video);
        let (video, audio) = (film.video.last().unwrap(), film.audio.last().unwrap());
        assert!(video.abs_diff(*audio) < 700, "pictures to {video} ms, sound to {audio} ms");
        let [(at, long, text)] = film.captions.as_slice() else { panic!("{:?}", film.captions) };
        assert_eq!((text.as_str(), *long), ("Good morning.", 900));
        assert!((500..3000).contains(at), "it is shown at {at} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_dies_and_comes_back_is_met_again_with_a_key_frame_and_costs_a_recording_nothing() {
    let stage = Stage::open(&["x264enc"]);
    let folder = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listener = || {
        Receiver::new(&format!(
            "srtsrc uri=srt://127.0.0.1:{port}?mode=listener ! tsdemux ! h264parse ! appsink name=out sync=false"
        ))
    };
    let (record, _told) = start(&stage, OutputKind::Record, film(folder.path(), "beside"));
    let first = listener();
    let url = format!("srt://127.0.0.1:{port}?streamid=sk-secret");
    let (push, _told) = start(&stage, OutputKind::Srt, address(OutputKind::Srt, &url));
    first.pictures(20).await;
    until(&push, "it is live", |info| info.state == OutputState::Live).await;
    drop(first);
    let lost = until(&push, "it is missed", |info| info.state == OutputState::Retrying).await;
    assert!(!lost.message.unwrap().contains("sk-secret"));
    let second = listener();
    second.pictures(20).await;
    let again = until(&push, "it is live again", |info| info.state == OutputState::Live && info.reconnects > 0).await;
    assert_eq!((again.reconnects, again.target, again.message), (1, format!("srt://127.0.0.1:{port}"), None));
    assert_eq!(stop(push).await.state, OutputState::Ended);
    drop(second);
    let recorded = stop(record).await;
    assert_eq!((recorded.state, recorded.dropped, recorded.reconnects), (OutputState::Ended, 0, 0));
    let film = Film::read(&folder.path().join("beside.mp4"));
    assert!(film.video.windows(2).all(|pair| (35..=45).contains(&(pair[1] - pair[0]))), "{:?}", film.video);
    assert_eq!(stage.own().viewer_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_a_recording_with_one_error_and_the_session_goes_on() {
    let stage = Stage::open(&["x264enc"]);
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("talk.mp4")).unwrap();
    let (output, _told) = begin(&stage, OutputKind::Record, film(folder.path(), "talk"));
    let info = until(&output, "it fails", |info| info.state.is_end()).await;
    assert_eq!(info.state, OutputState::Error);
    let message = info.message.unwrap();
    assert!(
        message.to_lowercase().contains("space") && !message.contains(folder.path().to_str().unwrap()),
        "{message}"
    );
    another_frame(&stage).await;
    assert_eq!(stop(output).await.state, OutputState::Error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_of_another_size_begin_another_part_of_a_recording() {
    let stage = Stage::open(&["x264enc"]);
    let folder = tempfile::tempdir().unwrap();
    let (output, _told) = start(&stage, OutputKind::Record, film(folder.path(), "talk"));
    let info = until(&output, "a fragment is written", |info| info.frames > 40).await;
    stage.format.send(VideoFormat { width: 160, height: 96 }).unwrap();
    let second = folder.path().join("talk-2.mp4");
    until(&output, "it goes on", |now| second.exists() && now.frames > info.frames + 50).await;
    assert_eq!(stop(output).await.state, OutputState::Ended);
    let (first, second) = (Film::read(&folder.path().join("talk.mp4")), Film::read(&second));
    assert!(first.video.len() >= 2 && second.video.len() >= 25, "{} and {}", first.video.len(), second.video.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playlist_names_segments_that_each_begin_with_a_key_frame_and_ends_when_the_output_does() {
    let stage = Stage::open(&["x264enc"]);
    let folder = tempfile::tempdir().unwrap();
    let stream = folder.path().join("live");
    let (output, _told) = start(&stage, OutputKind::Hls, Place::Folder(stream.clone()));
    let playlist = || std::fs::read_to_string(stream.join("index.m3u8")).unwrap_or_default();
    until(&output, "there are two segments", |_| playlist().matches(".ts").count() >= 2).await;
    assert!(!playlist().contains("#EXT-X-ENDLIST"));
    assert_eq!(stop(output).await.state, OutputState::Ended);
    let playlist = playlist();
    assert!(playlist.starts_with("#EXTM3U") && playlist.contains("#EXT-X-ENDLIST"), "{playlist}");
    let segments: Vec<PathBuf> =
        playlist.lines().filter(|line| line.ends_with(".ts")).map(|line| stream.join(line)).collect();
    assert!(segments.len() >= 2, "{playlist}");
    for segment in &segments[..2] {
        let text =
            format!("filesrc location={} ! tsdemux ! h264parse ! appsink name=out sync=false", segment.display());
        Receiver::new(&text).pictures(10).await;
    }
}

/// ffmpeg waits for one push, copies so many seconds of it, and exits with 0.
fn ffmpeg(port: u16, film: &Path) -> Option<std::process::Child> {
    let url = format!("rtmp://127.0.0.1:{port}/live/sk-secret");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-listen", "1", "-i", &url, "-t", "1.5", "-c", "copy"]).arg(film);
    match command.stdin(Stdio::null()).spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_and_comes_back_is_pushed_to_again() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let films = [folder.path().join("first.mp4"), folder.path().join("second.mp4")];
    let Some(mut first) = ffmpeg(port, &films[0]) else {
        return eprintln!("skipped: ffmpeg, which takes RTMP here, is not installed");
    };
    let stage = Stage::open(&["x264enc"]);
    let url = format!("rtmp://127.0.0.1:{port}/live/sk-secret");
    let (push, _told) = start(&stage, OutputKind::Rtmp, address(OutputKind::Rtmp, &url));
    let ends = |mut child: std::process::Child| tokio::task::spawn_blocking(move || child.wait().unwrap().success());
    let is_first = tokio::task::spawn_blocking(move || first.wait().unwrap().success());
    assert!(is_first.await.unwrap());
    let lost = until(&push, "it is missed", |info| info.state == OutputState::Retrying).await;
    assert!(!lost.message.unwrap().contains("sk-secret") && lost.target == format!("rtmp://127.0.0.1:{port}"));
    let asked = stage.own().counters().key_frame_requests;
    until(&push, "it is refused", |info| info.message.as_deref().is_some_and(|reason| reason.contains("refused")))
        .await;
    assert_eq!(stage.own().counters().key_frame_requests, asked, "key frames are asked for when somebody takes them");
    assert!(ends(ffmpeg(port, &films[1]).unwrap()).await.unwrap());
    assert_eq!(stop(push).await.state, OutputState::Ended);
    for film in &films {
        let held = Film::read_two(film);
        assert!(held.0 >= 30 && held.1 >= 50, "{held:?}");
    }
}

impl Film {
    /// Pictures and packets of sound of a film without captions.
    fn read_two(path: &Path) -> (usize, usize) {
        let text = "filesrc name=file ! qtdemux name=d d.video_0 ! queue ! appsink name=v sync=false \
                    d.audio_0 ! queue max-size-buffers=0 max-size-time=0 ! appsink name=a sync=false";
        let pipeline = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
        pipeline.by_name("file").unwrap().set_property("location", path.to_str().unwrap());
        let reader = Receiver(pipeline);
        reader.0.set_state(gst::State::Playing).unwrap();
        let count = |name: &str| {
            let sink = reader.samples(name);
            std::iter::from_fn(|| sink.try_pull_sample(gst::ClockTime::from_seconds(20))).count()
        };
        (count("v"), count("a"))
    }
}
