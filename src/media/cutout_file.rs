//! A cut-out avatar's session written to a WebM file with an alpha channel: what `mouthpiece render --alpha` uses.
//!
//! In here: the pipeline that encodes colours, matte and sound, and the order in which they get into the file. Not in here:
//! the file's bytes (`webm`), films without (`file`).
//! Runs on: the caller's thread, which waits for the encoders.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::buffers::{audio_buffers, video_buffer};
use super::description::{names, render_values};
use super::pipeline::{BusReport, OwnedPipeline, Teardown};
use super::publisher::{app_sink, app_source};
use super::webm::{Streams, WebmWriter};
use super::{MediaError, PipelineDir, VideoFormat};
use crate::picture::{I420Frame, matte};
use crate::playout::Pair;
use crate::timeline::{FPS, FRAME_DURATION, FrameIndex, MediaTime, Timeline};

const DESCRIPTION: &str = "render-webm.launch";
/// Two seconds: a player seeks to key frames.
const KEY_FRAME_EVERY: u64 = 50;
/// Frames that the encoders have not given back yet; more wait for them. `vp9enc` looks at 25 frames before it gives one.
const WAITING_FRAMES: u64 = 32;
/// A few frames take an encoder much less.
const ENCODER_TIMEOUT: Duration = Duration::from_secs(30);
/// For one look at what the encoders have done.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(20);

/// A WebM file being written. Dropping it without `finish` leaves a file that does not play.
#[derive(Debug)]
pub struct CutoutWriter {
    sources: Sources,
    pictures: Encoded,
    mattes: Encoded,
    sounds: Encoded,
    /// Of the picture, without its matte.
    size: VideoFormat,
    timeline: Timeline,
    written: u64,
    /// Pictures that are in the file.
    packed: u64,
    path: String,
    /// There once the streams are known.
    file: Option<WebmWriter<BufWriter<File>>>,
    reports: mpsc::Receiver<BusReport>,
    pipeline: OwnedPipeline,
    teardown: Teardown,
}

#[derive(Debug)]
struct Sources {
    video: gst_app::AppSrc,
    matte: gst_app::AppSrc,
    audio: gst_app::AppSrc,
}

/// What comes out of an encoder, and what of it is not in the file yet.
#[derive(Debug)]
struct Encoded {
    sink: gst_app::AppSink,
    waiting: VecDeque<gst::Buffer>,
    caps: Option<gst::Caps>,
}

impl Encoded {
    fn of(pipeline: &OwnedPipeline, name: &str) -> Result<Self, MediaError> {
        Ok(Self { sink: app_sink(pipeline, name)?, waiting: VecDeque::new(), caps: None })
    }

    /// Takes what is there, and waits so long for the first of it.
    fn take(&mut self, wait: gst::ClockTime) {
        let mut wait = wait;
        while let Some(sample) = self.sink.try_pull_sample(wait) {
            if self.caps.is_none() {
                self.caps = sample.caps_owned();
            }
            self.waiting.extend(sample.buffer_owned());
            wait = gst::ClockTime::ZERO;
        }
    }

    /// When the first of what waits is presented, in milliseconds.
    fn first_ms(&self) -> Option<u64> {
        Some(self.waiting.front()?.pts().unwrap_or_default().mseconds())
    }

    /// Asks the encoder that leads here for a key frame at a time.
    fn request_key_frame(&self, at: gst::ClockTime) {
        if let Some(pad) = self.sink.static_pad("sink") {
            pad.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().running_time(at).all_headers(true).build());
        }
    }
}

impl CutoutWriter {
    /// Begins a file at `path`, which is replaced, of pairs whose frames have a picture of this size and its matte;
    /// `directory` has the description.
    pub fn create(path: &Path, size: VideoFormat, directory: &PipelineDir) -> Result<Self, MediaError> {
        let path = path.display().to_string();
        let failed = |reason: String| MediaError::Write { path: path.clone(), reason };
        File::create(&path).map_err(|error| failed(error.to_string()))?;
        let description = directory.read(DESCRIPTION)?;
        let built = description.build(&render_values(size.width, size.height, FPS, &path))?;
        let teardown = Teardown::default();
        let pipeline = OwnedPipeline::new(built, teardown.clone());
        let (sender, reports) = mpsc::sync_channel(4);
        pipeline.watch(move |report| {
            let _ = sender.try_send(report);
        });
        let source = |name: &str| app_source(&pipeline, name);
        let sources =
            Sources { video: source(names::VIDEO)?, matte: source(names::MATTE)?, audio: source(names::AUDIO)? };
        let pictures = Encoded::of(&pipeline, names::VIDEO_OUT)?;
        let mattes = Encoded::of(&pipeline, names::MATTE_OUT)?;
        let sounds = Encoded::of(&pipeline, names::AUDIO_OUT)?;
        pipeline.gst().set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
        let timeline = Timeline::playout(MediaTime::default());
        Ok(Self {
            sources,
            pictures,
            mattes,
            sounds,
            size,
            timeline,
            written: 0,
            packed: 0,
            path,
            file: None,
            reports,
            pipeline,
            teardown,
        })
    }

    /// Adds a pair after those already written, whatever its index. Waits while the encoders are busy.
    pub fn write(&mut self, pair: &Pair) -> Result<(), MediaError> {
        let VideoFormat { width, height } = self.size;
        let place = matte::MattePlace::of(width, height);
        let (wanted_width, wanted_height) = place.frame_size((width, height));
        let (got_width, got_height) = (pair.frame.width, pair.frame.height);
        if (got_width, got_height) != (wanted_width, wanted_height) {
            return Err(MediaError::FrameSize { got_width, got_height, width: wanted_width, height: wanted_height });
        }
        let at = FrameIndex(self.written);
        if self.written.is_multiple_of(KEY_FRAME_EVERY) {
            let time = gst::ClockTime::from_nseconds(self.timeline.video_pts(at).nanos());
            self.pictures.request_key_frame(time);
            self.mattes.request_key_frame(time);
        }
        let push = |source: &gst_app::AppSrc, buffer| source.push_buffer(buffer).map_err(|error| self.failed(&error));
        for buffer in audio_buffers(pair.audio.as_deref(), at, &self.timeline) {
            push(&self.sources.audio, buffer)?;
        }
        let [colours, mut matte] = matte::parted(&pair.frame, (width, height));
        full_range(&mut matte);
        push(&self.sources.video, video_buffer(&Arc::new(colours), at, &self.timeline))?;
        push(&self.sources.matte, video_buffer(&Arc::new(matte), at, &self.timeline))?;
        self.written += 1;
        self.pack(WAITING_FRAMES)
    }

    /// Writes what the encoders still hold and closes the file.
    pub fn finish(mut self) -> Result<(), MediaError> {
        for source in [&self.sources.video, &self.sources.matte, &self.sources.audio] {
            source.end_of_stream().map_err(|error| self.failed(&error))?;
        }
        self.pack(0)?;
        let begun = Instant::now();
        while !self.sounds.sink.is_eos() {
            self.sounds.take(LOOK);
            self.check(begun)?;
        }
        self.put(true)?;
        let file = self.file.take().ok_or_else(|| self.failed(&"it would have no picture"))?;
        let done = file.finish().map_err(|error| self.failed(&error));
        let Self { pipeline, teardown, .. } = self;
        drop(pipeline);
        teardown.wait();
        done
    }

    /// Puts what is encoded into the file, until no more than so many frames are missing.
    fn pack(&mut self, missing: u64) -> Result<(), MediaError> {
        let mut begun = Instant::now();
        loop {
            let before = self.packed;
            for encoded in [&mut self.pictures, &mut self.mattes, &mut self.sounds] {
                encoded.take(gst::ClockTime::ZERO);
            }
            self.put(false)?;
            let ended = [&self.pictures, &self.mattes, &self.sounds].into_iter().all(|encoded| encoded.sink.is_eos());
            if self.packed + missing >= self.written || ended {
                return Ok(());
            }
            if self.packed > before {
                begun = Instant::now();
            }
            // Whichever is late.
            let late = if self.pictures.waiting.is_empty() { &mut self.pictures } else { &mut self.mattes };
            let late = if late.waiting.is_empty() { late } else { &mut self.sounds };
            late.take(LOOK);
            self.check(begun)?;
        }
    }

    /// Writes pictures with their mattes and sounds in the order of their times, as far as both are known, or all.
    fn put(&mut self, all: bool) -> Result<(), MediaError> {
        loop {
            let picture = self.pictures.first_ms().filter(|_| !self.mattes.waiting.is_empty());
            let sound = self.sounds.first_ms();
            if self.file.is_none() && !self.begin()? {
                return Ok(());
            }
            let first = match (picture, sound) {
                (Some(picture), Some(sound)) => picture <= sound,
                (Some(_), None) if all => true,
                (None, Some(_)) if all => false,
                _ => return Ok(()),
            };
            let failed = |reason: String| MediaError::Write { path: self.path.clone(), reason };
            let Some(file) = &mut self.file else { return Ok(()) };
            let wrong = |error: std::io::Error| failed(error.to_string());
            let unreadable = |_| failed("an encoder gives what cannot be read".to_owned());
            if first {
                let at = picture.unwrap_or_default();
                let Some((colours, matte)) = self.pictures.waiting.pop_front().zip(self.mattes.waiting.pop_front())
                else {
                    return Ok(());
                };
                let [colours_key, matte_key] =
                    [&colours, &matte].map(|buffer| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
                let (colours, matte) =
                    (colours.map_readable().map_err(unreadable)?, matte.map_readable().map_err(unreadable)?);
                file.picture(at, colours_key && matte_key, &colours, &matte).map_err(wrong)?;
                self.packed += 1;
            } else if let Some(packet) = self.sounds.waiting.pop_front() {
                let packet = packet.map_readable().map_err(unreadable)?;
                file.sound(sound.unwrap_or_default(), &packet).map_err(wrong)?;
            }
        }
    }

    /// Begins the file once the streams are known.
    fn begin(&mut self) -> Result<bool, MediaError> {
        let (Some(video), Some(audio)) = (&self.pictures.caps, &self.sounds.caps) else { return Ok(false) };
        let codec = match video.structure(0).map(|structure| structure.name().as_str()) {
            Some("video/x-vp8") => "V_VP8",
            Some("video/x-vp9") => "V_VP9",
            other => {
                let reason = format!("{DESCRIPTION} makes {}, must be VP8 or VP9", other.unwrap_or("nothing"));
                return Err(self.failed(&reason));
            }
        };
        let headers = audio.structure(0).and_then(|structure| structure.get::<gst::ArrayRef<'_>>("streamheader").ok());
        let head = headers.and_then(|headers| headers.first()?.get::<gst::Buffer>().ok());
        let head = head.and_then(|head| head.map_readable().ok().map(|bytes| bytes.to_vec()));
        let opus_head = head.ok_or_else(|| self.failed(&format!("{DESCRIPTION} makes sound that is no Opus")))?;
        let VideoFormat { width, height } = self.size;
        let frame_duration = u64::try_from(FRAME_DURATION.as_nanos()).unwrap_or(u64::MAX);
        let streams = Streams { codec, width, height, frame_duration, opus_head };
        let out = File::create(&self.path).map_err(|error| self.failed(&error))?;
        let writer = WebmWriter::create(BufWriter::new(out), streams).map_err(|error| self.failed(&error))?;
        self.file = Some(writer);
        Ok(true)
    }

    /// An error of the pipeline, or none of it for too long.
    fn check(&self, since: Instant) -> Result<(), MediaError> {
        match self.reports.try_recv() {
            Ok(BusReport::Error { element, message }) => Err(self.failed(&format!("{element}: {message}"))),
            Ok(BusReport::EndOfStream) | Err(_) if since.elapsed() < ENCODER_TIMEOUT => Ok(()),
            _ => {
                let seconds = ENCODER_TIMEOUT.as_secs();
                Err(self.failed(&format!("the encoders gave nothing for {seconds} s")))
            }
        }
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> MediaError {
        MediaError::Write { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// Players take the levels of a film's matte as they are.
fn full_range(mattes: &mut I420Frame) {
    let luma = mattes.width as usize * mattes.height as usize;
    mattes.data.iter_mut().take(luma).for_each(|level| *level = matte::full_range(*level));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::avatar::{picture, square};
    use crate::media::{Clip, ClipOptions};
    use crate::picture::color;
    use crate::timeline::PLAYOUT_SAMPLES_PER_FRAME;

    #[test]
    fn a_film_with_an_alpha_channel_is_read_again_as_it_was() {
        super::super::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film.webm");
        let size = VideoFormat { width: 96, height: 64 };
        let mut writer = CutoutWriter::create(&path, size, &PipelineDir::Embedded).unwrap();
        for index in 0..70 {
            let colours = color::rgb_to_i420(&picture(96, 64, index).rgb, 96, 64);
            let frame = Arc::new(matte::framed(&colours, &square(96, 64)));
            let audio = Some(Box::new([1000; PLAYOUT_SAMPLES_PER_FRAME]));
            writer.write(&Pair { index: FrameIndex(index.into()), frame, audio, utterance: None }).unwrap();
        }
        writer.finish().unwrap();
        let mut clip = Clip::open(&path, &ClipOptions { alpha: true, ..ClipOptions::default() }).unwrap();
        assert_eq!((clip.info().width, clip.info().height, clip.info().has_sound), (96, 64, true));
        assert_eq!(clip.info().duration.map(|duration| duration.as_millis()), Some(2800));
        let mut count = 0;
        while let Some(cutout) = clip.next_cutout().unwrap() {
            let (wanted, own) = (square(96, 64).alpha, cutout.matte.unwrap().alpha);
            let off = own.iter().zip(&wanted).map(|(is, was)| u32::from(is.abs_diff(*was))).sum::<u32>();
            assert!(off / 6144 <= 3, "frame {count}: the matte is {} levels off", off / 6144);
            let shown = picture(96, 64, count).rgb;
            let off = cutout.picture.rgb.iter().zip(&shown).map(|(is, was)| u32::from(is.abs_diff(*was))).sum::<u32>();
            assert!(off / 18432 <= 6, "frame {count}: colours are {} levels off", off / 18432);
            count += 1;
        }
        assert_eq!(count, 70);
        assert!(clip.broke_off().is_none());
        // Without being asked for its alpha channel, it is a film like any other.
        assert!(Clip::open(&path, &ClipOptions::default()).unwrap().next_cutout().unwrap().unwrap().matte.is_none());
    }

    #[test]
    fn a_frame_without_a_matte_is_refused() {
        super::super::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let size = VideoFormat { width: 64, height: 64 };
        let path = folder.path().join("film.webm");
        let mut writer = CutoutWriter::create(&path, size, &PipelineDir::Embedded).unwrap();
        let frame = Arc::new(color::rgb_to_i420(&[0; 64 * 64 * 3], 64, 64));
        let error = writer.write(&Pair { index: FrameIndex(0), frame, audio: None, utterance: None }).unwrap_err();
        assert!(matches!(error, MediaError::FrameSize { got_width: 64, width: 128, .. }), "{error}");
    }
}
