//! The kit's WebRTC peer on its way to a server: offer and answer go over the WebSocket of a client.

use gstreamer::prelude::*;
use serde_json::json;

use crate::kit::peer::Peer;
use crate::llm::Client;

/// Connects a peer, whose pipeline has depayloaders for what it receives, `audio` and `video`.
pub(crate) async fn connect(peer: &Peer, client: &mut Client) {
    link(peer);
    peer.play();
    let offer = peer.offer().await;
    client.send(json!({"type": "webrtc_offer", "sdp": offer})).await;
    // The server's candidates are in its answer, and it finds us by where our checks come from.
    let answered = client.until_type("webrtc_answer").await;
    peer.take_answer(answered.last().unwrap()["sdp"].as_str().unwrap()).await;
}

/// Has what it receives go to the depayloaders of its pipeline.
pub(crate) fn link(peer: &Peer) {
    peer.each_pad(|pipeline, pad| {
        let caps = pad.current_caps().unwrap();
        let media: String = caps.structure(0).unwrap().get("media").unwrap();
        let sink = pipeline.by_name(&media).unwrap().static_pad("sink").unwrap();
        pad.link(&sink).unwrap();
    });
}
