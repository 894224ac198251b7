//! EraseAccount: for the account's user, for services and for operators.

use tonic::Status;

use super::super::auth::{Caller, CallerKind};
use super::super::door::Door;
use super::super::{convert, status, wire};
use crate::domain::ids::AccountId;
use crate::flows::erase_account::{Outcome, erase_account};
use crate::flows::read_entitlements::{erasable, named_account};

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
        CallerKind::Service => format!("service {}:{}", caller.issuer, caller.subject),
        CallerKind::Operator(_) => format!("{}:{}", caller.issuer, caller.subject),
    };
    check(reference)?;
    let Some(account) = whose(door, caller, &request.account).await? else {
        return Ok(answer(Outcome::Unknown));
    };
    let outcome = erase_account(&door.core, account, &actor, reference)
        .await
        .map_err(status::from_storage)?;
    Ok(answer(outcome))
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
    if caller.kind == CallerKind::User {
        if !named.is_empty() {
            return Err(status::status(
                status::Reason::AccountNotAllowed,
                "only services may name an account; leave it empty",
            ));
        }
        if caller.own.is_some() {
            return Ok(Some(door.own(caller).await?.id));
        }
        return erasable(&door.core, &caller.issuer, &caller.subject)
            .await
            .map_err(status::from_storage);
    }
    if named.is_empty() {
        return Err(status::bad_request(
            "account",
            "name the account: issuer:subject or id",
        ));
    }
    if let Ok(id) = uuid::Uuid::parse_str(named) {
        return Ok(Some(AccountId(id)));
    }
    let found = named_account(&door.core, named)
        .await
        .map_err(status::from_read)?;
    Ok(found.map(|account| account.id))
}

fn answer(outcome: Outcome) -> wire::EraseAccountResponse {
    use wire::ErasureOutcome;
    let (outcome, at, purchases) = match outcome {
        Outcome::Erased { at, purchases } => (ErasureOutcome::Erased, Some(at), purchases),
        Outcome::AlreadyErased { at } => (ErasureOutcome::AlreadyErased, Some(at), 0),
        Outcome::Unknown => (ErasureOutcome::Unknown, None, 0),
    };
    wire::EraseAccountResponse {
        outcome: outcome.into(),
        erased_at: at.map(convert::timestamp),
        purchases: i32::try_from(purchases).unwrap_or(i32::MAX),
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
