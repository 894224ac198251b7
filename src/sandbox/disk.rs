//! JSON files in the state directory: private to their owner, replaced whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::SandboxError;

/// The file's content, or `None` where there is no such file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SandboxError> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|cause| SandboxError::Corrupt {
                    file: path.display().to_string(),
                    cause,
                })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SandboxError::Storage(error)),
    }
}

/// Takes the directory for one simulator; it is free again when the file is closed, or its process
/// ends.
pub(super) fn lock(dir: &Path) -> Result<fs::File, SandboxError> {
    fs::create_dir_all(dir).map_err(SandboxError::Storage)?;
    let file = fs::File::create(dir.join("lock")).map_err(SandboxError::Storage)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(SandboxError::InUse(dir.display().to_string())),
        Err(fs::TryLockError::Error(error)) => Err(SandboxError::Storage(error)),
    }
}

/// Writes beside the file and renames over it: a killed process leaves the old content or the new.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), SandboxError> {
    let bytes = serde_json::to_vec(value).map_err(SandboxError::Encode)?;
    replace(path, &bytes).map_err(SandboxError::Storage)
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let draft = path.with_extension("tmp");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(bytes)?;
    fs::rename(&draft, path)
}
