//! A session written to a file instead of sent: what `mouthpiece render` uses.
//!
//! In here: the render pipeline, fed as fast as it takes pairs. Not in here: where pairs come from, what is repaired in the
//! finished file (`mp4_repair`).
//! Runs on: the caller's thread, which waits for the encoder.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::buffers::{audio_buffers, video_buffer};
use super::description::{names, render_values};
use super::pipeline::{BusReport, OwnedPipeline, Teardown};
use super::publisher::app_source;
use super::{MediaError, PipelineDir, VideoFormat, mp4_repair};
use crate::playout::Pair;
use crate::timeline::{FPS, FrameIndex, MediaTime, Timeline};

const DESCRIPTION: &str = "render-mp4.launch";
/// The encoder has a few frames left when the last pair is in, and faststart copies the file once.
const FINISH_TIMEOUT: Duration = Duration::from_secs(60);

/// Raw frames in front of the encoder: enough to keep it busy.
const WAITING_FRAMES: u64 = 8;
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A few frames take the encoder this long.
const ENCODER_PAUSE: Duration = Duration::from_millis(5);

/// An MP4 file being written. Dropping it without `finish` leaves a file that does not play.
#[derive(Debug)]
pub struct FileWriter {
    video: gst_app::AppSrc,
    audio: gst_app::AppSrc,
    format: VideoFormat,
    timeline: Timeline,
    written: u64,
    path: String,
    reports: mpsc::Receiver<BusReport>,
    pipeline: OwnedPipeline,
    teardown: Teardown,
}

impl FileWriter {
    /// Begins a file at `path`, which is replaced, of pairs of this size; `directory` has the description.
    pub fn create(path: &Path, format: VideoFormat, directory: &PipelineDir) -> Result<Self, MediaError> {
        let path = path.display().to_string();
        let failed = |reason: String| MediaError::Write { path: path.clone(), reason };
        // filesink says only that it could not open the file.
        std::fs::File::create(&path).map_err(|error| failed(error.to_string()))?;
        let description = directory.read(DESCRIPTION)?;
        let built = description.build(&render_values(format.width, format.height, FPS, &path))?;
        let teardown = Teardown::default();
        let pipeline = OwnedPipeline::new(built, teardown.clone());
        let (sender, reports) = mpsc::sync_channel(4);
        pipeline.watch(move |report| {
            let _ = sender.try_send(report);
        });
        let (video, audio) = (app_source(&pipeline, names::VIDEO)?, app_source(&pipeline, names::AUDIO)?);
        pipeline.gst().set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
        let timeline = Timeline::playout(MediaTime::default());
        Ok(Self { video, audio, format, timeline, written: 0, path, reports, pipeline, teardown })
    }

    /// Adds a pair after those already written, whatever its index. Waits while the encoder is busy.
    pub fn write(&mut self, pair: &Pair) -> Result<(), MediaError> {
        let VideoFormat { width, height } = self.format;
        if (pair.frame.width, pair.frame.height) != (width, height) {
            return Err(MediaError::FrameSize {
                got_width: pair.frame.width,
                got_height: pair.frame.height,
                width,
                height,
            });
        }
        self.wait_for_encoder()?;
        let at = FrameIndex(self.written);
        for buffer in audio_buffers(pair.audio.as_deref(), at, &self.timeline) {
            self.audio.push_buffer(buffer).map_err(|error| self.failed(error.to_string()))?;
        }
        let frame = video_buffer(&pair.frame, at, &self.timeline);
        self.video.push_buffer(frame).map_err(|error| self.failed(error.to_string()))?;
        self.written += 1;
        Ok(())
    }

    /// Writes what the encoder still holds and closes the file.
    pub fn finish(self) -> Result<(), MediaError> {
        for source in [&self.video, &self.audio] {
            source.end_of_stream().map_err(|error| self.failed(error.to_string()))?;
        }
        let outcome = match self.reports.recv_timeout(FINISH_TIMEOUT) {
            Ok(BusReport::EndOfStream) => Ok(()),
            Ok(BusReport::Error { element, message }) => Err(self.failed(format!("{element}: {message}"))),
            Err(_) => Err(self.failed(format!("it was not finished within {} s", FINISH_TIMEOUT.as_secs()))),
        };
        let Self { pipeline, teardown, path, written, .. } = self;
        drop(pipeline);
        // The file is closed after that.
        teardown.wait();
        outcome?;
        mp4_repair::repair(Path::new(&path), written)
            .map_err(|error| MediaError::Write { path, reason: error.to_string() })
    }

    /// Frames that wait are raw, so only a few may; an error of the pipeline ends the wait.
    fn wait_for_encoder(&self) -> Result<(), MediaError> {
        for _ in 0..WRITE_TIMEOUT.as_millis() / ENCODER_PAUSE.as_millis() {
            let is_full = self.video.current_level_buffers() >= WAITING_FRAMES;
            match self.reports.recv_timeout(if is_full { ENCODER_PAUSE } else { Duration::ZERO }) {
                Ok(BusReport::Error { element, message }) => return Err(self.failed(format!("{element}: {message}"))),
                Ok(BusReport::EndOfStream) => return Err(self.failed("its pipeline ended by itself".to_owned())),
                Err(_) if !is_full => return Ok(()),
                Err(_) => {}
            }
        }
        Err(self.failed(format!("the encoder took no frame for {} s", WRITE_TIMEOUT.as_secs())))
    }

    fn failed(&self, reason: String) -> MediaError {
        MediaError::Write { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::picture::I420Frame;
    use crate::timeline::PLAYOUT_SAMPLES_PER_FRAME;

    fn pair(index: u8, width: u32, height: u32) -> Pair {
        let data = vec![index * 2; (width * height * 3 / 2) as usize];
        let audio = Some(Box::new([i16::from(index) * 10; PLAYOUT_SAMPLES_PER_FRAME]));
        let frame = Arc::new(I420Frame { width, height, data });
        Pair { index: FrameIndex(1000 + u64::from(index)), frame, audio, utterance: None }
    }

    #[test]
    fn a_finished_file_holds_every_pair() {
        super::super::init().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a \"quoted\" name.mp4");
        let format = VideoFormat { width: 130, height: 66 };
        let mut writer = FileWriter::create(&path, format, &PipelineDir::Embedded).unwrap();
        for index in 0..75 {
            writer.write(&pair(index, 130, 66)).unwrap();
        }
        writer.finish().unwrap();

        let text = "filesrc name=f ! qtdemux name=d d.video_0 ! queue ! appsink name=v sync=false d.audio_0 ! queue ! appsink name=a sync=false";
        let reader = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
        reader.by_name("f").unwrap().set_property("location", path.to_str().unwrap());
        reader.set_state(gst::State::Playing).unwrap();
        let mut counts = [0; 2];
        for (name, count) in ["v", "a"].iter().zip(&mut counts) {
            let sink = reader.by_name(name).unwrap().downcast::<gst_app::AppSink>().unwrap();
            while sink.try_pull_sample(gst::ClockTime::from_seconds(5)).is_some() {
                *count += 1;
            }
        }
        reader.set_state(gst::State::Null).unwrap();
        assert_eq!(counts[0], 75);
        assert!((150..=152).contains(&counts[1]), "{} Opus packets of 20 ms for 3 s", counts[1]);
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        super::super::init().unwrap();
        let format = VideoFormat { width: 64, height: 64 };
        let error = FileWriter::create(Path::new("/nowhere/out.mp4"), format, &PipelineDir::Embedded).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /nowhere/out.mp4: No such file"), "{error}");
    }

    #[test]
    fn a_frame_of_another_size_is_refused() {
        super::super::init().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let format = VideoFormat { width: 64, height: 64 };
        let path = directory.path().join("out.mp4");
        let mut writer = FileWriter::create(&path, format, &PipelineDir::Embedded).unwrap();
        let error = writer.write(&pair(0, 128, 64)).unwrap_err();
        assert!(matches!(error, MediaError::FrameSize { got_width: 128, width: 64, .. }), "{error}");
    }
}
