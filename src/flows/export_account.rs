//! ExportAccount: everything that is kept about an account, in one JSON document.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Core;
use crate::domain::ids::AccountId;
use crate::storage::{StorageError, accounts, export};

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("no such account")]
    Unknown,
    /// So often nobody needs it; it may be asked for again after that long.
    #[error("this account was exported twice within an hour")]
    TooMany(Duration),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The document, as of one moment. At most two of an account within an hour, and one at a time.
pub(crate) async fn export_account(
    core: &Core,
    account: AccountId,
) -> Result<Vec<u8>, ExportError> {
    // An account that became part of another is told with it; an erased one by what it has left.
    let living = accounts::get(&core.db, account).await?;
    let account = living.map_or(account, |living| living.id);
    let limits = &core.limits;
    limits.export.take(account).map_err(ExportError::TooMany)?;
    // It holds all of an account in memory.
    let _alone = limits.exporting.acquire().await;
    let mut tables = export::account(&core.db, account)
        .await?
        .ok_or(ExportError::Unknown)?;
    read_signed(&mut tables);
    blank_others(&mut tables);
    let document = json!({
        "format": "entitled.account.v1",
        "account": account,
        "exported_at": core.clock.now(),
        "tables": tables,
    });
    serde_json::to_vec_pretty(&document)
        .map_err(|error| StorageError::Corrupt(error.to_string()).into())
}

/// Under these names stores and the ledger say whose a purchase is.
const NAMES_OF_TOKENS: [&str; 5] = [
    "account_token",
    "appAccountToken",
    "obfuscatedAccountId",
    "obfuscatedExternalAccountId",
    "obfuscatedExternalProfileId",
];

/// Documents within each other, as deep as stores nest them and one more.
const NESTED_MAX: u32 = 4;

/// Puts what a signed document says in its place: nobody reads base64.
fn read_signed(value: &mut Value) {
    read_signed_at(value, 0);
}

fn read_signed_at(value: &mut Value, depth: u32) {
    match value {
        Value::String(text) => {
            if depth < NESTED_MAX
                && let Some(mut said) = said_by(text)
            {
                read_signed_at(&mut said, depth + 1);
                *value = said;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|one| read_signed_at(one, depth)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|one| read_signed_at(one, depth)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The payload of a signed document that is one JSON object.
fn said_by(text: &str) -> Option<Value> {
    let mut parts = text.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !header.starts_with("ey") || signature.is_empty() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let said: Value = serde_json::from_slice(&payload).ok()?;
    said.is_object().then_some(said)
}

/// Takes out by which token a store or an operator knows somebody else: an owner before, another
/// claimant.
fn blank_others(tables: &mut Value) {
    let own = tables["store_tokens"].as_array().into_iter().flatten();
    let own: HashSet<String> = own
        .filter_map(|row| row["token"].as_str())
        .map(str::to_lowercase)
        .collect();
    blank(tables, &own);
}

fn blank(value: &mut Value, own: &HashSet<String>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|one| blank(one, own)),
        Value::Object(members) => {
            for (name, member) in members {
                let token = member.as_str().map(str::to_lowercase);
                let is_anothers = token.is_some_and(|token| !own.contains(&token));
                if is_anothers && NAMES_OF_TOKENS.contains(&name.as_str()) {
                    *member = Value::Null;
                } else {
                    blank(member, own);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(payload: &Value) -> String {
        format!(
            "eyJhbGciOiJFUzI1NiJ9.{}.c2ln",
            URL_SAFE_NO_PAD.encode(payload.to_string())
        )
    }

    #[test]
    fn signed_documents_are_read_and_others_are_not_named() {
        let inner = signed(&json!({"appAccountToken": "AAAA", "price": 1}));
        let outer = signed(&json!({"data": {"signedTransactionInfo": inner}}));
        let mut tables = json!({
            "store_tokens": [{"token": "bbbb"}],
            "raw_notifications": [{"body": {"signedPayload": outer}}, {"body": "a.b.c"}],
            "duties": [{"detail": {"account_token": "aaaa"}}, {"detail": {"account_token": "BBBB"}}],
        });
        read_signed(&mut tables);
        let said = "/raw_notifications/0/body/signedPayload/data/signedTransactionInfo";
        assert_eq!(
            tables.pointer(said),
            Some(&json!({"appAccountToken": "AAAA", "price": 1}))
        );
        blank_others(&mut tables);
        assert_eq!(
            tables.pointer(said),
            Some(&json!({"appAccountToken": null, "price": 1}))
        );
        assert_eq!(tables["raw_notifications"][1]["body"], "a.b.c");
        assert_eq!(tables["duties"][0]["detail"]["account_token"], Value::Null);
        assert_eq!(tables["duties"][1]["detail"]["account_token"], "BBBB");
    }
}
