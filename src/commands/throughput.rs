//! Frames a second of a model and of pasting what it draws: for `bench throughput`, and for the program `engine-bench`,
//! which is the same without GStreamer.
//!
//! Runs on the thread that calls; libtorch wants that to be one that is joined.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::measure::{Percentiles, peak_memory_mb};
use crate::avatar::{Avatar, OwnFrames};
use crate::cli::Throughput;
use crate::compose;
use crate::musetalk::measuring::Arithmetic;
use crate::musetalk::network::config::AutoencoderConfig;
use crate::musetalk::tools::run_network;
use crate::musetalk::tools::throughput::{self, Sample, measure, measure_attention};
use crate::musetalk::{DeviceChoice, ModelConfig, MuseTalk, find_device};

/// Measures the model in the folder `model` with an avatar, or with none: then everything is decoded and nothing pasted.
pub fn run(
    model: &Path,
    avatar: Option<&Avatar>,
    choice: DeviceChoice,
    arguments: &Throughput,
) -> anyhow::Result<Value> {
    let device = find_device(choice)?;
    let mut network = match arguments.dtype {
        Some(precision) => MuseTalk::load_as(model, device, arguments.threads, precision)?,
        None => MuseTalk::load(model, device, arguments.threads)?,
    };
    if let [inputs, outputs] = arguments.check.as_slice() {
        run_network::draw(&network, (inputs, outputs))?;
    }
    let all_rows = [0, network.config().latent_size()];
    let (handle, poses, rows) = match avatar {
        None => (network.add_blank_avatar()?, 1, network.config().decode_rows.unwrap_or(all_rows)),
        Some(avatar) => {
            let own = avatar.manifest.decode_rows.or(network.config().decode_rows);
            let rows = own.filter(|_| !arguments.all_rows).unwrap_or(all_rows);
            let handle = network.add_latents(&avatar.latents, Some(rows))?;
            // Models and avatars lie side by side: models/NAME, models/avatars/ID.
            let (models, folder) = (model.parent(), avatar.latents.parent().and_then(Path::parent));
            if let Some((models, avatars)) = models.zip(folder)
                && let Some(decoder) = avatar.manifest.decoder_folder(avatars, models)
            {
                network.set_decoder(handle, &decoder)?;
            }
            network.add_frames(handle, avatar)?;
            (handle, avatar.frame_count(), rows)
        }
    };
    let drawn_by = ModelConfig { autoencoder: network.decoder_of(handle), ..network.config().clone() };
    let work = Arithmetic::of_frame(&drawn_by, rows);
    let own = avatar.map(|avatar| OwnFrames::of(Arc::new(avatar.clone())));
    let mut paste = |pose: usize, mouth: &_| {
        if let Some(own) = &own {
            // The first round through the frames is the frames in their order, however they follow each other after it.
            std::hint::black_box(compose::paste(own, pose as u64, mouth));
        }
    };
    let found = measure(&mut network, (handle, poses), &arguments.batch, arguments.rounds, &mut paste)?;
    let sizes: Vec<Value> = found.sizes.iter().map(|(size, samples)| row(*size, samples, work, &found)).collect();
    let largest = arguments.batch.iter().copied().max().and_then(|most| i64::try_from(most).ok()).unwrap_or(1);
    let attention = measure_attention(&network, largest, arguments.rounds)?;
    let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let attention: Vec<Value> = attention
        .iter()
        .map(|level| {
            json!({
                "head_size": level.head_size, "tokens": level.tokens, "batch": largest,
                "fused_ms": ms(level.fused), "written_out_ms": ms(level.written_out),
            })
        })
        .collect();
    let decoder = match drawn_by.autoencoder {
        AutoencoderConfig::Kl(_) => "kl",
        AutoencoderConfig::Tiny(_) => "tiny",
    };
    Ok(json!({
        "device": format!("{device:?}").to_lowercase(),
        "model": network.config().name,
        "avatar": avatar.map(|avatar| avatar.manifest.id.to_string()),
        "decoder": decoder,
        "decode_rows": rows,
        "dtype": { "unet": network.precisions().unet.name(), "decode": network.precisions().decoder.name() },
        "threads": arguments.threads,
        "gflop_per_frame": { "unet": giga(work.unet), "decode": giga(work.decode) },
        "roof_gflop_per_second": {
            "unet": super::rounded(found.unet_roof / 1e9),
            "decode": super::rounded(found.decoder_roof / 1e9),
        },
        "memory": {
            "peak_resident_mb": peak_memory_mb(),
            // tch binds none of the CUDA allocator's statistics.
            "cuda_allocator": device.is_cuda().then_some("unavailable"),
        },
        "attention": attention,
        "sizes": sizes,
    }))
}

#[allow(clippy::cast_precision_loss, reason = "below 2^53")]
fn giga(flop: i64) -> f64 {
    (flop as f64 / 1e6).round() / 1e3
}

/// Everything for one frame, at the median of the rounds.
fn row(batch: usize, samples: &[Sample], work: Arithmetic, found: &throughput::Throughput) -> Value {
    let each = |of: &dyn Fn(&Sample) -> Duration| -> Option<Percentiles> {
        let frames = u32::try_from(batch).unwrap_or(1);
        Percentiles::of_seconds(&samples.iter().map(|sample| (of(sample) / frames).as_secs_f64()).collect::<Vec<_>>())
    };
    let stage = |of: &dyn Fn(&Sample) -> Duration| each(of).map(|found| found.p50_ms);
    let whole = each(&Sample::total);
    let drawn: Vec<f64> = samples.iter().map(|sample| sample.stages.total().as_secs_f64()).collect();
    let (unet, decode) = (stage(&|sample| sample.stages.unet), stage(&|sample| sample.stages.decode));
    // At the roof.
    let [unet_ms, decode_ms] =
        [(work.unet, found.unet_roof), (work.decode, found.decoder_roof)].map(|(flop, roof)| giga(flop) * 1e12 / roof);
    let share = |least: f64, ms: Option<f64>| ms.map(|ms| (least / ms * 1e3).round() / 1e3);
    json!({
        "batch": batch,
        "frames_per_second": whole.map(|whole| super::rounded(1000.0 / whole.p50_ms)),
        "frame_ms": whole,
        // What `bench sessions` has for its server's batches of this size.
        "batch_ms": Percentiles::of_seconds(&drawn).map(|drawn| drawn.p50_ms),
        "stage_ms": {
            "features": stage(&|sample| sample.stages.features),
            "unet": unet,
            "decode": decode,
            "paste": stage(&|sample| sample.stages.paste),
            "copy": stage(&|sample| sample.stages.copy),
            "compose": stage(&|sample| sample.compose),
        },
        "roof_share": {
            "unet": share(unet_ms, unet),
            "decode": share(decode_ms, decode),
            "whole": share(unet_ms + decode_ms, whole.map(|whole| whole.p50_ms)),
        },
    })
}
