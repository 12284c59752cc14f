//! The functions of `shim.cpp`: a stream of a thread's own and CUDA graphs, which tch does not bind.
//!
//! In here: loading the compiled file after libtorch's CUDA half, and its calls as safe ones. Not in here: what is captured
//! and when (`graphs`). All of it is for the thread that owns the network: a stream and a capture are a thread's.

#![allow(unsafe_code, reason = "the one file that calls what shim.cpp has")]

use std::ffi::{CStr, c_char, c_int, c_ulonglong, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// Where `scripts/setup.sh --cuda` puts it: beside the CUDA half.
const LIBRARY: &str = "libmouthpiece_cuda.so";
/// Bytes of a message of libtorch's that are kept.
const MESSAGE_ROOM: usize = 1024;

type TorchVersion = unsafe extern "C" fn() -> *const c_char;
type UseOwnStream = unsafe extern "C" fn(c_int, *mut c_char, usize) -> c_int;
type CurrentStream = unsafe extern "C" fn(c_int) -> *mut c_void;
type NewPool = unsafe extern "C" fn(*mut c_ulonglong, *mut c_char, usize) -> c_int;
type BeginCapture = unsafe extern "C" fn(*const c_ulonglong, *mut c_char, usize) -> *mut c_void;
type OfGraph = unsafe extern "C" fn(*mut c_void, *mut c_char, usize) -> c_int;
type FreeGraph = unsafe extern "C" fn(*mut c_void);
type TrimMemory = unsafe extern "C" fn(*mut c_char, usize) -> c_int;

/// What libtorch or the loader said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CUDA: {0}")]
pub struct ShimError(String);

/// The loaded file.
#[derive(Debug)]
pub struct Shim {
    use_own_stream: UseOwnStream,
    current_stream: CurrentStream,
    new_pool: NewPool,
    begin_capture: BeginCapture,
    end_capture: OfGraph,
    replay: OfGraph,
    free_graph: FreeGraph,
    trim_memory: TrimMemory,
    _library: Library,
}

static SHIM: OnceLock<Result<Shim, ShimError>> = OnceLock::new();

/// Memory that graphs have in common.
#[derive(Clone, Copy, Debug)]
pub struct Pool([c_ulonglong; 2]);

/// What was written down of a thread's work for the device.
#[derive(Debug)]
pub struct Graph {
    shim: &'static Shim,
    raw: NonNull<c_void>,
}

impl Shim {
    /// Loads it once: from the folder of libtorch's CUDA half, which has to be loaded before, or else from where the system
    /// looks for libraries. `torch` is the libtorch in use, such as `2.11.0`.
    pub fn load(cuda_half: &Path, torch: Option<&str>) -> Result<&'static Self, ShimError> {
        SHIM.get_or_init(|| Self::open(cuda_half, torch)).as_ref().map_err(Clone::clone)
    }

    /// The one that was loaded, if it was.
    pub fn loaded() -> Option<&'static Self> {
        SHIM.get()?.as_ref().ok()
    }

    fn open(cuda_half: &Path, torch: Option<&str>) -> Result<Self, ShimError> {
        let beside = cuda_half.join(LIBRARY);
        let path = if beside.is_file() { beside.as_path() } else { Path::new(LIBRARY) };
        let failed = |error: libloading::Error| ShimError(error.to_string());
        // SAFETY: the file is the compiled `shim.cpp`, which has no initialisers of its own; the types of its functions are
        // those written there, and the functions live as long as the library, which is kept with them.
        unsafe {
            let library = Library::open(Some(path), RTLD_NOW | RTLD_LOCAL).map_err(failed)?;
            let version = library.get::<TorchVersion>(b"mouthpiece_torch_version").map_err(failed)?;
            let built_for = CStr::from_ptr(version()).to_string_lossy().into_owned();
            fits(&built_for, torch)?;
            Ok(Self {
                use_own_stream: *library.get(b"mouthpiece_use_own_stream").map_err(failed)?,
                current_stream: *library.get(b"mouthpiece_current_stream").map_err(failed)?,
                new_pool: *library.get(b"mouthpiece_new_pool").map_err(failed)?,
                begin_capture: *library.get(b"mouthpiece_begin_capture").map_err(failed)?,
                end_capture: *library.get(b"mouthpiece_end_capture").map_err(failed)?,
                replay: *library.get(b"mouthpiece_replay").map_err(failed)?,
                free_graph: *library.get(b"mouthpiece_free_graph").map_err(failed)?,
                trim_memory: *library.get(b"mouthpiece_trim_memory").map_err(failed)?,
                _library: library,
            })
        }
    }

    /// Has all that libtorch does on this thread and GPU go to a stream of its own from now on.
    pub fn use_own_stream(&self, gpu: usize) -> Result<(), ShimError> {
        // SAFETY: the buffer has the room that is named; libtorch checks the number.
        told(|problem, room| unsafe { (self.use_own_stream)(number(gpu), problem, room) })
    }

    /// The `cudaStream_t` that libtorch uses on this thread and GPU; null for the default one.
    pub fn current_stream(&self, gpu: usize) -> *mut c_void {
        // SAFETY: it only reads what libtorch keeps for the thread.
        unsafe { (self.current_stream)(number(gpu)) }
    }

    /// Memory for graphs that are replayed one after the other.
    pub fn new_pool(&self) -> Result<Pool, ShimError> {
        let mut pool = [0; 2];
        // SAFETY: two numbers are written to where two are.
        told(|problem, room| unsafe { (self.new_pool)(pool.as_mut_ptr(), problem, room) })?;
        Ok(Pool(pool))
    }

    /// Writes down what `work` has libtorch do on this thread, which does not happen: tensors that it gives have no values
    /// before the graph is replayed. What it allocates comes from `pool`. The thread needs a stream of its own.
    pub fn capture<T, E: From<ShimError>>(
        &'static self,
        pool: Pool,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<(Graph, T), E> {
        let mut raw = std::ptr::null_mut();
        told(|problem, room| {
            // SAFETY: the pool is two numbers, and the buffer has the room that is named.
            raw = unsafe { (self.begin_capture)(pool.0.as_ptr(), problem, room) };
            c_int::from(raw.is_null())
        })?;
        let raw = NonNull::new(raw).ok_or_else(|| ShimError("a capture did not begin".to_owned()))?;
        // Freed by its drop, also where the work fails or panics.
        let mut capture = Capture { graph: Graph { shim: self, raw }, ended: false };
        let made = work();
        let ended = capture.end();
        // What the work says is the cause of what the end says.
        let made = made?;
        ended?;
        Ok((capture.into_graph(), made))
    }

    /// Gives memory back to the device that libtorch only keeps for later.
    pub fn trim_memory(&self) -> Result<(), ShimError> {
        // SAFETY: the buffer has the room that is named.
        told(|problem, room| unsafe { (self.trim_memory)(problem, room) })
    }
}

impl Graph {
    /// Has the device do what was written down, after what the thread has asked for before.
    pub fn replay(&self) -> Result<(), ShimError> {
        // SAFETY: the graph is alive, and its capture has ended without a fault.
        told(|problem, room| unsafe { (self.shim.replay)(self.raw.as_ptr(), problem, room) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: this is its only owner.
        unsafe { (self.shim.free_graph)(self.raw.as_ptr()) };
    }
}

/// A capture that has to be ended before its graph goes.
struct Capture {
    graph: Graph,
    ended: bool,
}

impl Capture {
    fn end(&mut self) -> Result<(), ShimError> {
        self.ended = true;
        let Graph { shim, raw } = &self.graph;
        // SAFETY: it began on this thread and ends once.
        told(|problem, room| unsafe { (shim.end_capture)(raw.as_ptr(), problem, room) })
    }

    fn into_graph(self) -> Graph {
        let this = std::mem::ManuallyDrop::new(self);
        Graph { shim: this.graph.shim, raw: this.graph.raw }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end();
        }
    }
}

/// Objects of another libtorch may have another layout, so only the very one it was compiled against will do.
fn fits(built_for: &str, torch: Option<&str>) -> Result<(), ShimError> {
    // A version may name its variant after a plus, as 2.11.0+cu130.
    let plain = |version: &str| version.split('+').next().unwrap_or_default().to_owned();
    match torch {
        Some(torch) if plain(torch) == plain(built_for) => Ok(()),
        torch => {
            let torch = torch.unwrap_or("of an unknown version");
            Err(ShimError(format!("{LIBRARY} was built for libtorch {built_for}, this one is {torch}")))
        }
    }
}

/// Calls what gives 0, or a fault and its message.
fn told(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), ShimError> {
    let mut problem = [0u8; MESSAGE_ROOM];
    if call(problem.as_mut_ptr().cast(), problem.len()) == 0 {
        return Ok(());
    }
    let message = CStr::from_bytes_until_nul(&problem).map(|message| message.to_string_lossy().into_owned());
    let message = message.unwrap_or_default();
    Err(ShimError(message.lines().next().unwrap_or_default().to_owned()))
}

fn number(gpu: usize) -> c_int {
    c_int::try_from(gpu).unwrap_or(c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_with_the_libtorch_it_was_built_for_alone() {
        assert_eq!(fits("2.11.0", Some("2.11.0+cu130")), Ok(()));
        let error = fits("2.11.0", Some("2.12.0")).unwrap_err().to_string();
        assert!(error.contains("2.11.0") && error.contains("2.12.0"), "{error}");
        assert!(fits("2.11.0", None).is_err());
    }

    #[test]
    fn a_message_is_read_up_to_its_first_line_and_a_success_has_none() {
        let says = |text: &'static [u8]| {
            told(move |problem, room| {
                assert!(text.len() < room);
                // SAFETY: the text is shorter than the room.
                unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), problem, text.len()) };
                1
            })
        };
        assert_eq!(says(b"out of memory\nstack"), Err(ShimError("out of memory".into())));
        assert_eq!(told(|_, _| 0), Ok(()));
    }

    #[test]
    fn without_its_file_it_is_not_there_and_says_which() {
        let folder = tempfile::tempdir().unwrap();
        let error = Shim::open(folder.path(), Some("2.11.0")).unwrap_err().to_string();
        assert!(error.contains(LIBRARY), "{error}");
    }

    #[test]
    fn each_function_that_is_looked_up_is_in_what_setup_compiles() {
        let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/shim").join(LIBRARY);
        let compiled = std::fs::read(&compiled).expect("scripts/setup.sh --test compiles it");
        let looked_up: Vec<&str> = include_str!("shim.rs")
            .split("b\"mouthpiece_")
            .skip(1)
            .filter_map(|rest| rest.split_once("\")").map(|(name, _)| name))
            .collect();
        assert!(looked_up.len() >= 9, "{looked_up:?}");
        for name in looked_up {
            let symbol = format!("mouthpiece_{name}\0");
            assert!(compiled.windows(symbol.len()).any(|bytes| bytes == symbol.as_bytes()), "{symbol}");
        }
    }
}
