//! The lip-sync network with random weights: drawing, training, and what it says about files and requests that are wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mouthpiece::lipsync::{AvatarHandle, LipSync, LipSyncError, Mouth, MouthRun, draw_crops};
use mouthpiece::musetalk::device::Precision;
use mouthpiece::musetalk::network::audio_rows::{frame_tokens, local_window};
use mouthpiece::musetalk::network::config::{AudioWindow, AutoencoderConfig, TinyConfig};
use mouthpiece::musetalk::network::decoder::Decoder;
use mouthpiece::musetalk::network::layers::{Linear, channels_last};
use mouthpiece::musetalk::network::tiny_vae::{TinyVaeDecoder, TinyVaeEncoder};
use mouthpiece::musetalk::network::unet::Unet;
use mouthpiece::musetalk::serving::{AudioFrontEnd, Stretch};
use mouthpiece::musetalk::weights::{Mapping, load_safetensors, save_safetensors, use_channels_last};
use mouthpiece::musetalk::{ModelConfig, MuseTalk};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A model of the demo's kind, independent of what the shipped one is tuned to.
fn small_json() -> Value {
    json!({
        "name": "small", "crop_size": 128, "residual": true,
        "latent_mean": [0.1, -0.2, 0.3, 0.0], "latent_std": [0.5, 1.5, 1.0, 2.0],
        "mel": {"n_mels": 40, "floor": {"absolute": 1e-5}},
        "audio_encoder": {
            "n_mels": 40, "d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96,
            "max_source_positions": 64,
        },
        "audio_window": {"local": {"rows": 64}},
        "unet": {
            "in_channels": 8, "out_channels": 4, "block_out_channels": [16, 32, 48],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "layers_per_block": 1, "attention_head_dim": 4, "cross_attention_dim": 48, "norm_num_groups": 8,
        },
        "autoencoder": {
            "kind": "tiny", "pixel_shuffle": 2, "pixel_unshuffle": 4,
            "encoder_block_out_channels": [16, 24], "num_encoder_blocks": [1, 1],
            "decoder_block_out_channels": [24, 16, 12], "num_decoder_blocks": [1, 1, 1],
        },
    })
}

fn parsed(value: Value) -> ModelConfig {
    let config: ModelConfig = serde_json::from_value(value).unwrap();
    config.validate().unwrap();
    config
}

pub fn small() -> ModelConfig {
    parsed(small_json())
}

fn tiny(config: &ModelConfig) -> &TinyConfig {
    match &config.autoencoder {
        AutoencoderConfig::Tiny(tiny) => tiny,
        AutoencoderConfig::Kl(_) => panic!("the small model has the tiny autoencoder"),
    }
}

fn build(store: &nn::VarStore, config: &ModelConfig) -> (AudioFrontEnd, Unet, Decoder) {
    let root = store.root();
    (
        AudioFrontEnd::new(&(&root / "audio_encoder"), config).unwrap(),
        Unet::new(&(&root / "unet"), &config.unet).unwrap(),
        Decoder::new(&(&root / "autoencoder"), &config.autoencoder).unwrap(),
    )
}

/// A folder with `config`, random weights for it and an avatar of three random poses.
pub fn random_model(config: &ModelConfig) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = nn::VarStore::new(Device::Cpu);
    build(&store, config);
    save_safetensors(&store, &folder.path().join("model.safetensors"), true).unwrap();
    std::fs::write(folder.path().join("config.json"), serde_json::to_vec(config).unwrap()).unwrap();
    let size = config.latent_size();
    let latents = Tensor::randn([3, config.unet.in_channels, size, size], FLOAT).to_kind(Kind::Half);
    let path = folder.path().join("latents.safetensors");
    Tensor::write_safetensors(&[("latents", latents)], &path).unwrap();
    (folder, path)
}

fn voice(samples: u16) -> Arc<[f32]> {
    (0..samples).map(|i| 0.3 * (f32::from(i) * 0.05).sin() * (f32::from(i) * 0.0007).cos()).collect()
}

fn batch(avatar: AvatarHandle, poses: Vec<usize>) -> MouthRun {
    MouthRun { avatar, poses, audio: voice(16_000), first_frame_at: 3200 }
}

fn largest(difference: Tensor) -> f64 {
    difference.abs().max().double_value(&[])
}

#[test]
fn the_shipped_demo_configuration_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let config = ModelConfig::load(&folder.join("config.json")).unwrap();
    build(&nn::VarStore::new(Device::Cpu), &config);
}

/// Whatever floats this machine's decoder is quickest in.
#[test]
fn the_demo_model_as_served_draws_what_it_draws_in_32_bits_to_a_level() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let draw = |mut model: MuseTalk| {
        let avatar = model.add_latents(&models.join("avatars/demo/latents.safetensors"), None).unwrap();
        let frames = draw_crops(&mut model, &batch(avatar, vec![0, 3, 5, 7])).unwrap();
        frames.into_iter().flat_map(|frame| frame.rgb).collect::<Vec<u8>>()
    };
    let served = draw(MuseTalk::load(&models.join("demo"), Device::Cpu, 1).unwrap());
    let exact = draw(MuseTalk::load_as(&models.join("demo"), Device::Cpu, 1, Precision::Fp32).unwrap());
    let apart: Vec<u8> = served.iter().zip(&exact).map(|(served, exact)| served.abs_diff(*exact)).collect();
    let mean = apart.iter().map(|&levels| f64::from(levels)).sum::<f64>() / apart.len() as f64;
    let far = apart.iter().filter(|&&levels| levels > 1).count();
    // A level is 1 of 255; where floats of 16 bits have 8 for their fraction, a fifth of all are rounded to the next one.
    assert!(mean < 0.3 && far * 1000 < apart.len(), "{mean} on average, {far} of {} by more than one", apart.len());
    assert!(apart.iter().all(|&levels| levels <= 3));
}

#[test]
fn a_model_draws_one_crop_for_each_pose() {
    let config = small();
    let (folder, latents) = random_model(&config);
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let avatar = model.add_latents(&latents, None).unwrap();
    let frames = draw_crops(&mut model, &batch(avatar, vec![0, 1, 2, 1])).unwrap();
    assert_eq!(frames.len(), 4);
    for frame in &frames {
        assert_eq!((frame.width, frame.height, frame.rgb.len()), (128, 128, 128 * 128 * 3));
    }
    assert_ne!(frames[0], frames[2], "two poses gave the same picture");
    assert_ne!(frames[1], frames[3], "two moments of the sound gave the same picture");
    assert_eq!(draw_crops(&mut model, &batch(avatar, Vec::new())).unwrap(), Vec::new());
}

fn crops(mouths: Vec<Mouth>) -> Vec<mouthpiece::picture::MouthFrame> {
    mouths.into_iter().map(|mouth| mouth.into_crop().unwrap()).collect()
}

#[test]
fn runs_of_several_sessions_drawn_together_are_as_each_alone() {
    let config = small();
    let (folder, latents) = random_model(&config);
    let (_other_folder, other_latents) = random_model(&config);
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let one = model.add_latents(&latents, Some([2, 14])).unwrap();
    let other = model.add_latents(&other_latents, Some([2, 14])).unwrap();
    let runs = [
        batch(one, vec![0, 1, 2, 1]),
        MouthRun { audio: voice(9_000), first_frame_at: 640, ..batch(other, vec![2, 0]) },
        batch(one, Vec::new()),
        MouthRun { first_frame_at: 6400, ..batch(one, vec![1]) },
    ];
    let together: Vec<Vec<_>> = model.draw(&runs).unwrap().into_iter().map(crops).collect();
    assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2, 0, 1]);
    for (run, drawn) in runs.iter().zip(&together) {
        for (alone, drawn) in draw_crops(&mut model, run).unwrap().iter().zip(drawn) {
            let largest = alone.rgb.iter().zip(&drawn.rgb).map(|(&alone, &drawn)| alone.abs_diff(drawn)).max();
            assert!(largest <= Some(1), "a level differs by {largest:?}");
        }
    }
    assert_ne!(together[0][0], together[1][1], "two avatars gave the same picture");
}

#[test]
fn more_frames_than_one_audio_window_serves_are_drawn_in_several() {
    let config = small();
    let (folder, latents) = random_model(&config);
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let avatar = model.add_latents(&latents, None).unwrap();
    assert_eq!(draw_crops(&mut model, &batch(avatar, vec![0; 40])).unwrap().len(), 40);
}

#[test]
fn rows_that_are_not_decoded_are_black_and_the_others_as_in_the_whole_crop() {
    let whole = small();
    let (folder, latents) = random_model(&whole);
    let weights = folder.path().join("model.safetensors");
    let draw = |config: ModelConfig, of_avatar: Option<[i64; 2]>| {
        let mut model = MuseTalk::with_weights(config, &weights, Device::Cpu).unwrap();
        let avatar = model.add_latents(&latents, of_avatar).unwrap();
        draw_crops(&mut model, &batch(avatar, vec![2])).unwrap().remove(0).rgb
    };
    let (all, part) = (draw(whole.clone(), None), draw(whole.clone(), Some([5, 12])));
    let by_model = ModelConfig { decode_rows: Some([5, 12]), ..whole.clone() };
    assert_eq!(draw(by_model, None), part, "the model's rows are not taken where the avatar has none");
    let row = 128 * 3;
    assert!(part[..5 * 8 * row].iter().chain(&part[12 * 8 * row..]).all(|&level| level == 0));
    let decoded = 5 * 8 * row..12 * 8 * row;
    let apart = part[decoded.clone()].iter().zip(&all[decoded]).map(|(&one, &two)| one.abs_diff(two)).max();
    assert!(apart.unwrap() <= 1, "the decoded rows differ by {apart:?} levels");
}

#[test]
fn any_rows_decoded_alone_are_those_of_the_whole_picture() {
    let _guard = tch::no_grad_guard();
    let config = small();
    let store = nn::VarStore::new(Device::Cpu);
    let decoder = TinyVaeDecoder::new(&store.root(), tiny(&config)).unwrap();
    let latent = Tensor::randn([2, 4, 16, 16], FLOAT);
    let whole = decoder.decode(&latent).unwrap();
    assert_eq!(whole.size(), [2, 3, 128, 128]);
    for (first, rows) in [(0, 16), (0, 1), (15, 1), (7, 1), (3, 9), (8, 8), (1, 15), (0, 15)] {
        let part = decoder.decode_rows(&latent, first, rows).unwrap();
        let apart = largest(part - whole.narrow(2, 8 * first, 8 * rows));
        assert!(apart <= 1e-5, "{rows} rows from {first}: {apart:e}");
    }
    for (first, rows) in [(-1, 2), (0, 17), (16, 1), (4, 0), (1, i64::MAX)] {
        assert!(decoder.decode_rows(&latent, first, rows).is_err(), "{rows} rows from {first} were decoded");
    }
}

#[test]
fn latents_are_scaled_back_channel_by_channel_and_added_to_the_reference() {
    let config = small();
    let store = nn::VarStore::new(Device::Cpu);
    let (_, mut unet, _) = build(&store, &config);
    unet.zero_output().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    save_safetensors(&store, &path, false).unwrap();
    let model = MuseTalk::with_weights(config.clone(), &path, Device::Cpu).unwrap();
    let sample = Tensor::randn([1, 8, 16, 16], FLOAT);
    let tokens = Tensor::randn([1, 30, 48], FLOAT);
    let latent = tch::no_grad(|| model.generate(&sample, &tokens)).unwrap();
    let column = |values: &Option<Vec<f32>>| Tensor::from_slice(values.as_ref().unwrap()).view([1, 4, 1, 1]);
    let reference = sample.narrow(1, 4, 4) * column(&config.latent_std) + column(&config.latent_mean);
    assert!(largest(latent - reference) <= 1e-6, "a zero UNet does not give back the reference");
}

#[test]
fn every_weight_learns() {
    let config = small();
    let store = nn::VarStore::new(Device::Cpu);
    let root = store.root();
    let (mut audio, unet, _) = build(&store, &config);
    use_channels_last(&store).unwrap();
    let encoder = TinyVaeEncoder::new(&(&root / "autoencoder" / "encoder"), tiny(&config)).unwrap();
    let decoder = TinyVaeDecoder::new(&(&root / "again"), tiny(&config)).unwrap();
    let latent = encoder.encode(&Tensor::rand([2, 3, 128, 128], FLOAT)).unwrap();
    let sample = channels_last(&Tensor::cat(&[&latent, &latent], 1)).unwrap();
    let tokens = audio.tokens(&[Stretch { audio: &voice(16_000), first_frame_at: 640, frames: 2 }]).unwrap();
    let out = unet.forward(&sample, &tokens).unwrap();
    decoder.decode(&(out + latent)).unwrap().square().sum(Kind::Float).backward();
    let mut learning = 0;
    for (name, variable) in store.variables() {
        // The serving decoder took no part, positions are fixed, and a norm's or key's gradient may well be zero.
        if variable.requires_grad() && !name.starts_with("autoencoder.decoder.") {
            assert!(variable.grad().defined(), "{name} has no gradient");
            learning += i32::from(largest(variable.grad()) > 0.0);
        }
    }
    assert!(learning > 300, "only {learning} tensors have a gradient above zero");
}

#[test]
fn sound_shorter_than_a_window_has_silence_around_it() {
    for rows in 0..10 {
        let tokens = frame_tokens(&Tensor::ones([rows, 2, 1], FLOAT), 0, 2).unwrap();
        assert_eq!(tokens.size(), [2, 20, 1]);
        // Frame 0 hears rows -4 to 5, frame 1 rows -2 to 7.
        for (frame, first) in [(0, -4), (1, -2)] {
            let heard: Vec<f32> = Vec::try_from(tokens.get(frame).view(-1)).unwrap();
            let expected = (first..first + 10).flat_map(|row| [f32::from(u8::from((0..rows).contains(&row))); 2]);
            assert_eq!(heard, expected.collect::<Vec<_>>(), "{rows} rows, frame {frame}");
        }
    }
}

#[test]
fn a_local_window_ends_shortly_after_the_last_row_heard() {
    // Frame 3 begins at row 6 and hears rows 2 to 11.
    assert_eq!(local_window(4, 64), [14 - 64, 14]);
    assert_eq!(local_window(1, 16), [-8, 8]);
}

#[test]
fn frames_hear_ten_rows_from_four_before_their_beginning() {
    for (start, frames) in [(-3, 1), (-3, 4), (-3, 8), (3, 1), (-9, 2), (-4, 5), (-5, 20)] {
        // Row r, counted from the first frame's beginning, holds 10 r + 1 for its first state and 10 r + 2 for its second.
        let hidden = Tensor::arange_start(start, start + 20, FLOAT).view([20, 1, 1]) * 10;
        let hidden = Tensor::cat(&[&(&hidden + 1), &(&hidden + 2)], 1);
        let tokens = frame_tokens(&hidden, start, frames).unwrap();
        assert_eq!(tokens.size(), [frames, 20, 1]);
        for frame in 0..frames {
            for place in 0..10 {
                let row = 2 * frame - 4 + place;
                let inside = (start..start + 20).contains(&row);
                for state in 0..2 {
                    let expected = if inside { 10 * row + state + 1 } else { 0 };
                    let found = tokens.double_value(&[frame, 2 * place + state, 0]);
                    assert_eq!(found, f64::from(expected as i32), "frame {frame}, row {row}, state {state}");
                }
            }
        }
    }
    for start in [-60, 60] {
        let hidden = Tensor::ones([20, 2, 1], FLOAT);
        assert_eq!(largest(frame_tokens(&hidden, start, 2).unwrap()), 0.0, "silence is not silent at {start}");
    }
}

/// The error of loading the small model's weights from a file with these tensors.
fn loading_error(tensors: &[(String, Tensor)]) -> LipSyncError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    Tensor::write_safetensors(tensors, &path).unwrap();
    MuseTalk::with_weights(small(), &path, Device::Cpu).unwrap_err()
}

fn small_weights() -> Vec<(String, Tensor)> {
    let (folder, _) = random_model(&small());
    Tensor::read_safetensors(folder.path().join("model.safetensors")).unwrap()
}

#[test]
fn loading_names_every_tensor_that_is_missing_unexpected_or_misshapen() {
    let mut tensors = small_weights();
    tensors.retain(|(name, _)| name != "unet.conv_in.bias" && name != "audio_encoder.layer_norm.weight");
    tensors.push(("unet.extra.weight".to_owned(), Tensor::zeros([3], FLOAT)));
    let last = tensors.iter_mut().find(|(name, _)| name == "unet.conv_out.weight").unwrap();
    last.1 = Tensor::zeros([4, 16, 1, 1], FLOAT);
    match loading_error(&tensors) {
        LipSyncError::Weights { missing, unexpected, misshapen, .. } => {
            assert_eq!(missing, ["audio_encoder.layer_norm.weight", "unet.conv_in.bias"]);
            assert_eq!(unexpected, ["unet.extra.weight"]);
            assert_eq!(misshapen, ["unet.conv_out.weight [4, 16, 1, 1] instead of [4, 16, 3, 3]"]);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn kept_weights_stay_in_16_bits_and_compute_as_if_they_were_widened() {
    let _guard = tch::no_grad_guard();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linear.safetensors");
    let stored = nn::VarStore::new(Device::Cpu);
    Linear::new(stored.root(), 24, 24).unwrap();
    save_safetensors(&stored, &path, true).unwrap();
    let x = Tensor::randn([3, 24], FLOAT);
    let load = |keep_16_bits| {
        let store = nn::VarStore::new(Device::Cpu);
        let linear = Linear::new(store.root(), 24, 24).unwrap();
        load_safetensors(&store, &path, Mapping { keep_16_bits, ..Mapping::default() }).unwrap();
        let variables = store.variables();
        (variables["weight"].kind(), variables["bias"].kind(), linear.kind(), linear.forward(&x).unwrap())
    };
    let (kept, widened) = (load(true), load(false));
    assert_eq!((kept.0, kept.1, kept.2), (Kind::Half, Kind::Float, Kind::Float));
    assert_eq!((widened.0, widened.1, widened.2), (Kind::Float, Kind::Float, Kind::Float));
    assert_eq!(kept.3, widened.3);
}

#[test]
fn what_only_training_needs_may_be_in_the_file() {
    let mut tensors = small_weights();
    for name in ["helper_head.0.weight", "autoencoder.encoder.layers.0.weight"] {
        tensors.push((name.to_owned(), Tensor::zeros([3], FLOAT)));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    Tensor::write_safetensors(&tensors, &path).unwrap();
    MuseTalk::with_weights(small(), &path, Device::Cpu).unwrap();
}

#[test]
fn a_failed_load_changes_nothing() {
    let store = nn::VarStore::new(Device::Cpu);
    let _unet = Unet::new(&store.root(), &small().unet).unwrap();
    let before = store.variables()["conv_in.weight"].copy();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.safetensors");
    Tensor::write_safetensors(&[("conv_in.weight", before.ones_like())], &path).unwrap();
    load_safetensors(&store, &path, Mapping::default()).unwrap_err();
    assert_eq!(store.variables()["conv_in.weight"], before);
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let (folder, _) = random_model(&small());
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let cut = |length: usize, problem| (whole[..length].to_vec(), problem);
    let too_early = "ends too early";
    let no_checkpoint = "is neither a safetensors file nor a PyTorch checkpoint";
    for (bytes, problem) in [
        cut(0, too_early),
        cut(1, no_checkpoint),
        cut(7, no_checkpoint),
        cut(8, no_checkpoint),
        cut(9, too_early),
        cut(100, too_early),
        cut(5_000, too_early),
        cut(whole.len() / 2, too_early),
        cut(whole.len() - 1, too_early),
        (b"garbage, not tensors".repeat(100), no_checkpoint),
        (vec![0xff; 4096], no_checkpoint),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let error = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap_err().to_string();
        assert!(error.contains("model.safetensors: ") && error.contains(problem), "{} bytes: {error}", bytes.len());
    }
    std::fs::remove_file(&path).unwrap();
    let error = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap_err().to_string();
    assert!(error.contains("model.safetensors: No such file"), "{error}");
}

#[test]
fn latents_that_do_not_fit_the_model_are_refused() {
    let (folder, _) = random_model(&small());
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let path = folder.path().join("bad.safetensors");
    for (name, tensor) in [
        ("other", Tensor::zeros([3, 8, 16, 16], FLOAT)),
        ("latents", Tensor::zeros([3, 4, 16, 16], FLOAT)),
        ("latents", Tensor::zeros([0, 8, 16, 16], FLOAT)),
        ("latents", Tensor::zeros([8, 16, 16], FLOAT)),
        ("latents", Tensor::zeros([3, 8, 16, 16], (Kind::Uint8, Device::Cpu))),
    ] {
        Tensor::write_safetensors(&[(name, tensor)], &path).unwrap();
        assert!(matches!(model.add_latents(&path, None), Err(LipSyncError::Latents { .. })));
    }
    for rows in [[0, 17], [-1, 3], [4, 4]] {
        let refused = model.add_latents(&folder.path().join("latents.safetensors"), Some(rows));
        assert!(matches!(refused, Err(LipSyncError::Latents { .. })), "{rows:?}");
    }
    assert!(matches!(model.add_latents(&folder.path().join("nowhere"), None), Err(LipSyncError::Latents { .. })));
}

#[test]
fn a_pose_or_avatar_that_is_not_there_is_an_error() {
    let (folder, latents) = random_model(&small());
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let avatar = model.add_latents(&latents, None).unwrap();
    for wrong in [batch(avatar, vec![0, 3]), batch(avatar, vec![usize::MAX]), batch(AvatarHandle(1), vec![0])] {
        assert!(matches!(draw_crops(&mut model, &wrong), Err(LipSyncError::Latents { .. })));
    }
    let silent = MouthRun { audio: Arc::new([]), first_frame_at: usize::MAX, ..batch(avatar, vec![0]) };
    assert_eq!(draw_crops(&mut model, &silent).unwrap().len(), 1, "a frame far from any sound is drawn as silence");
    let other = model.add_latents(&latents, None).unwrap();
    model.remove_avatar(avatar);
    assert!(matches!(draw_crops(&mut model, &batch(avatar, vec![0])), Err(LipSyncError::Latents { .. })));
    assert_eq!(draw_crops(&mut model, &batch(other, vec![0])).unwrap().len(), 1);
    assert_ne!(model.add_latents(&latents, None).unwrap(), avatar, "no handle is given twice");
}

#[test]
fn a_wrong_configuration_is_refused_by_the_name_of_the_field() {
    for (pointer, value, field) in [
        ("/crop_size", json!(100), "crop_size"),
        ("/crop_size", json!(-128), "crop_size"),
        ("/decode_rows", json!([4, 17]), "decode_rows"),
        ("/latent_std", json!([1.0, 0.0, 1.0, 1.0]), "latent_std"),
        ("/latent_mean", json!([1.0]), "latent_mean"),
        ("/mel/n_mels", json!(80), "audio_encoder.n_mels"),
        ("/mel/hop", json!(0), "mel.hop"),
        ("/mel/floor/absolute", json!(0.0), "mel.floor.absolute"),
        ("/audio_encoder/encoder_attention_heads", json!(5), "audio_encoder.encoder_attention_heads"),
        ("/audio_window/local/rows", json!(65), "audio_window.local.rows"),
        ("/unet/block_out_channels", json!([]), "unet.block_out_channels"),
        ("/unet/block_out_channels", json!([16, 36, 48]), "unet.norm_num_groups"),
        ("/unet/down_block_types", json!(["DownBlock2D"]), "unet.down_block_types"),
        ("/unet/up_block_types/0", json!("AttnUpBlock2D"), "unet.up_block_types"),
        ("/unet/cross_attention_dim", json!(50), "unet.cross_attention_dim"),
        ("/unet/in_channels", json!(4), "unet.in_channels"),
        ("/unet/layers_per_block", json!(i64::MAX), "unet.layers_per_block"),
        ("/autoencoder/num_decoder_blocks", json!([1, 1]), "autoencoder.num_decoder_blocks"),
        ("/autoencoder/pixel_shuffle", json!(4), "autoencoder.pixel_unshuffle"),
    ] {
        let mut json = serde_json::to_value(small()).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        let config: ModelConfig = serde_json::from_value(json).unwrap();
        match config.validate() {
            Err(LipSyncError::Config { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{pointer}: {other:?}"),
        }
    }
}

#[test]
fn a_configuration_file_with_a_misspelt_field_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let mut json = small_json();
    json["unet"]["block_out_chanels"] = json!([1]);
    std::fs::write(&path, json.to_string()).unwrap();
    let error = ModelConfig::load(&path).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("block_out_chanels"), "{error}");
}

#[test]
fn a_configuration_survives_being_written_and_read() {
    let config = ModelConfig { audio_window: AudioWindow::Utterance, ..small() };
    let again: ModelConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

/// The shipped avatar, whose head moves, so that no two frames' regions are the same.
#[test]
fn mouths_that_the_network_pastes_by_itself_are_those_that_are_pasted_for_it() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let avatar = Arc::new(mouthpiece::avatar::Avatar::load(&project.join("models/avatars/demo")).unwrap());
    let own = mouthpiece::avatar::OwnFrames::of(Arc::clone(&avatar));
    let mut network = MuseTalk::load(&project.join("models/demo"), Device::Cpu, 1).unwrap();
    let add = |network: &mut MuseTalk| {
        let handle = network.add_latents(&avatar.latents, avatar.manifest.decode_rows).unwrap();
        network.add_frames(handle, &avatar).unwrap();
        handle
    };
    let plain = add(&mut network);
    network.paste_on_device(true);
    let pasting = add(&mut network);
    let sound: Vec<f32> = (0..16_000_u32).map(|at| (f64::from(at) * 0.05).sin() as f32 * 0.4).collect();
    let run = |avatar, first: usize| MouthRun {
        avatar,
        poses: (first..first + 4).collect(),
        audio: sound.as_slice().into(),
        first_frame_at: 640 * (first % 8),
    };
    let runs = |avatar| [run(avatar, 0), run(avatar, 60)];
    let crops = network.draw(&runs(plain)).unwrap().concat();
    let pasted = network.draw(&runs(pasting)).unwrap().concat();
    let poses = (0..4_usize).chain(60..64);
    for ((pose, crop), pasted) in poses.zip(&crops).zip(&pasted) {
        assert!(matches!((crop, pasted), (Mouth::Crop(_), Mouth::Pasted(_))));
        let paste = |mouth| mouthpiece::compose::paste(&own, pose as u64, mouth);
        assert_eq!(paste(crop), paste(pasted), "pose {pose}");
        assert_ne!(paste(pasted), *own.picture(pose as u64), "pose {pose} has no mouth");
    }
    // One avatar without a canvas among them, and all come as crops.
    let mixed = network.draw(&[run(pasting, 0), run(plain, 0)]).unwrap().concat();
    assert!(mixed.iter().all(|mouth| matches!(mouth, Mouth::Crop(_))));
}
