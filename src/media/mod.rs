//! Frames and sound leave over WebRTC. The only home of GStreamer.
