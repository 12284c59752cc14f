//! `bench throughput`: frames a second of an avatar's model and its pasting alone, nothing else running.

use serde_json::Value;

use crate::avatar::AvatarStore;
use crate::cli::{BenchThroughput, Home};
use crate::commands::throughput;
use crate::media::PipelineDir;

pub(super) async fn run(home: &Home, arguments: &BenchThroughput) -> anyhow::Result<Value> {
    let folders = crate::config::Folders::find(home)?;
    let id = arguments.server.avatar.parse()?;
    let (devices, encoder) = arguments.server.machine.resolve()?;
    encoder.check(&PipelineDir::find(&folders.pipelines))?;
    // One at a time.
    let device = devices.first();
    let options = arguments.throughput.clone();
    let measured = tokio::task::spawn_blocking(move || {
        let avatar = AvatarStore::new(&folders.avatars).load(&id)?;
        throughput::run(&folders.models.join(&avatar.manifest.model), Some(&avatar), device, &options)
    });
    measured.await?
}
