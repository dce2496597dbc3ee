//! The memory that the process's container has, and how much of it is for large messages.

use std::fs;
use std::path::Path;

use chaperone_sql::Room;

/// What an idle sidecar and the small buffers of its sessions take, in bytes.
const BESIDE: u64 = (64 << 20) - Room::OF_64_MIB as u64;
/// Room for a message in any container, however small.
const LEAST: u64 = 4 << 20;
/// Room for the longest message of a server, as often as it is there at a time.
const MOST: u64 = 320 << 20;

/// Tells how much large messages and statements may take together.
pub(crate) fn provide_room() {
    let limit = limit(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"));
    let room = room(limit);
    if let Some(limit) = limit {
        tracing::debug!(limit, room, "memory for large messages");
    }
    Room::provide(usize::try_from(room).unwrap_or(Room::OF_64_MIB));
}

fn room(limit: Option<u64>) -> u64 {
    limit.map_or(MOST, |limit| {
        limit.saturating_sub(BESIDE).clamp(LEAST, MOST)
    })
}

/// The least limit of the process's control group and those above it, in bytes; none without one
/// (Linux, cgroup-v2.rst, "memory.max"; cgroup-v1/memory.rst, "memory.limit_in_bytes"). In a
/// container the group is the root of what it sees, whatever path the kernel names.
fn limit(mounted: &Path, groups: &Path) -> Option<u64> {
    let groups = fs::read_to_string(groups).unwrap_or_default();
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        // hierarchy-ID:controllers:path (cgroups(7), /proc/pid/cgroup)
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            list if list.split(',').any(|one| one == "memory") => {
                (mounted.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            // "max" is no number, and no limit.
            let value = fs::read_to_string(root.join(group).join(file)).unwrap_or_default();
            if let Ok(value) = value.trim().parse::<u64>() {
                least = Some(least.map_or(value, |least| least.min(value)));
            }
        }
    }
    least
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn room_follows_the_limit_of_the_container() {
        assert_eq!(room(Some(64 << 20)), Room::OF_64_MIB as u64);
        assert_eq!(room(Some(16 << 20)), LEAST);
        assert_eq!(room(Some(128 << 20)), (128 << 20) - BESIDE);
        assert_eq!(room(Some(u64::MAX)), MOST);
        assert_eq!(room(None), MOST);
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| {
            write("groups", groups);
            limit(root.path(), &root.path().join("groups"))
        };
        assert_eq!(limit("0::/pods/one\n"), None);
        write("memory.max", "max\n");
        write("pods/memory.max", "1000\n");
        write("pods/one/memory.max", "2000\n");
        assert_eq!(limit("0::/pods/one\n"), Some(1000));
        assert_eq!(limit("0::/\n"), None);
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/a/b/memory.limit_in_bytes", "3000\n");
        assert_eq!(
            limit("5:cpu,cpuacct:/a/b\n4:hugetlb,memory:/a/b\n"),
            Some(3000)
        );
        // A container sees its own group as the root.
        write("memory/memory.limit_in_bytes", "4000\n");
        assert_eq!(limit("4:memory:/kubepods/pod1/c1\n"), Some(4000));
        assert_eq!(limit(""), None);
    }
}
