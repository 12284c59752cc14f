//! libtorch's CUDA half, which is loaded while the program runs, if it is installed.
//!
//! The program is linked with the CPU half alone, so that one binary serves machines with a GPU and without. Not in here:
//! what `doctor` says about it (`libtorch`), which device is taken (`choice`).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

const LIBRARY: &str = "libtorch_cuda.so";
/// Where it lies, from the folder of the CPU half: in a whole libtorch, and where `scripts/setup.sh --cuda` puts it, in
/// the layout of the wheels since its run path leads to NVIDIA's libraries beside it.
const PLACES: [&str; 2] = ["", "../cuda/torch/lib"];

/// What became of the CUDA half.
#[derive(Debug)]
pub enum Cuda {
    /// It is loaded, and `path` is its file.
    Loaded {
        path: PathBuf,
        /// Unloading it would pull the floor from under libtorch.
        _library: Library,
    },
    /// It lies in none of the places where it may.
    NotInstalled,
    /// The file `path` is there and does not load.
    Unusable { path: PathBuf, problem: String },
}

impl Cuda {
    /// Loads it at the first call, which has to come before libtorch is asked for a GPU: libtorch looks for its CUDA half
    /// once. `cpu_half` is the folder that `libtorch_cpu.so` was loaded from.
    pub fn load(cpu_half: Option<&Path>) -> &'static Self {
        static CUDA: OnceLock<Cuda> = OnceLock::new();
        CUDA.get_or_init(|| cpu_half.and_then(find).map_or(Self::NotInstalled, Self::open))
    }

    fn open(path: PathBuf) -> Self {
        // SAFETY: libtorch's own library runs its initialisers, as it does where it is linked. It registers kernels with
        // the CPU half in this process, which the loader finds by its name; another version's symbols do not resolve,
        // which RTLD_NOW turns into an error here.
        #[allow(unsafe_code, reason = "the one library that is not linked")]
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
        match library {
            Ok(library) => Self::Loaded { path, _library: library },
            Err(error) => Self::Unusable { path, problem: error.to_string() },
        }
    }
}

fn find(cpu_half: &Path) -> Option<PathBuf> {
    PLACES.iter().map(|place| cpu_half.join(place).join(LIBRARY)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cuda_half_is_found_beside_the_cpu_half_and_where_setup_puts_it() {
        let folder = tempfile::tempdir().unwrap();
        let cpu_half = folder.path().join("lib");
        let installed = folder.path().join("cuda/torch/lib");
        std::fs::create_dir_all(&cpu_half).unwrap();
        std::fs::create_dir_all(&installed).unwrap();
        assert_eq!(find(&cpu_half), None);
        std::fs::write(installed.join(LIBRARY), "").unwrap();
        assert!(find(&cpu_half).unwrap().ends_with("cuda/torch/lib/libtorch_cuda.so"));
        std::fs::write(cpu_half.join(LIBRARY), "").unwrap();
        assert_eq!(find(&cpu_half), Some(cpu_half.join(LIBRARY)));
    }

    #[test]
    fn a_file_that_is_no_library_is_unusable_and_says_why() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let Cuda::Unusable { path, problem } = Cuda::open(file.path().to_owned()) else { panic!("it loads") };
        assert_eq!(path, file.path());
        assert!(problem.contains("too short"), "{problem}");
    }
}
