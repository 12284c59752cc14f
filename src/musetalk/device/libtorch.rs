//! Which libtorch this process runs on, for `doctor`.
//!
//! In here: where the library was loaded from, its version, whether it has GPUs and if not why.
//! Not in here: choosing a device (`choice`).

use std::path::{Path, PathBuf};

use super::cuda::Cuda;

/// The libtorch in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// Folder the libraries were loaded from, where the system tells.
    pub folder: Option<PathBuf>,
    /// From the `build-version` file beside the libraries.
    pub version: Option<String>,
    /// Its CUDA half, if that was loaded.
    pub cuda: Option<PathBuf>,
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
        let cuda = if let Cuda::Loaded { path, .. } = cuda { Some(path.clone()) } else { None };
        Self { folder, version, cuda, gpus }
    }
}

/// Folder of `libtorch_cpu.so` in a list of memory mappings.
fn loaded_from(maps: &str) -> Option<PathBuf> {
    let library = maps.lines().find(|line| line.contains("/libtorch_cpu.so"))?;
    Path::new(&library[library.find('/')?..]).parent().map(Path::to_owned)
}

fn read_version(folder: &Path) -> Option<String> {
    let version = std::fs::read_to_string(folder.join("build-version")).ok()?;
    Some(version.trim().to_owned())
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
    fn the_reason_for_no_gpu_fits_what_is_there() {
        assert!(why_no_gpu(&Cuda::NotInstalled, true).contains("not installed, though"));
        assert!(why_no_gpu(&Cuda::NotInstalled, false).contains("no NVIDIA driver"));
        let unusable = Cuda::Unusable { path: "/a/libtorch_cuda.so".into(), problem: "is damaged".into() };
        assert_eq!(why_no_gpu(&unusable, true), "/a/libtorch_cuda.so does not load: is damaged");
        assert_eq!(loaded_from("7f00-7f01 r-xp 0000 fe:00 12 /a b/lib/libtorch_cpu.so\n"), Some("/a b/lib".into()));
        assert_eq!(loaded_from("7f00-7f01 r-xp 0000 fe:00 12 /lib/libc.so\n"), None);
    }
}
