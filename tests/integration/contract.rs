//! What every store must do behind our doors: one suite, run over each of them.

mod lifecycle;
mod shops;
mod trust;

use entitled::proto::{BindPurchaseResponse, Entitlement, EntitlementSnapshot};
use entitled::sandbox::{PurchaseTruth, Store};
use tonic::Status;

use crate::support::{Device, World, entitlement};

/// The example catalog's products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Product {
    Monthly,
    Yearly,
    /// Bought once, for ever.
    Export,
}

/// A purchase as its buyer holds it.
#[derive(Clone, Debug)]
struct Bought {
    /// What the store calls it.
    id: String,
    /// What the app hands to the server.
    proof: String,
}

/// A store as its customers know it; two real ones stand behind it.
trait Shop {
    const STORE: Store;
    /// Whether the store takes back what is not acknowledged.
    const WANTS_ACKNOWLEDGEMENT: bool;

    /// A customer buys; `account` is what the app names its account with.
    async fn buy(world: &World, customer: &str, account: Option<&str>, product: Product) -> Bought;

    /// The customer's app hands the proof over.
    async fn bind(
        world: &World,
        subject: &str,
        proof: &str,
    ) -> Result<BindPurchaseResponse, Status>;

    /// The customer turns renewal off.
    async fn cancel(world: &World, bought: &Bought);

    /// The store gives the money back.
    async fn refund(world: &World, bought: &Bought);

    /// Texts that are no proof of anything, made from a genuine one.
    fn forged_proofs(world: &World, genuine: &Bought) -> Vec<String>;

    /// Sends the latest notification as somebody else would; the answer's status.
    async fn send_as_a_stranger(world: &World) -> u16;
}

/// Runs each test of the contract over each store.
macro_rules! contract {
    ($($name:ident)+) => {
        mod app_store {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name::<super::super::shops::AppStore>().await;
            })+
        }
        mod google_play {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name::<super::super::shops::GooglePlay>().await;
            })+
        }
    };
}
use contract;

/// The only purchase of a customer, as the store knows it.
fn truth(world: &World, customer: &str) -> PurchaseTruth {
    world
        .stack
        .sandbox
        .purchases(customer)
        .pop()
        .expect("a purchase")
}

fn store_token(device: &Device) -> String {
    device.latest.account.clone().expect("account").store_token
}

fn pro(snapshot: &EntitlementSnapshot) -> &Entitlement {
    entitlement(snapshot, "pro_access")
}

/// All calls to the stores so far.
fn calls(world: &World) -> u64 {
    world.stack.sandbox.store_calls().values().sum()
}
