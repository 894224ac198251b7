//! How far a version is, and how far the counting.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::bail;

use super::told::story;
use crate::cli::source::{Source, told};
use crate::flows::apply_catalog::{CatalogError, Story};
use crate::proto::ListCatalogVersionsRequest;

/// Between two looks at how far a version has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The most that one answer lists.
const PAGE_MAX: usize = 500;

/// Stories of versions, the newest first.
pub(super) async fn versions(source: &Source, limit: usize) -> anyhow::Result<Vec<Story>> {
    let mut stories = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = (limit - stories.len()).min(PAGE_MAX);
        let request = ListCatalogVersionsRequest {
            page_size: i32::try_from(left)?,
            page_token,
        };
        let page = source.catalogs().list_catalog_versions(request).await;
        let page = page.map_err(told)?.into_inner();
        for version in page.versions {
            stories.push(story(version, stories.is_empty())?);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() || stories.len() >= limit {
            return Ok(stories);
        }
    }
}

/// Tells how far the active version has come until it has reached every account.
pub(super) async fn follow(source: &Source, quiet: bool) -> anyhow::Result<()> {
    let mut progress = Progress::new("derived", quiet);
    loop {
        let Some(active) = versions(source, 1).await?.pop() else {
            bail!(CatalogError::None);
        };
        let behind = active.behind.unwrap_or(0);
        let all = active.told.accounts.unwrap_or(0).max(behind);
        progress.tell(all - behind, all);
        let underived = &active.underived;
        if active.told.finished_at.is_some() && behind <= underived.count {
            progress.end();
            return match underived.count {
                0 => Ok(()),
                _ => bail!(left_over(&active)),
            };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What keeps a version from being everybody's.
fn left_over(story: &Story) -> String {
    let some: Vec<String> = story
        .underived
        .some
        .iter()
        .map(ToString::to_string)
        .collect();
    let more = match story.underived.count > i64::try_from(some.len()).unwrap_or(i64::MAX) {
        true => ", …",
        false => "",
    };
    format!(
        "{} accounts cannot be derived by version {} and keep what they had; `entitled explain \
         ACCOUNT` and the workers' log tell why: {}{more}",
        story.underived.count,
        story.told.version.0,
        some.join(", ")
    )
}

/// How far something is, on standard error: one line that changes, or a line for every tenth.
pub(super) struct Progress {
    what: &'static str,
    quiet: bool,
    terminal: bool,
    tenth: Option<i64>,
}

impl Progress {
    pub(super) fn new(what: &'static str, quiet: bool) -> Self {
        Self {
            what,
            quiet,
            terminal: std::io::stderr().is_terminal(),
            tenth: None,
        }
    }

    pub(super) fn tell(&mut self, done: i64, of: i64) {
        if self.quiet {
            return;
        }
        let line = format!("{} {done} of {of} accounts", self.what);
        if self.terminal {
            eprint!("\r{line}  ");
            let _ = std::io::stderr().flush();
            self.tenth = Some(0);
            return;
        }
        let tenth = (done * 10).checked_div(of).unwrap_or(10);
        if self.tenth != Some(tenth) {
            self.tenth = Some(tenth);
            eprintln!("{line}");
        }
    }

    pub(super) fn end(&self) {
        if self.terminal && self.tenth.is_some() {
            eprintln!();
        }
    }
}
