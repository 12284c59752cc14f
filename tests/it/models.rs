//! `mouthpiece models`: networks run on named tensors, and model folders made from what upstream publishes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::face_parser::install_one_that_sees_skin_only;
use crate::parity::{Cases, assert_close, fixture, kl_json, tiny_json, unet_json, whole_model};
use crate::torch_file;

const WHOLE: f64 = 5e-5;

pub(crate) fn models(home: Option<&Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mouthpiece"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG").env_remove("MOUTHPIECE_HOME");
    command.env_remove("HF_TOKEN").env_remove("HF_ENDPOINT");
    if let Some(home) = home {
        command.arg("--home").arg(home);
    }
    command.arg("models").args(arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

#[track_caller]
pub(crate) fn succeeds(output: &Output) -> Value {
    assert!(output.status.success(), "{}", error(output));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[track_caller]
pub(crate) fn fails(output: &Output, code: i32, says: &[&str]) {
    let error = error(output);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(says.iter().all(|part| error.contains(part)), "{error:?} should say {says:?}");
}

fn whisper_json() -> Value {
    json!({
        "model_type": "whisper", "num_mel_bins": 80, "d_model": 48, "encoder_layers": 4, "encoder_attention_heads": 6,
        "encoder_ffn_dim": 96, "max_source_positions": 100, "activation_function": "gelu", "vocab_size": 51865,
    })
}

fn published(mut config: Value, class: &str) -> Value {
    config["_class_name"] = json!(class);
    config["_diffusers_version"] = json!("0.30.2");
    config
}

/// A folder as `save_pretrained` leaves it: this configuration, and a fixture's weights under that name.
fn folder(config: &Value, weights: &str, name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(fixture(weights), folder.path().join(name)).unwrap();
    folder
}

/// Runs a network of `folder` on these inputs; what comes out, by name.
pub(crate) fn run(folder: &Path, network: &str, inputs: &[(&str, Tensor)], more: &[&str]) -> Cases {
    let files = tempfile::tempdir().unwrap();
    let (input, output) = (files.path().join("in.safetensors"), files.path().join("out.safetensors"));
    Tensor::write_safetensors(inputs, &input).unwrap();
    let paths = [folder, &input, &output].map(|path| path.to_str().unwrap());
    let mut arguments = vec!["run", paths[0], "--network", network, "--in", paths[1], "--out", paths[2]];
    arguments.extend(more);
    succeeds(&models(None, &arguments));
    Cases(Tensor::read_safetensors(output).unwrap().into_iter().collect())
}

#[test]
fn a_unet_runs_as_diffusers_saved_it() {
    let cases = Cases::load("unet");
    let folder = folder(&unet_json(4), "unet.safetensors", "diffusion_pytorch_model.safetensors");
    for size in ["small", "large"] {
        let input = |name: &str| cases.get(&format!("{size}.{name}"));
        let inputs = [("sample", input("sample")), ("encoder_hidden_states", input("context"))];
        let out = run(folder.path(), "unet", &inputs, &[]);
        assert_close(size, &out.get("out"), &input("out"), WHOLE);
    }
}

#[test]
fn a_unet_runs_from_upstreams_pickle_with_the_heads_of_its_configuration() {
    let cases = Cases::load("unet");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("musetalk.json"), unet_json(8).to_string()).unwrap();
    torch_file::write(&folder.path().join("unet.pth"), &Tensor::read_safetensors(fixture("unet.safetensors")).unwrap());
    let inputs = [("sample", cases.get("small.sample")), ("encoder_hidden_states", cases.get("small.context"))];
    let out = run(folder.path(), "unet", &inputs, &[]);
    assert_close("out", &out.get("out"), &cases.get("heads_8.out"), WHOLE);
}

#[test]
fn a_unet_in_16_bits_is_near_the_one_in_32() {
    let cases = Cases::load("unet");
    let folder = folder(&unet_json(4), "unet.safetensors", "model.safetensors");
    let inputs = || [("sample", cases.get("small.sample")), ("encoder_hidden_states", cases.get("small.context"))];
    let exact = cases.get("small.out");
    for (dtype, most) in [("fp16", 5e-3), ("bf16", 3e-2)] {
        let out = run(folder.path(), "unet", &inputs(), &["--dtype", dtype]).get("out");
        let relative = ((&out - &exact).norm() / exact.norm()).double_value(&[]);
        assert!(relative > 1e-5 && relative < most, "{dtype}: relative difference {relative:e}");
    }
}

#[test]
fn both_halves_of_the_autoencoder_run() {
    let cases = Cases::load("autoencoder_kl");
    let config = published(kl_json(), "AutoencoderKL");
    let folder = folder(&config, "autoencoder_kl.safetensors", "diffusion_pytorch_model.safetensors");
    let image = mouthpiece::musetalk::serving::from_rgb8(&cases.raw("rgb"), true).unwrap();
    let out = run(folder.path(), "vae-encode", &[("image", image)], &[]);
    assert_close("mean", &out.get("mean"), &cases.get("masked.mean"), WHOLE);
    assert_close("logvar", &out.get("logvar"), &cases.get("masked.logvar"), WHOLE);
    let out = run(folder.path(), "vae-decode", &[("latent", cases.get("latent"))], &[]);
    assert_close("picture", &out.get("out"), &cases.get("decoded"), WHOLE);
}

#[test]
fn a_face_becomes_the_latents_of_an_avatar_the_same_every_time() {
    use mouthpiece::musetalk::MuseTalk;
    use mouthpiece::musetalk::serving::from_rgb8;

    let (cases, (model, _)) = (Cases::load("resize"), whole_model());
    let face = cases.raw("down.from").unsqueeze(0);
    let [once, again] = [(); 2].map(|()| run(model.path(), "latents", &[("face", face.shallow_clone())], &[]));
    assert_eq!(once.get("latents"), again.get("latents"));
    // As OpenCV scaled it, the hidden one first.
    let scaled = cases.raw("down.to");
    let pair = Tensor::cat(&[from_rgb8(&scaled, true).unwrap(), from_rgb8(&scaled, false).unwrap()], 0);
    let kl = folder(&published(kl_json(), "AutoencoderKL"), "autoencoder_kl.safetensors", "model.safetensors");
    let mean = run(kl.path(), "vae-encode", &[("image", pair)], &[]).get("mean");
    assert_close("latents", &once.get("latents"), &(mean * 0.18215).view([1, 8, 8, 8]), WHOLE);
    let path = model.path().join("latents.safetensors");
    Tensor::write_safetensors(&[("latents", once.get("latents"))], &path).unwrap();
    MuseTalk::load(model.path(), tch::Device::Cpu, 1).unwrap().add_latents(&path, None).unwrap();
}

#[test]
fn taesd_runs() {
    let cases = Cases::load("autoencoder_tiny");
    let config = published(tiny_json(), "AutoencoderTiny");
    let folder = folder(&config, "autoencoder_tiny.safetensors", "diffusion_pytorch_model.safetensors");
    let out = run(folder.path(), "taesd-decode", &[("latent", cases.get("latent"))], &[]);
    assert_close("picture", &out.get("out"), &cases.get("decoded"), WHOLE);
}

/// The encoder within a speech recogniser, as transformers names its tensors.
fn recogniser() -> Vec<(String, Tensor)> {
    let encoder = Tensor::read_safetensors(fixture("whisper.safetensors")).unwrap();
    let mut tensors: Vec<_> =
        encoder.into_iter().map(|(name, tensor)| (format!("model.encoder.{name}"), tensor)).collect();
    tensors.push(("model.decoder.layer_norm.bias".to_owned(), Tensor::zeros([48], (Kind::Float, tch::Device::Cpu))));
    tensors
}

#[test]
fn the_audio_encoder_runs_alone_and_out_of_a_recogniser() {
    let cases = Cases::load("whisper");
    let alone = folder(&whisper_json(), "whisper.safetensors", "model.safetensors");
    let within = tempfile::tempdir().unwrap();
    std::fs::write(within.path().join("config.json"), whisper_json().to_string()).unwrap();
    torch_file::write(&within.path().join("pytorch_model.bin"), &recogniser());
    for folder in [alone, within] {
        let out = run(folder.path(), "audio-encoder", &[("mel", cases.get("mel"))], &[]);
        assert_close("states", &out.get("out"), &cases.get("states"), WHOLE);
    }
}

#[test]
fn the_spectrogram_is_whispers_in_segments_of_30_seconds() {
    let cases = Cases::load("mel");
    let folder = tempfile::tempdir().unwrap();
    let extractor =
        json!({"feature_size": 80, "sampling_rate": 16000, "n_fft": 400, "hop_length": 160, "chunk_length": 30});
    std::fs::write(folder.path().join("preprocessor_config.json"), extractor.to_string()).unwrap();
    let out = run(folder.path(), "mel", &[("audio", cases.get("wave"))], &[]).get("out");
    assert_eq!(out.size(), [1, 80, 3000]);
    assert_close("mel", &out.squeeze_dim(0).narrow(1, 0, 420), &cases.get("mel"), 1e-5);
    let long = Tensor::zeros([500_000], (Kind::Float, tch::Device::Cpu));
    assert_eq!(run(folder.path(), "mel", &[("audio", long)], &[]).get("out").size(), [2, 80, 3000]);
}

#[test]
fn a_model_of_this_project_runs_network_by_network() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu));
    let inputs = [("sample", zeros(&[2, 8, 16, 16])), ("encoder_hidden_states", zeros(&[2, 30, 128]))];
    assert_eq!(run(&demo, "unet", &inputs, &[]).get("out").size(), [2, 4, 16, 16]);
    let picture = run(&demo, "audio-encoder", &[("mel", zeros(&[1, 40, 128]))], &[]).get("out");
    assert_eq!(picture.size(), [1, 64, 3, 128]);
}

#[test]
fn an_input_that_does_not_fit_is_named() {
    let folder = folder(&unet_json(4), "unet.safetensors", "model.safetensors");
    let files = tempfile::tempdir().unwrap();
    let (input, output) = (files.path().join("in.safetensors"), files.path().join("out.safetensors"));
    let attempt = |tensors: &[(&str, Tensor)], network: &str| {
        Tensor::write_safetensors(tensors, &input).unwrap();
        let paths = [folder.path(), &input, &output].map(|path| path.to_str().unwrap());
        models(None, &["run", paths[0], "--network", network, "--in", paths[1], "--out", paths[2]])
    };
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu));
    fails(&attempt(&[("x", zeros(&[1]))], "unet"), 1, &["in.safetensors", "no tensor \"sample\"", "\"x\""]);
    fails(&attempt(&[("sample", zeros(&[1, 4, 8, 8]))], "unet"), 1, &["\"sample\"", "[1, 4, 8, 8]", "any, 8, any"]);
    fails(&attempt(&[("sample", zeros(&[1, 8, 9, 8]))], "unet"), 1, &["sample", "9 x 8", "multiples of 8"]);
    fails(&attempt(&[("latent", zeros(&[1, 4, 8, 8]))], "vae-decode"), 1, &["not an AutoencoderKL's"]);
    let face = zeros(&[1, 8, 8, 3]);
    fails(&attempt(&[("face", face.to_kind(Kind::Uint8))], "latents"), 1, &["not a whole model's"]);
    fails(&attempt(&[("face", face)], "latents"), 1, &["\"face\"", "bytes are wanted"]);
    assert!(!output.exists());
}

/// A home with the lists of the small networks, and upstream's folder of them as it lies on disk.
pub(crate) struct Upstream {
    pub(crate) home: tempfile::TempDir,
    pub(crate) from: tempfile::TempDir,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        let (home, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let lists = home.path().join("models/musetalk");
        std::fs::create_dir_all(home.path().join("models/avatars")).unwrap();
        std::fs::create_dir_all(&lists).unwrap();
        for (part, file) in [("unet", "unet"), ("autoencoder", "autoencoder_kl"), ("audio_encoder", "whisper")] {
            let tensors = Tensor::read_safetensors(fixture(&format!("{file}.safetensors"))).unwrap();
            let line = |(name, tensor): &(String, Tensor)| {
                let sizes: Vec<String> = tensor.size().iter().map(ToString::to_string).collect();
                format!("{name} {}\n", sizes.join(" "))
            };
            std::fs::write(lists.join(format!("{part}.tensors")), tensors.iter().map(line).collect::<String>())
                .unwrap();
        }
        let write = |folder: &str, config: &str, value: &Value, weights: &str, tensors: &[(String, Tensor)]| {
            let folder = from.path().join(folder);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(config), value.to_string()).unwrap();
            torch_file::write(&folder.join(weights), tensors);
        };
        let single = |file: &str| -> Vec<(String, Tensor)> {
            let tensors = Tensor::read_safetensors(fixture(&format!("{file}.safetensors"))).unwrap();
            tensors.into_iter().map(|(name, tensor)| (name, tensor.to_kind(Kind::Float))).collect()
        };
        write("musetalkV15", "musetalk.json", &unet_json(4), "unet.pth", &single("unet"));
        write("whisper", "config.json", &whisper_json(), "pytorch_model.bin", &recogniser());
        let mut old: Vec<_> = single("autoencoder_kl");
        for (name, tensor) in &mut old {
            for (new, before) in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")] {
                if name.contains("mid_block.attentions") && name.contains(new) {
                    *name = name.replace(new, before);
                    if tensor.dim() == 2 {
                        *tensor = tensor.unsqueeze(-1).unsqueeze(-1);
                    }
                }
            }
        }
        let config = published(kl_json(), "AutoencoderKL");
        write("sd-vae", "config.json", &config, "diffusion_pytorch_model.bin", &old);
        Self { home, from }
    }

    fn convert(&self, more: &[&str]) -> Output {
        let mut arguments = vec!["convert", "musetalk-v1.5", "--from", self.from.path().to_str().unwrap(), "--json"];
        arguments.extend(more);
        models(Some(self.home.path()), &arguments)
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.home.path().join("models/musetalk-v1.5")
    }

    pub(crate) fn verify(&self) -> Output {
        models(Some(self.home.path()), &["verify", "musetalk-v1.5", "--json"])
    }
}

#[test]
fn upstreams_folder_becomes_a_model_that_verifies_lists_and_runs() {
    let upstream = Upstream::new();
    succeeds(&upstream.convert(&["--dtype", "fp32"]));
    assert_eq!(succeeds(&upstream.verify())["sound"], true);
    let listed = succeeds(&models(Some(upstream.home.path()), &["list", "--json"]));
    let row = listed["models"].as_array().unwrap().iter().find(|row| row["name"] == "musetalk-v1.5").unwrap().clone();
    assert_eq!(row["usable"], true, "{row}");
    let cases = Cases::load("unet");
    let inputs = [("sample", cases.get("small.sample")), ("encoder_hidden_states", cases.get("small.context"))];
    let out = run(&upstream.model(), "unet", &inputs, &[]);
    assert_close("out", &out.get("out"), &cases.get("small.out"), WHOLE);
    let cases = Cases::load("autoencoder_kl");
    let out = run(&upstream.model(), "vae-decode", &[("latent", cases.get("latent"))], &[]);
    assert_close("picture", &out.get("out"), &cases.get("decoded"), WHOLE);
    // Half the size in 16 bits, and only if asked to replace what is there.
    let size = |path: &Path| path.join("unet.safetensors").metadata().unwrap().len();
    let single = size(&upstream.model());
    fails(&upstream.convert(&[]), 2, &["musetalk-v1.5 is there already", "--replace"]);
    succeeds(&upstream.convert(&["--replace"]));
    assert!(size(&upstream.model()) < single * 6 / 10);
    assert_eq!(succeeds(&upstream.verify())["sound"], true);
}

#[test]
fn upstreams_face_parsing_is_taken_along_listed_and_runs() {
    let upstream = Upstream::new();
    install_one_that_sees_skin_only(upstream.from.path());
    let file = upstream.from.path().join("face-parse-bisent/79999_iter.pth");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    fails(&upstream.convert(&[]), 2, &["79999_iter.pth"]);
    std::fs::write(&file, &whole).unwrap();
    succeeds(&upstream.convert(&[]));
    let models_folder = upstream.home.path().join("models");
    let ours = models_folder.join("face-parse-bisent");
    assert!(std::fs::read(ours.join("79999_iter.pth")).unwrap() == whole);
    let listed = succeeds(&models(Some(upstream.home.path()), &["list", "--json"]));
    let row =
        listed["models"].as_array().unwrap().iter().find(|row| row["name"] == "face-parse-bisent").unwrap().clone();
    assert_eq!((row["bytes"].as_u64(), row["usable"].as_bool()), (Some(whole.len() as u64), Some(false)));
    assert!(row["fault"].as_str().unwrap().contains("masks"), "{row}");
    let face = Tensor::full([1, 40, 30, 3], 90, (Kind::Uint8, tch::Device::Cpu));
    let classes = run(&ours, "face-parsing", &[("face", face)], &[]).get("classes");
    assert!(classes == Tensor::ones([1, 512, 512], (Kind::Float, tch::Device::Cpu)));
}

#[test]
fn a_usable_model_is_listed_with_its_speed_and_one_that_does_not_load_with_its_fault() {
    let home = tempfile::tempdir().unwrap();
    let demo = home.path().join("models/demo");
    std::fs::create_dir_all(home.path().join("models/avatars")).unwrap();
    std::fs::create_dir_all(&demo).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo").join(file), demo.join(file)).unwrap();
    }
    let listed =
        || succeeds(&models(Some(home.path()), &["list", "--speed", "--device", "cpu", "--json"]))["models"][0].clone();
    let row = listed();
    assert_eq!((&row["name"], &row["device"]), (&json!("demo"), &json!("cpu")));
    assert!(row["frame_ms"].as_f64().unwrap() > 0.5, "{row}");
    std::fs::write(demo.join("model.safetensors"), b"damaged").unwrap();
    let row = listed();
    assert_eq!((&row["usable"], &row["frame_ms"]), (&json!(false), &Value::Null));
    assert!(row["fault"].as_str().unwrap().contains("model.safetensors"), "{row}");
}

#[test]
fn a_converted_model_loads_whole() {
    let upstream = Upstream::new();
    succeeds(&upstream.convert(&[]));
    let model = mouthpiece::musetalk::MuseTalk::load(&upstream.model(), tch::Device::Cpu, 1).unwrap();
    assert_eq!((model.config().name.as_str(), model.config().crop_size), ("musetalk-v1.5", 256));
}

#[test]
fn a_damaged_download_is_refused_with_file_and_tensor_named_and_leaves_no_model() {
    let upstream = Upstream::new();
    let path = upstream.from.path().join("musetalkV15/unet.pth");
    let tensors: Vec<_> = Tensor::read_safetensors(fixture("unet.safetensors")).unwrap();
    let spoil = |change: fn(&mut Vec<(String, Tensor)>)| {
        let mut tensors: Vec<_> =
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(Kind::Float))).collect();
        change(&mut tensors);
        torch_file::write(&path, &tensors);
        upstream.convert(&[])
    };
    let short = spoil(|tensors| drop(tensors.remove(5)));
    fails(&short, 2, &["unet.pth", "1 missing", &tensors[5].0]);
    let misshapen = spoil(|tensors| tensors[5].1 = Tensor::zeros([3, 3], (Kind::Float, tch::Device::Cpu)));
    fails(&misshapen, 2, &["unet.pth", "1 of another shape", &tensors[5].0, "[3, 3]"]);
    let damaged = spoil(|tensors| drop(tensors[5].1.view(-1).get(0).fill_(f64::NAN)));
    fails(&damaged, 2, &["unet.pth", &format!("tensor {}", tensors[5].0), "number 0 is NaN"]);
    let integers = spoil(|tensors| tensors[5].1 = tensors[5].1.to_kind(Kind::Int64));
    fails(&integers, 2, &["unet.pth", &format!("tensor {}", tensors[5].0), "I64", "weights are floats"]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    fails(&upstream.convert(&[]), 2, &["unet.pth", "ends too early"]);
    for (fixture, says) in [("hostile-os-system.pth", "os.system"), ("hostile-bomb.pth", "compressed")] {
        let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(fixture);
        std::fs::copy(hostile, &path).unwrap();
        fails(&upstream.convert(&[]), 2, &["unet.pth", says]);
    }
    let left: Vec<_> = std::fs::read_dir(upstream.home.path().join("models")).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn what_is_missing_from_upstreams_folder_is_named() {
    let upstream = Upstream::new();
    std::fs::remove_file(upstream.from.path().join("musetalkV15/unet.pth")).unwrap();
    fails(&upstream.convert(&[]), 2, &["musetalkV15", "unet.pth"]);
    std::fs::remove_dir_all(upstream.from.path().join("sd-vae")).unwrap();
    fails(&upstream.convert(&[]), 2, &["sd-vae or sd-vae-ft-mse"]);
    let home = upstream.home.path();
    fails(&models(Some(home), &["convert", "musetalk-v2", "--from", "."]), 2, &["\"musetalk-v2\"", "musetalk-v1.5"]);
    fails(&models(Some(home), &["verify", "../etc"]), 2, &["\"../etc\""]);
}

#[test]
fn a_model_that_changed_on_disk_does_not_verify() {
    let upstream = Upstream::new();
    succeeds(&upstream.convert(&[]));
    let path = upstream.model().join("unet.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let output = upstream.verify();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let unet = report["files"].as_array().unwrap().iter().find(|file| file["file"] == "unet.safetensors").unwrap();
    assert!(unet["problems"][0].as_str().unwrap().contains("SHA-256"), "{unet}");
    std::fs::remove_file(path).unwrap();
    assert_eq!(upstream.verify().status.code(), Some(1));
    assert_eq!(succeeds(&models(None, &["verify", "demo", "--json"]))["sound"], true);
}
