//! The lip-sync network as a whole, with random weights: loading, drawing, and what it says about files that are wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mouthpiece::lipsync::musetalk::audio::AudioFrontEnd;
use mouthpiece::lipsync::musetalk::model::Decoder;
use mouthpiece::lipsync::musetalk::weights::save_safetensors;
use mouthpiece::lipsync::musetalk::{ModelConfig, MuseTalk, Unet};
use mouthpiece::lipsync::{LipSync, MouthBatch};
use tch::{Device, Kind, Tensor, nn};

fn demo_config() -> ModelConfig {
    ModelConfig::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/config.json")).unwrap()
}

/// A folder with `config` and random weights for it, and an avatar of three random poses.
fn random_model(config: &ModelConfig) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    tch::manual_seed(7);
    let store = nn::VarStore::new(Device::Cpu);
    let root = store.root();
    AudioFrontEnd::new(&(&root / "audio_encoder"), config).unwrap();
    Unet::new(&(&root / "unet"), &config.unet).unwrap();
    Decoder::new(&(&root / "autoencoder"), &config.autoencoder).unwrap();
    save_safetensors(&store, &folder.path().join("model.safetensors"), true).unwrap();
    std::fs::write(folder.path().join("config.json"), serde_json::to_vec(config).unwrap()).unwrap();
    let latents = Tensor::randn(
        [3, config.unet.in_channels, config.latent_size(), config.latent_size()],
        (Kind::Half, Device::Cpu),
    );
    let path = folder.path().join("latents.safetensors");
    Tensor::write_safetensors(&[("latents", latents)], &path).unwrap();
    (folder, path)
}

fn voice(seconds: f32) -> Arc<[f32]> {
    (0..(seconds * 16_000.0) as usize).map(|i| 0.3 * (i as f32 * 0.05).sin() * (i as f32 * 0.0007).cos()).collect()
}

#[test]
fn the_demo_model_draws_one_crop_for_each_pose() {
    let config = demo_config();
    let (folder, latents) = random_model(&config);
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let avatar = model.add_avatar(&latents, None).unwrap();
    let batch = MouthBatch { avatar, poses: vec![0, 1, 2, 1], audio: voice(1.0), first_frame_at: 3200 };
    let frames = model.infer(&batch).unwrap();
    assert_eq!(frames.len(), 4);
    for frame in &frames {
        assert_eq!((frame.width, frame.height, frame.rgb.len()), (128, 128, 128 * 128 * 3));
    }
    assert_ne!(frames[0], frames[2], "two poses gave the same picture");
}
