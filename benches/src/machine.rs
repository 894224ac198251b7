//! What the machine is, which cores a process may use, and what a process has cost so far.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;

/// The kernel's unit of CPU time in `/proc`: fixed at 100 Hz for user space on Linux.
const TICK: Duration = Duration::from_millis(10);
/// Servers run on the first core, load and simulated stores on the second.
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// CPU model, cores, memory, kernel.
pub(crate) fn line() -> anyhow::Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").context("this bench reads Linux's /proc")?;
    let model = value_of(&cpu, "model name").unwrap_or("unknown CPU");
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = value_of(&memory, "MemTotal")
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{cores} × {model}, {} GiB, Linux {}",
        kib.div_ceil(1 << 20),
        kernel.trim()
    ))
}

fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

/// One, five and fifteen minutes.
pub(crate) fn load_average() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text
        .split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" "))
}

/// Whether processes are kept apart on cores of their own, and how many cores there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pinning {
    cores: usize,
    possible: bool,
}

impl Pinning {
    /// Asks for two cores and `taskset`. Once: a process that is pinned already sees one core.
    pub(crate) fn detect() -> Self {
        static FOUND: OnceLock<Pinning> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let possible = cores >= 2 && Command::new("taskset").arg("--version").output().is_ok();
            Self { cores, possible }
        })
    }

    /// Keeps every thread of this process on the load's core; later threads and children inherit it.
    pub(crate) fn pin_load(self) -> anyhow::Result<()> {
        self.move_self(LOAD_CORE)
    }

    /// Lets this process run anywhere again.
    pub(crate) fn unpin(self) -> anyhow::Result<()> {
        self.move_self(&format!("0-{}", self.cores.saturating_sub(1)))
    }

    fn move_self(self, cores: &str) -> anyhow::Result<()> {
        if self.possible {
            let pid = std::process::id().to_string();
            let output = Command::new("taskset")
                .args(["-a", "-p", "-c", cores, &pid])
                .output()?;
            anyhow::ensure!(
                output.status.success(),
                "taskset refused to move this process"
            );
        }
        Ok(())
    }

    /// How a server is started: `taskset` becomes the program, so the process id stays.
    pub(crate) fn server(self, program: &Path) -> tokio::process::Command {
        if !self.possible {
            return tokio::process::Command::new(program);
        }
        let mut command = tokio::process::Command::new("taskset");
        command.args(["-c", SERVER_CORE]).arg(program);
        command
    }

    /// How a program that makes load is started.
    pub(crate) fn load(self, program: &Path) -> tokio::process::Command {
        if !self.possible {
            return tokio::process::Command::new(program);
        }
        let mut command = tokio::process::Command::new("taskset");
        command.args(["-c", LOAD_CORE]).arg(program);
        command
    }

    pub(crate) fn describe(self) -> String {
        match self.possible {
            true => format!(
                "servers on core {SERVER_CORE}, load and stores on core {LOAD_CORE}, Postgres free"
            ),
            false => "no pinning: figures of both sides depend on the scheduler".to_owned(),
        }
    }
}

/// User and system time of all threads of a process so far; whole ticks of 10 ms.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in brackets and may hold anything: count the fields behind it.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let ticks = |index: usize| -> anyhow::Result<u32> {
        Ok(fields
            .get(index)
            .context("a short /proc/PID/stat")?
            .parse()?)
    };
    Ok(TICK * (ticks(11)? + ticks(12)?))
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    value_of(&status, "VmRSS")
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .context("a process without memory")
}
