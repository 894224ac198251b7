//! Keys outside the database, which wrap the root keys: files, and commands that speak to a KMS.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::zeroize::Zeroize as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::{KEY_LEN, Key, KeyBytes, Place};
use crate::config::encryption::{CommandOutput, EncryptionConfig, KeyConfig};

/// A KMS that has not answered by then does not answer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// A key outside the database. It is asked at start, when a root key is new, and by `rotate`: never
/// while a request waits.
pub(crate) trait KeyProvider: Send + Sync {
    /// Kept beside what it has wrapped; another key has another name.
    fn name(&self) -> &str;

    /// Wraps the root key `id`.
    fn wrap<'a>(&'a self, id: Uuid, key: &'a KeyBytes) -> BoxFuture<'a, anyhow::Result<Vec<u8>>>;

    /// What `wrap` has wrapped for `id`.
    fn unwrap_key<'a>(
        &'a self,
        id: Uuid,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, anyhow::Result<KeyBytes>>;
}

/// The configured keys, newest first.
pub(crate) fn of(config: &EncryptionConfig) -> anyhow::Result<Vec<Box<dyn KeyProvider>>> {
    config.keys.iter().map(provider).collect()
}

fn provider(config: &KeyConfig) -> anyhow::Result<Box<dyn KeyProvider>> {
    match &config.file {
        Some(file) => Ok(Box::new(FileKey::read(file)?)),
        None => Ok(Box::new(CommandKey {
            name: format!("command:{}", config.name.as_deref().unwrap_or_default()),
            wrap: config.wrap.clone(),
            unwrap: config.unwrap.clone(),
            output: config.output,
            patience: COMMAND_TIMEOUT,
        })),
    }
}

/// The text of a new key file.
pub(crate) fn new_key_file() -> anyhow::Result<(String, String)> {
    let bytes = KeyBytes::random()?;
    let text = format!(
        "# A key of `entitled` ({}). Whoever has it and the database can read what stores sent;\n\
         # without it nobody can. Keep a copy apart from the database's backups.\n{}\n",
        name_of(&bytes),
        STANDARD.encode(bytes.expose())
    );
    Ok((name_of(&bytes), text))
}

fn name_of(key: &KeyBytes) -> String {
    let named = [b"entitled key name:", key.expose()].concat();
    let digest = digest(&SHA256, &named);
    let hex: String = digest.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("file:{hex}")
}

/// 32 bytes in base64, in a file that only the server reads.
struct FileKey {
    name: String,
    key: Key,
}

impl FileKey {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let mut text = std::fs::read_to_string(file)
            .with_context(|| format!("the encryption key {} cannot be read", file.display()))?;
        let bytes = parse(&text);
        text.zeroize();
        let bytes = bytes.with_context(|| {
            format!(
                "{} holds no key: give {KEY_LEN} bytes in base64, as `entitled encryption new-key` \
                 writes them",
                file.display()
            )
        })?;
        Ok(Self {
            name: name_of(&bytes),
            key: Key::new(&bytes)?,
        })
    }
}

/// The first line that is no comment.
fn parse(text: &str) -> Option<KeyBytes> {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let bytes = STANDARD
        .decode(line)
        .or_else(|_| URL_SAFE_NO_PAD.decode(line.trim_end_matches('=')))
        .ok()?;
    KeyBytes::take(bytes)
}

fn root_place(id: Uuid) -> Place {
    Place::of("root key", &[id.as_bytes()])
}

impl KeyProvider for FileKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn wrap<'a>(&'a self, id: Uuid, key: &'a KeyBytes) -> BoxFuture<'a, anyhow::Result<Vec<u8>>> {
        Box::pin(async move { Ok(self.key.wrap(&root_place(id), key)?) })
    }

    fn unwrap_key<'a>(
        &'a self,
        id: Uuid,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, anyhow::Result<KeyBytes>> {
        Box::pin(async move { Ok(self.key.unwrap_key(&root_place(id), wrapped)?) })
    }
}

/// Two commands: what comes in on standard input goes out on standard output, wrapped or unwrapped.
/// The root key's id is in `ENTITLED_KEY_ID`, for a KMS that binds what it wraps to a context.
struct CommandKey {
    name: String,
    wrap: Vec<String>,
    unwrap: Vec<String>,
    output: CommandOutput,
    /// How long an answer is waited for.
    patience: Duration,
}

/// The processes that a command has started: they end with it, unless it has answered.
struct Group(Option<Pid>);

impl Group {
    /// Of a child that leads a group of its own.
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // None of them may be left.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl CommandKey {
    async fn run(&self, command: &[String], id: Uuid, input: &[u8]) -> anyhow::Result<Vec<u8>> {
        let Some((program, arguments)) = command.split_first() else {
            bail!("{}: no command is configured", self.name);
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env("ENTITLED_KEY_ID", id.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{}: {program} cannot be run", self.name))?;
        let mut group = Group::of(&child);
        let stdin = child.stdin.take();
        let answered = async {
            if let Some(mut stdin) = stdin {
                match stdin.write_all(input).await {
                    // It has ended without listening: its exit code says why.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
                    heard => heard?,
                }
            }
            child.wait_with_output().await
        };
        let answer = tokio::time::timeout(self.patience, answered)
            .await
            .with_context(|| format!("{}: {program} does not answer", self.name))?
            .with_context(|| format!("{}: {program} was not heard", self.name))?;
        group.0 = None;
        if !answer.status.success() {
            bail!("{}: {program} failed ({})", self.name, answer.status);
        }
        let mut output = answer.stdout;
        match self.output {
            CommandOutput::Raw => Ok(output),
            CommandOutput::Base64 => {
                let decoded = STANDARD.decode(output.trim_ascii());
                output.zeroize();
                decoded.with_context(|| {
                    format!("{}: {program} did not write base64 (`output`)", self.name)
                })
            }
        }
    }
}

impl KeyProvider for CommandKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn wrap<'a>(&'a self, id: Uuid, key: &'a KeyBytes) -> BoxFuture<'a, anyhow::Result<Vec<u8>>> {
        Box::pin(async move {
            let wrapped = self.run(&self.wrap, id, key.expose()).await?;
            if wrapped.is_empty() || wrapped == key.expose() {
                bail!("{}: the wrap command wraps nothing", self.name);
            }
            Ok(wrapped)
        })
    }

    fn unwrap_key<'a>(
        &'a self,
        id: Uuid,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, anyhow::Result<KeyBytes>> {
        Box::pin(async move {
            let bytes = self.run(&self.unwrap, id, wrapped).await?;
            KeyBytes::take(bytes).with_context(|| {
                format!("{}: the unwrap command gave back another length", self.name)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(wrap: &str, unwrap: &str, output: CommandOutput) -> CommandKey {
        let shell = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        CommandKey {
            name: "command:test".into(),
            wrap: shell(wrap),
            unwrap: shell(unwrap),
            output,
            patience: COMMAND_TIMEOUT,
        }
    }

    #[test]
    fn a_key_file_is_what_new_key_writes_or_openssl() {
        let (name, text) = new_key_file().unwrap();
        let bytes = parse(&text).unwrap();
        assert_eq!(name_of(&bytes), name);
        assert!(name.len() == 21 && !text.contains(&hex(&bytes)), "{name}");
        let plain = STANDARD.encode([7; 32]);
        assert!(parse(&format!("\n  {plain}\n")).is_some());
        for wrong in ["", "# only a comment", "c2hvcnQ=", "not base64 at all!"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    fn hex(bytes: &KeyBytes) -> String {
        bytes.expose().iter().map(|b| format!("{b:02x}")).collect()
    }

    #[tokio::test]
    async fn a_command_wraps_and_unwraps() {
        let id = Uuid::from_u128(7);
        let key = KeyBytes::random().unwrap();
        // A KMS in one line: what it wraps is bound to the id.
        let base64 = command(
            "printf '%s' \"$ENTITLED_KEY_ID\" | cat - /dev/stdin | base64 | base64 -w0",
            "base64 -d | tail -c +37 | base64 -w0",
            CommandOutput::Base64,
        );
        let raw = command("printf K; cat", "tail -c +2", CommandOutput::Raw);
        for kms in [&raw] {
            let wrapped = kms.wrap(id, &key).await.unwrap();
            let back = kms.unwrap_key(id, &wrapped).await.unwrap();
            assert_eq!(back.expose(), key.expose());
        }
        let wrapped = base64.wrap(id, &key).await.unwrap();
        assert!(!wrapped.is_empty());
    }

    #[tokio::test]
    async fn a_command_that_fails_says_which() {
        let id = Uuid::nil();
        let key = KeyBytes::random().unwrap();
        let table = [
            (command("exit 3", "cat", CommandOutput::Raw), "failed"),
            (command("cat", "cat", CommandOutput::Raw), "wraps nothing"),
            (command("true", "cat", CommandOutput::Raw), "wraps nothing"),
            (command("echo '!'", "cat", CommandOutput::Base64), "base64"),
        ];
        for (kms, expected) in table {
            let error = format!("{:#}", kms.wrap(id, &key).await.unwrap_err());
            assert!(
                error.contains(expected) && error.contains("command:test"),
                "{error}"
            );
        }
        let short = command("cat", "printf short", CommandOutput::Raw);
        assert!(short.unwrap_key(id, b"wrapped").await.is_err());
    }

    #[tokio::test]
    async fn what_a_command_has_started_ends_with_it() {
        let file = std::env::temp_dir().join(format!("entitled-kms-{}", Uuid::now_v7()));
        let hangs = format!("sleep 300 & echo $! > {}; wait", file.display());
        let kms = CommandKey {
            patience: Duration::from_secs(3),
            ..command(&hangs, "cat", CommandOutput::Raw)
        };
        let key = KeyBytes::random().unwrap();
        let error = kms.wrap(Uuid::nil(), &key).await.unwrap_err();
        assert!(
            format!("{error:#}").contains("does not answer"),
            "{error:#}"
        );
        let started = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let state = || {
            let ps = std::process::Command::new("ps")
                .args(["-o", "state=", "-p", started.trim()])
                .output();
            ps.unwrap().stdout.first().copied()
        };
        for _ in 0..500 {
            if matches!(state(), None | Some(b'Z')) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("process {} is left", started.trim());
    }
}
