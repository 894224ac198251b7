//! EraseAccount: for the account's user, for services and for operators.

use tonic::Status;

use super::super::auth::{Caller, CallerKind};
use super::super::door::{Door, names};
use super::super::{convert, status, wire};
use crate::domain::ids::AccountId;
use crate::flows::erase_account::{Outcome, Whose, erase_account};
use crate::flows::own_account::own_if_known;
use crate::flows::read_entitlements::present_account;

/// Long enough for any ticket, too short for a letter.
const REFERENCE_CHARS_MAX: usize = 64;

pub(super) async fn erase(
    door: &Door,
    caller: &Caller,
    request: &wire::EraseAccountRequest,
) -> Result<wire::EraseAccountResponse, Status> {
    let reference = request.reference.as_str();
    let actor = match caller.kind {
        CallerKind::User => "the account's user".to_owned(),
        CallerKind::Service | CallerKind::Operator(_) if reference.is_empty() => {
            return Err(status::bad_request(
                "reference",
                "say under which reference it was asked for: a ticket's number; it is kept",
            ));
        }
        CallerKind::Service => format!("service {}", caller.actor()),
        CallerKind::Operator(_) => caller.actor(),
    };
    check(reference)?;
    let Some(account) = whose(door, caller, &request.account).await? else {
        return Ok(answer(None, Outcome::Unknown));
    };
    let of = match caller.kind {
        CallerKind::User => Whose::Caller(account),
        CallerKind::Service | CallerKind::Operator(_) => Whose::Named(account),
    };
    let (account, outcome) = erase_account(&door.core, of, &actor, reference)
        .await
        .map_err(status::from_storage)?;
    Ok(answer(Some(account), outcome))
}

/// A reference is kept for good: it has the shape of a number of a ticket, and no room for a person.
fn check(reference: &str) -> Result<(), Status> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_./#:".contains(letter);
    if reference.chars().count() <= REFERENCE_CHARS_MAX && reference.chars().all(allowed) {
        return Ok(());
    }
    Err(status::bad_request(
        "reference",
        "at most 64 letters, digits and - _ . / # : (a ticket's number); it is kept, so it must not \
         name the person",
    ))
}

/// The account that is meant, alive or erased; nobody is made by being erased.
async fn whose(door: &Door, caller: &Caller, named: &str) -> Result<Option<AccountId>, Status> {
    if caller.kind != CallerKind::User {
        return whom(door, named).await;
    }
    if !named.is_empty() {
        return Err(status::status(
            status::Reason::AccountNotAllowed,
            "only services may name an account; leave it empty",
        ));
    }
    own_if_known(&door.core, names(caller))
        .await
        .map_err(status::from_own_account)
}

/// The account that a service or an operator names: what it has become part of, if it has. One that
/// was erased has its id alone.
pub(super) async fn whom(door: &Door, named: &str) -> Result<Option<AccountId>, Status> {
    if named.is_empty() {
        return Err(status::bad_request(
            "account",
            "name the account: issuer:subject or id",
        ));
    }
    let found = present_account(&door.core, named)
        .await
        .map_err(status::from_read)?;
    let found = found.map(|account| account.id);
    Ok(found.or_else(|| uuid::Uuid::parse_str(named).ok().map(AccountId)))
}

fn answer(account: Option<AccountId>, outcome: Outcome) -> wire::EraseAccountResponse {
    use wire::ErasureOutcome;
    let (outcome, at, purchases) = match outcome {
        Outcome::Erased { at, purchases } => (ErasureOutcome::Erased, Some(at), purchases),
        Outcome::AlreadyErased { at } => (ErasureOutcome::AlreadyErased, Some(at), 0),
        Outcome::Unknown => (ErasureOutcome::Unknown, None, 0),
    };
    let account = account.filter(|_| outcome != ErasureOutcome::Unknown);
    wire::EraseAccountResponse {
        outcome: outcome.into(),
        erased_at: at.map(convert::timestamp),
        purchases: i32::try_from(purchases).unwrap_or(i32::MAX),
        account_id: account.map(|id| id.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_no_room_for_a_person() {
        for fine in ["", "GDPR-2027/114", "zendesk:#48213", &"7".repeat(64)] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for not in [
            "alice@example.com",
            "asked by Alice",
            "Zoë",
            "a\nb",
            &"7".repeat(65),
        ] {
            assert!(check(not).is_err(), "{not}");
        }
    }
}
