//! `ListTransactions`: the caller's own without the stores' ids; everybody's for operators.

use tonic::Status;

use crate::domain::time::Instant;
use crate::flows::list_transactions::{Listed, Page, Row, list_transactions as list};
use crate::grpc::auth::{Caller, CallerKind};
use crate::grpc::door::{Door, Subject};
use crate::grpc::pages::{self, PageToken};
use crate::grpc::{convert, status, wire};

pub(super) async fn list_transactions(
    door: &Door,
    caller: &Caller,
    request: &wire::ListTransactionsRequest,
) -> Result<wire::ListTransactionsResponse, Status> {
    let device = caller.kind == CallerKind::User;
    if device && !request.store_transaction_id.is_empty() {
        return Err(status::bad_request(
            "store_transaction_id",
            "is for services and operators",
        ));
    }
    let everybody = matches!(caller.kind, CallerKind::Operator(_)) && request.account.is_empty();
    let account = if everybody {
        None
    } else {
        match door.subject(caller, &request.account).await? {
            Subject::Known(account) => Some(account.id),
            Subject::Unknown => return Ok(wire::ListTransactionsResponse::default()),
        }
    };
    let size = pages::size(request.page_size)?;
    let since = convert::moment("since", request.since.as_ref())?;
    let until = convert::moment("until", request.until.as_ref())?;
    // A token belongs to the question that it was given for.
    let question = (
        account.map(|id| id.0),
        &request.store_transaction_id,
        since,
        until,
    );
    let page = Page {
        account,
        apps: caller.apps.ids(),
        store_id: (!request.store_transaction_id.is_empty())
            .then_some(request.store_transaction_id.as_str()),
        since,
        until,
        after: PageToken::<(Instant, i64)>::read(&request.page_token, &question)?,
        limit: size + 1,
    };
    let mut listed = list(&door.core, &page)
        .await
        .map_err(status::from_storage)?;
    let more = listed.len() > usize::try_from(size).unwrap_or(usize::MAX);
    if more {
        listed.pop();
    }
    let next_page_token = match listed.last() {
        Some(last) if more => PageToken::write(&(last.row.at, last.row.id), &question),
        Some(_) | None => String::new(),
    };
    Ok(wire::ListTransactionsResponse {
        transactions: listed
            .into_iter()
            .map(|listed| transaction(listed, device))
            .collect(),
        next_page_token,
    })
}

fn transaction(listed: Listed, device: bool) -> wire::Transaction {
    let Listed {
        row,
        plan,
        provider,
    } = listed;
    let (kind, refund_kind) = kinds(&row);
    let money = |micros: Option<i64>| {
        let currency_code = row.currency.clone()?;
        Some(wire::Money {
            currency_code,
            micros: micros?,
        })
    };
    let told = |id: Option<String>| id.filter(|_| !device).unwrap_or_default();
    wire::Transaction {
        kind: kind.into(),
        store: convert::wire_store(provider).into(),
        plan,
        environment: match row.environment.as_str() {
            "production" => wire::Environment::Production,
            "sandbox" => wire::Environment::Sandbox,
            _ => wire::Environment::Unspecified,
        }
        .into(),
        occurred_at: Some(convert::timestamp(row.at)),
        expires_at: row.expires_at.map(convert::timestamp),
        quantity: row.quantity,
        amount: money(row.amount_micros),
        tax: money(row.tax_micros),
        revoked_at: row.revoked_at.map(convert::timestamp),
        refund_kind: refund_kind.into(),
        reversed_at: row.reversed_at.map(convert::timestamp),
        family_shared: row.family_shared,
        store_transaction_id: told(Some(row.of_transaction_id.unwrap_or(row.transaction_id))),
        account_id: told(row.account.map(|id| id.to_string())),
        purchase_id: told(Some(row.chain.to_string())),
        product_id: row.product_id,
        base_plan_id: row.base_plan_id.unwrap_or_default(),
        storefront: row.storefront.unwrap_or_default(),
        offer: row.offer.unwrap_or_default(),
    }
}

fn kinds(row: &Row) -> (wire::TransactionKind, wire::RefundKind) {
    let kind = match row.kind.as_str() {
        "purchase" => wire::TransactionKind::Purchase,
        "renewal" => wire::TransactionKind::Renewal,
        "refund" => wire::TransactionKind::Refund,
        _ => wire::TransactionKind::Unspecified,
    };
    let refund = match row.refund_kind.as_deref() {
        Some("full") => wire::RefundKind::Full,
        Some("prorated") => wire::RefundKind::Prorated,
        Some("partial") => wire::RefundKind::Partial,
        Some("chargeback") => wire::RefundKind::Chargeback,
        Some("unacknowledged") => wire::RefundKind::Unacknowledged,
        Some(_) | None => wire::RefundKind::Unspecified,
    };
    (kind, refund)
}
