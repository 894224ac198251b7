//! What the commands of support print, word by word. `UPDATE_GOLDEN=1` writes the files anew.

use std::path::PathBuf;

use chrono::TimeDelta;

use crate::scene::MONTHLY;
use crate::support::World;

/// Ids, minutes and the width of columns differ from run to run, and which of two signals came
/// first; everything else is the same.
fn redacted(printed: &str, names: &[(&str, &str)]) -> String {
    let mut text = printed.to_owned();
    for (value, name) in names {
        text = text.replace(value, name);
    }
    let borders = ['┌', '╞', '└'];
    let lines = text.lines().filter(|line| !line.starts_with(borders));
    lines
        .map(line)
        .fold(String::new(), |text, line| text + &line + "\n")
}

fn line(printed: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in printed.split(' ').filter(|word| !word.is_empty()) {
        let clock = matches!(word.len(), 5 | 8) && word.as_bytes()[2] == b':';
        words.push(match clock {
            true => format!("{}h", &word[..2]),
            false => word.to_owned(),
        });
    }
    let line = words.join(" ");
    let decided = line.strip_prefix("decided by: ").and_then(|rest| {
        let (at, rest) = rest.split_once(" UTC, ")?;
        let (_signal, rest) = rest.rsplit_once(": ")?;
        let (what, _number) = rest.rsplit_once(" (event ")?;
        Some(format!(
            "decided by: {at} UTC, <signal>: {what} (event <number>)"
        ))
    });
    decided.unwrap_or(line)
}

fn check(name: &str, printed: &str, names: &[(&str, &str)]) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/integration/tickets/golden")
        .join(format!("{name}.txt"));
    let told = redacted(printed, names);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &told).expect("written");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(told, expected, "{name}: {}", file.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_commands_of_support_print() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let apple = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    let month = TimeDelta::days(32);
    world.stores().advance_by(month).await.expect("a month");
    world.settled().await;
    world
        .stores()
        .refund_app_store(&apple.transaction_id)
        .await
        .expect("refunded");
    world.settled().await;
    let chains = [
        world.chain_of(&apple.original_transaction_id).await,
        world.chain_of(&google.purchase_token).await,
    ];
    let renewal = world
        .row(
            "select transaction_id from transactions where kind = 'renewal' and storefront = 'USA'",
        )
        .await;
    let names = [
        (alice.account.as_str(), "<account>"),
        (chains[0].as_str(), "<apple purchase>"),
        (chains[1].as_str(), "<google purchase>"),
        (google.order_id.as_str(), "<order>"),
        (apple.transaction_id.as_str(), "<transaction>"),
        (renewal.as_str(), "<renewal>"),
    ];
    let run = async |name: &str, arguments: &[&str]| {
        check(name, &world.command(arguments).await, &names);
    };
    run("explain", &["explain", "dev:alice", "pro_access"]).await;
    let at = "2027-01-15T12:00:00Z";
    let then = ["explain", "dev:alice", "pro_access", "--at", at];
    run("explain_at", &then).await;
    run("transactions", &["transactions", "dev:alice"]).await;
    run(
        "entitlements_at",
        &["entitlements", "dev:alice", "--at", at],
    )
    .await;
    let purchase = google.purchase_token.as_str();
    let cancel = [
        "store",
        "cancel",
        purchase,
        "--reason",
        "the customer asked",
        "--operation-id",
        "ticket-4711",
    ];
    run("store_cancel", &cancel).await;
    let refund = [
        "store",
        "refund",
        &apple.transaction_id,
        "--order",
        "MW1",
        "--reason",
        "the customer asked",
        "--operation-id",
        "ticket-4712",
    ];
    let refused = world.try_command(&refund).await.expect_err("Apple alone");
    check("store_refused", &refused, &names);
    world.stop().await;
}
