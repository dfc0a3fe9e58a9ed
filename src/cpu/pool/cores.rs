//! How many threads compute well: one for each core that is neither slow nor taken, as Linux tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Processors of the largest systems; what a list names beyond is no processor.
const MAX_CPUS: usize = 1 << 16;

/// Physical performance cores that this process may use, below `root`, which is `/` but in tests; `None` where the
/// system does not tell.
///
/// A core is what shares its execution units: one of its hardware threads counts. On hybrids slow cores are left out
/// as long as fast ones are allowed: every step of a token waits for its last chunk.
pub(super) fn performance_cores(root: &Path) -> Option<usize> {
    let cpus = root.join("sys/devices/system/cpu");
    let core_of = |cpu: &usize| {
        let topology = cpus.join(format!("cpu{cpu}/topology"));
        let siblings = ["core_cpus_list", "thread_siblings_list"].iter();
        siblings
            .filter_map(|name| fs::read_to_string(topology.join(name)).ok())
            .find_map(|text| list(&text).pop_first())
    };
    let allowed: BTreeSet<usize> = allowed(root).unwrap_or_else(|| numbered(&cpus));
    let fast = fast(root, &cpus, &allowed);
    let usable = if fast.is_empty() { &allowed } else { &fast };
    let cores: BTreeSet<usize> = usable.iter().filter_map(core_of).collect();
    (!cores.is_empty()).then_some(cores.len())
}

/// Processors that the scheduler may put this process on.
fn allowed(root: &Path) -> Option<BTreeSet<usize>> {
    let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let cpus = list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?);
    (!cpus.is_empty()).then_some(cpus)
}

/// All processors that have a folder.
fn numbered(cpus: &Path) -> BTreeSet<usize> {
    let entries = fs::read_dir(cpus).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.strip_prefix("cpu")?.parse().ok()).collect()
}

/// The fast ones where there are slow ones: Intel's hybrids list them, Arm systems give each a capacity.
fn fast(root: &Path, cpus: &Path, allowed: &BTreeSet<usize>) -> BTreeSet<usize> {
    if let Ok(text) = fs::read_to_string(root.join("sys/devices/cpu_core/cpus")) {
        return list(&text).intersection(allowed).copied().collect();
    }
    let capacity = |cpu: &usize| -> Option<u32> {
        fs::read_to_string(cpus.join(format!("cpu{cpu}/cpu_capacity"))).ok()?.trim().parse().ok()
    };
    let most = allowed.iter().filter_map(capacity).max().unwrap_or(0);
    // Middle cores of Arm systems have two thirds of the greatest capacity and more, small ones a third and less.
    allowed.iter().copied().filter(|cpu| capacity(cpu).is_some_and(|c| c >= most.div_ceil(2))).collect()
}

/// Numbers as the kernel writes them: `0-3,8,10-11`.
fn list(text: &str) -> BTreeSet<usize> {
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            numbers.extend(first..=last.min(MAX_CPUS));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A tree of files as Linux has them, gone at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("tealight-cores-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            Self(root)
        }

        fn with(self, path: &str, text: &str) -> Self {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
            self
        }

        /// Processors by the list of those that share their core.
        fn cpus(self, siblings: &[&str]) -> Self {
            siblings.iter().enumerate().fold(self, |tree, (i, list)| {
                tree.with(&format!("sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list"), list)
            })
        }

        fn allowed(self, list: &str) -> Self {
            self.with("proc/self/status", &format!("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{list}"))
        }

        fn capacities(self, capacities: &[u32]) -> Self {
            capacities.iter().enumerate().fold(self, |tree, (i, c)| {
                tree.with(&format!("sys/devices/system/cpu/cpu{i}/cpu_capacity"), &c.to_string())
            })
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_core_counts_once_and_only_where_the_process_may_run() {
        let smt = |name| Tree::new(name).cpus(&["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"]);
        assert_eq!(performance_cores(&smt("plain").0), Some(4));
        assert_eq!(performance_cores(&smt("all").allowed("0-7").0), Some(4));
        // Two threads of one core, and one of another.
        assert_eq!(performance_cores(&smt("some").allowed("0,4,6").0), Some(2));
        assert_eq!(performance_cores(&Tree::new("one").cpus(&["0"]).allowed("0").0), Some(1));
        // The newer name of the same list, and folders that are no processors.
        let newer = Tree::new("newer")
            .with("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0-1")
            .with("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "0-1")
            .with("sys/devices/system/cpu/cpufreq/policy0", "")
            .with("sys/devices/system/cpu/cpuidle/current_driver", "none");
        assert_eq!(performance_cores(&newer.0), Some(1));
    }

    #[test]
    fn slow_cores_are_left_out_while_fast_ones_are_allowed() {
        // Two fast cores of two threads, four slow ones.
        let intel = |name| {
            let tree = Tree::new(name).cpus(&["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"]);
            tree.with("sys/devices/cpu_core/cpus", "0-3").with("sys/devices/cpu_atom/cpus", "4-7")
        };
        assert_eq!(performance_cores(&intel("hybrid").allowed("0-7").0), Some(2));
        assert_eq!(performance_cores(&intel("slow").allowed("4-6").0), Some(3));
        let arm = |name| {
            let tree = Tree::new(name).cpus(&["0", "1", "2", "3", "4", "5"]);
            tree.capacities(&[250, 250, 250, 760, 760, 1024])
        };
        assert_eq!(performance_cores(&arm("arm").allowed("0-5").0), Some(3));
        assert_eq!(performance_cores(&arm("little").allowed("0-1").0), Some(2));
    }

    #[test]
    fn a_system_that_tells_nothing_or_nonsense_is_no_error() {
        assert_eq!(performance_cores(&Tree::new("nothing").0), None);
        assert_eq!(performance_cores(&Tree::new("odd").cpus(&["?", ""]).allowed("x-").0), None);
        assert_eq!(list("0-2,5, 7-8,9-4,x"), BTreeSet::from([0, 1, 2, 5, 7, 8]));
        assert_eq!(list("3-99999999999").last(), Some(&MAX_CPUS));
    }
}
