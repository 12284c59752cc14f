//! A training under way: its configuration, face and speech, its log, and where its checkpoints are.
//!
//! Not in here: what the stages do with it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::speeches::{Corpus, Speech};
use super::subject::Subject;
use super::{Options, Result, TrainingError};
use crate::musetalk::ModelConfig;

/// What all stages share.
pub(super) struct Run<'a> {
    pub options: Options,
    pub config: ModelConfig,
    pub subject: &'a dyn Subject,
    pub corpus: Corpus,
    log: Mutex<std::fs::File>,
    started: Instant,
}

impl<'a> Run<'a> {
    pub fn new(subject: &'a dyn Subject, corpus: Corpus, options: Options) -> Result<Self> {
        let config = ModelConfig::load(&options.out.join("config.json"))?;
        std::fs::create_dir_all(&options.work).map_err(|error| TrainingError::file(&options.work, error))?;
        let path = options.out.join("training.jsonl");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = Mutex::new(log.map_err(|error| TrainingError::file(&path, error))?);
        let run = Self { options, config, subject, corpus, log, started: Instant::now() };
        let frames: usize = run.corpus.speeches.iter().map(Speech::frames).sum();
        run.log(&serde_json::json!({
            "event": "start", "seed": run.options.seed, "corpus": run.corpus.hash, "clips": run.corpus.clips,
            "frames": frames, "resume": run.options.resume, "steps": run.options.budget, "config": run.config,
        }));
        Ok(run)
    }

    /// A line of the training log. A full disk must not end a training, so failure is only told.
    pub fn log(&self, line: &serde_json::Value) {
        tracing::info!("{line}");
        let mut line = line.clone();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("wall_s".to_owned(), serde_json::json!(self.started.elapsed().as_secs()));
        }
        let Ok(mut file) = self.log.lock() else { return };
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!(%error, "the training log cannot be written");
        }
    }

    /// Each stage has a sequence of its own, so that one may be run without the others.
    pub fn rng(&self, stage: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.options.seed ^ (stage << 32))
    }

    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.options.work.join(format!("{name}.safetensors"))
    }
}
