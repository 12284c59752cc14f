//! `mouthpiece models tune-decoder`, and avatars of one model that are drawn by different decoders.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mouthpiece::avatar::Avatar;
use mouthpiece::lipsync::{AvatarHandle, LipSync, Mouth, MouthRun, draw_crops};
use mouthpiece::musetalk::network::config::TinyConfig;
use mouthpiece::musetalk::network::decoder::Decoder;
use mouthpiece::musetalk::network::tiny_vae::TinyVaeDecoder;
use mouthpiece::musetalk::weights::save_safetensors;
use mouthpiece::musetalk::{ModelConfig, MuseTalk};
use mouthpiece::picture::MouthFrame;
use serde_json::{Value, json};
use tch::{Device, Tensor, nn};

use crate::models::{fails, models, succeeds};
use crate::parity::kl_json;

/// Half as wide as the demo's own, and as diffusers describes it.
fn small_decoder() -> Value {
    json!({
        "_class_name": "AutoencoderTiny", "_diffusers_version": "0.30.2", "scaling_factor": 1.0,
        "encoder_block_out_channels": [8, 8, 8], "num_encoder_blocks": [1, 1, 1], "pixel_unshuffle": 2,
        "decoder_block_out_channels": [16, 12, 8], "num_decoder_blocks": [1, 1, 1], "pixel_shuffle": 2,
    })
}

/// The demo's model and avatar, and a small decoder that has learnt nothing.
struct Home(tempfile::TempDir);

impl Home {
    fn new(decoder: &Value) -> Self {
        let home = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let models = home.path().join("models");
        for folder in ["avatars/demo", "taesd"] {
            std::fs::create_dir_all(models.join(folder)).unwrap();
        }
        symlink(project.join("demo"), models.join("demo")).unwrap();
        for entry in std::fs::read_dir(project.join("avatars/demo")).unwrap().flatten() {
            symlink(entry.path(), models.join("avatars/demo").join(entry.file_name())).unwrap();
        }
        let mut fields = decoder.clone();
        fields.as_object_mut().unwrap().retain(|name, _| !name.starts_with('_'));
        let config: TinyConfig = serde_json::from_value(fields).unwrap();
        tch::manual_seed(3);
        let store = nn::VarStore::new(Device::Cpu);
        TinyVaeDecoder::new(&(store.root() / "decoder"), &config).unwrap();
        let taesd = models.join("taesd");
        save_safetensors(&store, &taesd.join("diffusion_pytorch_model.safetensors"), false).unwrap();
        std::fs::write(taesd.join("config.json"), decoder.to_string()).unwrap();
        Self(home)
    }

    /// The avatar belongs to a model like the demo's, but with an AutoencoderKL that has learnt nothing.
    fn with_kl(self) -> Self {
        let models = self.models();
        let (demo, kl, manifest) = (models.join("demo"), models.join("kl"), models.join("avatars/demo/avatar.toml"));
        let mut config: Value = serde_json::from_slice(&std::fs::read(demo.join("config.json")).unwrap()).unwrap();
        config["autoencoder"] = kl_json();
        config["autoencoder"]["kind"] = json!("kl");
        config.as_object_mut().unwrap().remove("teacher_decoder");
        let parsed: ModelConfig = serde_json::from_value(config.clone()).unwrap();
        let store = nn::VarStore::new(Device::Cpu);
        Decoder::new(&(store.root() / "autoencoder"), &parsed.autoencoder).unwrap();
        let mut tensors = Tensor::read_safetensors(demo.join("model.safetensors")).unwrap();
        tensors.retain(|(name, _)| !name.starts_with("autoencoder."));
        tensors.extend(store.variables());
        std::fs::create_dir(&kl).unwrap();
        Tensor::write_safetensors(&tensors, kl.join("model.safetensors")).unwrap();
        std::fs::write(kl.join("config.json"), config.to_string()).unwrap();
        let text = std::fs::read_to_string(&manifest).unwrap();
        std::fs::remove_file(&manifest).unwrap();
        std::fs::write(&manifest, text.replace("model = \"demo\"", "model = \"kl\"")).unwrap();
        self
    }

    fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }

    fn tune(&self, more: &[&str]) -> std::process::Output {
        let arguments = ["tune-decoder", "demo", "--steps", "150", "--frames", "32", "--device", "cpu", "--json"];
        let arguments = [&arguments[..], &["--learning-rate", "0.005"]].concat();
        models(Some(self.0.path()), &[&arguments[..], more].concat())
    }
}

fn run(avatar: AvatarHandle) -> MouthRun {
    let sound: Vec<f32> = (0..16_000_u32).map(|at| (f64::from(at) * 0.05).sin() as f32 * 0.4).collect();
    MouthRun { avatar, poses: vec![0, 7, 14], audio: sound.into(), first_frame_at: 3200 }
}

/// Mean absolute difference of the rows that are decoded, in levels.
fn apart(one: &[MouthFrame], other: &[MouthFrame]) -> f64 {
    let pixels = one.iter().zip(other).flat_map(|(one, other)| one.rgb.iter().zip(&other.rgb));
    let (sum, count) = pixels
        .filter(|(one, other)| **one != 0 || **other != 0)
        .fold((0.0, 0.0), |(sum, count), (a, b)| (sum + f64::from(a.abs_diff(*b)), count + 1.0));
    sum / f64::max(count, 1.0)
}

#[test]
fn a_small_decoder_learns_an_avatars_mouth_and_draws_it_beside_one_that_the_model_draws() {
    let home = Home::new(&small_decoder());
    let report = succeeds(&home.tune(&[]));
    let levels = |when: &str| report["mouth"][when]["levels"].as_f64().unwrap();
    eprintln!("{report}");
    assert!(levels("after") < 0.5 * levels("before"), "{report}");
    assert_eq!((report["mouth"]["held_out"].as_u64(), report["avatar"].as_str()), (Some(4), Some("demo")));
    fails(&home.tune(&[]), 2, &["decoder is there already", "--replace"]);

    let models = home.models();
    let avatar = Avatar::load(&models.join("avatars/demo")).unwrap();
    let mut network = MuseTalk::load(&models.join("demo"), Device::Cpu, 1).unwrap();
    let mut add = |decoder: Option<PathBuf>| {
        let handle = network.add_latents(&avatar.latents, avatar.manifest.decode_rows).unwrap();
        decoder.iter().for_each(|folder| network.set_decoder(handle, folder).unwrap());
        handle
    };
    let own = add(None);
    let tuned = add(Some(models.join("avatars/demo/decoder")));
    let untaught = add(Some(models.join("taesd")));
    let another = add(Some(models.join("taesd")));
    let alone = [own, tuned, untaught].map(|avatar| draw_crops(&mut network, &run(avatar)).unwrap());
    let together = network.draw(&[run(tuned), run(own), run(untaught), run(tuned), run(another)]).unwrap();
    for (drawn, of) in together.into_iter().zip([1, 0, 2, 1, 2]) {
        let drawn: Vec<_> = drawn.into_iter().filter_map(Mouth::into_crop).collect();
        assert!(apart(&drawn, &alone[of]) < 0.05, "drawn among others it is another mouth");
    }
    let (after, before) = (apart(&alone[1], &alone[0]), apart(&alone[2], &alone[0]));
    assert!(after < 0.5 * before, "{after} levels after, {before} before");
}

#[test]
fn a_small_decoder_learns_from_an_autoencoder_kl() {
    let home = Home::new(&small_decoder()).with_kl();
    let report = succeeds(&home.tune(&[]));
    eprintln!("{report}");
    let levels = |when: &str| report["mouth"][when]["levels"].as_f64().unwrap();
    assert!(levels("after") < 0.5 * levels("before"), "{report}");
}

#[test]
fn a_decoder_of_other_latents_is_refused_by_what_is_wrong() {
    let mut coarse = small_decoder();
    coarse["pixel_shuffle"] = json!(1);
    coarse["pixel_unshuffle"] = json!(1);
    let home = Home::new(&coarse);
    fails(&home.tune(&[]), 1, &["taesd/config.json", "pixels a latent cell: 4", "need 8"]);
    fails(&home.tune(&["--from", "nothing"]), 1, &["models/nothing", "config.json"]);
    fails(&models(Some(home.0.path()), &["tune-decoder", "anna"]), 2, &["\"anna\"", "demo"]);
    assert!(!home.models().join("avatars/demo/decoder").exists());
}
