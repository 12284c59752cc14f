//! How many descriptors and threads this process has and may have, as the system says.
//!
//! In here: limits of the process, of its user, of its control groups (a container's `pids.max`, of both versions) and of the
//! kernel. Not in here: what is done with what is left (`budget`). Runs on: any thread; reads small files of `/proc`.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More are of no use, and some programs that we start count through all that they may have.
const MOST_DESCRIPTORS: u64 = 65_536;

/// Capabilities whose holders are not held to a number of threads (capabilities(7)): CAP_SYS_ADMIN, CAP_SYS_RESOURCE.
const UNHELD: u64 = 1 << 21 | 1 << 24;

/// What is used of something, and all there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) used: usize,
    pub(crate) most: usize,
    /// What says so.
    pub(crate) by: String,
}

impl Usage {
    pub(crate) fn left(&self) -> usize {
        self.most.saturating_sub(self.used)
    }
}

/// Raises the limit of open descriptors to what the system allows this process to raise it to.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of descriptors stays as it is");
        }
    }
}

/// What limits the descriptors and threads of this process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessLimits {
    root: PathBuf,
    /// A setting's own limit of threads.
    max_threads: Option<usize>,
    /// Of `RLIMIT_NPROC`, and how many threads of this user other processes have; `None` if it does not hold.
    of_user: Option<(usize, usize)>,
}

impl ProcessLimits {
    /// Counts the user's threads once, since that looks at every process.
    pub(crate) fn find(max_threads: Option<usize>) -> Self {
        let limit = getrlimit(Resource::Nproc).current.and_then(|limit| usize::try_from(limit).ok());
        Self::at(Path::new("/"), max_threads, limit)
    }

    fn at(root: &Path, max_threads: Option<usize>, of_user: Option<usize>) -> Self {
        let mut limits = Self { root: root.to_owned(), max_threads, of_user: None };
        let status = limits.read("proc/self/status");
        let capabilities = field(&status, "CapEff:").and_then(|value| u64::from_str_radix(value, 16).ok());
        let held = capabilities.is_none_or(|capabilities| capabilities & UNHELD == 0);
        limits.of_user = of_user.filter(|_| held).map(|limit| (limit, limits.threads_of_others(&status)));
        limits
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    fn threads_of_others(&self, own: &str) -> usize {
        let user = field(own, "Uid:");
        let processes = std::fs::read_dir(self.root.join("proc")).into_iter().flatten().flatten();
        let numbered =
            processes.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
        let threads = numbered.filter_map(|entry| {
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            (field(&status, "Uid:") == user && field(&status, "Pid:") != field(own, "Pid:")).then(|| threads(&status))
        });
        threads.sum()
    }

    pub(crate) fn descriptors(&self) -> Usage {
        let most = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
        let open = std::fs::read_dir(self.root.join("proc/self/fd")).map_or(0, |open| open.count().saturating_sub(1));
        Usage { used: open, most: most.unwrap_or(usize::MAX), by: "ulimit -n".to_owned() }
    }

    /// Of whatever limits threads, what leaves the fewest.
    pub(crate) fn threads(&self) -> Usage {
        let own = threads(&self.read("proc/self/status"));
        let left = |most: usize, used: usize, by: String| (most.saturating_sub(used), by);
        let setting = self.max_threads.map(|most| left(most, own, "max_threads".to_owned()));
        let of_user = self.of_user.map(|(most, others)| left(most, others + own, "ulimit -u".to_owned()));
        let of_kernel = self.of_kernel().map(|(most, used)| left(most, used, "kernel.threads-max".to_owned()));
        let all = setting.into_iter().chain(of_user).chain(of_kernel).chain(self.of_groups());
        match all.min_by_key(|(left, _)| *left) {
            Some((left, by)) => Usage { used: own, most: own + left, by },
            None => Usage { used: own, most: usize::MAX, by: "nothing".to_owned() },
        }
    }

    fn of_kernel(&self) -> Option<(usize, usize)> {
        let most = self.read("proc/sys/kernel/threads-max").trim().parse().ok()?;
        let load = self.read("proc/loadavg");
        let used = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
        Some((most, used))
    }

    /// This process' control groups and those around them, each of which may limit it.
    fn of_groups(&self) -> Vec<(usize, String)> {
        let groups = self.read("proc/self/cgroup");
        let mut found = Vec::new();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let mount = match (number, controllers) {
                ("0", "") => "sys/fs/cgroup",
                (_, controllers) if controllers.split(',').any(|one| one == "pids") => "sys/fs/cgroup/pids",
                _ => continue,
            };
            // A container may see the path that its host has, which is not there inside it: then its own is at the top.
            for group in Path::new(path.trim_start_matches('/')).ancestors() {
                let file =
                    |name: &str| self.read(&format!("{mount}/{}/{name}", group.display())).trim().parse::<usize>().ok();
                if let (Some(most), Some(used)) = (file("pids.max"), file("pids.current")) {
                    found.push((most.saturating_sub(used), "pids.max".to_owned()));
                }
            }
        }
        found
    }
}

/// The first word behind a name in `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

fn threads(status: &str) -> usize {
    field(status, "Threads:").and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str =
        "Name:\tmouthpiece\nPid:\t7\nUid:\t1000\t1000\t1000\t1000\nThreads:\t20\nCapEff:\t0000000000000000\n";

    /// Threads of a system that consists of these files: their paths and texts.
    fn threads_of(files: &[(&str, &str)], max_threads: Option<usize>, of_user: Option<usize>) -> Usage {
        let root = tempfile::tempdir().unwrap();
        let usual = [("proc/self/status", OWN), ("proc/7/status", OWN), ("proc/loadavg", "0.1 0.1 0.1 2/300 99\n")];
        for (path, text) in usual.iter().chain(files) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        ProcessLimits::at(root.path(), max_threads, of_user).threads()
    }

    fn left(most: usize, by: &str) -> Usage {
        Usage { used: 20, most: most + 20, by: by.to_owned() }
    }

    #[test]
    fn whatever_leaves_the_fewest_threads_is_the_limit() {
        let kernel = ("proc/sys/kernel/threads-max", "1000\n");
        assert_eq!(threads_of(&[], None, None), Usage { used: 20, most: usize::MAX, by: "nothing".into() });
        assert_eq!(threads_of(&[kernel], None, None), left(700, "kernel.threads-max"));
        assert_eq!(threads_of(&[kernel], Some(100), None), left(80, "max_threads"));
        assert_eq!(threads_of(&[kernel], Some(10), None), left(0, "max_threads"));
    }

    #[test]
    fn a_containers_limit_is_found_in_both_versions_and_wherever_it_stands() {
        let v2 = ("proc/self/cgroup", "0::/box/inner\n");
        let outer = [("sys/fs/cgroup/box/pids.max", "64\n"), ("sys/fs/cgroup/box/pids.current", "30\n")];
        let inner = [("sys/fs/cgroup/box/inner/pids.max", "max\n"), ("sys/fs/cgroup/box/inner/pids.current", "25\n")];
        assert_eq!(threads_of(&[&[v2], &outer[..], &inner].concat(), None, None), left(34, "pids.max"));
        let v1 = ("proc/self/cgroup", "9:cpu:/\n8:pids,misc:/docker/abc\n0::/\n");
        let top = [("sys/fs/cgroup/pids/pids.max", "50\n"), ("sys/fs/cgroup/pids/pids.current", "22\n")];
        assert_eq!(threads_of(&[&[v1], &top[..]].concat(), None, None), left(28, "pids.max"));
    }

    #[test]
    fn a_users_limit_counts_all_processes_of_the_user_and_holds_nobody_who_may_do_all() {
        let other = OWN.replace("Pid:\t7", "Pid:\t8").replace("Threads:\t20", "Threads:\t5");
        let of_another = other.replace("1000", "1001");
        let files = [("proc/8/status", other.as_str()), ("proc/9/status", &of_another)];
        assert_eq!(threads_of(&files, None, Some(40)), left(15, "ulimit -u"));
        let root = OWN.replace("CapEff:\t0000000000000000", "CapEff:\t000001ffffffffff");
        assert_eq!(threads_of(&[("proc/self/status", &root)], None, Some(40)).by, "nothing");
    }

    #[test]
    fn this_very_process_has_descriptors_and_threads() {
        let limits = ProcessLimits::find(None);
        let (descriptors, threads) = (limits.descriptors(), limits.threads());
        assert!(descriptors.used >= 3 && descriptors.left() > 0, "{descriptors:?}");
        assert!(threads.used >= 1 && threads.left() > 0, "{threads:?}");
    }
}
