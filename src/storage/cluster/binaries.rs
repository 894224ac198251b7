//! Finds the server's binaries: named, on the path, or where packages put them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::ClusterError;
use super::place::User;

/// Names the directory to use, before all others.
const VARIABLE: &str = "ENTITLED_PG_BIN";

/// Where Debian, the PostgreSQL project's RPMs, Homebrew and Postgres.app install versions side by
/// side; `*` is the part with the version.
const INSTALLED: [&str; 5] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/*/bin",
    "/opt/homebrew/opt/*/bin",
    "/usr/local/opt/*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// A directory with `initdb` and `postgres` of one version.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) directory: PathBuf,
}

/// The first directory that has both binaries and that `user` can read.
pub(super) fn find(user: Option<&User>) -> Result<Binaries, ClusterError> {
    let named = env::var_os(VARIABLE).filter(|value| !value.is_empty());
    let places = match &named {
        // Named outright: no silent fallback to another version.
        Some(directory) => vec![PathBuf::from(directory)],
        None => env::var_os("PATH")
            .iter()
            .flat_map(env::split_paths)
            .chain(installed())
            .collect(),
    };
    places
        .iter()
        .find_map(|place| complete(place, user))
        .map(|directory| Binaries { directory })
        .ok_or_else(|| ClusterError::NotInstalled(searched(named.is_some())))
}

/// The binaries of a distribution that was unpacked somewhere below `directory`.
#[cfg(feature = "pg-download")]
pub(super) fn below(directory: &Path, user: Option<&User>) -> Option<Binaries> {
    let versions = fs::read_dir(directory).into_iter().flatten().flatten();
    std::iter::once(directory.to_owned())
        .chain(versions.map(|entry| entry.path()))
        .find_map(|root| complete(&root.join("bin"), user))
        .map(|directory| Binaries { directory })
}

/// The real directory of `place`'s server, if `initdb` is there as well. Links are followed, since
/// the server looks for its other files next to itself.
fn complete(place: &Path, user: Option<&User>) -> Option<PathBuf> {
    let server = fs::canonicalize(place.join("postgres")).ok()?;
    let directory = server.parent()?;
    let usable =
        directory.join("initdb").is_file() && user.is_none_or(|user| user.can_enter(directory));
    usable.then(|| directory.to_owned())
}

/// What packages have installed, newest version first within each place.
fn installed() -> impl Iterator<Item = PathBuf> {
    INSTALLED.iter().flat_map(|pattern| {
        let (parent, child) = pattern.split_once('*').unwrap_or((pattern, ""));
        let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        found
            .into_iter()
            .map(move |(_, path)| path.join(child.trim_start_matches('/')))
    })
}

/// The major version in a directory's name: `17`, `pgsql-17`, `postgresql@17`. A bare `postgresql`
/// or `latest` counts as the oldest, so that a numbered one is preferred.
fn version(name: &str) -> Option<u32> {
    let rest = ["postgresql@", "pgsql-", "postgresql", "latest"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    if rest.is_empty() {
        return Some(0);
    }
    rest.split('.').next()?.parse().ok()
}

fn searched(named: bool) -> String {
    if named {
        return format!("{VARIABLE}, which must name a directory that the server's user can enter");
    }
    format!("{VARIABLE}, PATH, {}", INSTALLED.join(", "))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_directory_name_tells_its_major_version() {
        for (name, expected) in [
            ("17", Some(17)),
            ("9.6", Some(9)),
            ("postgresql@18", Some(18)),
            ("pgsql-16", Some(16)),
            ("postgresql", Some(0)),
            ("latest", Some(0)),
            ("postgresql-client", None),
            ("openssl@3", None),
            ("share", None),
        ] {
            assert_eq!(version(name), expected, "{name}");
        }
    }
}
