//! ExportAccount: one JSON document in pieces that any client can take.

use futures::{Stream, stream};
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
) -> Result<impl Stream<Item = Result<wire::ExportAccountResponse, Status>> + Send + 'static, Status>
{
    let account = match caller.kind {
        // What an erasure has left is there for them, by the account's id.
        CallerKind::Operator(_) => whom(door, account).await?.ok_or_else(unknown)?,
        CallerKind::User | CallerKind::Service => door.known_subject(caller, account).await?.id,
    };
    let document = export_account(&door.core, account)
        .await
        .map_err(|error| match error {
            ExportError::Unknown => unknown(),
            ExportError::TooMany(retry) => status::retryable(
                status::Reason::RateLimited,
                "an account is exported at most twice within an hour",
                retry,
            ),
            ExportError::Storage(error) => status::from_storage(error),
        })?;
    let pieces: Vec<_> = document
        .chunks(PIECE_BYTES)
        .map(|piece| {
            Ok(wire::ExportAccountResponse {
                piece: piece.to_vec(),
            })
        })
        .collect();
    Ok(stream::iter(pieces))
}

fn unknown() -> Status {
    status::status(status::Reason::AccountNotFound, "no such account")
}
