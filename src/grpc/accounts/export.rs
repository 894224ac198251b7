//! ExportAccount: one JSON document in pieces that any client can take.

use futures::{Stream, StreamExt as _};
use tonic::Status;

use super::super::auth::{Caller, CallerKind};
use super::super::door::Door;
use super::super::{status, wire};
use super::erase::whom;
use crate::flows::export_account::{ExportError, export_account};

/// Clients take messages of 4 MiB, HTTP proxies often less.
const PIECE_BYTES: usize = 256 * 1024;

pub(super) async fn export(
    door: &Door,
    caller: &Caller,
    account: &str,
) -> Result<impl Stream<Item = Result<wire::ExportAccountResponse, Status>> + Send + use<>, Status>
{
    let account = match caller.kind {
        // What an erasure has left is there for them, by the account's id.
        CallerKind::Operator(_) => whom(door, account).await?.ok_or_else(unknown)?,
        CallerKind::User | CallerKind::Service => door.known_subject(caller, account).await?.id,
    };
    let pieces = export_account(&door.core, account, PIECE_BYTES)
        .await
        .map_err(refused)?;
    Ok(pieces.map(|piece| match piece {
        Ok(piece) => Ok(wire::ExportAccountResponse { piece }),
        Err(error) => Err(status::from_storage(error)),
    }))
}

fn refused(cause: ExportError) -> Status {
    let message = cause.to_string();
    match cause {
        ExportError::Unknown => unknown(),
        ExportError::TooMany(retry) | ExportError::Busy(retry) => {
            status::retryable(status::Reason::RateLimited, message, retry)
        }
        ExportError::Storage(error) => status::from_storage(error),
    }
}

fn unknown() -> Status {
    status::status(status::Reason::AccountNotFound, "no such account")
}
