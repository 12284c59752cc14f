//! Upstream's face parsing against facexlib's in PyTorch, on weights that both make by one formula.
//!
//! `scripts/make_face_parser_fixtures.py` made the numbers. The published weights are not at hand here, so what is compared is
//! the network at its full size and what is around it, not how well it sees.

use std::path::{Path, PathBuf};

use mouthpiece::models::TensorList;
use mouthpiece::musetalk::FaceParser;
use mouthpiece::musetalk::network::bisenet::{BiSeNet, COUNTS, TRAINING};
use mouthpiece::musetalk::network::layers::channels_last;
use mouthpiece::musetalk::weights::{Mapping, load_safetensors};
use mouthpiece::picture::RgbPicture;
use tch::{Device, Kind, Tensor, nn};

use crate::torch_file;

#[derive(serde::Deserialize)]
struct Cases {
    seen: Vec<f32>,
    classes: Vec<u8>,
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/face_parser").join(name)
}

fn cases() -> Cases {
    serde_json::from_slice(&std::fs::read(fixture("cases.json")).unwrap()).unwrap()
}

/// So many numbers from -0.5 to 0.5, by FNV-1a of the name and SplitMix64 of the place.
fn noise(name: &str, count: i64) -> impl Iterator<Item = f64> {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    (1..=count as u64).map(move |place| {
        let z = seed.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24) - 0.5
    })
}

fn weights(name: &str, shape: &[i64]) -> Tensor {
    if name.ends_with(COUNTS) {
        return Tensor::from(80_000_i64);
    }
    let numbers = noise(name, shape.iter().product());
    let is_scale = name.ends_with("running_var") || (shape.len() == 1 && name.ends_with("weight"));
    let scale = (24.0 / shape.iter().skip(1).product::<i64>() as f64).sqrt();
    let numbers: Vec<f32> = match (is_scale, shape.len()) {
        (true, _) => numbers.map(|number| (1.0 + 0.5 * number) as f32).collect(),
        (false, 4) => numbers.map(|number| (number * scale) as f32).collect(),
        (false, _) => numbers.map(|number| number as f32).collect(),
    };
    Tensor::from_slice(&numbers).view(shape)
}

/// Tensors by their names.
type Tensors = Vec<(String, Tensor)>;

/// All tensors of a checkpoint like the published one.
fn checkpoint() -> Tensors {
    let list = TensorList::load(&fixture("tensors")).unwrap();
    let tensor = |(name, shape): (&str, &[u64])| {
        let shape: Vec<i64> = shape.iter().map(|size| i64::try_from(*size).unwrap()).collect();
        (name.to_owned(), weights(name, &shape))
    };
    list.iter().map(tensor).collect()
}

/// Weights by which everything is skin, put where an operator puts upstream's: its last layer alone decides that.
pub(crate) fn install_one_that_sees_skin_only(models: &Path) {
    let mut tensors = checkpoint();
    let (_, last) = tensors.iter_mut().find(|(name, _)| name == "conv_out.conv_out.weight").unwrap();
    *last = last.zeros_like();
    let _ = last.get(1).fill_(1.0);
    let path = FaceParser::path(models);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    torch_file::write(&path, &tensors);
}

fn picture() -> RgbPicture {
    let mut rgb = Vec::with_capacity(120_000);
    let mut noise = noise("picture", 120_000);
    for (y, x) in (0..200_i32).flat_map(|y| (0..200_i32).map(move |x| (y, x))) {
        let is_inside = (x - 100) * (x - 100) * 2 + (y - 90) * (y - 90) < 6400;
        let shade = if is_inside { [90, -30, 40] } else { [0; 3] };
        let plain = [60 + x / 2, 200 - y / 2, 40 + (x + y) / 3];
        for (plain, shade) in plain.into_iter().zip(shade) {
            let level = f64::from(plain + shade) + 24.0 * noise.next().unwrap();
            rgb.push(level.round_ties_even().clamp(0.0, 255.0) as u8);
        }
    }
    RgbPicture::new(200, 200, rgb).unwrap()
}

#[test]
fn the_network_agrees_with_pytorch() {
    let _no_grad = tch::no_grad_guard();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    Tensor::write_safetensors(&checkpoint(), &path).unwrap();
    let store = nn::VarStore::new(Device::Cpu);
    let network = BiSeNet::new(&store.root()).unwrap();
    load_safetensors(&store, &path, Mapping { ignored: &TRAINING, ignored_ends: &[COUNTS], ..Mapping::default() })
        .unwrap();
    let input: Vec<f32> = noise("input", 3 * 96 * 64).map(|number| (number as f32) * 4.0).collect();
    let input = Tensor::from_slice(&input).view([1, 3, 96, 64]);
    let theirs = Tensor::from_slice(&cases().seen).view([19, 6, 4]);
    for input in [channels_last(&input).unwrap(), input] {
        let seen = network.forward(&input).unwrap();
        assert_eq!(seen.size(), [1, 19, 96, 64]);
        let ours = seen.get(0).slice(1, 5, None, 16).slice(2, 5, None, 16);
        let apart = (&ours - &theirs).norm().double_value(&[]) / theirs.norm().double_value(&[]);
        assert!(apart < 1e-5, "relative difference {apart:e}");
    }
}

#[test]
fn a_checkpoint_of_upstreams_finds_the_classes_that_pytorch_finds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("79999_iter.pth");
    torch_file::write(&path, &checkpoint());
    let classes = FaceParser::load(&path, Device::Cpu).unwrap().classes(&picture()).unwrap();
    assert_eq!(classes.len(), 512 * 512);
    let ours: Vec<u8> = (0..32 * 32).map(|at| classes[(at / 32 * 16 + 8) * 512 + at % 32 * 16 + 8]).collect();
    let theirs = cases().classes;
    let differ = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).count();
    // Where two classes are seen alike, rounding decides.
    assert!(ours.len() == theirs.len() && differ <= 2, "{differ} of 1024 differ");
}

#[test]
fn weights_that_do_not_fit_are_refused_by_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("79999_iter.pth");
    let refused = |change: &dyn Fn(&mut Tensors), named: &[&str]| {
        let mut tensors = checkpoint();
        change(&mut tensors);
        torch_file::write(&path, &tensors);
        let error = FaceParser::load(&path, Device::Cpu).unwrap_err().to_string();
        for named in [&["79999_iter.pth"], named].concat() {
            assert!(error.contains(named), "{named}: {error}");
        }
    };
    refused(&|tensors| tensors.retain(|(name, _)| name != "ffm.conv1.weight"), &["missing", "ffm.conv1.weight"]);
    let other = |tensors: &mut Tensors| {
        let (_, tensor) = tensors.iter_mut().find(|(name, _)| name == "conv_out.conv_out.weight").unwrap();
        *tensor = Tensor::zeros([11, 256, 1, 1], (Kind::Float, Device::Cpu));
    };
    refused(&other, &["conv_out.conv_out.weight [11, 256, 1, 1] instead of [19, 256, 1, 1]"]);
    let broken = |tensors: &mut Tensors| {
        let (_, tensor) = tensors.iter_mut().find(|(name, _)| name == "cp.resnet.bn1.bias").unwrap();
        *tensor = Tensor::full([64], f64::NAN, (Kind::Float, Device::Cpu));
    };
    refused(&broken, &["cp.resnet.bn1.bias", "NaN"]);
    std::fs::write(&path, b"<html>quota exceeded</html>").unwrap();
    let error = FaceParser::load(&path, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("79999_iter.pth") && error.contains("neither"), "{error}");
}
