//! Cursors of the feed: how far a reader has been told, tied to the database's history and to the
//! apps of the key. Opaque to callers; they hold nothing that the caller was not told, and open
//! nothing: whoever makes one up only misleads themselves.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Status;
use uuid::Uuid;

use super::pages::digest;
use super::status::{self, Reason};
use crate::domain::api_key::AppScope;
use crate::domain::horizon::{Horizon, Place, Position};
use crate::domain::ids::AccountId;

const VERSION: u8 = 1;
/// More transactions are never open at once.
const OPEN_MAX: u64 = 4_096;
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// Whose a cursor is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) epoch: &'a str,
    pub(super) scope: &'a AppScope,
}

pub(super) fn write(position: &Position, owner: Owner<'_>) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(digest(&owner.epoch).to_be_bytes());
    bytes.extend(digest(&owner.scope.ids()).to_be_bytes());
    put_horizon(&mut bytes, &position.seen);
    if let Some((target, told)) = &position.step {
        put_horizon(&mut bytes, target);
        put(&mut bytes, told.number);
        bytes.extend(told.account.0.as_bytes());
    }
    let check = digest(&bytes);
    bytes.extend(check.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position of a cursor of today's epoch; `None` for an empty one.
pub(super) fn read(text: &str, owner: Owner<'_>) -> Result<Option<Position>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let Some(found) = parse(text) else {
        return Err(status::status(
            Reason::CursorInvalid,
            "this is no cursor; send what a message or the last page of a list had",
        ));
    };
    if found.scope != digest(&owner.scope.ids()) {
        return Err(status::status(
            Reason::CursorInvalid,
            "the cursor was given to a key of other apps; list again",
        ));
    }
    if found.epoch != digest(&owner.epoch) {
        return Err(expired());
    }
    Ok(Some(found.position))
}

pub(super) fn expired() -> Status {
    status::status(
        Reason::CursorExpired,
        "the cursor is of another history of the database; list again",
    )
}

struct Found {
    epoch: u64,
    scope: u64,
    position: Position,
}

fn parse(text: &str) -> Option<Found> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (inside, check) = bytes.split_last_chunk::<8>()?;
    if digest(&inside) != u64::from_be_bytes(*check) {
        return None;
    }
    let (version, rest) = inside.split_first()?;
    let (epoch, rest) = rest.split_first_chunk::<8>()?;
    let (scope, mut rest) = rest.split_first_chunk::<8>()?;
    if *version != VERSION {
        return None;
    }
    let seen = take_horizon(&mut rest)?;
    let step = match rest.is_empty() {
        true => None,
        false => {
            let target = take_horizon(&mut rest)?;
            let number = take(&mut rest)?;
            let account = AccountId(Uuid::from_slice(rest).ok()?);
            target
                .includes(&seen)
                .then_some((target, Place { number, account }))
                .map(Some)?
        }
    };
    Some(Found {
        epoch: u64::from_be_bytes(*epoch),
        scope: u64::from_be_bytes(*scope),
        position: Position { seen, step },
    })
}

fn put_horizon(bytes: &mut Vec<u8>, horizon: &Horizon) {
    put(bytes, horizon.next());
    put(
        bytes,
        i64::try_from(horizon.open().len()).unwrap_or(i64::MAX),
    );
    let mut last = horizon.next();
    for number in horizon.open().iter().rev() {
        put(bytes, last - number);
        last = *number;
    }
}

fn take_horizon(bytes: &mut &[u8]) -> Option<Horizon> {
    let next = take(bytes)?;
    let count = u64::try_from(take(bytes)?).ok()?;
    if count > OPEN_MAX {
        return None;
    }
    let mut last = next;
    let open = (0..count).map(|_| {
        last = last.checked_sub(take(bytes)?)?;
        Some(last)
    });
    let open: Option<Vec<i64>> = open.collect();
    Some(Horizon::new(next, open?))
}

/// LEB128 of a number that is never negative.
fn put(bytes: &mut Vec<u8>, number: i64) {
    prost::encoding::encode_varint(number.unsigned_abs(), bytes);
}

fn take(bytes: &mut &[u8]) -> Option<i64> {
    let number = prost::encoding::decode_varint(bytes).ok()?;
    i64::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::chain::AppId;

    fn reason(refused: &Status) -> String {
        use tonic_types::StatusExt as _;
        let details = refused.get_details_error_info();
        details.map(|info| info.reason).unwrap_or_default()
    }

    #[test]
    fn a_cursor_is_read_by_whom_it_was_given_to_and_by_nobody_else() {
        let all = AppScope::all();
        let ios = AppScope::of(vec![AppId("ios".into())]);
        let owner = Owner {
            epoch: "one",
            scope: &all,
        };
        let seen = Horizon::new(1_000_000, vec![999_990, 999_995, 12]);
        let target = Horizon::new(1_000_020, vec![999_995, 1_000_001]);
        let told = Place {
            number: 999_990,
            account: AccountId(Uuid::from_u128(7)),
        };
        let positions = [
            Position::default(),
            Position::at(seen.clone()),
            Position {
                seen,
                step: Some((target, told)),
            },
        ];
        for position in positions {
            let cursor = write(&position, owner);
            assert_eq!(read(&cursor, owner).unwrap(), Some(position));
            let elsewhere = [
                (
                    Owner {
                        epoch: "two",
                        ..owner
                    },
                    "CURSOR_EXPIRED",
                ),
                (
                    Owner {
                        scope: &ios,
                        ..owner
                    },
                    "CURSOR_INVALID",
                ),
            ];
            for (other, expected) in elsewhere {
                assert_eq!(reason(&read(&cursor, other).unwrap_err()), expected);
            }
            // Whatever a bit is turned into, it is no cursor.
            let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let spoilt = URL_SAFE_NO_PAD.encode(&bytes);
                assert_eq!(reason(&read(&spoilt, owner).unwrap_err()), "CURSOR_INVALID");
            }
            for length in 1..cursor.len() {
                assert!(read(&cursor[..length], owner).is_err(), "{length}");
            }
        }
        assert_eq!(read("", owner).unwrap(), None);
        for text in ["nonsense", "e30", "\0", &"A".repeat(100_000)] {
            assert_eq!(reason(&read(text, owner).unwrap_err()), "CURSOR_INVALID");
        }
    }
}
