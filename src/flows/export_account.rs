//! ExportAccount: everything that is kept about an account, in one JSON document.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Core;
use crate::domain::ids::AccountId;
use crate::storage::export::{self, Out, Piece};
use crate::storage::{StorageError, accounts};

/// Rows that are read ahead of whoever takes them.
const ROWS_AHEAD: usize = 16;
/// How long one waits for others to be done.
const WAITS_MAX: Duration = Duration::from_secs(10);
/// Nobody takes so long who means to take it all.
const TAKEN_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("no such account")]
    Unknown,
    /// So often nobody needs it; it may be asked for again after that long.
    #[error("an account is exported at most twice within an hour")]
    TooMany(Duration),
    #[error("other accounts are being exported; try again")]
    Busy(Duration),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The document, as of one moment, in pieces of at most `piece_bytes`; it is whole if none of them is
/// an error. At most two of an account within an hour, and two at a time.
pub(crate) async fn export_account(
    core: &Core,
    account: AccountId,
    piece_bytes: usize,
) -> Result<impl Stream<Item = Result<Vec<u8>, StorageError>> + Send + use<>, ExportError> {
    // An account that became part of another is told with it; an erased one by what it has left.
    let living = accounts::get(&core.db, account).await?;
    let account = living.map_or(account, |living| living.id);
    let limits = &core.limits;
    let place = Arc::clone(&limits.exporting).acquire_owned();
    let place = tokio::time::timeout(WAITS_MAX, place).await;
    let Ok(Ok(place)) = place else {
        return Err(ExportError::Busy(WAITS_MAX));
    };
    limits.export.take(account).map_err(ExportError::TooMany)?;
    let export = export::begin(&core.db, account)
        .await?
        .ok_or(ExportError::Unknown)?;
    let head = json!({
        "format": "entitled.account.v1", "account": account, "exported_at": core.clock.now(),
    });
    let document = Document::of(&head, export.tokens.clone());
    let (out, rows) = mpsc::channel(ROWS_AHEAD);
    let reading = tokio::spawn(async move {
        let _place = place;
        let sent = tokio::time::timeout(TAKEN_WITHIN, export.send(&Out(out))).await;
        let late = || StorageError::Unavailable("the export was taken too slowly".into());
        sent.unwrap_or_else(|_| Err(late()))
    });
    let pieces = Pieces {
        document,
        rows,
        reading: Some(reading),
        piece_bytes,
    };
    Ok(stream::try_unfold(pieces, async |mut pieces| {
        let piece = pieces.next().await?;
        Ok(piece.map(|piece| (piece, pieces)))
    }))
}

/// A document on its way.
struct Pieces {
    document: Document,
    rows: mpsc::Receiver<Piece>,
    /// Taken once it has ended.
    reading: Option<JoinHandle<Result<(), StorageError>>>,
    piece_bytes: usize,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        while self.document.text.len() < self.piece_bytes {
            if let Some(piece) = self.rows.recv().await {
                self.document.add(piece);
                continue;
            }
            let Some(reading) = self.reading.take() else {
                break;
            };
            reading
                .await
                .unwrap_or_else(|error| Err(StorageError::Other(error.to_string())))?;
            self.document.end();
        }
        let text = &mut self.document.text;
        let rest = text.split_off(self.piece_bytes.min(text.len()));
        let piece = std::mem::replace(text, rest);
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// One JSON object, a line for each row.
struct Document {
    /// What is not taken yet.
    text: Vec<u8>,
    /// The store tokens of the account itself.
    own: HashSet<String>,
    /// What comes before the next table, and before the next row.
    before: (&'static str, &'static str),
}

impl Document {
    /// With the members of `head`, and `tables` to follow.
    fn of(head: &Value, own: HashSet<String>) -> Self {
        let mut text = head.to_string().into_bytes();
        text.pop();
        text.extend(b",\n\"tables\":{");
        Self {
            text,
            own,
            before: ("\n", "\n"),
        }
    }

    fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Table(name) => {
                let name = Value::from(name);
                let table = format!("{}{name}:[", self.before.0);
                self.text.extend(table.into_bytes());
                self.before = ("\n],\n", "\n");
            }
            Piece::Row(mut row) => {
                read_signed(&mut row);
                blank(&mut row, &self.own);
                self.text.extend(self.before.1.bytes());
                self.text.extend(row.to_string().into_bytes());
                self.before.1 = ",\n";
            }
        }
    }

    fn end(&mut self) {
        self.text.extend(b"\n]}}\n");
    }
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
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
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
            "raw_notifications": [{"body": {"signedPayload": outer}}, {"body": "a.b.c"}],
            "duties": [{"detail": {"account_token": "aaaa"}}, {"detail": {"account_token": "BBBB"}}],
        });
        read_signed(&mut tables);
        let said = "/raw_notifications/0/body/signedPayload/data/signedTransactionInfo";
        assert_eq!(
            tables.pointer(said),
            Some(&json!({"appAccountToken": "AAAA", "price": 1}))
        );
        blank(&mut tables, &HashSet::from(["bbbb".to_owned()]));
        assert_eq!(
            tables.pointer(said),
            Some(&json!({"appAccountToken": null, "price": 1}))
        );
        assert_eq!(tables["raw_notifications"][1]["body"], "a.b.c");
        assert_eq!(tables["duties"][0]["detail"]["account_token"], Value::Null);
        assert_eq!(tables["duties"][1]["detail"]["account_token"], "BBBB");
    }

    /// As the client gets it: pieces that are joined.
    fn joined(pieces: &[Piece]) -> Value {
        let mut document = Document::of(&json!({"format": "f"}), HashSet::new());
        for piece in pieces {
            document.add(match piece {
                Piece::Table(name) => Piece::Table(name),
                Piece::Row(row) => Piece::Row(row.clone()),
            });
        }
        document.end();
        serde_json::from_slice(&document.text).expect("JSON")
    }

    #[test]
    fn a_document_is_json_however_many_tables_and_rows_it_has() {
        let row = || Piece::Row(json!({"a": "\"\n"}));
        let table = Piece::Table;
        let told = joined(&[table("a"), table("b"), row(), row(), table("c"), row()]);
        let one = json!({"a": "\"\n"});
        let expected = json!({"format": "f", "tables": {"a": [], "b": [one, one], "c": [one]}});
        assert_eq!(told, expected);
    }
}
