//! The engine as a process of its own: `run` of this same binary, with the means to end it and to ask the system what it used.
//!
//! Owns the process and its local state. Never looks into its log but to quote the end of it when it died.

use super::bed::Bed;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) struct Engine {
    child: Child,
    log_file: PathBuf,
    pub(super) started: Instant,
}

/// Ticks of a second in `/proc/PID/stat`: the same on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;
const STOP_WAIT: Duration = Duration::from_secs(40);

impl Engine {
    /// Starts it on the bed's topics, with whatever local state is there.
    pub(super) fn start(bed: &Bed) -> Result<Self> {
        fs::create_dir_all(&bed.state_dir)?;
        let log_file = bed.state_dir.join("engine.log");
        let log = File::options().create(true).append(true).open(&log_file)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&bed.flags).arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        let child = command.spawn().context("the engine cannot be started")?;
        Ok(Self { child, log_file, started })
    }

    /// An error with the end of its log when it is not running any more.
    pub(super) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let text = fs::read_to_string(&self.log_file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        bail!("the engine ended ({status}): {}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }

    /// User and system seconds of all its threads.
    pub(super) fn cpu_s(&self) -> Result<f64> {
        cpu_s(&self.child.id().to_string())
    }

    pub(super) fn rss_peak_mib(&self) -> Result<f64> {
        rss_peak_mib(&self.child.id().to_string())
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and waits.
    pub(super) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().context("no `kill`")?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_WAIT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the engine did not stop within {} s: {}", STOP_WAIT.as_secs(), self.log_file.display());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Already ended, or to be ended: either way there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `pid`: a number, or `self`.
pub(super) fn cpu_s(pid: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("{path}: measuring needs Linux"))?;
    // The name of the program, in brackets, may hold spaces; user and system time are the 12th and 13th field behind it.
    let behind = text.rsplit_once(") ").map_or("", |(_, behind)| behind);
    let ticks = behind.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
    Ok(ticks / TICKS_PER_SECOND)
}

pub(super) fn rss_peak_mib(pid: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} has no VmHWM"))? / 1_024.0)
}

/// CPU-seconds of the calling thread.
pub(super) fn thread_cpu_s() -> Result<f64> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).with_context(|| format!("{path}: measuring needs Linux"))?;
    let ns = text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok());
    Ok(ns.with_context(|| format!("{path} is not understood"))? / 1e9)
}
