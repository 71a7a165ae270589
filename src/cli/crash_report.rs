//! What is kept of a panic: a file that is safe to share.
//!
//! Owns the reports under `<state dir>/crashes`, a bounded number of them. A report says where it happened, in which version, and by
//! which way; it never holds a record, a key, a setting, or a message that was put together from values, since these may be data.

use chrono::Utc;
use std::backtrace::Backtrace;
use std::fs;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::thread;

const REPORTS_MAX: usize = 20;

/// From here on each panic of this process leaves a report under `state_dir`. The log says where it is.
pub(super) fn install(state_dir: &Path) {
    let dir = state_dir.join("crashes");
    panic::set_hook(Box::new(move |panicked| {
        let place = panicked.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        match write(&dir, &report(panicked, &Backtrace::force_capture())) {
            Ok(path) => tracing::error!(at = place, report = %path.display(), "a panic; the report is safe to share"),
            Err(error) => tracing::error!(at = place, %error, "a panic, and its report cannot be written"),
        }
    }));
}

fn report(panicked: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    // Only a text that was written down in the source can hold no data.
    let message = panicked.payload().downcast_ref::<&'static str>().copied();
    let rows = [
        ("smartrouter", env!("CARGO_PKG_VERSION").to_owned()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("time", Utc::now().to_rfc3339()),
        ("thread", thread::current().name().unwrap_or("unnamed").to_owned()),
        ("at", panicked.location().map_or_else(|| "unknown".to_owned(), ToString::to_string)),
        ("message", message.unwrap_or("left out, it may hold data").to_owned()),
    ];
    let head = rows.map(|(name, value)| format!("{name:<12}{value}"));
    format!("{}\n\n{backtrace}\n", head.join("\n"))
}

fn write(dir: &Path, text: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let mut kept: Vec<PathBuf> = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    kept.sort();
    // Names begin with their time: the oldest comes first.
    for old in kept.iter().take((kept.len() + 1).saturating_sub(REPORTS_MAX)) {
        fs::remove_file(old)?;
    }
    let path = dir.join(format!("{}.txt", Utc::now().format("%Y%m%dT%H%M%S%.6fZ")));
    fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static HOOK: Mutex<()> = Mutex::new(());

    fn report_of(panics: impl FnOnce() + panic::UnwindSafe) -> String {
        let _one_at_a_time = HOOK.lock();
        let dir = tempfile::tempdir().unwrap();
        let before = panic::take_hook();
        install(dir.path());
        assert!(panic::catch_unwind(panics).is_err());
        panic::set_hook(before);
        let files: Vec<_> = fs::read_dir(dir.path().join("crashes")).unwrap().collect();
        assert_eq!(files.len(), 1);
        fs::read_to_string(files[0].as_ref().unwrap().path()).unwrap()
    }

    #[test]
    fn a_report_tells_the_place_and_no_data() {
        let report = report_of(|| panic!("a rule of the engine was broken"));
        assert!(report.contains("a rule of the engine was broken") && report.contains("crash_report.rs:"), "{report}");
        let customer = String::from("customer-4711");
        let report = report_of(move || panic!("no such customer: {customer}"));
        assert!(!report.contains("4711") && report.contains("left out"), "{report}");
    }

    #[test]
    fn the_oldest_reports_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<PathBuf> = (0..REPORTS_MAX + 5).map(|n| write(dir.path(), &n.to_string()).unwrap()).collect();
        let left: Vec<bool> = all.iter().map(|path| path.exists()).collect();
        assert_eq!(left.iter().filter(|there| **there).count(), REPORTS_MAX);
        assert!(left[5..].iter().all(|there| *there));
    }
}
