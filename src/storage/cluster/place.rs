//! Where a cluster's files live, whose they are, and which of them a dead run left over.
//!
//! A cluster's directory holds `data` and `server.log`. The log doubles as the lock of the
//! directory: supervisor and server write to the very file that was locked here, so the lock is
//! held for as long as any of them lives, and by nobody else. That needs no process ids, which the
//! system gives out again and which mean nothing across containers.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{ClusterError, DataDir};

/// Starts the name of every ephemeral directory; only such directories are ever swept.
const PREFIX: &str = "entitled-pg-";
const LOG: &str = "server.log";
/// Where root keeps persistent clusters whose own directory the server's user cannot reach.
const FALLBACK: &str = "/var/lib/entitled";
/// How long a run that has just ended may take to shut its server down.
const RELEASED_WITHIN: Duration = Duration::from_secs(4);
const LOG_TAIL_BYTES: u64 = 4096;
const LOG_TAIL_LINES: usize = 12;

/// A directory made ready for a server, and locked.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    pub(super) keep: bool,
    /// Whom to run the server as, if not as this process' user.
    pub(super) user: Option<User>,
    /// Open for appending, and locked.
    pub(super) log: File,
}

/// An unprivileged user that root lends to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// Whether every directory down to `directory` lets this user through.
    pub(super) fn can_enter(&self, directory: &Path) -> bool {
        directory.ancestors().all(|part| self.may(part, 0o1))
    }

    /// Whether the permission bits `wanted` (as for others: 1 enter, 2 write) are this user's.
    fn may(&self, path: &Path, wanted: u32) -> bool {
        let Ok(metadata) = fs::metadata(path) else {
            return false;
        };
        let shift = if metadata.uid() == self.uid {
            6
        } else if metadata.gid() == self.gid {
            3
        } else {
            0
        };
        metadata.permissions().mode() >> shift & wanted == wanted
    }
}

/// The user to lend to the server when root runs this; `None` when this process' user will do.
pub(super) fn server_user() -> Result<Option<User>, ClusterError> {
    if current_uid()? != 0 {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    ["postgres", "_postgres", "nobody"]
        .iter()
        .find_map(|name| in_passwd(&passwd, name))
        .map(Some)
        .ok_or(ClusterError::NoServerUser)
}

fn in_passwd(passwd: &str, name: &str) -> Option<User> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    let mut id = || parse_id(fields.next()?);
    // The field between the name and the ids is the password's.
    id();
    let user = User {
        uid: id()?,
        gid: id()?,
    };
    (user.uid != 0).then_some(user)
}

/// macOS writes `nobody` as -2, which the system reads modulo 2^32.
fn parse_id(field: &str) -> Option<u32> {
    field
        .parse::<u32>()
        .or_else(|_| field.parse::<i32>().map(i32::cast_unsigned))
        .ok()
}

fn current_uid() -> Result<u32, ClusterError> {
    let what = "cannot run `id -u`";
    let output = Command::new("id")
        .arg("-u")
        .output()
        .map_err(ClusterError::io(what))?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| ClusterError::io(what)(io::ErrorKind::InvalidData.into()))
}

/// Makes and locks the directory for `data`.
pub(super) fn prepare(data: &DataDir, user: Option<User>) -> Result<Place, ClusterError> {
    match data {
        DataDir::Ephemeral | DataDir::StandbyOf(_) => ephemeral(user),
        DataDir::Persistent(parent) => persistent(parent, user),
    }
}

fn ephemeral(user: Option<User>) -> Result<Place, ClusterError> {
    let parent = temporary_directory(user.as_ref());
    sweep(&parent, user.as_ref());
    // A sweep by another run can catch a directory before its lock is taken: another try, then.
    for _ in 0..3 {
        let root = parent.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
        let made = make_owned(&root, user.as_ref()).and_then(|()| open_log(&root));
        match made {
            Ok(log) if log.try_lock().is_ok() && root.join(LOG).exists() => {
                return Ok(Place {
                    root,
                    keep: false,
                    user,
                    log,
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_make(&root)(error)),
        }
    }
    Err(cannot_make(&parent)(io::ErrorKind::ResourceBusy.into()))
}

/// The system's temporary directory, unless the server's user could not work in it.
fn temporary_directory(user: Option<&User>) -> PathBuf {
    let wanted = std::env::temp_dir();
    match user {
        Some(user) if !(user.can_enter(&wanted) && user.may(&wanted, 0o3)) => PathBuf::from("/tmp"),
        _ => wanted,
    }
}

fn persistent(parent: &Path, user: Option<User>) -> Result<Place, ClusterError> {
    let parent = std::path::absolute(parent).map_err(cannot_make(parent))?;
    fs::create_dir_all(&parent).map_err(cannot_make(&parent))?;
    let root = match &user {
        Some(user) if !user.can_enter(&parent) => stand_in(&parent)?,
        _ => parent.join("postgres"),
    };
    let user = match (user, fs::symlink_metadata(&root)) {
        // Made by an earlier run, perhaps not root's: it goes on as the user it was made for.
        (Some(_), Ok(made)) if made.uid() != 0 => Some(User {
            uid: made.uid(),
            gid: made.gid(),
        }),
        (user, Ok(_)) => user,
        (user, Err(_)) => {
            make_owned(&root, user.as_ref()).map_err(cannot_make(&root))?;
            user
        }
    };
    let log = open_log(&root).map_err(cannot_make(&root.join(LOG)))?;
    lock(&log, &root)?;
    log.set_len(0).map_err(cannot_make(&root.join(LOG)))?;
    forget_dead_server(&root.join("data"))?;
    Ok(Place {
        root,
        keep: true,
        user,
        log,
    })
}

/// The directory that stands in for one out of the server's reach: always the same for a path.
fn stand_in(parent: &Path) -> Result<PathBuf, ClusterError> {
    let base = Path::new(FALLBACK);
    fs::create_dir_all(base).map_err(cannot_make(base))?;
    let key = Uuid::new_v5(&Uuid::NAMESPACE_URL, parent.as_os_str().as_encoded_bytes());
    Ok(base.join(format!("postgres-{}", key.simple())))
}

fn make_owned(root: &Path, user: Option<&User>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(root)?;
    match user {
        Some(user) => chown(root, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

fn open_log(root: &Path) -> io::Result<File> {
    let path = root.join(LOG);
    // Root does not write through a link that the directory's owner has placed.
    if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    File::options().create(true).append(true).open(path)
}

fn lock(log: &File, root: &Path) -> Result<(), ClusterError> {
    let deadline = Instant::now() + RELEASED_WITHIN;
    loop {
        match log.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                sleep(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => return Err(ClusterError::InUse(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(cannot_make(&root.join(LOG))(error)),
        }
    }
}

/// Removes the `postmaster.pid` of a killed server whose process id was given out again, which
/// Postgres would take for a running server. All other cases are Postgres' own to judge.
fn forget_dead_server(data: &Path) -> Result<(), ClusterError> {
    let file = data.join("postmaster.pid");
    let Ok(content) = fs::read_to_string(&file) else {
        return Ok(());
    };
    let pid = content.lines().next().unwrap_or_default();
    match command_of(pid) {
        Some(command) if !command.contains("postgres") => fs::remove_file(&file).map_err(
            ClusterError::io(format!("cannot remove {}", file.display())),
        ),
        _ => Ok(()),
    }
}

/// The command line of a process, if it runs and can be seen.
fn command_of(pid: &str) -> Option<String> {
    let pid: u32 = pid.parse().ok()?;
    let command = if Path::new("/proc/self/cmdline").exists() {
        fs::read(format!("/proc/{pid}/cmdline")).ok()?
    } else {
        Command::new("ps")
            .args(["-o", "command=", "-p", &pid.to_string()])
            .output()
            .ok()?
            .stdout
    };
    let command = String::from_utf8_lossy(&command).into_owned();
    (!command.trim().is_empty()).then_some(command)
}

/// Removes the ephemeral directories that nobody holds any more. What cannot be removed is another
/// run's or another user's, and stays.
pub(super) fn sweep(parent: &Path, user: Option<&User>) {
    let Ok(me) = current_uid() else { return };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|metadata| {
                let owner = metadata.uid();
                metadata.is_dir() && (owner == me || user.is_some_and(|user| owner == user.uid))
            });
        if ours {
            remove_if_free(&entry.path());
        }
    }
}

fn remove_if_free(root: &Path) {
    match File::open(root.join(LOG)) {
        Ok(log) if log.try_lock().is_ok() => drop(fs::remove_dir_all(root)),
        Ok(_) => {}
        // Made, but never filled: only an empty directory goes this way.
        Err(_) => drop(fs::remove_dir(root)),
    }
}

/// The last lines of the server's log, for an error message.
pub(super) fn log_tail(root: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut log = File::open(root.join(LOG))?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("its log cannot be read: {error}"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

fn cannot_make(path: &Path) -> impl FnOnce(io::Error) -> ClusterError + use<> {
    ClusterError::io(format!("cannot prepare {}", path.display()))
}
