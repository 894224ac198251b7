//! Two purchases that turn out to be one: coins stay credited once, and the money moves along.

use entitled::sandbox::{GooglePlayAction, GooglePlayBuy, VoidReason, VoidSource};

use crate::scene::Person;
use crate::support::World;

const CATALOG: &str = r#"
    [[apps]]
    id = "example-android"
    package_name = "com.example.app"
    [entitlements.pro_access]
    [credits.coins]
    [products.coins]
    kind = "consumable"
    credits = { coins = 100 }
    google_play = { product_id = "coins" }
"#;

/// Splits the one purchase as it would stand had its order been heard of by itself: a second chain
/// has the order's name and a row of money of its own.
const SPLIT: &str = "
    with born as (
        insert into purchase_chains (id, provider, app, head_kind, head_value, created_at)
        select gen_random_uuid(), c.provider, c.app, a.kind, a.value,
               c.created_at + $1::bigint * interval '1 hour'
        from purchase_chains c join chain_aliases a on a.chain_id = c.id and a.kind = 'order_id'
        returning id
    ), renamed as (
        update chain_aliases set chain_id = (select id from born) where kind = 'order_id'
    )
    insert into transactions (chain_id, environment, transaction_id, kind, product_id, purchased_at,
                              amount_micros, currency)
    select (select id from born), environment, of.id, kind, product_id, purchased_at,
           amount_micros, currency
    from transactions, lateral (values (transaction_id), ('GPA.of-the-other')) as of (id)";

async fn balance(alice: &Person) -> i64 {
    alice.now().await.credits.first().map_or(0, |c| c.balance)
}

/// The other chain is younger (it becomes part of the owned one), or older (the owned one becomes
/// part of it, with its owner and its credits).
async fn joined(hours: i64) {
    let world = World::with(|options| options.catalog = CATALOG.into()).await;
    let alice = world.person("alice").await;
    let buy = GooglePlayBuy {
        customer: "alice".into(),
        product_id: "coins".into(),
        quantity: Some(3),
        obfuscated_account_id: Some(alice.store_token.clone()),
        ..Default::default()
    };
    let bought = world.stores().buy_google_play(&buy).await.expect("bought");
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    assert_eq!(balance(&alice).await, 300);
    let pool = world.tables().await;
    let split = sqlx::query(SPLIT).bind(hours).execute(&pool).await;
    assert_eq!(split.expect("split").rows_affected(), 2);
    pool.close().await;

    world.command(&["resync", "dev:alice"]).await;
    world.settled().await;
    let chains = "select count(*) filter (where merged_into is null) || ' of ' || count(*) || ', '
         || count(owner_account_id) || ' owned' from purchase_chains";
    assert_eq!(world.row(chains).await, "1 of 2, 1 owned");
    assert_eq!(balance(&alice).await, 300, "credited once");
    let money = "select string_agg(concat_ws(' ', t.kind, t.quantity,
             case when c.merged_into is null then 'here' end), ', ' order by t.transaction_id <> 'GPA.of-the-other')
         from transactions t join purchase_chains c on c.id = t.chain_id";
    assert_eq!(world.row(money).await, "purchase 1 here, purchase 3 here");

    // What is taken back is taken back once, from entries that stayed where they were written.
    let refund = GooglePlayAction::Refund {
        purchase_token: bought.purchase_token.clone(),
        order_id: None,
        revoke: true,
        quantity: None,
        source: VoidSource::default(),
        reason: VoidReason::default(),
    };
    world.stores().google_play(refund).await.expect("refunded");
    world.settled().await;
    assert_eq!(balance(&alice).await, 0);
    let entries =
        "select string_agg(reason || ' ' || amount, ', ' order by id) from credit_entries";
    assert_eq!(world.row(entries).await, "purchase 300, refund -300");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_younger_purchase_without_owner_becomes_part_of_the_credited_one() {
    joined(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credited_purchase_becomes_part_of_an_older_one_with_its_owner() {
    joined(-1).await;
}
