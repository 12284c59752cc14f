//! A running pipeline and its end.
//!
//! In here: the owner of one `gst::Pipeline`, what its bus reports, and freeing it without blocking who lets it go.
//! Not in here: what is in the pipeline.
//! Runs on: the caller's thread; a pipeline goes to NULL on a plain thread of its own, since that joins streaming
//! threads, takes tens of milliseconds and must never happen on one of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use gstreamer as gst;
use gstreamer::prelude::*;

/// Threads that are taking pipelines to NULL; shared by everything a publisher owns, joined when the last owner goes.
#[derive(Clone, Debug, Default)]
pub struct Teardown(Arc<Threads>);

#[derive(Debug, Default)]
struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Teardown {
    fn free(&self, pipeline: gst::Pipeline) {
        let spawned = std::thread::Builder::new().name("media-teardown".to_owned()).spawn(move || {
            stop(&pipeline);
        });
        match spawned {
            Ok(handle) => {
                let mut threads = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
                threads.retain(|thread| !thread.is_finished());
                threads.push(handle);
            }
            // The closure and with it the last reference is gone; GStreamer warns about a pipeline freed while playing.
            Err(error) => tracing::error!(%error, "no thread to free a pipeline on"),
        }
    }

    /// Blocks until every pipeline let go so far is in NULL.
    pub fn wait(&self) {
        self.0.wait();
    }
}

impl Threads {
    fn wait(&self) {
        let threads = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread panicked while it freed a pipeline");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.wait();
    }
}

fn stop(pipeline: &gst::Pipeline) {
    if pipeline.set_state(gst::State::Null).is_err() {
        tracing::error!(pipeline = %pipeline.name(), "pipeline does not go to NULL");
    }
    free_receivers(pipeline);
    if let Some(bus) = pipeline.bus() {
        // The handler holds a sender of the owner's.
        bus.unset_sync_handler();
    }
}

/// The bin in which webrtcbin 1.22 receives holds itself until it goes from READY to NULL. One that was only added when the
/// pipeline ended never does: it would stay for ever, and its sockets with it.
fn free_receivers(pipeline: &gst::Pipeline) {
    for element in pipeline.iterate_recurse().into_iter().flatten() {
        if element.type_().name() == "TransportReceiveBin" {
            let _ = element.set_state(gst::State::Ready);
            let _ = element.set_state(gst::State::Null);
        }
    }
}

/// Owns a pipeline: on drop it goes to NULL on a teardown thread.
#[derive(Debug)]
pub struct OwnedPipeline {
    pipeline: gst::Pipeline,
    teardown: Teardown,
}

impl OwnedPipeline {
    pub fn new(pipeline: gst::Pipeline, teardown: Teardown) -> Self {
        Self { pipeline, teardown }
    }

    pub fn gst(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// Calls `report` with element path and message for each error and for the end of the stream.
    ///
    /// It runs on whichever thread posts, streaming threads included: it may only `try_send`.
    pub fn watch(&self, report: impl Fn(BusReport) + Send + Sync + 'static) {
        // One that nobody can wait for: a bus of the usual kind holds descriptors to wake whoever does.
        let bus: gst::Bus = gst::glib::Object::builder().property("enable-async", false).build();
        bus.set_sync_handler(move |_, message| {
            match message.view() {
                gst::MessageView::Error(error) => report(BusReport::Error {
                    element: error.src().map_or_else(|| "?".to_owned(), |source| source.path_string().to_string()),
                    message: error.error().to_string(),
                }),
                gst::MessageView::Eos(_) => report(BusReport::EndOfStream),
                _ => {}
            }
            // Nobody reads the bus, so nothing may stay on it.
            gst::BusSyncReply::Drop
        });
        self.pipeline.set_bus(Some(&bus));
    }
}

impl Drop for OwnedPipeline {
    fn drop(&mut self) {
        self.teardown.free(self.pipeline.clone());
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusReport {
    Error { element: String, message: String },
    EndOfStream,
}
