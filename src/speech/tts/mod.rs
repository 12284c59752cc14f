//! Synthesisers.
