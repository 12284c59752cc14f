//! `bench throughput`: frames a second of the network and its pasting alone, nothing else running.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::percentiles;
use crate::cli::{BenchServer, Home};
use crate::commands::measure::Percentiles;
use crate::lipsync::MouthRun;
use crate::lipsync::engine::Due;
use crate::lipsync::window::BATCH_SIZES;
use crate::server::{self, Works};

/// Batches of each size.
const ROUNDS: usize = 30;

pub(super) async fn run(home: &Home, arguments: &BenchServer) -> anyhow::Result<Value> {
    let folders = crate::config::Folders::find(home)?;
    let id = arguments.avatar.parse()?;
    let manifest = crate::avatar::AvatarStore::new(&folders.avatars).manifest(&id)?;
    let (device, _) = arguments.machine.resolve()?;
    let works = Works::start(&folders, &manifest.model, device).await?;
    let loaded = server::load_avatar(&works.engine, &folders, &id).await?;
    let audio: Arc<[f32]> = vec![0.1; crate::timeline::LIPSYNC_RATE as usize].into();
    let mut sizes = Vec::new();
    for size in BATCH_SIZES {
        let mut took = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let batch = MouthRun {
                avatar: loaded.handle,
                poses: (0..size).collect(),
                audio: Arc::clone(&audio),
                first_frame_at: 0,
            };
            let started = Instant::now();
            let due = Due { deadline: None, awaited: true };
            works.engine.draw(batch, due, CancellationToken::new()).await?.await??;
            took.push(started.elapsed().as_secs_f64() / f64::from(u32::try_from(size)?));
        }
        let found = Percentiles::of_seconds(&took);
        let rate = found.map(|found| super::rounded(1000.0 / found.p50_ms));
        sizes.push(json!({"batch": size, "frame_ms": percentiles(found), "frames_per_second": rate}));
    }
    works.stop().await?;
    Ok(json!({ "device": format!("{device:?}").to_lowercase(), "model": manifest.model, "sizes": sizes }))
}
