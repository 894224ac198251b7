//! The authorisation table: for every RPC whom it serves, and whose object may be named in it.
//!
//! `guard` keeps it for every call before any handler runs; `door` keeps whose account is named. An
//! RPC without a row is not served at all, and a test fails that reads the descriptor set.

use std::collections::HashMap;
use std::sync::LazyLock;

pub use crate::domain::role::Role;

/// One RPC.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Service and method: `EntitlementService/BindPurchase`.
    pub rpc: &'static str,
    /// Whom it serves.
    pub serves: Serves,
    /// Whose object it is about.
    pub about: About,
    /// What it is to a key of some of the apps.
    pub app_keys: AppKeys,
}

/// Whom an RPC serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Everyone, without a credential: what makes or renews one.
    Everyone,
    /// Whoever has a credential.
    Callers,
    /// Devices for themselves, services, and operators of this role or a higher one.
    Accounts(Operators),
    /// Backends alone.
    Services,
    /// Operators of this role or a higher one.
    Operators(Role),
}

/// Whether an RPC of accounts serves operators too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// They have no business with it.
    Never,
    /// From this role on.
    From(Role),
}

/// Whose object an RPC is about. Devices name nobody: theirs is their own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nobody's.
    Nobody,
    /// One account's, which services and operators name.
    Account,
    /// One account's, or everybody's if services or operators name none.
    AnyAccount,
    /// Several accounts', which services name.
    Accounts,
    /// Everybody's: whom a caller may know is told by what it is to a key of some apps.
    Everybody,
    /// A purchase's, whoever owns it.
    Purchase,
}

/// What an RPC is to a service key that was made for some of the apps only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppKeys {
    /// Served whole: what belongs to the account is shared by all apps, as it is for its devices.
    Whole,
    /// Served as far as purchases of those apps go.
    TheirPurchases,
    /// Not served: it would reach beyond those apps.
    Refused,
}

const fn row(rpc: &'static str, serves: Serves, about: About, app_keys: AppKeys) -> Row {
    Row {
        rpc,
        serves,
        about,
        app_keys,
    }
}

use About::{Account, AnyAccount, Everybody, Nobody, Purchase};
use AppKeys::{Refused, TheirPurchases, Whole};
use Operators::{From, Never};
use Role::{Admin, Support, Viewer};
use Serves::{Accounts, Callers, Everyone, Services};

/// For operators alone; no key of some apps is an operator's.
const fn operators(rpc: &'static str, role: Role, about: About) -> Row {
    row(rpc, Serves::Operators(role), about, Refused)
}

/// The table.
#[rustfmt::skip]
pub const POLICY: &[Row] = &[
    row("EntitlementService/BindPurchase", Accounts(Never), Account, TheirPurchases),
    row("EntitlementService/RestorePurchases", Accounts(Never), Account, TheirPurchases),
    row("EntitlementService/PreflightPurchase", Accounts(From(Support)), Account, TheirPurchases),
    row("EntitlementService/GetEntitlements", Accounts(From(Viewer)), Account, Whole),
    row("EntitlementService/BatchGetEntitlements", Services, About::Accounts, Whole),
    row("EntitlementService/ListAccounts", Services, Everybody, TheirPurchases),
    row("EntitlementService/WatchAccounts", Services, Everybody, TheirPurchases),
    row("EntitlementService/RefreshSubscription", Accounts(From(Support)), Account, Whole),
    row("EntitlementService/IssueLease", Accounts(Never), Account, Whole),
    row("EntitlementService/WatchEntitlements", Accounts(From(Viewer)), Account, Whole),
    row("EntitlementService/ListProducts", Callers, Nobody, Whole),
    row("EntitlementService/SignOffer", Accounts(From(Support)), Account, TheirPurchases),
    row("AccountService/CreateAnonymous", Everyone, Nobody, Whole),
    row("AccountService/RefreshToken", Everyone, Nobody, Whole),
    row("AccountService/MintToken", Services, Account, Refused),
    row("AccountService/LinkIdentity", Accounts(Never), Account, Refused),
    row("AccountService/RegisterStoreToken", Services, Account, Refused),
    row("AccountService/EraseAccount", Accounts(From(Admin)), Account, Refused),
    row("AccountService/ExportAccount", Accounts(From(Support)), Account, Refused),
    operators("AccountService/ListErasures", Viewer, Nobody),
    row("PurchaseService/ListTransactions", Accounts(From(Viewer)), AnyAccount, TheirPurchases),
    row("PurchaseService/SetConsumption", Accounts(From(Support)), Account, TheirPurchases),
    row("PurchaseService/ClaimDelivery", Services, Account, TheirPurchases),
    row("PurchaseService/ListDeliveries", Services, AnyAccount, TheirPurchases),
    operators("KeyService/CreateApiKey", Admin, Nobody),
    operators("KeyService/ListApiKeys", Admin, Nobody),
    operators("KeyService/RevokeApiKey", Admin, Nobody),
    operators("SupportService/FindAccount", Viewer, Nobody),
    operators("SupportService/GetTimeline", Viewer, AnyAccount),
    operators("SupportService/ExplainEntitlement", Viewer, Account),
    operators("SupportService/GrantEntitlement", Support, Account),
    operators("SupportService/RevokeGrant", Support, Account),
    operators("SupportService/TransferPurchase", Support, Purchase),
    operators("SupportService/Resync", Support, Account),
    operators("SupportService/Replay", Support, AnyAccount),
    operators("SupportService/ActAtStore", Support, Purchase),
    operators("CatalogService/GetCatalog", Viewer, Nobody),
    operators("CatalogService/ListCatalogVersions", Viewer, Nobody),
    operators("CatalogService/PlanCatalog", Viewer, Nobody),
    operators("CatalogService/ApplyCatalog", Admin, Nobody),
];

/// What the paths of our services begin with.
const OURS: &str = "/entitled.v1.";

/// What the table says of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ruling {
    /// No service of ours: health, reflection.
    NotOurs,
    /// Ours, and in no row.
    Unknown,
    Row(&'static Row),
}

pub(super) fn ruling(path: &str) -> Ruling {
    static ROWS: LazyLock<HashMap<&'static str, &'static Row>> =
        LazyLock::new(|| POLICY.iter().map(|row| (row.rpc, row)).collect());
    match path.strip_prefix(OURS) {
        None => Ruling::NotOurs,
        Some(rpc) => ROWS
            .get(rpc)
            .map_or(Ruling::Unknown, |row| Ruling::Row(row)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rpc_has_one_row_and_a_path_finds_it() {
        for row in POLICY {
            let same = POLICY.iter().filter(|other| other.rpc == row.rpc);
            assert_eq!(same.count(), 1, "{}", row.rpc);
            let found = ruling(&format!("/entitled.v1.{}", row.rpc));
            assert!(matches!(found, Ruling::Row(found) if found.rpc == row.rpc));
        }
        for path in [
            "/entitled.v1.SupportService/getTimeline",
            "/entitled.v1.SupportService/GetTimeline/",
            "/entitled.v1.SupportService//GetTimeline",
            "/entitled.v1.",
        ] {
            assert!(matches!(ruling(path), Ruling::Unknown), "{path}");
        }
        let health = "/grpc.health.v1.Health/Check";
        assert!(matches!(ruling(health), Ruling::NotOurs));
    }
}
