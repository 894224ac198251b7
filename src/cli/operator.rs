//! What a command on the database host works with.

use std::sync::Arc;

use crate::app::{CatalogFile, build_core};
use crate::config::Config;
use crate::flows::Core;

/// The database as it is.
pub(super) async fn core_of(config: &Config) -> anyhow::Result<Arc<Core>> {
    build_core(config, None, CatalogFile::Ignore).await
}
