//! The host memory that this process can still allocate: the minimum of what the machine has
//! free and what the limits on the process leave.

use std::path::{Path, PathBuf};

use sysinfo::System;

/// Bytes of memory that this process can still allocate; `None` if the system does not report it.
pub fn free_host_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let machine = system.available_memory();
    let machine = (machine > 0).then_some(machine);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let in_groups = left_in_groups(&groups, Path::new("/sys/fs/cgroup"));
    [machine, in_groups, left_of_address_space()]
        .into_iter()
        .flatten()
        .min()
}

/// Bytes that the memory limits of the process's control groups leave it; containers and
/// services are such groups, with their parents. `groups` is the text of `/proc/self/cgroup`,
/// `root` the folder where the groups are mounted.
///
/// Source: cgroups(7); the kernel's `cgroup-v1/memory.rst` and `cgroup-v2.rst`.
fn left_in_groups(groups: &str, root: &Path) -> Option<u64> {
    let left = |group: &str| {
        let mut fields = group.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            left_up_to(root, path, "memory.max", "memory.current", "inactive_file")
        } else if controllers.split(',').any(|name| name == "memory") {
            left_up_to(
                &root.join("memory"),
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        } else {
            None
        }
    };
    groups.lines().filter_map(left).min()
}

/// The minimum of what a group and its parents leave. Cached pages of files that are not in use
/// count as free, because the kernel drops them first.
fn left_up_to(root: &Path, group: &str, limit: &str, usage: &str, droppable: &str) -> Option<u64> {
    let number =
        |file: PathBuf| -> Option<u64> { std::fs::read_to_string(file).ok()?.trim().parse().ok() };
    let left = |folder: &Path| {
        // No number means no limit: the file has the word `max` or does not exist.
        let limit = number(folder.join(limit))?;
        let usage = number(folder.join(usage))?;
        let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let droppable = stat.lines().find_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            (name == droppable).then(|| bytes.parse::<u64>().ok())?
        });
        let used = usage.saturating_sub(droppable.unwrap_or(0));
        Some(limit.saturating_sub(used))
    };
    // In a container the path is often the host's; then the container's own group is at the root.
    let own = root.join(group);
    own.ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(left)
        .min()
}

/// Bytes that the limit on the process's address space (`ulimit -v`) leaves it.
#[cfg(target_os = "linux")]
fn left_of_address_space() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call only fills `limit`.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    if asked != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))?;
    let kilobytes: u64 = size.trim().trim_end_matches(" kB").parse().ok()?;
    Some(limit.rlim_cur.saturating_sub(kilobytes << 10))
}

#[cfg(not(target_os = "linux"))]
fn left_of_address_space() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (file, text) in files {
            let file = root.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(free_host_memory().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_tightest_of_nested_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("a/memory.max", "1000\n"),
                ("a/memory.current", "700\n"),
                ("a/memory.stat", "anon 500\ninactive_file 150\n"),
                ("a/b/memory.max", "max\n"),
                ("a/b/memory.current", "100\n"),
                ("a/b/c/memory.max", "900\n"),
                ("a/b/c/memory.current", "300\n"),
            ],
        );
        let left = |groups| left_in_groups(groups, root.path());
        assert_eq!(left("0::/a/b/c\n"), Some(450));
        assert_eq!(left("0::/a/b\n"), Some(450));
        assert_eq!(left("0::/\n"), None);
        // The container's own group is mounted at the root, whatever its path on the host.
        write(
            root.path(),
            &[("memory.max", "500"), ("memory.current", "100")],
        );
        assert_eq!(left("0::/docker/0123\n"), Some(400));
    }

    #[test]
    fn groups_of_the_first_version_count_too() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("memory/x/memory.limit_in_bytes", "1000"),
                ("memory/x/memory.usage_in_bytes", "900"),
                ("memory/x/memory.stat", "total_inactive_file 300\n"),
            ],
        );
        let groups = "11:cpu,cpuacct:/y\n4:memory:/x\n";
        assert_eq!(left_in_groups(groups, root.path()), Some(400));
    }
}
