//! The processor time and the memory of processes from `/proc`, at one time and over time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The interval of samples during a run.
const SAMPLE: Duration = Duration::from_millis(500);
/// Linux has always exposed a hundred ticks per second.
const TICK: f64 = 0.01;

/// A watched process with all processes of its process group.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// The name in the figures.
    pub(crate) name: String,
    /// The process id, which is also the id of its process group.
    pub(crate) pid: u32,
}

/// The usage of some processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Seconds of processor time since their start.
    pub(crate) cpu_s: f64,
    /// Resident memory, in MB.
    pub(crate) rss_mb: f64,
}

/// The usage of each process so far.
pub(crate) fn now(processes: &[Watched]) -> BTreeMap<String, Usage> {
    let groups = groups();
    let usage = |process: &Watched| {
        let mut sum = Usage::default();
        for (pid, stat) in groups.iter().filter(|(pid, stat)| stat.group == process.pid || *pid == process.pid) {
            sum.cpu_s += stat.cpu_s;
            sum.rss_mb += resident(*pid).unwrap_or_default();
        }
        sum
    };
    processes.iter().map(|process| (process.name.clone(), usage(process))).collect()
}

/// This process.
pub(crate) fn own() -> Watched {
    Watched { name: "bench".to_owned(), pid: std::process::id() }
}

#[derive(Debug, PartialEq)]
struct Stat {
    group: u32,
    cpu_s: f64,
}

fn groups() -> Vec<(u32, Stat)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, Stat::read(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

impl Stat {
    /// The second field is the name in parentheses and may contain any text. After it, the group is the third field,
    /// and user and system time are the 12th and the 13th.
    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self { group: fields.get(2)?.parse().ok()?, cpu_s: ticks as f64 * TICK })
    }
}

fn resident(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<f64>().ok()? * 1024.0 / 1e6)
}

/// Usage over time, from [`Sampler::begin`] until [`Sampler::end`].
pub(crate) struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: tokio::task::JoinHandle<()>,
}

/// The usage at one time.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Seconds since the sampler began.
    pub(crate) at: f64,
    /// The usage by process.
    pub(crate) usage: BTreeMap<String, Usage>,
}

impl Sampler {
    /// Takes the first sample at once, and then two per second.
    pub(crate) fn begin(processes: Vec<Watched>) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&samples);
        let task = tokio::spawn(async move {
            let began = Instant::now();
            loop {
                let sample = Sample { at: began.elapsed().as_secs_f64(), usage: now(&processes) };
                into.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                tokio::time::sleep(SAMPLE).await;
            }
        });
        Self { samples, task }
    }

    /// All samples.
    pub(crate) fn end(self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The highest memory of a process in some samples.
pub(crate) fn peak(samples: &[Sample], name: &str) -> Option<f64> {
    samples.iter().filter_map(|sample| sample.usage.get(name)).map(|usage| usage.rss_mb).reduce(f64::max)
}

/// The processor time between two readings, by process.
pub(crate) fn spent(before: &BTreeMap<String, Usage>, after: &BTreeMap<String, Usage>) -> BTreeMap<String, f64> {
    let spent = |name: &String, now: &Usage| (now.cpu_s - before.get(name).copied().unwrap_or_default().cpu_s).max(0.0);
    after.iter().map(|(name, now)| (name.clone(), spent(name, now))).collect()
}

/// The number of processors and the memory of this machine, for comparisons of figures.
pub(crate) fn machine() -> Result<(usize, u64)> {
    let cores = std::thread::available_parallelism().context("counting processors")?.get();
    let memory = std::fs::read_to_string("/proc/meminfo").context("reading the machine's memory")?;
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("the machine's memory")?.trim().parse().context("the machine's memory")?;
    Ok((cores, (kib + (1 << 19)) >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_after_the_name_whatever_that_is() {
        let line = "77 (a) b (c)) S 1 70 70 0 -1 4194560 9 0 0 0 250 50 7 7 20 0 9 0 100 1000 200";
        assert_eq!(Stat::read(line), Some(Stat { group: 70, cpu_s: 3.0 }));
        assert_eq!(Stat::read("77 (a) S 1"), None);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let before = now(&[own()]);
        let began = Instant::now();
        let mut after = now(&[own()]);
        // On a busy machine this process gets a part of a processor only.
        while spent(&before, &after)["bench"] < 0.04 && began.elapsed() < Duration::from_secs(60) {
            after = now(&[own()]);
        }
        assert!(after["bench"].rss_mb > 1.0, "{after:?}");
        assert!(spent(&before, &after)["bench"] >= 0.04, "{before:?} {after:?}");
    }

    #[test]
    fn the_peak_is_the_most_of_any_moment() {
        let sample = |at: f64, rss_mb| Sample {
            at,
            usage: BTreeMap::from([("operator".to_owned(), Usage { cpu_s: 0.0, rss_mb })]),
        };
        let samples = [sample(0.0, 40.0), sample(0.5, 90.0), sample(1.0, 60.0)];
        assert_eq!(peak(&samples, "operator"), Some(90.0));
        assert_eq!(peak(&samples, "other"), None);
    }
}
