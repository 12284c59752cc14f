//! Tries what every viewer's connection needs of this machine and only fails once somebody connects: DTLS and SRTP.
//!
//! In here: two ends of a connection in one pipeline, without a network between them. Not in here: what the answer is
//! shown as (`doctor`). Blocks for some tens of milliseconds, or for `PATIENCE`.

use std::sync::mpsc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::MediaError;
use super::pipeline::{BusReport, OwnedPipeline, Teardown};

/// What SRTP lacks where libsrtp takes its ciphers from NSS, as Debian's does, and NSS its own from a library that nothing
/// depends on.
pub const SRTP_HINT: &str = "install what libsrtp2 takes its ciphers from: on Debian libsoftokn3";

/// A handshake between two ends here takes 30 ms; the certificate of the process takes a second, once.
const PATIENCE: Duration = Duration::from_secs(10);

const SENT: &str = "audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1 ! opusenc \
                    ! rtpopuspay ! ";

/// Sends sound from one end to the other: handshake, keys, encryption and back.
pub fn run() -> Result<(), MediaError> {
    let failed = |reason: String| MediaError::Start { file: "dtlssrtpenc".to_owned(), reason };
    let id = rand::random::<u64>();
    let text = format!(
        "dtlssrtpdec name=here_in connection-id=self-{id}-here \
         dtlssrtpenc name=here_out connection-id=self-{id}-here is-client=true \
         dtlssrtpdec name=there_in connection-id=self-{id}-there \
         dtlssrtpenc name=there_out connection-id=self-{id}-there \
         here_out.src ! there_in.sink there_out.src ! here_in.sink {SENT} here_out.rtp_sink_0 \
         there_in.rtp_src ! appsink name=arrived sync=false async=false \
         here_in.rtp_src ! fakesink sync=false async=false"
    );
    let pipeline = gst::parse::launch(&text).map_err(|error| failed(error.to_string()))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| failed("it is no pipeline".to_owned()))?;
    let pipeline = OwnedPipeline::new(pipeline, Teardown::default());
    let (told, outcome) = mpsc::sync_channel(1);
    let arrived = pipeline.gst().by_name("arrived").and_then(|sink| sink.downcast::<gst_app::AppSink>().ok());
    let arrived = arrived.ok_or_else(|| failed("no appsink".to_owned()))?;
    let telling = told.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |_| {
        let _ = telling.try_send(Ok(()));
        Err(gst::FlowError::Eos)
    });
    arrived.set_callbacks(callbacks.build());
    // The first thing told counts: what fails says so before what it stops.
    pipeline.watch(move |report| {
        if let BusReport::Error { element, message } = report {
            let _ = told.try_send(Err(describe(&element, &message)));
        }
    });
    pipeline.gst().set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
    let outcome = outcome.recv_timeout(PATIENCE);
    outcome.unwrap_or_else(|_| Err(format!("no handshake within {} s", PATIENCE.as_secs()))).map_err(failed)
}

/// A pipeline's error, with what to install where it is SRTP's.
pub fn describe(element: &str, message: &str) -> String {
    if is_of_srtp(element) {
        format!("SRTP does not start ({message}): {SRTP_HINT}")
    } else {
        format!("{element}: {message}")
    }
}

/// Whether an element, by its path, encrypts.
fn is_of_srtp(element: &str) -> bool {
    element.to_ascii_lowercase().rsplit('/').next().is_some_and(|last| last.contains("srtp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_encrypts() {
        crate::media::init().unwrap();
        run().unwrap();
    }

    #[test]
    fn an_error_of_srtp_says_what_to_install() {
        let path = "/GstPipeline:pipeline0/GstDtlsSrtpEnc:a_out/GstSrtpEnc:srtpenc0";
        assert!(describe(path, "Could not initialize SRTP encoder").contains("libsoftokn3"));
        assert_eq!(describe("/GstPipeline:p/GstAppSrc:video", "gone"), "/GstPipeline:p/GstAppSrc:video: gone");
    }
}
