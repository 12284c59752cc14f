//! The network against diffusers and transformers on random weights; `scripts/make_parity_fixtures.py` made the numbers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use mouthpiece::lipsync::{MouthRun, draw_crops};
use mouthpiece::models::names::current_name;
use mouthpiece::musetalk::device::Precision;
use mouthpiece::musetalk::network::audio_rows::{first_row, first_row_at};
use mouthpiece::musetalk::network::config::{KlConfig, MelConfig, TinyConfig, UnetConfig, WhisperConfig};
use mouthpiece::musetalk::network::mel::LogMel;
use mouthpiece::musetalk::network::positional_encoding::positional_encoding;
use mouthpiece::musetalk::network::tiny_vae::{TinyVaeDecoder, TinyVaeEncoder};
use mouthpiece::musetalk::network::unet::Unet;
use mouthpiece::musetalk::network::vae::AutoencoderKl;
use mouthpiece::musetalk::network::whisper::WhisperEncoder;
use mouthpiece::musetalk::serving::{AudioFrontEnd, Stretch, from_rgb8, to_rgb8};
use mouthpiece::musetalk::weights::{Mapping, load_safetensors};
use mouthpiece::musetalk::{ModelConfig, MuseTalk};
use mouthpiece::picture::MouthFrame;
use mouthpiece::picture::blend::paste_rgb;
use mouthpiece::picture::color::rgb_to_i420;
use mouthpiece::picture::resize::lanczos4;
use mouthpiece::picture::{AvatarFrame, CropBox, Mask, Region, RgbPicture};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn};

/// Largest difference of a whole small model in 32-bit floats on the CPU, and the difference's relative length.
const WHOLE: f64 = 5e-5;
const RELATIVE: f64 = 1e-5;
/// Largest difference of a part of one layer or two.
const ONE_BLOCK: f64 = 1e-5;

pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

pub(crate) struct Cases(pub(crate) HashMap<String, Tensor>);

impl Cases {
    pub(crate) fn load(name: &str) -> Self {
        let tensors = Tensor::read_safetensors(fixture(&format!("{name}-cases.safetensors"))).unwrap();
        Self(tensors.into_iter().collect())
    }

    /// As 32-bit floats; inputs are stored in 16 bits without loss.
    pub(crate) fn get(&self, name: &str) -> Tensor {
        self.raw(name).to_kind(Kind::Float)
    }

    pub(crate) fn raw(&self, name: &str) -> Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor {name} in the fixture")).shallow_clone()
    }
}

#[track_caller]
pub(crate) fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, most: f64) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shape");
    let difference = (ours - theirs).to_kind(Kind::Double);
    let largest = difference.abs().max().double_value(&[]);
    let relative = (difference.norm() / theirs.to_kind(Kind::Double).norm()).double_value(&[]);
    assert!(largest <= most, "{what}: largest difference {largest:e}, at most {most:e} is allowed");
    assert!(relative <= RELATIVE, "{what}: relative difference {relative:e}, at most {RELATIVE:e} is allowed");
}

fn config<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn unet_json(heads: i64) -> Value {
    let mut value: Value = serde_json::from_slice(&std::fs::read(fixture("unet.json")).unwrap()).unwrap();
    value["attention_head_dim"] = json!(heads);
    value
}

pub(crate) fn kl_json() -> Value {
    json!({"block_out_channels": [16, 32, 48, 48], "layers_per_block": 2, "latent_channels": 4, "norm_num_groups": 8})
}

pub(crate) fn tiny_json() -> Value {
    json!({
        "encoder_block_out_channels": [16, 16, 16, 16], "num_encoder_blocks": [1, 3, 3, 3],
        "decoder_block_out_channels": [16, 16, 16, 16], "num_decoder_blocks": [3, 3, 3, 1],
    })
}

fn whisper_json(final_norm: bool) -> Value {
    json!({
        "n_mels": 80, "d_model": 48, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 96,
        "max_source_positions": 100, "final_norm": final_norm,
    })
}

/// Builds a part on a fresh store and fills it with a fixture's weights, all of which must fit.
fn loaded<T>(weights: &str, build: impl FnOnce(&nn::Path<'_>) -> T) -> T {
    loaded_as(Mapping::default(), weights, build)
}

fn loaded_as<T>(mapping: Mapping<'_>, weights: &str, build: impl FnOnce(&nn::Path<'_>) -> T) -> T {
    let store = nn::VarStore::new(Device::Cpu);
    let part = build(&store.root());
    load_safetensors(&store, &fixture(weights), mapping).unwrap();
    let kept = store.variables().values().filter(|variable| variable.kind() == Kind::Half).count();
    assert_eq!(kept > 0, mapping.keep_16_bits, "{kept} variables are in 16 bits");
    part
}

fn unet(heads: i64) -> Unet {
    let config: UnetConfig = config(unet_json(heads));
    loaded("unet.safetensors", |p| Unet::new(p, &config).unwrap())
}

fn kl() -> AutoencoderKl {
    loaded("autoencoder_kl.safetensors", |p| AutoencoderKl::new(p, &config::<KlConfig>(kl_json())).unwrap())
}

#[test]
fn unet_agrees_with_diffusers_block_by_block() {
    let (_guard, cases, unet) = (tch::no_grad_guard(), Cases::load("unet"), unet(4));
    let mut seen = 0;
    let mut probe = |name: &str, ours: &Tensor| {
        let most = if name == "conv_in" { ONE_BLOCK } else { WHOLE };
        assert_close(name, ours, &cases.get(&format!("small.{name}")), most);
        seen += 1;
    };
    let out = unet.forward_probed(&cases.get("small.sample"), &cases.get("small.context"), &mut probe).unwrap();
    assert_eq!(seen, 10);
    assert_close("output", &out, &cases.get("small.out"), WHOLE);
}

#[test]
fn unet_agrees_on_another_size_and_number_of_tokens() {
    let (_guard, cases) = (tch::no_grad_guard(), Cases::load("unet"));
    let out = unet(4).forward(&cases.get("large.sample"), &cases.get("large.context")).unwrap();
    assert_close("output", &out, &cases.get("large.out"), WHOLE);
}

#[test]
fn attention_head_dim_is_the_number_of_heads() {
    let (_guard, cases) = (tch::no_grad_guard(), Cases::load("unet"));
    let out = unet(8).forward(&cases.get("small.sample"), &cases.get("small.context")).unwrap();
    assert_close("output", &out, &cases.get("heads_8.out"), WHOLE);
    let apart = (&out - cases.get("small.out")).abs().max().double_value(&[]);
    assert!(apart > 0.01, "4 and 8 heads give the same, so this cannot tell them apart");
}

#[test]
fn a_folded_unet_gives_the_same() {
    let (_guard, cases, mut unet) = (tch::no_grad_guard(), Cases::load("unet"), unet(4));
    unet.fold().unwrap();
    let out = unet.forward(&cases.get("small.sample"), &cases.get("small.context")).unwrap();
    assert_close("output", &out, &cases.get("small.out"), WHOLE);
    unet.fold().unwrap();
    let again = unet.forward(&cases.get("small.sample"), &cases.get("small.context")).unwrap();
    assert_eq!(out, again, "folding twice is not folding once");
}

#[test]
fn weights_kept_in_16_bits_give_the_very_same_numbers() {
    let _guard = tch::no_grad_guard();
    let both = [false, true].map(|keep_16_bits| Mapping { keep_16_bits, channels_last: true, ..Mapping::default() });
    let cases = Cases::load("unet");
    let [converted, kept] = both.map(|mapping| {
        let config: UnetConfig = config(unet_json(4));
        let mut unet = loaded_as(mapping, "unet.safetensors", |p| Unet::new(p, &config).unwrap());
        let plain = unet.forward(&cases.get("small.sample"), &cases.get("small.context")).unwrap();
        unet.fold().unwrap();
        [plain, unet.forward(&cases.get("small.sample"), &cases.get("small.context")).unwrap()]
    });
    assert_eq!(converted, kept, "UNet, plain and folded");
    let cases = Cases::load("autoencoder_kl");
    let [converted, kept] = both.map(|mapping| {
        let config: KlConfig = config(kl_json());
        let kl = loaded_as(mapping, "autoencoder_kl.safetensors", |p| AutoencoderKl::new(p, &config).unwrap());
        let (mean, logvar) = kl.encode(&from_rgb8(&cases.raw("rgb"), false).unwrap()).unwrap();
        [mean, logvar, kl.decode(&cases.get("latent")).unwrap()]
    });
    assert_eq!(converted, kept, "autoencoder");
    let [converted, kept] = both.map(|mapping| {
        let config: WhisperConfig = config(whisper_json(true));
        let encoder = loaded_as(mapping, "whisper.safetensors", |p| WhisperEncoder::new(p, &config).unwrap());
        encoder.hidden_states(&Cases::load("whisper").get("mel")).unwrap()
    });
    assert_eq!(converted, kept, "audio encoder");
}

#[test]
fn kl_encoder_agrees_on_reference_and_masked_picture() {
    let (_guard, cases, kl) = (tch::no_grad_guard(), Cases::load("autoencoder_kl"), kl());
    for (name, masked) in [("reference", false), ("masked", true)] {
        let (mean, logvar) = kl.encode(&from_rgb8(&cases.raw("rgb"), masked).unwrap()).unwrap();
        assert_close("mean", &mean, &cases.get(&format!("{name}.mean")), WHOLE);
        assert_close("logvar", &logvar, &cases.get(&format!("{name}.logvar")), WHOLE);
    }
}

/// Upstream draws each latent from the encoder's distribution, without a seed, so no two preparations of an avatar are
/// the same. Here a latent is the distribution's mean, diffusers' `mode()`: it is what upstream trains with, and what
/// samples lie around.
#[test]
fn a_picture_encoded_twice_has_the_same_latent_the_mean_of_what_upstream_samples() {
    let (_guard, cases) = (tch::no_grad_guard(), Cases::load("autoencoder_kl"));
    for (name, masked) in [("reference", false), ("masked", true)] {
        let picture = from_rgb8(&cases.raw("rgb"), masked).unwrap();
        let [(once, logvar), (again, _)] = [(); 2].map(|()| kl().encode(&picture).unwrap());
        assert_eq!(once, again, "{name}");
        assert_close(name, &once, &cases.get(&format!("{name}.mean")), WHOLE);
        let deviation = (logvar / 2).exp().min().double_value(&[]);
        assert!(deviation > 100.0 * WHOLE, "{name}: a sample would pass for the mean, its deviation is {deviation}");
    }
}

#[test]
fn a_face_is_scaled_for_the_encoder_as_opencv_does() {
    let cases = Cases::load("resize");
    for name in ["up", "down", "odd", "same"] {
        let read = |part: &str| {
            let tensor = cases.raw(&format!("{name}.{part}"));
            let size: Vec<u32> = tensor.size().iter().map(|&size| u32::try_from(size).unwrap()).collect();
            RgbPicture::new(size[1], size[0], Vec::<u8>::try_from(tensor.view(-1)).unwrap()).unwrap()
        };
        let (from, theirs) = (read("from"), read("to"));
        assert!(lanczos4(&from, theirs.width, theirs.height) == theirs, "{name}: a level differs");
    }
}

#[test]
fn the_masked_half_is_black_before_black_becomes_minus_one() {
    let rgb = Tensor::full([4, 2, 3], 255, (Kind::Uint8, Device::Cpu));
    let rows = Vec::<f32>::try_from(from_rgb8(&rgb, true).unwrap().select(3, 0).select(1, 0).view(-1)).unwrap();
    assert_eq!(rows, [1.0, 1.0, -1.0, -1.0]);
}

#[test]
fn kl_decoder_agrees_with_diffusers() {
    let (_guard, cases) = (tch::no_grad_guard(), Cases::load("autoencoder_kl"));
    assert_close("picture", &kl().decode(&cases.get("latent")).unwrap(), &cases.get("decoded"), WHOLE);
}

#[test]
fn a_checkpoint_with_the_old_attention_names_loads() {
    let _guard = tch::no_grad_guard();
    let renamed: Vec<(String, Tensor)> = Tensor::read_safetensors(fixture("autoencoder_kl.safetensors"))
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| {
            let old = name.replace(".to_q.", ".query.").replace(".to_k.", ".key.").replace(".to_v.", ".value.");
            let old = old.replace(".to_out.0.", ".proj_attn.");
            // The oldest have 1x1 convolutions there.
            let convolution = old != name && tensor.dim() == 2 && old.contains("query");
            (old, if convolution { tensor.unsqueeze(-1).unsqueeze(-1) } else { tensor })
        })
        .collect();
    assert_eq!(renamed.iter().filter(|(name, _)| name.contains(".proj_attn.")).count(), 4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    Tensor::write_safetensors(&renamed, &path).unwrap();
    let store = nn::VarStore::new(Device::Cpu);
    let kl = AutoencoderKl::new(&store.root(), &config::<KlConfig>(kl_json())).unwrap();
    load_safetensors(&store, &path, Mapping { rename: current_name, ..Mapping::default() }).unwrap();
    let cases = Cases::load("autoencoder_kl");
    assert_close("picture", &kl.decode(&cases.get("latent")).unwrap(), &cases.get("decoded"), WHOLE);
}

#[test]
fn pictures_become_bytes_as_upstream_makes_them() {
    let cases = Cases::load("autoencoder_kl");
    assert_eq!(to_rgb8(&cases.get("levels.in")).unwrap(), cases.raw("levels.out"));
}

#[test]
fn a_mouth_is_scaled_and_pasted_as_opencv_and_pil_do() {
    let cases = Cases::load("paste");
    let bytes = |name: String| {
        let tensor = cases.raw(&name);
        let size: Vec<u32> = tensor.size().iter().map(|&size| u32::try_from(size).unwrap()).collect();
        (size[1], size[0], Vec::<u8>::try_from(tensor.view(-1)).unwrap())
    };
    for (name, most) in [("same", 0), ("up", 1), ("down", 1)] {
        let (width, height, rgb) = bytes(format!("{name}.frame"));
        let (side, _, face) = bytes(format!("{name}.face"));
        let (box_width, box_height, alpha) = bytes(format!("{name}.mask"));
        let own = AvatarFrame {
            picture: Arc::new(rgb_to_i420(&rgb, width, height)),
            crop: CropBox { x: 20, y: 10, width: box_width, height: box_height },
            region: Region { x: 0, y: 0, width, height, rgb },
        };
        let mask = Mask { width: box_width, height: box_height, alpha };
        let ours = paste_rgb(&own, &mask, &MouthFrame { width: side, height: side, rgb: face });
        let (.., theirs) = bytes(format!("{name}.pasted"));
        let apart: Vec<u8> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.abs_diff(*theirs)).collect();
        assert_eq!(apart.len(), theirs.len());
        let sum: f64 = apart.iter().map(|&levels| f64::from(levels)).sum();
        let (largest, mean) = (apart.iter().max().unwrap(), sum / apart.len() as f64);
        assert!(*largest <= most && mean < 0.15, "{name}: a level differs by {largest}, on average by {mean}");
    }
}

#[test]
fn tiny_autoencoder_agrees_with_diffusers() {
    let (_guard, cases) = (tch::no_grad_guard(), Cases::load("autoencoder_tiny"));
    let config: TinyConfig = config(tiny_json());
    let (encoder, decoder) = loaded("autoencoder_tiny.safetensors", |p| {
        (
            TinyVaeEncoder::new(&(p / "encoder"), &config).unwrap(),
            TinyVaeDecoder::new(&(p / "decoder"), &config).unwrap(),
        )
    });
    let encoded = encoder.encode(&from_rgb8(&cases.raw("rgb"), false).unwrap()).unwrap();
    assert_close("latent", &encoded, &cases.get("encoded"), WHOLE);
    assert_close("picture", &decoder.decode(&cases.get("latent")).unwrap(), &cases.get("decoded"), WHOLE);
}

#[test]
fn audio_encoder_agrees_with_transformers_with_and_without_the_final_norm() {
    let (_guard, cases) = (tch::no_grad_guard(), Cases::load("whisper"));
    let encoder = |final_norm| {
        let config: WhisperConfig = config(whisper_json(final_norm));
        loaded("whisper.safetensors", |p| WhisperEncoder::new(p, &config).unwrap())
    };
    let states = encoder(true).hidden_states(&cases.get("mel")).unwrap();
    assert_close("hidden states", &states, &cases.get("states"), WHOLE);
    let states = encoder(false).hidden_states(&cases.get("mel")).unwrap();
    assert_close("last hidden state", &states.select(2, 4), &cases.get("last_before_norm"), WHOLE);
    assert_close("other hidden states", &states.narrow(2, 0, 4), &cases.get("states").narrow(2, 0, 4), WHOLE);
}

#[test]
fn audio_encoder_takes_fewer_rows_than_it_has_positions_but_not_more() {
    let (_guard, cases) = (tch::no_grad_guard(), Cases::load("whisper"));
    let config: WhisperConfig = config(whisper_json(true));
    let encoder = loaded("whisper.safetensors", |p| WhisperEncoder::new(p, &config).unwrap());
    let mel = cases.get("mel");
    let states = encoder.hidden_states(&mel.narrow(0, 0, 1).narrow(2, 0, 80)).unwrap();
    assert_close("hidden states", &states, &cases.get("cut"), WHOLE);
    let error = encoder.hidden_states(&Tensor::cat(&[&mel, &mel], 2)).unwrap_err();
    assert!(error.to_string().contains("max_source_positions"), "{error}");
}

fn log_mel(audio: &Tensor, config: &MelConfig) -> Tensor {
    LogMel::new(config, audio.device()).unwrap().segment(audio).unwrap()
}

fn mel_config() -> MelConfig {
    config(json!({"n_mels": 80}))
}

/// Whisper's extractor works on 30 s, whatever there is of sound.
fn padded(audio: &Tensor) -> Tensor {
    audio.constant_pad_nd([0, 480_000 - audio.size()[0]])
}

#[test]
fn mel_agrees_with_transformers_on_sound_and_on_silence() {
    let cases = Cases::load("mel");
    let mel = log_mel(&padded(&cases.get("wave")), &mel_config());
    assert_eq!(mel.size(), [80, 3000]);
    assert_close("mel", &mel.narrow(1, 0, 420), &cases.get("mel"), ONE_BLOCK);
    assert_close("padding", &mel.select(1, 2999), &cases.get("padding"), ONE_BLOCK);
    let silent = log_mel(&padded(&Tensor::zeros([16_000], (Kind::Float, Device::Cpu))), &mel_config());
    assert_close("silence", &silent.slice(1, None, None, 300), &cases.get("silent"), ONE_BLOCK);
}

#[test]
fn mel_of_a_long_recording_has_a_floor_of_its_own_in_each_segment() {
    let cases = Cases::load("mel");
    let wave = cases.get("wave");
    let gains = [1.0, 0.5, 0.25, 0.125];
    let long = Tensor::cat(&(0..8).map(|i| &wave * gains[i % 4]).collect::<Vec<_>>(), 0).narrow(0, 0, 31 * 16_000);
    let first = log_mel(&long.narrow(0, 0, 480_000), &mel_config());
    assert_close("first", &first.slice(1, None, None, 50), &cases.get("long.first"), ONE_BLOCK);
    let second = log_mel(&padded(&long.narrow(0, 480_000, 16_000)), &mel_config());
    assert_close("second", &second.narrow(1, 0, 110), &cases.get("long.second"), ONE_BLOCK);
}

#[test]
fn mel_of_a_stretch_is_the_segments_where_both_have_the_same_sound() {
    let config = MelConfig { floor: config(json!({"absolute": 1e-5})), ..mel_config() };
    let wave = Cases::load("mel").get("wave");
    let whole = log_mel(&wave, &config);
    let samples = Vec::<f32>::try_from(&wave).unwrap();
    let stretch = LogMel::new(&config, Device::Cpu).unwrap().stretch(&samples, 160 * 30, 50).unwrap();
    assert_close("stretch", &stretch, &whole.narrow(1, 30, 50), ONE_BLOCK);
    let outside = LogMel::new(&config, Device::Cpu).unwrap().stretch(&samples, -160 * 20, 10).unwrap();
    assert_eq!((outside.min().double_value(&[]), outside.max().double_value(&[])), (-0.25, -0.25));
}

#[test]
fn positional_encoding_is_musetalks() {
    let theirs = Cases::load("whole").get("positional_encoding");
    assert_close("encoding", &positional_encoding(50, 384).unwrap(), &theirs, ONE_BLOCK);
}

/// The three small models as one, and the folder with its weights in one file, as a model is shipped.
pub(crate) fn whole_model() -> (tempfile::TempDir, ModelConfig) {
    let folder = tempfile::tempdir().unwrap();
    let mut autoencoder = kl_json();
    autoencoder["kind"] = json!("kl");
    let value = json!({
        "name": "small", "crop_size": 64, "mel": {"n_mels": 80}, "audio_window": "utterance",
        "audio_encoder": whisper_json(true), "unet": unet_json(4), "autoencoder": autoencoder,
    });
    let mut tensors = Vec::new();
    for (file, prefix) in [("whisper", "audio_encoder"), ("unet", "unet"), ("autoencoder_kl", "autoencoder")] {
        let part = Tensor::read_safetensors(fixture(&format!("{file}.safetensors"))).unwrap();
        tensors.extend(part.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)));
    }
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    let latents = [("latents", Cases::load("whole").raw("latents"))];
    Tensor::write_safetensors(&latents, folder.path().join("latents.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), value.to_string()).unwrap();
    (folder, config(value))
}

fn heard(cases: &Cases) -> Arc<[f32]> {
    Vec::<f32>::try_from(cases.get("audio")).unwrap().into()
}

#[test]
fn a_frames_window_begins_80_ms_before_it_at_every_rate() {
    const TABLE: [(i64, [i64; 13]); 6] = [
        (20, [-4, -2, 1, 3, 6, 8, 11, 13, 16, 18, 21, 23, 26]),
        (24, [-4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 21]),
        (25, [-4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20]),
        (30, [-4, -3, -1, 1, 2, 4, 6, 7, 9, 11, 12, 14, 16]),
        (50, [-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (60, [-4, -4, -3, -2, -1, 0, 1, 1, 2, 3, 4, 5, 6]),
    ];
    for (fps, starts) in TABLE {
        assert_eq!(std::array::from_fn(|frame| first_row_at(frame as i64, fps)), starts, "{fps} fps");
        // It never falls behind: after an hour it is the hour's.
        assert_eq!(first_row_at(3600 * fps, fps), 3600 * 50 - 4, "{fps} fps");
    }
    // What is drawn is 25 fps, as MuseTalk 1.5 does it.
    assert!((0..100_000).all(|frame| first_row(frame) == 2 * frame - 4));
}

#[test]
fn windows_do_not_move_with_the_rate_as_upstreams_do() {
    // Upstream pads twice ceil(50 / fps) rows before the sound, whatever a frame's length: 2 rows too many below 25 fps,
    // 2 too few from 50 on.
    let upstream = |frame: i64, fps: i64| frame * 50 / fps - 2 * ((50 + fps - 1) / fps);
    for (fps, late) in [(20, -2), (24, -2), (25, 0), (30, 0), (50, 2), (60, 2)] {
        assert!((0..1000).all(|frame| upstream(frame, fps) == first_row_at(frame, fps) + late), "{fps} fps");
    }
}

#[test]
fn audio_windows_are_musetalks_from_the_first_frame_to_the_last() {
    let (_guard, cases) = (tch::no_grad_guard(), Cases::load("whole"));
    let (_folder, config) = whole_model();
    let mut audio = loaded("whisper.safetensors", |p| AudioFrontEnd::new(p, &config).unwrap());
    let whole = audio.tokens(&[Stretch { audio: &heard(&cases), first_frame_at: 0, frames: 10 }]).unwrap();
    let some = whole.index_select(0, &Tensor::from_slice(&[0i64, 1, 5, 9]));
    assert_close("tokens", &some, &cases.get("tokens"), WHOLE);
    // A run that starts within the segment, and one beyond its end.
    let audio_of = heard(&cases);
    let mut from =
        |first_frame_at, frames| audio.tokens(&[Stretch { audio: &audio_of, first_frame_at, frames }]).unwrap();
    let later = from(4 * 640, 3);
    assert_eq!(later, whole.narrow(0, 4, 3));
    let beyond = from(40 * 640, 1);
    assert_close("silence", &beyond.squeeze_dim(0), &positional_encoding(50, 48).unwrap(), ONE_BLOCK);
}

#[test]
fn a_segment_longer_than_the_encoder_is_cut_where_upstream_cuts_it() {
    let _guard = tch::no_grad_guard();
    let (_folder, config) = whole_model();
    let mut audio = loaded("whisper.safetensors", |p| AudioFrontEnd::new(p, &config).unwrap());
    let wave = Vec::<f32>::try_from(Cases::load("mel").get("wave")).unwrap();
    let whole = audio.tokens(&[Stretch { audio: &wave.clone().into(), first_frame_at: 0, frames: 100 }]).unwrap();
    // The encoder of this model sees 2 s at once; frames 55 to 94 hear the second window only.
    let second =
        audio.tokens(&[Stretch { audio: &wave[32_000..].into(), first_frame_at: 5 * 640, frames: 40 }]).unwrap();
    assert_close("second window", &second, &whole.narrow(0, 55, 40), ONE_BLOCK);
}

#[test]
fn from_sound_and_latents_to_pictures_within_one_level_of_upstream() {
    let cases = Cases::load("whole");
    let (folder, _) = whole_model();
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let avatar = model.add_latents(&folder.path().join("latents.safetensors"), None).unwrap();
    let batch =
        MouthRun { avatar, poses: (0..10).map(|frame| frame % 3).collect(), audio: heard(&cases), first_frame_at: 0 };
    let frames = draw_crops(&mut model, &batch).unwrap();
    assert_eq!(frames.len(), 10);
    let theirs = Vec::<u8>::try_from(cases.raw("rgb").view(-1)).unwrap();
    let ours = [0, 5, 9].iter().flat_map(|&frame: &usize| &frames[frame].rgb);
    assert_eq!(theirs.len(), 3 * 64 * 64 * 3);
    let largest = ours.zip(&theirs).map(|(&ours, &theirs)| ours.abs_diff(theirs)).max().unwrap();
    assert!(largest <= 1, "a level differs by {largest}");
}

#[test]
fn pictures_drawn_in_16_bits_are_near_upstreams_in_32() {
    let cases = Cases::load("whole");
    let (folder, _) = whole_model();
    let mut model = MuseTalk::load_as(folder.path(), Device::Cpu, 1, Precision::Fp16).unwrap();
    let avatar = model.add_latents(&folder.path().join("latents.safetensors"), None).unwrap();
    let poses = (0..10).map(|frame| frame % 3).collect();
    let frames = draw_crops(&mut model, &MouthRun { avatar, poses, audio: heard(&cases), first_frame_at: 0 }).unwrap();
    let theirs = Vec::<u8>::try_from(cases.raw("rgb").view(-1)).unwrap();
    let ours = [0, 5, 9].iter().flat_map(|&frame: &usize| &frames[frame].rgb);
    let apart: Vec<f64> = ours.zip(&theirs).map(|(&ours, &theirs)| f64::from(ours.abs_diff(theirs))).collect();
    assert_eq!(apart.len(), 3 * 64 * 64 * 3);
    let mean = apart.iter().sum::<f64>() / apart.len() as f64;
    let far = apart.iter().filter(|&&levels| levels > 3.0).count();
    assert!(mean > 0.0 && mean < 0.5, "levels differ by {mean} on average");
    assert!(far * 1000 <= apart.len(), "{far} of {} levels differ by more than 3", apart.len());
}

#[test]
fn a_frame_is_the_same_in_a_batch_of_eight_and_alone() {
    let cases = Cases::load("whole");
    let (folder, _) = whole_model();
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let avatar = model.add_latents(&folder.path().join("latents.safetensors"), None).unwrap();
    let audio = heard(&cases);
    let run = |poses: Vec<usize>, first: usize| MouthRun {
        avatar,
        poses,
        audio: Arc::clone(&audio),
        first_frame_at: first * 640,
    };
    let poses = vec![0, 1, 2, 1, 0, 0, 2, 1];
    let together = draw_crops(&mut model, &run(poses.clone(), 2)).unwrap();
    for (index, pose) in poses.into_iter().enumerate() {
        let alone = draw_crops(&mut model, &run(vec![pose], 2 + index)).unwrap().remove(0);
        let largest = alone.rgb.iter().zip(&together[index].rgb).map(|(&one, &two)| one.abs_diff(two)).max().unwrap();
        assert!(largest <= 1, "frame {index} differs by {largest} levels");
    }
}
