//! The processes of this machine from `/proc`. Without `/proc`, no process is found.

use std::path::Path;

/// A process that was running when it was looked up. A later process with the same id is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    parent: u32,
    started: u64,
}

impl Running {
    /// Returns `None` if no such process exists, or only a zombie, which holds no port, file or memory.
    fn look_up(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses and may contain any text. Of the fields after it, the first is
        // the state, the second is the parent, and the 20th is the start time.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ended = matches!(*fields.first()?, "Z" | "X");
        (!ended).then_some(())?;
        Some(Self { pid, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
    }

    /// Whether the process is still running.
    pub(crate) fn is_running(&self) -> bool {
        Self::look_up(self.pid).is_some_and(|now| now.started == self.started)
    }
}

/// All processes.
fn all() -> Vec<Running> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Running::look_up(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    all().into_iter().filter(|process| process.parent == pid).map(|process| process.pid).collect()
}

/// The processes whose command line ends in these two arguments, with all of their descendants.
pub(crate) fn family(flag: &str, value: &Path) -> Vec<Running> {
    let wanted = format!("\0{flag}\0{}\0", value.display());
    let started_so = |process: &Running| {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        line.ends_with(wanted.as_bytes())
    };
    let (mut family, mut others): (Vec<_>, Vec<_>) = all().into_iter().partition(started_so);
    loop {
        let is_child = |other: &Running| family.iter().any(|known| known.pid == other.parent);
        let (children, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(is_child);
        if children.is_empty() {
            return family;
        }
        family.extend(children);
        others = rest;
    }
}
