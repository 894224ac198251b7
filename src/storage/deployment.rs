//! The deployment's one row: what this database belongs to.

use super::{Db, StorageError};

/// Marks an unmarked database as `mode`'s; tells whose it is.
pub(crate) async fn claim_mode(db: &Db, mode: &str) -> Result<String, StorageError> {
    sqlx::query!("update deployment set mode = $1 where mode is null", mode)
        .execute(db.pool())
        .await?;
    let kept = sqlx::query_scalar!(r#"select mode as "mode!" from deployment"#)
        .fetch_one(db.pool())
        .await?;
    Ok(kept)
}

/// Whose the database is; `None`: nobody's yet.
pub(crate) async fn mode(db: &Db) -> Result<Option<String>, StorageError> {
    let mode = sqlx::query_scalar!("select mode from deployment")
        .fetch_one(db.pool())
        .await?;
    Ok(mode)
}
