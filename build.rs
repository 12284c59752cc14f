//! Lets the binaries and tests find libtorch at run time without LD_LIBRARY_PATH.
//!
//! torch-sys links libtorch but its run path does not reach this package's executables.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(libtorch) = std::env::var("LIBTORCH") else {
        return;
    };
    match std::fs::canonicalize(&libtorch) {
        Ok(path) => println!("cargo:rustc-link-arg=-Wl,-rpath,{}/lib", path.display()),
        Err(error) => println!("cargo:warning=libtorch is not at {libtorch} ({error}): run scripts/setup.sh"),
    }
}
