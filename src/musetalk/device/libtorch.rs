//! Which libtorch this process runs on, for `doctor`.
//!
//! In here: where the library was loaded from, its version, whether it has GPUs and if not why.
//! Not in here: choosing a device (`choice`).

use std::path::{Path, PathBuf};

use super::cuda::Cuda;
use crate::musetalk::gpu::shim::Shim;

/// The libtorch in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// Folder the libraries were loaded from, where the system tells.
    pub folder: Option<PathBuf>,
    /// From the `build-version` file beside the libraries.
    pub version: Option<String>,
    /// Its CUDA half, if that was loaded.
    pub cuda: Option<PathBuf>,
    /// Whether work can be captured as CUDA graphs, or why not.
    pub graphs: Result<(), String>,
    /// GPUs it can use, or why there are none.
    pub gpus: Result<usize, String>,
}

impl Libtorch {
    /// Loads the CUDA half if that is installed, then looks what there is.
    pub fn in_use() -> Self {
        // The tool that says what is wrong must not trust LIBTORCH: it was for building, the loader decides.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let folder = loaded_from(&maps);
        let version = folder.as_deref().and_then(Path::parent).and_then(read_version);
        let cuda = Cuda::load(folder.as_deref());
        let count = if tch::Cuda::is_available() { usize::try_from(tch::Cuda::device_count()).unwrap_or(0) } else { 0 };
        let gpus = match count {
            0 => Err(why_no_gpu(cuda, Path::new("/proc/driver/nvidia/version").exists())),
            count => Ok(count),
        };
        let graphs = match cuda {
            Cuda::Loaded { path, .. } => {
                let half = path.parent().unwrap_or(Path::new(""));
                Shim::load(half, version.as_deref()).map(|_| ()).map_err(|error| error.to_string())
            }
            Cuda::NotInstalled | Cuda::Unusable { .. } => Err("libtorch's CUDA half is not loaded".to_owned()),
        };
        let cuda = if let Cuda::Loaded { path, .. } = cuda { Some(path.clone()) } else { None };
        Self { folder, version, cuda, graphs, gpus }
    }
}

/// Folder of `libtorch_cpu.so` in a list of memory mappings.
fn loaded_from(maps: &str) -> Option<PathBuf> {
    let library = maps.lines().find(|line| line.contains("/libtorch_cpu.so"))?;
    Path::new(&library[library.find('/')?..]).parent().map(Path::to_owned)
}

/// From the file that a libtorch has, or the one that a whole PyTorch has in its place.
fn read_version(folder: &Path) -> Option<String> {
    if let Ok(version) = std::fs::read_to_string(folder.join("build-version")) {
        return Some(version.trim().to_owned());
    }
    let python = std::fs::read_to_string(folder.join("version.py")).ok()?;
    let version = python.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(version.trim_matches(['\'', '"']).to_owned())
}

fn why_no_gpu(cuda: &Cuda, has_driver: bool) -> String {
    match (cuda, has_driver) {
        (Cuda::NotInstalled, true) => {
            "libtorch's CUDA half is not installed, though there is an NVIDIA driver".to_owned()
        }
        (Cuda::NotInstalled, false) => {
            "libtorch's CUDA half is not installed, and there is no NVIDIA driver".to_owned()
        }
        (Cuda::Unusable { path, problem }, _) => format!("{} does not load: {problem}", path.display()),
        (Cuda::Loaded { .. }, false) => "libtorch's CUDA half is loaded, but there is no NVIDIA driver".to_owned(),
        (Cuda::Loaded { .. }, true) => {
            "libtorch's CUDA half finds no GPU it can use, though there is a driver".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_in_use_is_found() {
        // Something of libtorch must run for the linker to keep it in this binary.
        assert!(tch::get_num_threads() > 0);
        let libtorch = Libtorch::in_use();
        assert!(libtorch.folder.unwrap().join("libtorch_cpu.so").exists());
        assert!(libtorch.version.unwrap().starts_with("2."));
    }

    #[test]
    fn the_version_is_read_of_a_libtorch_and_of_a_whole_pytorch() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_version(folder.path()), None);
        let python = "from typing import Optional\n__version__ = '2.11.0+cu130'\ndebug = False\n";
        std::fs::write(folder.path().join("version.py"), python).unwrap();
        assert_eq!(read_version(folder.path()).as_deref(), Some("2.11.0+cu130"));
        std::fs::write(folder.path().join("build-version"), "2.11.0\n").unwrap();
        assert_eq!(read_version(folder.path()).as_deref(), Some("2.11.0"));
    }

    #[test]
    fn the_reason_for_no_gpu_fits_what_is_there() {
        assert!(why_no_gpu(&Cuda::NotInstalled, true).contains("not installed, though"));
        assert!(why_no_gpu(&Cuda::NotInstalled, false).contains("no NVIDIA driver"));
        let unusable = Cuda::Unusable { path: "/a/libtorch_cuda.so".into(), problem: "is damaged".into() };
        assert_eq!(why_no_gpu(&unusable, true), "/a/libtorch_cuda.so does not load: is damaged");
        assert_eq!(loaded_from("7f00-7f01 r-xp 0000 fe:00 12 /a b/lib/libtorch_cpu.so\n"), Some("/a b/lib".into()));
        assert_eq!(loaded_from("7f00-7f01 r-xp 0000 fe:00 12 /lib/libc.so\n"), None);
    }
}
