//! Kernels of our own, for what libtorch's operators do in several passes over memory on an NVIDIA GPU.
//!
//! In here: which tensors each of them takes, and how it is launched for a shape. The kernels themselves are the files of
//! `kernels/`, which are compiled for the device when a model is loaded ([`prepare`]), by NVRTC, which comes with libtorch's CUDA
//! half. Each function here answers `None` (or `false`) where its kernel cannot take what it is given: on a CPU, in another
//! layout or kind of floats, where gradients are wanted, where nothing was prepared. The caller has plain operators for that.
//! Results differ from theirs by rounding: numbers are in 32 bits between the steps, and rounded once. Pasting is to the byte.

mod group_norm;
mod paste;
mod pointwise;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tch::{Device, Kind, Tensor};

pub use group_norm::{GroupNormOf, group_norm};
pub use paste::{PasteInto, paste};
pub use pointwise::{add, geglu};

use super::launch::{Argument, Gpu, Loaded, Shape, Source, compile};
pub use super::launch::{KernelError, set_stream_source};

const SOURCES: [&str; 5] = [
    include_str!("kernels/floats.cu"),
    include_str!("kernels/group_norm.cu"),
    include_str!("kernels/add.cu"),
    include_str!("kernels/geglu.cu"),
    include_str!("kernels/paste.cu"),
];

/// One of the functions in the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    GroupNormWhole1,
    GroupNormWhole2,
    GroupNormWhole4,
    GroupNormSums,
    GroupNormApply,
    Add,
    Geglu,
    Paste,
}

/// Their names in the sources, in the order of [`Kernel`].
const NAMES: [&str; 8] = [
    "group_norm_whole_1",
    "group_norm_whole_2",
    "group_norm_whole_4",
    "group_norm_sums",
    "group_norm_apply",
    "add",
    "geglu",
    "paste",
];

/// As many devices as one machine has.
const DEVICES: usize = 16;

/// The kernels for each device and each of [`FLOATS`], where they were prepared; `None` where that failed.
static PREPARED: [[OnceLock<Option<Loaded>>; 3]; DEVICES] = [const { [const { OnceLock::new() }; 3] }; DEVICES];

/// Says `off` in the environment to have none, to measure what they are good for.
const SWITCH: &str = "MOUTHPIECE_KERNELS";

/// Whether they are used.
static ENABLED: AtomicBool = AtomicBool::new(true);

/// The kinds of floats that there are kernels for, and what the sources call them.
const FLOATS: [(Kind, &str); 3] = [(Kind::Float, "float"), (Kind::Half, "Half"), (Kind::BFloat16, "Brain")];

fn place(device: Device, kind: Kind) -> Option<&'static OnceLock<Option<Loaded>>> {
    let Device::Cuda(index) = device else { return None };
    PREPARED.get(index)?.get(FLOATS.iter().position(|(floats, _)| *floats == kind)?)
}

/// Has the kernels ready for a GPU and a kind of floats, and says whether they are: `false` for another device, where
/// `MOUTHPIECE_KERNELS=off` forbids it, and where they cannot be compiled, which is logged. Takes about a second the first
/// time and no time from then on. Needs to be called before anything is drawn, since none of the other functions compiles.
pub fn prepare(device: Device, kind: Kind) -> bool {
    let Some(place) = place(device, kind) else { return false };
    if std::env::var_os(SWITCH).is_some_and(|value| value == "off") {
        return false;
    }
    let loaded = place.get_or_init(|| {
        let started = Instant::now();
        match load(device, kind) {
            Ok(loaded) => {
                tracing::info!(?device, ?kind, took = ?started.elapsed(), "own kernels are compiled");
                Some(loaded)
            }
            Err(error) => {
                tracing::warn!(?device, ?kind, "no kernels of our own, plain operators instead: {error}");
                None
            }
        }
    });
    loaded.is_some()
}

fn load(device: Device, kind: Kind) -> std::result::Result<Loaded, KernelError> {
    let Device::Cuda(index) = device else { return Err(KernelError::Unknown) };
    let gpu = Gpu::new(i32::try_from(index).map_err(|_| KernelError::Unknown)?)?;
    let code = machine_code(&gpu.architecture, kind)?;
    Loaded::new(gpu, &code, &NAMES)
}

/// All kernels for one architecture, such as `sm_90`, and one kind of floats.
fn machine_code(architecture: &str, kind: Kind) -> std::result::Result<Vec<u8>, KernelError> {
    let (_, floats) = FLOATS.iter().find(|(floats, _)| *floats == kind).ok_or(KernelError::Unknown)?;
    compile(&Source { text: &SOURCES.concat(), architecture, floats })
}

/// Has all of them used or not, to compare with the plain operators: for the whole process, at once.
pub fn enable(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Whether kernels may be used on this tensor: it is on a GPU that they are prepared for, and no gradients are wanted of it.
pub fn take(x: &Tensor) -> bool {
    loaded_for(x).is_some()
}

/// Whether they may be on a map of so many channels that is otherwise like `x`, `[samples, channels, height, width]`: [`take`],
/// channels innermost in memory, and a number of them that can be loaded.
pub fn take_map(x: &Tensor, channels: i64) -> bool {
    take(x) && channels_innermost(x).is_some() && x.f_kind().is_ok_and(|kind| channels % pack(kind) == 0)
}

fn loaded_for(x: &Tensor) -> Option<&'static Loaded> {
    let device = x.device();
    if !device.is_cuda() || !ENABLED.load(Ordering::Relaxed) || x.requires_grad() {
        return None;
    }
    place(device, x.f_kind().ok()?)?.get()?.as_ref()
}

/// Launches, or has none of them used any more: a kernel that the driver refuses once it refuses again.
fn launch(loaded: &Loaded, kernel: Kernel, shape: Shape, arguments: &[Argument<'_>]) -> bool {
    let launched = loaded.launch(kernel as usize, shape, arguments);
    if let Err(error) = &launched {
        tracing::warn!(?kernel, ?shape, "kernels of our own are off: {error}");
        enable(false);
    }
    launched.is_ok()
}

/// How many numbers are loaded at once.
fn pack(kind: Kind) -> i64 {
    if kind == Kind::Float { 4 } else { 8 }
}

/// Whether a tensor's first number lies where it can be loaded with its neighbours.
fn is_aligned(x: &Tensor) -> bool {
    x.data_ptr().addr().is_multiple_of(16)
}

/// Whether this is a vector of `size` numbers beside `x`, in the same floats.
fn is_vector(vector: &Tensor, size: i64, x: &Tensor) -> bool {
    vector.size() == [size]
        && vector.is_contiguous()
        && vector.device() == x.device()
        && vector.f_kind().ok() == x.f_kind().ok()
        && !vector.requires_grad()
        && is_aligned(vector)
}

/// Samples, channels, height and width of a map whose channels are innermost in memory, without gaps.
fn channels_innermost(x: &Tensor) -> Option<[i64; 4]> {
    let (samples, channels, height, width) = x.size4().ok()?;
    let (of_samples, of_channels, of_rows, of_columns) = x.stride4().ok()?;
    // How far apart are those of a dimension of one does not matter.
    let fits = |size: i64, stride: i64, wanted: i64| size == 1 || stride == wanted;
    let dense = fits(channels, of_channels, 1)
        && fits(width, of_columns, channels)
        && fits(height, of_rows, channels * width)
        && fits(samples, of_samples, channels * width * height);
    (dense && samples * channels * height * width > 0 && is_aligned(x)).then_some([samples, channels, height, width])
}

/// A size as a kernel takes it.
fn int(value: i64) -> Option<u32> {
    u32::try_from(value).ok().filter(|value| i32::try_from(*value).is_ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::musetalk::gpu::launch::compiler_is_there;

    /// On a machine without a GPU as on one with: the compiler needs none.
    #[test]
    fn all_kernels_compile_for_old_and_new_gpus_where_the_compiler_is() {
        let places = [".deps/nvrtc/nvidia/cu13/lib", ".deps/libtorch/cuda/nvidia/cu13/lib"];
        let places = places.map(|place| Path::new(env!("CARGO_MANIFEST_DIR")).join(place));
        if !compiler_is_there(places.iter().find(|place| place.is_dir()).map(AsRef::as_ref)) {
            eprintln!("not run: NVRTC is not installed (scripts/setup.sh --cuda or --test installs it)");
            return;
        }
        // The oldest has no instruction that rounds to bfloat16.
        let kinds = [("sm_90", Kind::Half), ("sm_75", Kind::BFloat16), ("sm_80", Kind::Float)];
        std::thread::scope(|scope| {
            for (architecture, kind) in kinds {
                scope.spawn(move || {
                    let code = machine_code(architecture, kind).unwrap();
                    for name in NAMES {
                        let found = code.windows(name.len()).any(|bytes| bytes == name.as_bytes());
                        assert!(found, "{name} is not in the code for {architecture}");
                    }
                });
            }
        });
    }

    #[test]
    fn a_cpu_gets_nothing_prepared_and_takes_no_kernel() {
        assert!(!prepare(Device::Cpu, Kind::Float));
        assert!(!take(&Tensor::zeros([1, 32, 4, 4], (Kind::Float, Device::Cpu))));
    }

    #[test]
    fn maps_with_channels_innermost_are_known_by_their_strides() {
        let map = Tensor::zeros([2, 32, 4, 6], (Kind::Float, Device::Cpu));
        let last = map.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        assert_eq!(channels_innermost(&last), Some([2, 32, 4, 6]));
        assert_eq!(channels_innermost(&map), None);
        assert_eq!(channels_innermost(&last.narrow(0, 1, 1)), Some([1, 32, 4, 6]));
        assert_eq!(channels_innermost(&last.narrow(3, 0, 4)), None);
        // Rows of one sample, as long as they are whole.
        assert_eq!(channels_innermost(&last.narrow(0, 0, 1).narrow(2, 1, 2)), Some([1, 32, 2, 6]));
        assert_eq!(channels_innermost(&last.narrow(2, 1, 2)), None);
        assert_eq!(channels_innermost(&map.view([2, 32 * 24, 1, 1])), Some([2, 32 * 24, 1, 1]));
    }
}
