//! Compiling CUDA kernels, loading and launching them.
//!
//! In here: NVRTC and the driver's own interface, by `cudarc`'s bindings, and all unsafe code of the kernels. The libraries are
//! opened while the program runs, and a machine without them gets an error. Everything is in the context that libtorch uses, the
//! device's primary one. Not in here: what the kernels are for (`kernels`). Runs on: the thread that calls; a launch neither
//! waits for the device nor allocates, so it may be one of those that are written down as a CUDA graph.
#![allow(unsafe_code, reason = "foreign functions; each call says why it may be made")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cudarc::driver::sys as driver;
use cudarc::nvrtc::sys as nvrtc;
use libloading::os::unix::Library;
use tch::Tensor;

/// Why there are no kernels of our own on a device.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KernelError {
    /// A library that comes with the driver or with libtorch's CUDA half is not there.
    #[error("there is no {0}")]
    NoLibrary(&'static str),
    /// The compiler refuses, and this is its log.
    #[error("the kernels do not compile for {architecture}: {problem}")]
    Compiler {
        /// Such as `sm_90`.
        architecture: String,
        /// What it says.
        problem: String,
    },
    /// A function of the driver failed.
    #[error("{function}: {code}")]
    Driver {
        /// Its name in the driver.
        function: &'static str,
        /// Such as `CUDA_ERROR_INVALID_VALUE`.
        code: String,
    },
    /// A device or a kind of floats that kernels are not made for.
    #[error("kernels are for devices 0 to 15 and for fp32, fp16 and bf16")]
    Unknown,
}

type Result<T> = std::result::Result<T, KernelError>;

/// A function of the driver that succeeded, or an error by its name.
fn check(function: &'static str, code: driver::CUresult) -> Result<()> {
    if code == driver::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    Err(KernelError::Driver { function, code: format!("{code:?}") })
}

/// Opens the driver, once.
fn driver_is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    // SAFETY: the driver's library runs its initialisers, as libtorch's CUDA half has it do.
    *THERE.get_or_init(|| unsafe { driver::is_culib_present() })
}

/// Opens NVRTC, once: the one beside libtorch's CUDA half, in `also`, or in the system.
///
/// cudarc and NVRTC itself ask the loader by name alone, and the loader knows what is open already: so both files are
/// opened here by their paths, and stay open.
pub(super) fn compiler_is_there(also: Option<&Path>) -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let folders = cuda_half(&maps).map_or_else(Vec::new, |folder| {
            vec![folder.join("../../nvidia/cu13/lib"), folder.join("../../nvidia/cuda_nvrtc/lib"), folder]
        });
        for folder in folders.into_iter().chain(also.map(Path::to_owned)) {
            for start in ["libnvrtc-builtins", "libnvrtc"] {
                for file in libraries(&folder, start) {
                    // SAFETY: NVIDIA's own library runs its initialisers, as it does wherever it is used.
                    let library = unsafe { Library::new(&file) };
                    library.map_or_else(
                        |error| tracing::debug!("{} does not load: {error}", file.display()),
                        std::mem::forget,
                    );
                }
            }
        }
        // SAFETY: as above.
        unsafe { nvrtc::is_culib_present() }
    })
}

/// The folder of libtorch's CUDA half in a list of memory mappings.
fn cuda_half(maps: &str) -> Option<PathBuf> {
    let line = maps.lines().find(|line| line.contains("/libtorch_cuda.so"))?;
    Path::new(line.get(line.find('/')?..)?).parent().map(Path::to_owned)
}

/// The files of a folder that are called `start.so` and a version, but for NVIDIA's second build of each.
fn libraries(folder: &Path, start: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(start).is_some_and(|rest| rest.starts_with(".so."))
    };
    let mut found: Vec<PathBuf> = files.filter(is).collect();
    found.sort();
    found
}

/// What is compiled.
pub(super) struct Source<'a> {
    /// In CUDA's C++.
    pub text: &'a str,
    /// Such as `sm_90`.
    pub architecture: &'a str,
    /// What `FLOATS` is in it.
    pub floats: &'a str,
}

/// Machine code of one architecture. Needs no GPU; takes a second.
pub(super) fn compile(source: &Source<'_>) -> Result<Vec<u8>> {
    let fail = |problem: String| KernelError::Compiler { architecture: source.architecture.to_owned(), problem };
    let text = |text: String| CString::new(text).map_err(|error| fail(error.to_string()));
    if !compiler_is_there(None) {
        return Err(KernelError::NoLibrary("libnvrtc.so.13"));
    }
    let (code, name) = (text(source.text.to_owned())?, text("kernels.cu".to_owned())?);
    let options = [
        format!("--gpu-architecture={}", source.architecture),
        "--std=c++17".to_owned(),
        format!("-DFLOATS={}", source.floats),
    ];
    let options = options.map(text).into_iter().collect::<Result<Vec<CString>>>()?;
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let program = Program::new(&code, &name).map_err(|code| fail(format!("{code:?}")))?;
    let count = c_int::try_from(options.len()).unwrap_or(0);
    // SAFETY: the program lives, and so do the options, which end in a zero byte.
    let result = unsafe { nvrtc::nvrtcCompileProgram(program.0, count, options.as_ptr()) };
    if result != nvrtc::nvrtcResult::NVRTC_SUCCESS {
        return Err(fail(format!("{result:?}: {}", program.log())));
    }
    program.machine_code().ok_or_else(|| fail("it gives no machine code".to_owned()))
}

/// A program in NVRTC.
struct Program(nvrtc::nvrtcProgram);

impl Program {
    fn new(code: &CStr, name: &CStr) -> std::result::Result<Self, nvrtc::nvrtcResult> {
        let mut program = std::ptr::null_mut();
        // SAFETY: both texts end in a zero byte; no headers are given, so none are read.
        let result = unsafe {
            let none = std::ptr::null();
            nvrtc::nvrtcCreateProgram(&raw mut program, code.as_ptr(), name.as_ptr(), 0, none, none)
        };
        if result == nvrtc::nvrtcResult::NVRTC_SUCCESS { Ok(Self(program)) } else { Err(result) }
    }

    fn log(&self) -> String {
        let mut size = 0;
        // SAFETY: the program lives, and the log is no longer than it is said to be.
        unsafe {
            if nvrtc::nvrtcGetProgramLogSize(self.0, &raw mut size) != nvrtc::nvrtcResult::NVRTC_SUCCESS {
                return String::new();
            }
            let mut log = vec![0_u8; size];
            let _ = nvrtc::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast());
            String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned()
        }
    }

    fn machine_code(&self) -> Option<Vec<u8>> {
        let mut size = 0;
        // SAFETY: the program lives and is compiled, and its code is no longer than it is said to be.
        unsafe {
            let success = nvrtc::nvrtcResult::NVRTC_SUCCESS;
            if nvrtc::nvrtcGetCUBINSize(self.0, &raw mut size) != success || size == 0 {
                return None;
            }
            let mut code = vec![0_u8; size];
            (nvrtc::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()) == success).then_some(code)
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was created and is not used any more.
        let _ = unsafe { nvrtc::nvrtcDestroyProgram(&raw mut self.0) };
    }
}

/// A GPU and its primary context, which libtorch uses too.
pub(super) struct Gpu {
    index: i32,
    /// Such as `sm_90`.
    pub architecture: String,
    context: driver::CUcontext,
}

impl Gpu {
    /// The device of this index among those that the process sees.
    pub(super) fn new(index: i32) -> Result<Self> {
        if !driver_is_there() {
            return Err(KernelError::NoLibrary("libcuda.so.1"));
        }
        let (mut device, mut context) = (0, std::ptr::null_mut());
        let (mut major, mut minor) = (0, 0);
        // SAFETY: each pointer leads to a place for what the function writes there. The context is never given back, since
        // libtorch never gives it back either.
        unsafe {
            use driver::CUdevice_attribute_enum::{
                CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
                CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
            };
            check("cuInit", driver::cuInit(0))?;
            check("cuDeviceGet", driver::cuDeviceGet(&raw mut device, index))?;
            check("cuDeviceGetAttribute", driver::cuDeviceGetAttribute(&raw mut major, MAJOR, device))?;
            check("cuDeviceGetAttribute", driver::cuDeviceGetAttribute(&raw mut minor, MINOR, device))?;
            check("cuDevicePrimaryCtxRetain", driver::cuDevicePrimaryCtxRetain(&raw mut context, device))?;
        }
        Ok(Self { index, architecture: format!("sm_{major}{minor}"), context })
    }

    /// Has `run` run in this GPU's context; the thread's own is restored.
    fn inside<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut before = std::ptr::null_mut();
        // SAFETY: the context is retained, so it lives. What is pushed is popped.
        unsafe {
            check("cuCtxGetCurrent", driver::cuCtxGetCurrent(&raw mut before))?;
            if before == self.context {
                return run();
            }
            check("cuCtxPushCurrent", driver::cuCtxPushCurrent_v2(self.context))?;
        }
        let result = run();
        // SAFETY: as above.
        unsafe { check("cuCtxPopCurrent", driver::cuCtxPopCurrent_v2(&raw mut before))? };
        result
    }
}

/// Kernels on a GPU.
pub(super) struct Loaded {
    gpu: Gpu,
    functions: Vec<driver::CUfunction>,
}

// SAFETY: handles of the driver, which any thread may use; nothing in here changes.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    /// The functions of these names in machine code for this GPU, ready to be launched: nothing is left to be loaded later.
    pub(super) fn new(gpu: Gpu, code: &[u8], names: &[&str]) -> Result<Self> {
        let functions = gpu.inside(|| {
            let mut module = std::ptr::null_mut();
            // SAFETY: the code is a whole image, as the compiler made it. The module is never unloaded.
            unsafe { check("cuModuleLoadData", driver::cuModuleLoadData(&raw mut module, code.as_ptr().cast()))? };
            let function = |name: &&str| {
                let name = CString::new(*name).map_err(|_| KernelError::Unknown)?;
                let mut function = std::ptr::null_mut();
                // SAFETY: the module is loaded, the name ends in a zero byte.
                unsafe {
                    let code = driver::cuModuleGetFunction(&raw mut function, module, name.as_ptr());
                    check("cuModuleGetFunction", code)?;
                    check("cuFuncLoad", driver::cuFuncLoad(function))?;
                }
                Ok(function)
            };
            names.iter().map(function).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { gpu, functions })
    }

    /// Launches the function at `index` on libtorch's current stream. The arguments must be those that the kernel has, in kind
    /// and number, and the memory that it writes to and reads from must be in the tensors.
    pub(super) fn launch(&self, index: usize, shape: Shape, arguments: &[Argument<'_>]) -> Result<()> {
        let function = *self.functions.get(index).ok_or(KernelError::Unknown)?;
        let places: Vec<Place<'_>> = arguments.iter().map(Place::of).collect();
        let mut places: Vec<*mut c_void> = places.iter().map(Place::address).collect();
        let (columns, rows) = shape.grid;
        let stream = current_stream(self.gpu.index);
        self.gpu.inside(|| {
            // SAFETY: the function is loaded in this context, and the driver copies the arguments before it returns. That they
            // are the kernel's is what `kernels` is for; its tensors live until libtorch's stream, which this work is in, has
            // done it, since libtorch gives their memory to later work of the same stream only.
            let code = unsafe {
                let places = places.as_mut_ptr();
                let none = std::ptr::null_mut();
                let stream: driver::CUstream = stream.cast();
                driver::cuLaunchKernel(
                    function,
                    columns,
                    rows,
                    1,
                    shape.threads,
                    1,
                    1,
                    shape.shared,
                    stream,
                    places,
                    none,
                )
            };
            check("cuLaunchKernel", code)
        })
    }
}

/// How many blocks of how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Blocks in x and y.
    pub grid: (u32, u32),
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory that a block has beside what the kernel declares.
    pub shared: u32,
}

/// What a kernel is given.
pub(super) enum Argument<'a> {
    /// The first number of a tensor.
    Memory(&'a Tensor),
    /// No memory.
    Null,
    /// A 32-bit integer, signed or not.
    Int(u32),
    /// A 32-bit float.
    Float(f32),
    /// A structure, in words of 64 bits.
    Words(&'a [u64]),
}

/// An argument where the driver can read it.
enum Place<'a> {
    Pointer(*mut c_void),
    Int(u32),
    Float(f32),
    Words(&'a [u64]),
}

impl<'a> Place<'a> {
    fn of(argument: &Argument<'a>) -> Self {
        match argument {
            Argument::Memory(tensor) => Self::Pointer(tensor.data_ptr()),
            Argument::Null => Self::Pointer(std::ptr::null_mut()),
            Argument::Int(value) => Self::Int(*value),
            Argument::Float(value) => Self::Float(*value),
            Argument::Words(words) => Self::Words(words),
        }
    }

    fn address(&self) -> *mut c_void {
        match self {
            Self::Pointer(pointer) => std::ptr::from_ref(pointer).cast_mut().cast(),
            Self::Int(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Words(words) => words.as_ptr().cast_mut().cast(),
        }
    }
}

type StreamSource = fn(i32) -> *mut c_void;

static STREAMS: OnceLock<StreamSource> = OnceLock::new();

/// Kernels are launched on the stream that this function gives for a device's index, which must be libtorch's current one on
/// the calling thread. Without, on the device's default stream, which is libtorch's while nobody has set another. The first
/// call counts.
pub fn set_stream_source(source: fn(i32) -> *mut c_void) {
    let _ = STREAMS.set(source);
}

fn current_stream(device: i32) -> *mut c_void {
    STREAMS.get().map_or(std::ptr::null_mut(), |source| source(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_cuda_half_is_found_among_mappings() {
        let maps =
            "7f00-7f01 r-xp 0000 fe:00 12 /a b/lib/libtorch_cpu.so\n7f00-7f01 r-xp 0 0 1 /c/lib/libtorch_cuda.so\n";
        assert_eq!(cuda_half(maps), Some("/c/lib".into()));
        assert_eq!(cuda_half("7f00-7f01 r-xp 0000 fe:00 12 /a b/lib/libtorch_cpu.so\n"), None);
    }

    #[test]
    fn libraries_are_those_of_the_name_and_not_the_second_build() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libnvrtc.so.13", "libnvrtc.alt.so.13", "libnvrtc-builtins.so.13.0", "libnvrtc.so"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(libraries(folder.path(), "libnvrtc"), [folder.path().join("libnvrtc.so.13")]);
        assert_eq!(libraries(folder.path(), "libnvrtc-builtins"), [folder.path().join("libnvrtc-builtins.so.13.0")]);
        assert!(libraries(Path::new("/nowhere"), "libnvrtc").is_empty());
    }

    #[test]
    fn a_machine_without_a_gpu_gets_an_error() {
        // One with a GPU has no hundredth.
        assert!(Gpu::new(100).is_err());
    }
}
