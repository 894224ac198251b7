//! API keys: how one is written, what it may be, and when a name may have another.
//!
//! `entitled_svc_` or `entitled_op_`, ten characters that name the key, 43 that are its secret
//! (256 bits), six of checksum: scanners of repositories and logs find one without asking anybody.

use std::sync::Arc;

use super::chain::AppId;
use super::planted::{self, Bug};
use super::role::Role;

const SERVICE_PREFIX: &str = "entitled_svc_";
const OPERATOR_PREFIX: &str = "entitled_op_";
/// What every key begins with.
pub(crate) const PREFIX: &str = "entitled_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_CHARS: usize = 10;
const SECRET_CHARS: usize = 43;
const CHECK_CHARS: usize = 6;
/// Characters to draw for a new key.
pub(crate) const DRAWN: usize = ID_CHARS + SECRET_CHARS;
const NAME_BYTES_MAX: usize = 64;
/// Keys of one name that are live at once: the old one and the one that replaces it.
pub(crate) const LIVE_PER_NAME_MAX: usize = 2;
/// Live keys of a deployment: each replica holds them all.
pub(crate) const LIVE_MAX: usize = 1_000;

/// What a key makes of whoever holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Service,
    Operator(Role),
}

impl KeyKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Service => SERVICE_PREFIX,
            Self::Operator(_) => OPERATOR_PREFIX,
        }
    }

    /// The two words that stand for it in the database.
    pub(crate) fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Service => ("service", None),
            Self::Operator(role) => ("operator", Some(role.as_str())),
        }
    }

    pub(crate) fn parse(kind: &str, role: Option<&str>) -> Option<Self> {
        match (kind, role) {
            ("service", None) => Some(Self::Service),
            ("operator", Some(role)) => Role::parse(role).map(Self::Operator),
            _ => None,
        }
    }
}

/// The apps whose purchases a caller may act on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct AppScope(Option<Arc<[AppId]>>);

impl AppScope {
    /// Nothing is left out.
    pub(crate) fn all() -> Self {
        Self(None)
    }

    /// Those apps; none named: all.
    pub(crate) fn of(mut apps: Vec<AppId>) -> Self {
        // Two keys of the same apps may do the same, in whatever order those are named.
        apps.sort();
        apps.dedup();
        Self((!apps.is_empty()).then(|| apps.into()))
    }

    pub(crate) fn is_all(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn allows(&self, app: &AppId) -> bool {
        let within = |apps: &Arc<[AppId]>| apps.contains(app);
        self.0.as_ref().is_none_or(within) || planted::is(Bug::KeyReachesEveryApp)
    }

    /// The catalog's ids; `None`: every app.
    pub(crate) fn ids(&self) -> Option<Vec<String>> {
        let apps = self.0.as_ref()?;
        Some(apps.iter().map(|app| app.0.clone()).collect())
    }
}

/// A key as it is told to its holder, once.
pub(crate) struct Written {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// Writes a key of what was drawn: numbers below 62, evenly.
pub(crate) fn write(kind: KeyKind, drawn: &[u8; DRAWN]) -> Written {
    let drawn: String = drawn.iter().map(|&number| letter(number)).collect();
    let id = drawn[..ID_CHARS].to_owned();
    let body = format!("{}{drawn}", kind.prefix());
    let text = format!("{body}{}", checksum(&body));
    Written { id, text }
}

fn letter(number: u8) -> char {
    char::from(ALPHABET[usize::from(number) % ALPHABET.len()])
}

/// The id of what may be a key; `None` if nobody can have been given it.
pub(crate) fn id_of(text: &str) -> Option<&str> {
    let drawn = text
        .strip_prefix(SERVICE_PREFIX)
        .or_else(|| text.strip_prefix(OPERATOR_PREFIX))?;
    let plain = drawn.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if drawn.len() != DRAWN + CHECK_CHARS || !plain {
        return None;
    }
    let (body, check) = text.split_at(text.len() - CHECK_CHARS);
    (checksum(body) == check).then(|| &drawn[..ID_CHARS])
}

/// CRC-32 (ISO-HDLC) in six characters: finds typing mistakes and look-alikes, guards nothing.
fn checksum(body: &str) -> String {
    let mut rest = crc32(body.as_bytes());
    let mut letters = [0; CHECK_CHARS];
    for place in letters.iter_mut().rev() {
        *place = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    letters.iter().copied().map(char::from).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// Whether a name can be a key's: it stands in events as `key:NAME`.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// What a key may do, whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Powers {
    pub(crate) kind: KeyKind,
    pub(crate) apps: AppScope,
}

/// Why a name gets no further key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyRefused {
    #[error("1 to {NAME_BYTES_MAX} of a-z, 0-9, `_` and `-`")]
    Name,
    #[error("operators are for all apps; only a service's key can be for some")]
    AppsOfOperator,
    #[error("a live key of this name may do something else; revoke it, or take another name")]
    Differs,
    #[error(
        "this name has {LIVE_PER_NAME_MAX} live keys already; revoke the one that is not used any \
         more"
    )]
    TwoLive,
    #[error("there are {LIVE_MAX} live keys; revoke some")]
    Full,
}

/// Whether a name may have a further key beside its live ones.
pub(crate) fn may_have(
    name: &str,
    powers: &Powers,
    live_of_name: &[Powers],
    live: usize,
) -> Result<(), KeyRefused> {
    if !is_name(name) {
        return Err(KeyRefused::Name);
    }
    if matches!(powers.kind, KeyKind::Operator(_)) && !powers.apps.is_all() {
        return Err(KeyRefused::AppsOfOperator);
    }
    // An event that says `key:NAME` must leave no doubt what its holder could do.
    if live_of_name.iter().any(|other| other != powers) {
        return Err(KeyRefused::Differs);
    }
    if live_of_name.len() >= LIVE_PER_NAME_MAX {
        return Err(KeyRefused::TwoLive);
    }
    if live >= LIVE_MAX {
        return Err(KeyRefused::Full);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: KeyKind = KeyKind::Service;
    const ADMIN: KeyKind = KeyKind::Operator(Role::Admin);

    #[test]
    fn a_key_is_recognised_and_a_spoilt_one_is_not() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        for kind in [SERVICE, ADMIN] {
            let mut drawn = [0; DRAWN];
            for (place, number) in drawn.iter_mut().enumerate() {
                *number = (place * 7 % 62) as u8;
            }
            let key = write(kind, &drawn);
            assert!(key.text.starts_with(PREFIX));
            assert_eq!(id_of(&key.text), Some(key.id.as_str()));
            for place in 0..key.text.len() {
                let mut spoilt = key.text.clone().into_bytes();
                spoilt[place] = if spoilt[place] == b'x' { b'y' } else { b'x' };
                let spoilt = String::from_utf8(spoilt).unwrap();
                assert_eq!(id_of(&spoilt), None, "{spoilt}");
            }
            assert_eq!(id_of(&key.text[1..]), None);
            assert_eq!(id_of(&key.text[..key.text.len() - 1]), None);
            assert_eq!(id_of(&format!("{}0", key.text)), None);
        }
        for text in [
            "",
            "entitled_svc_",
            "eyJhbGciOiJIUzI1NiJ9.e30.x",
            "entitled_svc_é",
        ] {
            assert_eq!(id_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_has_two_live_keys_of_one_kind() {
        let apps = AppScope::of(vec![AppId("ios".into())]);
        let of = |kind, apps: &AppScope| Powers {
            kind,
            apps: apps.clone(),
        };
        let (all, some) = (of(SERVICE, &AppScope::all()), of(SERVICE, &apps));
        let one = std::slice::from_ref(&all);
        assert_eq!(may_have("backend", &all, &[], 0), Ok(()));
        assert_eq!(may_have("backend", &all, one, 1), Ok(()));
        let two = [all.clone(), all.clone()];
        let cases = [
            (may_have("backend", &all, &two, 2), KeyRefused::TwoLive),
            (may_have("backend", &some, one, 1), KeyRefused::Differs),
            (may_have("Back end", &all, &[], 0), KeyRefused::Name),
            (may_have("", &all, &[], 0), KeyRefused::Name),
            (
                may_have("sue", &of(ADMIN, &apps), &[], 0),
                KeyRefused::AppsOfOperator,
            ),
            (may_have("backend", &all, &[], LIVE_MAX), KeyRefused::Full),
        ];
        for (told, expected) in cases {
            assert_eq!(told, Err(expected));
        }
    }

    #[test]
    fn a_scope_of_no_app_is_all_apps() {
        let ios = AppId("ios".into());
        assert!(AppScope::of(Vec::new()).allows(&ios));
        assert!(AppScope::of(vec![ios.clone()]).allows(&ios));
        assert!(!AppScope::of(vec![AppId("android".into())]).allows(&ios));
        assert_eq!(AppScope::all().ids(), None);
        let of = |ids: &[&str]| AppScope::of(ids.iter().map(|id| AppId((*id).into())).collect());
        assert_eq!(of(&["web", "ios", "web"]), of(&["ios", "web"]));
        let android = AppScope::of(vec![AppId("android".into())]);
        let reached = planted::with(Bug::KeyReachesEveryApp, || android.allows(&ios));
        assert!(reached, "the bug is seen");
    }
}
