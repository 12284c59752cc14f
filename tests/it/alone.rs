//! A test in a process of its own, for what all threads of a process share.

use std::process::Command;

/// Set in the process that a test starts for itself.
const ALONE: &str = "MOUTHPIECE_TEST_ALONE";

/// Runs this, which is all of the test of that name, where no other test runs.
#[allow(clippy::print_stderr, reason = "what the other process said is what a test says")]
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let mut own = Command::new(std::env::current_exe().unwrap());
    let ran = own.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    eprintln!("{}", said(&ran.stderr));
    assert!(ran.status.success() && said(&ran.stdout).contains(" 1 passed"), "{}", said(&ran.stdout));
}
