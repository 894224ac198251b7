//! ListErasures: what a restored backup is to forget again, page by page.

use tonic::Status;
use uuid::Uuid;

use super::super::door::Door;
use super::super::pages::{self, PageToken};
use super::super::{convert, status, wire};
use crate::domain::time::Instant;
use crate::flows::erase_account::{LedgerLine, erasures};

pub(super) async fn list(
    door: &Door,
    request: &wire::ListErasuresRequest,
) -> Result<wire::ListErasuresResponse, Status> {
    let size = pages::size(request.page_size)?;
    let since = convert::moment("since", request.since.as_ref())?;
    let question = ("erasures", since);
    let after = PageToken::<(Instant, Uuid)>::read(&request.page_token, &question)?;
    let mut lines = erasures(&door.core, since, after, size + 1)
        .await
        .map_err(status::from_storage)?;
    let more = lines.len() > usize::try_from(size).unwrap_or(usize::MAX);
    if more {
        lines.pop();
    }
    let next_page_token = match lines.last() {
        Some(last) if more => PageToken::write(&(last.erased_at, last.account), &question),
        Some(_) | None => String::new(),
    };
    Ok(wire::ListErasuresResponse {
        erasures: lines.into_iter().map(erasure).collect(),
        next_page_token,
    })
}

fn erasure(line: LedgerLine) -> wire::Erasure {
    wire::Erasure {
        account_id: line.account.to_string(),
        erased_at: Some(convert::timestamp(line.erased_at)),
    }
}
