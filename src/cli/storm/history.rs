//! What was promised, written down outside the system that promised it: one line of JSON each,
//! forced to the disk before anything else happens.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// One thing that somebody was told, or that was done to the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Line {
    /// A store was answered 2xx.
    Webhook {
        /// Whose notification.
        source: String,
        /// By which the store knows it.
        id: String,
    },
    /// An app was told that a purchase is its account's.
    Bound {
        account: String,
        /// Original transaction id or purchase token.
        purchase: String,
        epoch: String,
        revision: i64,
    },
    /// A process was killed.
    Killed { victim: String },
}

/// An append-only file.
#[derive(Clone, Debug)]
pub(super) struct History {
    file: Arc<Mutex<Writer>>,
    path: PathBuf,
}

#[derive(Debug)]
struct Writer {
    file: File,
    lines: usize,
}

impl History {
    pub(super) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create_new(true).append(true).open(&path);
        let file = file.with_context(|| format!("{} cannot be written", path.display()))?;
        let writer = Writer { file, lines: 0 };
        Ok(Self {
            file: Arc::new(Mutex::new(writer)),
            path,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns once the line is on the disk.
    pub(super) async fn append(&self, line: Line) -> anyhow::Result<()> {
        let writer = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
            let text = serde_json::to_string(&line)? + "\n";
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.file.write_all(text.as_bytes())?;
            writer.file.sync_data()?;
            writer.lines += 1;
            Ok(())
        });
        written.await?.context("the history cannot be written")
    }

    /// Every line, read back from the disk. A history that cannot be read in full is an error,
    /// never an empty one.
    pub(super) fn read(&self) -> anyhow::Result<Vec<Line>> {
        let file = File::open(&self.path).context("the history cannot be read")?;
        let mut lines = Vec::new();
        for (number, text) in BufReader::new(file).lines().enumerate() {
            let line = serde_json::from_str(&text?)
                .with_context(|| format!("line {} of the history", number + 1))?;
            lines.push(line);
        }
        let written = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(
            lines.len() == written.lines,
            "the history has {} lines, {} were written",
            lines.len(),
            written.lines
        );
        Ok(lines)
    }
}
