//! The counters and histograms of what the server does, with their buckets and help texts.
//!
//! In here: names, one small function for each thing that is counted, the Prometheus text of it all, and the upkeep of the
//! recorder. Labels come as text, so that this file knows none of the types that they stand for. The recorder is the one
//! allowed global: crates we use record into it as well.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Seconds, around the 40 ms that a frame may take.
const FRAME_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.06, 0.08, 0.12, 0.2, 0.5];
/// Seconds, for what a viewer waits for.
const WAIT_BUCKETS: &[f64] = &[0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0];

// Histograms, in seconds unless they say otherwise.

/// Pasting a mouth into a frame.
const OWN_FRAME: &str = "mouthpiece_own_frame_seconds";
pub(crate) const COMPOSE: &str = "mouthpiece_compose_seconds";
/// Writing one pair into a file, encoding included.
pub(crate) const ENCODE: &str = "mouthpiece_render_write_seconds";
/// Mel spectrogram and audio encoder of one batch.
pub(crate) const FEATURES: &str = "mouthpiece_features_seconds";
/// What a sentence waited for its first sound.
pub(crate) const TTS_FIRST: &str = "mouthpiece_tts_first_audio_seconds";
/// One batch of mouths through the network; label `batch`.
pub(crate) const INFER: &str = "mouthpiece_infer_seconds";
/// The same for each frame of the batch.
pub(crate) const INFER_FRAME: &str = "mouthpiece_infer_frame_seconds";
/// How long a batch waited for the engine.
const ENGINE_WAIT: &str = "mouthpiece_engine_wait_seconds";
/// How late a playout tick came.
pub(crate) const TICK_LATE: &str = "mouthpiece_playout_tick_late_seconds";
/// Between two frames as they leave an encoder.
pub(crate) const FRAME_GAP: &str = "mouthpiece_frame_gap_seconds";
/// From the first viewer of a codec to the first picture that it can be sent.
pub(crate) const ENCODE_BEGAN: &str = "mouthpiece_encode_began_seconds";
/// From the beginning of a turn to each stage of the answer; label `stage`.
pub(crate) const TURN_STAGE: &str = "mouthpiece_turn_stage_seconds";
/// From an interruption to the first pair without speech.
pub(crate) const INTERRUPT: &str = "mouthpiece_interrupt_to_idle_seconds";
/// From asking the recogniser to the text of a turn.
const TRANSCRIBED: &str = "mouthpiece_transcript_seconds";
/// Round trip to a viewer, as its RTCP reports tell.
const VIEWER_ROUND_TRIP: &str = "mouthpiece_viewer_round_trip_seconds";
/// What a viewer's picture has, in bits a second; label `rung`.
const VIEWER_RATE: &str = "mouthpiece_viewer_rate_bits";
/// Share of a viewer's packets that were lost lately.
const VIEWER_LOSS: &str = "mouthpiece_viewer_loss_ratio";

// Counters.

/// Batches cancelled before the engine reached them.
const ENGINE_SKIPPED: &str = "mouthpiece_engine_skipped_total";
/// Batches for which a device had no memory.
const OUT_OF_MEMORY: &str = "mouthpiece_out_of_memory_total";
/// Playout ticks given up after the process stood still.
const TICKS_SKIPPED: &str = "mouthpiece_playout_ticks_skipped_total";
/// Pairs that left playout; label `shows`.
pub(crate) const PAIRS: &str = "mouthpiece_pairs_total";
/// Frames of speech that a mouth is drawn for; label `kind`.
pub(crate) const MOUTH_FRAMES: &str = "mouthpiece_mouth_frames_total";
/// Mouths that came after their frame had left.
const OWN_FRAMES_LATE: &str = "mouthpiece_own_frames_late_total";
const OWN_FRAMES_FAILED: &str = "mouthpiece_own_frames_failed_total";
const MOUTHS_LATE: &str = "mouthpiece_mouths_late_total";
/// Mouths that were not drawn, since there was no time for them.
pub(crate) const MOUTHS_LEFT_OUT: &str = "mouthpiece_mouths_left_out_total";
/// Sentences that began at another pose than the idle loop had reached.
const POSE_JUMPS: &str = "mouthpiece_pose_jumps_total";
/// Notices that found a queue full.
const EVENTS_DROPPED: &str = "mouthpiece_events_dropped_total";
/// Sentences that the avatar's own voice took over; label `when`.
const TTS_FALLBACKS: &str = "mouthpiece_tts_fallbacks_total";
/// Stretches of speech into microphones; label `became`.
const HEARD: &str = "mouthpiece_speech_heard_total";
/// Utterances; label `how` they ended.
const UTTERANCES: &str = "mouthpiece_utterances_total";
/// WebSockets that were opened.
const CONNECTIONS_OPENED: &str = "mouthpiece_connections_total";
/// Connections that there was no slot for.
const CONNECTIONS_REFUSED: &str = "mouthpiece_connections_refused_total";
/// Requests over the rate of their address.
const REQUESTS_REFUSED: &str = "mouthpiece_requests_refused_total";
/// Messages of clients; label `type`.
const MESSAGES_RECEIVED: &str = "mouthpiece_messages_received_total";
/// Messages to clients; label `type`.
const MESSAGES_SENT: &str = "mouthpiece_messages_sent_total";
/// Errors told to clients; label `code`.
const ERRORS: &str = "mouthpiece_errors_total";
/// Encoded frames and packets of sound given to viewers' pipelines.
const VIEWER_PUSHED: &str = "mouthpiece_viewer_pushed_total";
/// Those that a viewer's pipeline lost.
const VIEWER_DROPPED: &str = "mouthpiece_viewer_dropped_total";
/// RTP packets that viewers report as lost.
const VIEWER_LOST: &str = "mouthpiece_viewer_packets_lost_total";
/// Changes of a viewer from one rung of the picture to another; labels `from` and `to`.
const VIEWER_MOVES: &str = "mouthpiece_viewer_rung_changes_total";
/// Packets to the one port that were no viewer's; label `reason`.
const STRANGERS: &str = "mouthpiece_media_port_dropped_total";

/// Outputs that lost their receiver and met it again; label `kind`.
const OUTPUT_RECONNECTS: &str = "mouthpiece_output_reconnects_total";
/// Outputs that could not go on; label `kind`.
const OUTPUT_FAILURES: &str = "mouthpiece_output_failures_total";
/// Descriptions that changed while the server ran; label `outcome`: used or refused.
const PIPELINE_CHANGES: &str = "mouthpiece_pipeline_changes_total";

// Gauges.

/// Outputs now; label `kind`.
const OUTPUTS: &str = "mouthpiece_outputs";
/// WebSockets now.
const CONNECTIONS: &str = "mouthpiece_connections";
/// Sessions now.
const SESSIONS: &str = "mouthpiece_sessions";
/// Viewers now; label `rung`.
const VIEWERS: &str = "mouthpiece_viewers";
/// Publish pipelines now; label `codec`.
const ENCODES: &str = "mouthpiece_encodes";

/// Batches that are still to be drawn for nobody until every size is warmed up, of all devices.
pub(crate) const WARM_UPS: &str = "mouthpiece_warm_up_batches";

/// Bits a second, for what viewers' networks carry.
const RATE_BUCKETS: &[f64] = &[1e5, 2e5, 4e5, 6e5, 8e5, 1e6, 1.5e6, 2e6, 4e6, 8e6, 12e6];
/// From 0 to 1, for what is lost.
const SHARE_BUCKETS: &[f64] = &[0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];

/// How often what was recorded is put into its buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Has the recorder put what was recorded into buckets, again and again until it is cancelled. Otherwise each value is kept
/// until somebody scrapes them, which may be never.
pub(crate) async fn keep_up(run_upkeep: impl Fn(), ended: CancellationToken) {
    let mut times = tokio::time::interval(UPKEEP);
    while ended.run_until_cancelled(times.tick()).await.is_some() {
        run_upkeep();
    }
}

/// Installs the recorder of this process; once.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for name in [OWN_FRAME, COMPOSE, FEATURES, INFER, INFER_FRAME, ENGINE_WAIT, TICK_LATE, FRAME_GAP, VIEWER_ROUND_TRIP]
    {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), FRAME_BUCKETS)?;
    }
    for name in [TRANSCRIBED, TTS_FIRST, TURN_STAGE, INTERRUPT, ENCODE_BEGAN] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), WAIT_BUCKETS)?;
    }
    builder = builder.set_buckets_for_metric(Matcher::Full(VIEWER_RATE.to_owned()), RATE_BUCKETS)?;
    builder = builder.set_buckets_for_metric(Matcher::Full(VIEWER_LOSS.to_owned()), SHARE_BUCKETS)?;
    let handle = builder.install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    describe_histogram!(OWN_FRAME, "Decoding or drawing one of an avatar's own frames that is not in memory");
    describe_histogram!(COMPOSE, "Pasting a mouth into a frame and converting it");
    describe_histogram!(ENCODE, "Writing one pair of a film, encoding included");
    describe_gauge!(OUTPUTS, "Outputs now, by kind");
    describe_counter!(OUTPUT_RECONNECTS, "Outputs that lost their receiver and met it again, by kind");
    describe_counter!(OUTPUT_FAILURES, "Outputs that could not go on, by kind");
    describe_counter!(PIPELINE_CHANGES, "Descriptions of pipelines that changed while the server ran, by outcome");
    describe_histogram!(FEATURES, "Mel spectrogram and audio encoder of one batch");
    describe_histogram!(TTS_FIRST, "What a sentence waited for its first sound");
    describe_counter!(
        TTS_FALLBACKS,
        "Sentences that the avatar's own voice took over from the voice service: before it spoke, or within"
    );
    describe_histogram!(INFER, "One batch of mouths through the network, by batch size");
    describe_histogram!(INFER_FRAME, "The same for each frame of the batch");
    describe_histogram!(ENGINE_WAIT, "How long a batch waited for the engine");
    describe_counter!(ENGINE_SKIPPED, "Batches cancelled before the engine reached them");
    describe_counter!(OUT_OF_MEMORY, "Batches for which a device had no memory; smaller ones follow for a while");
    describe_histogram!(TICK_LATE, "How late a playout tick came");
    describe_counter!(TICKS_SKIPPED, "Ticks given up after the process stood still");
    describe_counter!(
        PAIRS,
        "Pairs of a frame and its sound, by what they showed: idle, held, mouth, own, repeated, starved"
    );
    describe_counter!(
        MOUTH_FRAMES,
        "Frames of speech that a mouth is drawn for, by kind: fresh, or repeated where it was not there in time"
    );
    describe_histogram!(FRAME_GAP, "Between two frames as they leave an encoder");
    describe_histogram!(ENCODE_BEGAN, "From the first viewer of a codec to the first picture that it can be sent");
    describe_counter!(OWN_FRAMES_LATE, "Own frames of avatars that were not ready when they were due");
    describe_counter!(OWN_FRAMES_FAILED, "Own frames of avatars that could not be read");
    describe_counter!(MOUTHS_LATE, "Mouths that came after their frame had left");
    describe_counter!(
        MOUTHS_LEFT_OUT,
        "Mouths that were not drawn for want of time; the mouth before is held while the sound goes on"
    );
    describe_counter!(POSE_JUMPS, "Sentences that began at another pose than the idle loop had reached");
    describe_counter!(EVENTS_DROPPED, "Notices that found a session's or viewer's queue full");
    describe_histogram!(
        TURN_STAGE,
        "From the beginning of a turn (its text, or the end of the user's speech) to each stage of the answer: \
         transcript, first_token, first_audio, first_frame (lip-synced, entering the encoder), first_packet, shown (as \
         a viewer tells it)"
    );
    describe_histogram!(INTERRUPT, "From an interruption to the first pair without speech");
    describe_counter!(UTTERANCES, "Utterances by how they ended: spoken, interrupted, failed");
    describe_counter!(
        HEARD,
        "Stretches of speech by what became of them: turn, backchannel, nothing, noise, failed, lost"
    );
    describe_histogram!(TRANSCRIBED, "From asking the speech recogniser to the text of a turn");
    describe_counter!(CONNECTIONS_OPENED, "WebSockets that were opened");
    describe_gauge!(CONNECTIONS, "WebSockets now");
    describe_counter!(CONNECTIONS_REFUSED, "Connections that there was no place for");
    describe_counter!(REQUESTS_REFUSED, "Requests over the rate of their address");
    describe_counter!(MESSAGES_RECEIVED, "Messages of clients, by type");
    describe_counter!(MESSAGES_SENT, "Messages to clients, by type");
    describe_counter!(ERRORS, "Errors told to clients, by code");
    describe_gauge!(SESSIONS, "Sessions now");
    describe_counter!(
        VIEWER_PUSHED,
        "Encoded frames and packets of sound given to viewers' pipelines, all viewers together"
    );
    describe_counter!(
        VIEWER_DROPPED,
        "Those that a viewer's pipeline lost because it did not take them in time, or before its first key frame"
    );
    describe_counter!(VIEWER_LOST, "RTP packets that viewers report as lost, all viewers together, sampled every 10 s");
    describe_histogram!(VIEWER_RATE, "Bits a second that a viewer's picture has, by rung, sampled every 10 s");
    describe_histogram!(VIEWER_LOSS, "Share of a viewer's packets that were lost lately, sampled every 10 s");
    describe_counter!(VIEWER_MOVES, "Changes of a viewer from one rung of the picture to another");
    describe_counter!(STRANGERS, "Packets to media_port that were no viewer's: odd, unknown, unsigned, too_many");
    describe_gauge!(VIEWERS, "Viewers by the rung of the picture that they get");
    describe_histogram!(VIEWER_ROUND_TRIP, "Round trip to a viewer as its RTCP reports tell, sampled every 10 s");
    describe_gauge!(ENCODES, "Publish pipelines now, by codec: h264, vp8");
    describe_gauge!(WARM_UPS, "Batches that are still to be drawn once so that nobody waits for the first of a size");
}

/// One of an avatar's own frames was decoded or drawn.
pub(crate) fn own_frame_took(time: Duration) {
    histogram!(OWN_FRAME).record(time);
}

/// An avatar's own frame was not ready when it was due.
pub(crate) fn own_frame_late() {
    counter!(OWN_FRAMES_LATE).increment(1);
}

/// An avatar's own frame could not be read.
pub(crate) fn own_frame_failed() {
    counter!(OWN_FRAMES_FAILED).increment(1);
}

/// One mouth was pasted into a frame.
pub(crate) fn compose_took(time: Duration) {
    histogram!(COMPOSE).record(time);
}

/// One pair was written into a file.
pub(crate) fn encoded(time: Duration) {
    histogram!(ENCODE).record(time);
}

/// One batch of features was computed.
pub(crate) fn features_took(time: Duration) {
    histogram!(FEATURES).record(time);
}

/// A sentence waited so long for its first sound.
pub(crate) fn tts_first_audio(after: Duration) {
    histogram!(TTS_FIRST).record(after);
}

/// `when` is `before` or `within`.
pub(crate) fn tts_fell_back(when: &'static str) {
    counter!(TTS_FALLBACKS, "when" => when).increment(1);
}

/// One batch of so many frames went through the network.
#[allow(clippy::cast_precision_loss, reason = "a batch has at most 16 frames")]
pub(crate) fn inferred(frames: usize, time: Duration) {
    histogram!(INFER, "batch" => frames.to_string()).record(time);
    histogram!(INFER_FRAME).record(time.as_secs_f64() / frames.max(1) as f64);
}

/// So many more batches are to be drawn to warm a device up, or fewer.
pub(crate) fn warm_ups(more: f64) {
    gauge!(WARM_UPS).increment(more);
}

/// A batch waited so long for the engine.
pub(crate) fn engine_waited(time: Duration) {
    histogram!(ENGINE_WAIT).record(time);
}

/// A batch was cancelled before the engine reached it.
pub(crate) fn engine_skipped() {
    counter!(ENGINE_SKIPPED).increment(1);
}

/// A device had no memory for a batch.
pub(crate) fn out_of_memory() {
    counter!(OUT_OF_MEMORY).increment(1);
}

/// A playout tick came so late.
pub(crate) fn tick_late(by: Duration) {
    histogram!(TICK_LATE).record(by);
}

/// So many playout ticks were given up.
pub(crate) fn ticks_skipped(count: u64) {
    counter!(TICKS_SKIPPED).increment(count);
}

/// What its picture shows, and of which kind its mouth is where it has a generated one: `fresh` or `repeated`.
pub(crate) fn pair_pushed(shows: &'static str, mouth: Option<&'static str>) {
    counter!(PAIRS, "shows" => shows).increment(1);
    if let Some(kind) = mouth {
        counter!(MOUTH_FRAMES, "kind" => kind).increment(1);
    }
}

/// A frame left an encoder, so long after the one before.
pub(crate) fn frame_encoded(after: Duration) {
    histogram!(FRAME_GAP).record(after);
}

/// An encode sent its first picture, so long after it was started.
pub(crate) fn encode_began(after: Duration) {
    histogram!(ENCODE_BEGAN).record(after);
}

/// So many mouths are not drawn.
pub(crate) fn mouths_left_out(count: usize) {
    counter!(MOUTHS_LEFT_OUT).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// A mouth came after its frame had left.
pub(crate) fn mouth_late() {
    counter!(MOUTHS_LATE).increment(1);
}

/// A sentence began at another pose than the idle loop had reached.
pub(crate) fn pose_jumped() {
    counter!(POSE_JUMPS).increment(1);
}

/// A notice found a queue full.
pub(crate) fn event_dropped() {
    counter!(EVENTS_DROPPED).increment(1);
}

/// A turn reached a stage (`latency::Stage::as_str`), so long after its beginning.
pub(crate) fn turn_reached(stage: &'static str, after: Duration) {
    histogram!(TURN_STAGE, "stage" => stage).record(after);
}

/// Speech into a microphone became a `turn`, a `backchannel`, `nothing`, `noise`, `failed` or was `lost`.
pub(crate) fn heard(became: &'static str) {
    counter!(HEARD, "became" => became).increment(1);
}

/// The recogniser answered after so long.
pub(crate) fn transcribed(after: Duration) {
    histogram!(TRANSCRIBED).record(after);
}

/// The avatar fell silent so long after an interruption.
pub(crate) fn interrupted(after: Duration) {
    histogram!(INTERRUPT).record(after);
}

/// `how` is `spoken`, `interrupted` or `failed`.
pub(crate) fn utterance_ended(how: &'static str) {
    counter!(UTTERANCES, "how" => how).increment(1);
}

/// A WebSocket was opened.
pub(crate) fn connection_opened() {
    counter!(CONNECTIONS_OPENED).increment(1);
    gauge!(CONNECTIONS).increment(1.0);
}

/// A WebSocket is gone.
pub(crate) fn connection_closed() {
    gauge!(CONNECTIONS).decrement(1.0);
}

/// There was no slot for a connection.
pub(crate) fn connection_refused() {
    counter!(CONNECTIONS_REFUSED).increment(1);
}

/// A request went over the rate of its address.
pub(crate) fn request_refused() {
    counter!(REQUESTS_REFUSED).increment(1);
}

/// A client sent a message of this `type`, or `audio`, or something `unreadable`.
pub(crate) fn message_received(kind: &'static str) {
    counter!(MESSAGES_RECEIVED, "type" => kind).increment(1);
}

/// A client is sent a message of this `type`.
pub(crate) fn message_sent(kind: &'static str) {
    counter!(MESSAGES_SENT, "type" => kind).increment(1);
}

/// A client is told an error of this `code`.
pub(crate) fn error_told(code: String) {
    counter!(ERRORS, "code" => code).increment(1);
}

/// There is one session more.
pub(crate) fn session_opened() {
    gauge!(SESSIONS).increment(1.0);
}

/// There is one session less.
pub(crate) fn session_closed() {
    gauge!(SESSIONS).decrement(1.0);
}

/// There is one encode of a codec (`h264`, `vp8`) more.
pub(crate) fn encode_started(codec: &'static str) {
    gauge!(ENCODES, "codec" => codec).increment(1.0);
}

/// There is one encode of a codec less.
pub(crate) fn encode_ended(codec: &'static str) {
    gauge!(ENCODES, "codec" => codec).decrement(1.0);
}

/// There is one output of a kind (`rtmp`, `record`) more.
pub(crate) fn output_started(kind: &'static str) {
    gauge!(OUTPUTS, "kind" => kind).increment(1.0);
}

/// There is one output of a kind less.
pub(crate) fn output_ended(kind: &'static str) {
    gauge!(OUTPUTS, "kind" => kind).decrement(1.0);
}

/// An output met its receiver again.
pub(crate) fn output_reconnected(kind: &'static str) {
    counter!(OUTPUT_RECONNECTS, "kind" => kind).increment(1);
}

/// An output cannot go on.
pub(crate) fn output_failed(kind: &'static str) {
    counter!(OUTPUT_FAILURES, "kind" => kind).increment(1);
}

/// A description of a pipeline changed while the server ran, and came into use or was refused.
pub(crate) fn pipeline_changed(outcome: &'static str) {
    counter!(PIPELINE_CHANGES, "outcome" => outcome).increment(1);
}

/// Of one viewer, since it was told last.
pub(crate) fn viewer_sent(pushed: u64, dropped: u64, lost: u64) {
    counter!(VIEWER_PUSHED).increment(pushed);
    counter!(VIEWER_DROPPED).increment(dropped);
    counter!(VIEWER_LOST).increment(lost);
}

/// A viewer came, to this rung.
pub(crate) fn viewer_came(rung: &'static str) {
    gauge!(VIEWERS, "rung" => rung).increment(1.0);
}

/// And left, from this one.
pub(crate) fn viewer_left(rung: &'static str) {
    gauge!(VIEWERS, "rung" => rung).decrement(1.0);
}

/// A viewer's network carries more, or less.
pub(crate) fn viewer_moved(from: &'static str, to: &'static str) {
    counter!(VIEWER_MOVES, "from" => from, "to" => to).increment(1);
    viewer_left(from);
    viewer_came(to);
}

/// What the network to a viewer carries: bits a second and the share that is lost.
pub(crate) fn viewer_network(rate: u32, loss: f64, rung: &'static str) {
    histogram!(VIEWER_RATE, "rung" => rung).record(f64::from(rate));
    histogram!(VIEWER_LOSS).record(loss);
}

/// A packet to the one port was no viewer's.
pub(crate) fn stranger_dropped(reason: &'static str) {
    counter!(STRANGERS, "reason" => reason).increment(1);
}

/// The round trip to a viewer takes so long.
pub(crate) fn viewer_round_trip(time: Duration) {
    histogram!(VIEWER_ROUND_TRIP).record(time);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_recorded_is_put_into_buckets_though_nobody_scrapes_it() {
        let (runs, ended) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let counting = Arc::clone(&runs);
        let run_upkeep = move || {
            counting.fetch_add(1, Ordering::Relaxed);
        };
        let keeping_up = tokio::spawn(keep_up(run_upkeep, ended.clone()));
        tokio::time::sleep(UPKEEP * 10 + UPKEEP / 2).await;
        ended.cancel();
        keeping_up.await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 11);
    }
}
