//! MuseTalk at full size with random weights: network by network against diffusers and transformers, from sound to
//! pictures against upstream's way, and as a film. Run by hand, since it needs 15 GB of disk, 6 GB of memory and minutes:
//!
//! ```text
//! python scripts/make_full_size.py --out /tmp/full-size
//! FULL_SIZE=/tmp/full-size cargo test --release --test it -- --ignored --nocapture --test-threads 1 full_size
//! ```
//!
//! With `scripts/setup.sh --cuda` and a GPU: the same with `gpu_at_full_size` instead of `full_size`.
#![allow(clippy::print_stdout, reason = "figures are what somebody runs this for")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use mouthpiece::lipsync::{MouthRun, draw_crops};
use mouthpiece::musetalk::device::Precision;
use mouthpiece::musetalk::{DeviceChoice, MuseTalk, find_device};
use mouthpiece::picture::png;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::models::{models, run, succeeds};
use crate::parity::Cases;

/// The difference's relative length, of whole networks of this size.
const RELATIVE: f64 = 1e-5;

/// Where `scripts/make_full_size.py` wrote to.
fn upstream() -> PathBuf {
    std::env::var_os("FULL_SIZE").expect("FULL_SIZE names the folder that make_full_size.py wrote").into()
}

fn cases() -> Cases {
    Cases(Tensor::read_safetensors(upstream().join("cases.safetensors")).unwrap().into_iter().collect())
}

#[track_caller]
fn assert_near(what: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shape");
    let difference = (ours - theirs).to_kind(Kind::Double);
    let relative = (difference.norm() / theirs.to_kind(Kind::Double).norm()).double_value(&[]);
    println!("{what}: relative {relative:.2e}, largest {:.2e}", difference.abs().max().double_value(&[]));
    assert!(relative <= RELATIVE, "{what}: relative difference {relative:e}");
}

/// A home with the model of these floats, converted if it is not there yet.
fn home(dtype: &str) -> PathBuf {
    let home = upstream().join(format!("home-{dtype}"));
    if !home.join("models/musetalk-v1.5").exists() {
        std::fs::create_dir_all(home.join("models/avatars")).unwrap();
        std::fs::create_dir_all(home.join("models/musetalk")).unwrap();
        let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/musetalk");
        for list in std::fs::read_dir(lists).unwrap() {
            let list = list.unwrap();
            std::fs::copy(list.path(), home.join("models/musetalk").join(list.file_name())).unwrap();
        }
        let (from, started) = (upstream(), Instant::now());
        let arguments = ["convert", "musetalk-v1.5", "--from", from.to_str().unwrap(), "--dtype", dtype, "--json"];
        succeeds(&models(Some(&home), &arguments));
        println!("converted to {dtype} in {:.1} s", started.elapsed().as_secs_f64());
    }
    home
}

#[test]
#[ignore = "needs random weights at full size: see the top of tests/it/full_size.rs"]
fn full_size_networks_agree_with_diffusers_and_transformers_as_upstream_stores_them() {
    let (folder, cases) = (upstream(), cases());
    let inputs = [("sample", cases.get("sample")), ("encoder_hidden_states", cases.get("tokens"))];
    let out = run(&folder.join("musetalkV15"), "unet", &inputs, &[]);
    assert_near("unet", &out.get("out"), &cases.get("generated"));
    let out = run(&folder.join("sd-vae"), "vae-decode", &[("latent", cases.get("latent"))], &[]);
    assert_near("vae-decode", &out.get("out"), &cases.get("decoded"));
    let out = run(&folder.join("sd-vae"), "vae-encode", &[("image", cases.get("image"))], &[]);
    assert_near("vae-encode, mean", &out.get("mean"), &cases.get("mean"));
    assert_near("vae-encode, logvar", &out.get("logvar"), &cases.get("logvar"));
    let out = run(&folder.join("whisper"), "audio-encoder", &[("mel", cases.get("mel"))], &[]);
    assert_near("audio-encoder", &out.get("out"), &cases.get("states"));
    let out = run(&folder.join("whisper"), "mel", &[("audio", cases.get("audio"))], &[]);
    assert_near("mel", &out.get("out"), &cases.get("mel"));
}

/// Bytes of this process that are in memory now: all, those of its own, those of files.
fn resident() -> [u64; 3] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    ["VmRSS:", "RssAnon:", "RssFile:"].map(|field| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    })
}

fn load(device: Device) -> MuseTalk {
    let folder = home("fp16").join("models/musetalk-v1.5");
    MuseTalk::load(&folder, device, 1).unwrap()
}

#[test]
#[ignore = "needs random weights at full size: see the top of tests/it/full_size.rs"]
fn full_size_model_loads_in_three_seconds_and_little_more_memory_than_the_file() {
    let folder = home("fp16").join("models/musetalk-v1.5");
    let files = || std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    // Once through, so that the files are in the system's memory.
    let stored: u64 =
        files().map(|file| std::io::copy(&mut std::fs::File::open(file).unwrap(), &mut std::io::sink()).unwrap()).sum();
    let megabytes = |bytes: [u64; 3]| bytes.map(|bytes| bytes >> 20);
    let (before, started) = (resident(), Instant::now());
    let model = load(Device::Cpu);
    let (took, after) = (started.elapsed().as_secs_f64(), resident());
    println!("loaded {} MB in {took:.2} s", stored >> 20);
    println!("VmRSS, RssAnon, RssFile in MB: {:?} before, {:?} after", megabytes(before), megabytes(after));
    assert_eq!(model.config().crop_size, 256);
    assert!(took <= 3.0, "took {took:.2} s");
    // Of the whole process, libtorch's own code included.
    assert!(10 * after[0] <= 12 * stored, "{} bytes are resident, the files have {stored}", after[0]);
}

#[test]
#[ignore = "needs random weights at full size: see the top of tests/it/full_size.rs"]
fn full_size_pictures_from_sound_and_latents_are_within_one_level_of_upstreams() {
    let folder = home("fp16").join("models/musetalk-v1.5");
    let mut exact = MuseTalk::load_as(&folder, Device::Cpu, 1, Precision::Fp32).unwrap();
    for apart in draw(&mut exact) {
        assert!(apart.iter().all(|&levels| levels <= 1));
    }
    drop(exact);
    // In whatever floats this machine serves in.
    for apart in draw(&mut load(Device::Cpu)) {
        let mean = apart.iter().map(|&levels| f64::from(levels)).sum::<f64>() / apart.len() as f64;
        let far = apart.iter().filter(|&&levels| levels > 3).count();
        assert!(mean < 0.5 && far * 1000 < apart.len(), "{mean} on average, {far} of {} by more than 3", apart.len());
    }
}

/// How many levels each byte of the two pictures is from upstream's.
fn draw(model: &mut MuseTalk) -> Vec<Vec<u8>> {
    let cases = cases();
    let latents = tempfile::tempdir().unwrap();
    let latents = latents.path().join("latents.safetensors");
    Tensor::write_safetensors(&[("latents", cases.get("sample").to_kind(Kind::Half))], &latents).unwrap();
    let avatar = model.add_latents(&latents, None).unwrap();
    let audio: std::sync::Arc<[f32]> = Vec::<f32>::try_from(cases.get("audio")).unwrap().into();
    let mut picture = |(pose, frame): (usize, usize)| {
        let batch = MouthRun { avatar, poses: vec![pose], audio: audio.clone(), first_frame_at: frame * 640 };
        let started = Instant::now();
        let ours = draw_crops(model, &batch).unwrap().remove(0).rgb;
        let took = started.elapsed().as_secs_f64();
        let theirs = Vec::<u8>::try_from(cases.raw("frames").get(i64::try_from(pose).unwrap()).view(-1)).unwrap();
        assert_eq!(ours.len(), theirs.len());
        let apart: Vec<u8> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.abs_diff(*theirs)).collect();
        let differ = apart.iter().filter(|&&levels| levels > 0).count();
        let largest = apart.iter().max().unwrap();
        println!("frame {frame} in {took:.3} s: {differ} of {} levels differ, by {largest} at most", ours.len());
        apart
    };
    [0, 5].into_iter().enumerate().map(&mut picture).collect()
}

#[test]
#[ignore = "needs a GPU and random weights at full size: see the top of tests/it/full_size.rs"]
fn gpu_at_full_size_is_near_the_cpu_in_16_bits() {
    let (folder, cases) = (upstream(), cases());
    let inputs = || [("sample", cases.get("sample")), ("encoder_hidden_states", cases.get("tokens"))];
    let exact = cases.get("generated");
    for (dtype, most) in [("fp32", 5e-3), ("fp16", 5e-3), ("bf16", 3e-2)] {
        let out = run(&folder.join("musetalkV15"), "unet", &inputs(), &["--device", "cuda", "--dtype", dtype]);
        let relative = ((out.get("out") - &exact).norm() / exact.norm()).double_value(&[]);
        println!("unet on the GPU in {dtype}: relative {relative:.2e}");
        assert!(relative <= most, "{dtype}: relative difference {relative:e}");
    }
    for apart in draw(&mut load(find_device(DeviceChoice::Cuda(0)).unwrap())) {
        let sum: u64 = apart.iter().map(|&levels| u64::from(levels)).sum();
        let far = apart.iter().filter(|&&levels| levels > 3).count();
        assert!(2 * sum < apart.len() as u64, "levels differ by more than 0.5 on average");
        assert!(1000 * far <= apart.len(), "{far} of {} levels differ by more than 3", apart.len());
    }
}

/// A face of 320 x 320 pixels, so that what is drawn is scaled, in frames of 512 x 384.
fn write_avatar(folder: &Path) {
    std::fs::create_dir_all(folder.join("frames")).unwrap();
    let manifest = "id = \"full\"\nname = \"Full\"\nmodel = \"musetalk-v1.5\"\nwidth = 512\nheight = 384\nfps = 25\n\
                    cycle = \"ping_pong\"\n[voice]\nengine = \"espeak-ng\"\nlanguage = \"en-us\"\n";
    std::fs::write(folder.join("avatar.toml"), manifest).unwrap();
    let place = serde_json::json!({"x": 96, "y": 32, "width": 320, "height": 320});
    std::fs::write(folder.join("boxes.json"), serde_json::json!([place, place]).to_string()).unwrap();
    for frame in 0..2_u8 {
        let pixels = (0..512 * 384).map(|at| (at % 512, at / 512));
        let rgb: Vec<u8> = pixels.flat_map(|(x, y)| [(x / 2) as u8, (y / 2) as u8, 100 * frame]).collect();
        png::write_rgb(&folder.join(format!("frames/{frame:04}.png")), 512, 384, &rgb).unwrap();
    }
    let pixels = (0..320 * 320).map(|at| (at % 320, at / 320));
    let opaque = pixels.map(|(x, y)| if (40..280).contains(&x) && (160..300).contains(&y) { 255 } else { 0 });
    png::write_grey(&folder.join("mask.png"), 320, 320, &opaque.collect::<Vec<u8>>()).unwrap();
    let latents = cases().get("sample").to_kind(Kind::Half);
    Tensor::write_safetensors(&[("latents", latents)], folder.join("latents.safetensors")).unwrap();
}

#[test]
#[ignore = "needs random weights at full size: see the top of tests/it/full_size.rs"]
fn full_size_film_comes_whole_and_in_six_gigabytes() {
    let home = home("fp32");
    write_avatar(&home.join("models/avatars/full"));
    let (sound, film) = (home.join("sound.wav"), home.join("film.mp4"));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(&sound, spec).unwrap();
    for sample in Vec::<f32>::try_from(cases().get("audio")).unwrap() {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mouthpiece"))
        .arg("--home")
        .arg(&home)
        .args(["render", "--avatar", "full", "--device", "cpu", "--json", "--audio"])
        .args([&sound, Path::new("--out"), &film])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    let report: Value = succeeds(&output);
    println!("{report}");
    assert!(said.contains("0.04 s is real time"), "no warning that this is slow");
    assert_eq!(report["mouths"], 10);
    assert!(report["peak_memory_mb"].as_u64().unwrap() < 6000);
    let bytes = std::fs::read(&film).unwrap();
    assert_eq!(&bytes[4..8], b"ftyp");
}
