//! Reading scenarios, playing them, and finding what differs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::compare::At;
use super::*;
use crate::clock::VirtualClock;
use crate::sandbox::{Options, Sandbox, Store};

const HEAD: &str = r#"
title = "t"
products.monthly = { gives = ["pro"], period = "1 month", app_store = { id = "m" }, google_play = { id = "m", base_plan = "b" } }
products.coins = { credits = { coins = 100 }, kind = "consumable", app_store = { id = "coins" } }
customers.ann = {}
customers.ben = { account = "ann" }
accounts = ["eve"]
"#;

fn parse(rest: &str) -> Result<Scenario, Vec<ScenarioError>> {
    Scenario::parse("s.toml", &format!("{HEAD}{rest}"))
}

fn problems(rest: &str) -> String {
    let problems = parse(rest).expect_err("it is wrong");
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn a_mistake_is_named_with_its_place_and_what_to_do() {
    let buy = "{ buy = \"monthly\", by = \"ann\", on = \"app_store\", as = \"p\" }";
    let expect = "{ expect = { ann = [\"pro\"] } }";
    let cases = [
        ("", "no steps"),
        ("steps = []", "nothing is expected"),
        (
            "steps = [\n  { buys = \"monthly\" },\n]",
            "s.toml:9:3: no verb in this step; one of buy, cancel",
        ),
        (
            "steps = [{ cancel = \"p\", pause = \"p\" }]",
            "one verb per step, not cancel and pause",
        ),
        (
            "steps = [\n  { advance = \"1 month\", by = \"ann\" },\n]",
            "s.toml:9:26: unknown field `by`, expected `advance`",
        ),
        (
            "steps = [{ advance = \"a while\" }]",
            "\"a while\" is no length of time; write \"3 days\"",
        ),
        ("steps = [{ at = \"soon\" }]", "no moment; write 2027-02-10"),
        (
            "steps = [{ cancel = \"p\" }]",
            "no step before this one has as = \"p\"; there is none",
        ),
        (
            "steps = [{ expect = { zoe = [] } }]",
            "no account \"zoe\"; there is ann, eve",
        ),
        (
            "steps = [{ expect = { ann = [\"x\"] } }]",
            "no product gives \"x\"; there is pro",
        ),
        (
            "steps = [{ expect = { ann = { pro = \"sometimes\" } } }]",
            "unknown variant `sometimes`",
        ),
        (
            "steps = [{ buy = \"gold\", by = \"ann\", on = \"app_store\", as = \"p\" }]",
            "no product \"gold\"",
        ),
        (
            "steps = [{ buy = \"coins\", by = \"ann\", on = \"google_play\", as = \"p\" }]",
            "is not sold there",
        ),
        (
            "steps = [{ buy = \"monthly\", by = \"ann\", on = \"app_store\", as = \"p\", pending = true }]",
            "\"pending\" means nothing at this store",
        ),
    ];
    for (rest, expected) in cases {
        let found = problems(rest);
        assert!(found.contains(expected), "{rest}\n{found}");
    }
    let bind = |how: &str| format!("steps = [{buy}, {{ bind = \"p\", {how} }}, {expect}]");
    assert!(problems(&bind("ids_of = \"p\"")).contains("needs via = \"superwall\""));
    let stolen = "via = \"superwall\", ids_of = \"q\"";
    assert!(problems(&bind(stolen)).contains("no step before this one has as = \"q\""));
    let untold = format!("told_by = []\nsteps = [{buy}, {expect}]");
    assert!(problems(&untold).contains("told_by names nobody"));
    let twice = format!("steps = [{buy}, {buy}, {expect}]");
    assert!(problems(&twice).contains("another purchase is called \"p\""));
    let paused = format!("steps = [{buy}, {{ pause = \"p\", for = \"1 month\" }}, {expect}]");
    assert!(problems(&paused).contains("not bought at the store that can do this"));
    let gap = |gap: &str| format!("expected_gap = [{gap}]\nsteps = [{buy}, {expect}]");
    assert!(problems(&gap("{ step = \"x\", needs = \"n\" }")).contains("no step has step = \"x\""));
    assert!(problems(&gap("{ step = \"end\", needs = \"n\" }")).contains("say whose"));
    let wrong = gap("{ step = \"end\", account = \"eve\", entitlement = \"gold\", needs = \"n\" }");
    assert!(problems(&wrong).contains("\"eve\" can have no \"gold\""));
}

#[test]
fn only_who_was_nobody_becomes_part_of_somebody() {
    let with = |steps: &str| problems(&format!("anonymous = [\"nobody\"]\nsteps = [{steps}]"));
    let cases = [
        (
            "{ link = \"ann\", to = \"eve\" }",
            "no anonymous account \"ann\"; there is nobody",
        ),
        (
            "{ link = \"nobody\", to = \"nobody\" }",
            "\"nobody\" is anonymous",
        ),
        ("{ link = \"nobody\", to = \"zoe\" }", "no account \"zoe\""),
        (
            "{ link = \"nobody\", to = \"ann\" }, { expect = { nobody = [\"pro\"] } }",
            "\"nobody\" has become part of \"ann\"",
        ),
    ];
    for (steps, expected) in cases {
        let found = with(steps);
        assert!(found.contains(expected), "{steps}\n{found}");
    }
}

/// What a linked account had, and what its name stands on at the stores, is the other one's.
#[tokio::test]
async fn a_link_takes_purchases_names_and_devices_along() {
    let buy = |by: &str, name: &str| {
        format!("{{ buy = \"monthly\", by = \"{by}\", on = \"google_play\", as = \"{name}\" }}")
    };
    let scenario = parse(&format!(
        "customers.zed = {{ account = \"nobody\" }}\nanonymous = [\"nobody\"]\nsteps = [{}, {}, {}]",
        buy("zed", "one"),
        buy("ann", "two"),
        "{ expect = { ann = [\"pro\"], nobody = [\"pro\"] } }",
    ))
    .unwrap();
    let mut player = player(&scenario).await;
    player.set_store_token("nobody", "9d6c8a86-3c3f-4c29-9d56-02c0f2c3a1bb");
    for placed in &scenario.steps {
        player.play(&placed.step).await.unwrap();
    }
    assert!(player.truth().unwrap().is_on("nobody", "pro"));
    player.link("nobody", "ann");
    let truth = player.truth().unwrap();
    assert!(!truth.is_on("nobody", "pro"));
    assert_eq!(truth.on["ann"]["pro"], 2);
    assert_eq!(player.account_of("zed"), "ann");
    assert!(player.is_linked("nobody") && !player.is_linked("ann"));
}

#[test]
fn several_mistakes_are_told_at_once() {
    let found = problems("steps = [\n{ advance = \"x\" },\n{ at = \"y\" },\n]");
    assert!(
        found.contains("s.toml:9:") && found.contains("s.toml:10:"),
        "{found}"
    );
}

const ANN_TOKEN: &str = "0b5c8a86-3c3f-4c29-9d56-02c0f2c3a1aa";

async fn player(scenario: &Scenario) -> Player<'_> {
    let clock = VirtualClock::stopped(scenario.start);
    let options = Options {
        seed: scenario.seed,
        ..Options::new(scenario.store_setup(), clock)
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let mut player = Player::new(scenario, sandbox).unwrap();
    player.set_store_token("ann", ANN_TOKEN);
    player
}

async fn play_all(scenario: &Scenario) -> Player<'_> {
    let mut player = player(scenario).await;
    for placed in &scenario.steps {
        let played = player.play(&placed.step).await;
        played.unwrap_or_else(|error| panic!("{}: {error}", placed.text));
    }
    player
}

/// What a server would tell that knows everything.
fn omniscient(truth: &truth::Truth, account: &str) -> Told {
    let access = |is| Access {
        is,
        until: None,
        renews: None,
    };
    let pro = match truth.is_on(account, "pro") {
        true => access(Status::Subscription),
        false => access(Status::Never),
    };
    Told {
        entitlements: [("pro".to_owned(), pro)].into(),
        counted: [("coins".to_owned(), truth.count(account, "coins"))].into(),
    }
}

fn verdicts(scenario: &Scenario, at: At<'_>, truth: &truth::Truth, told: &Told) -> Vec<Verdict> {
    let compared = compare(scenario, at, truth, "ann", told);
    compared
        .into_iter()
        .map(|comparison| comparison.verdict)
        .collect()
}

const STORY: &str = r#"
expected_gap = [{ step = "end", account = "ann", entitlement = "coins", needs = "consumables" }]
steps = [
  { buy = "monthly", by = "ann", on = "app_store", as = "p" },
  { buy = "coins", by = "ben", on = "app_store", as = "c" },
  { advance = "3 months" },
  { cancel = "p" },
  { expect = { ann = { pro = { is = "subscription", until = 2027-05-01T09:00:00Z }, coins = 100 } }, step = "here" },
]
"#;

#[tokio::test]
async fn truth_is_what_the_accounts_own_whoever_of_them_paid() {
    let scenario = parse(STORY).unwrap();
    let mut player = play_all(&scenario).await;
    let truth = player.truth().unwrap();
    assert_eq!(truth.purchases, 2);
    assert!(truth.is_on("ann", "pro"));
    assert_eq!(truth.count("ann", "coins"), 100, "ben is signed in as ann");
    assert!(!truth.is_on("eve", "pro"));
    // A bind that the server granted outweighs what the store's record names.
    let id = player.bought("p").unwrap().id.clone();
    player.set_owner(Store::AppStore, &id, "eve");
    let truth = player.truth().unwrap();
    assert!(truth.is_on("eve", "pro") && !truth.is_on("ann", "pro"));
    player.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_difference_is_the_servers_the_scenarios_or_a_gap() {
    let scenario = parse(STORY).unwrap();
    let player = play_all(&scenario).await;
    let truth = player.truth().unwrap();
    let mut told = omniscient(&truth, "ann");
    let end = At {
        line: 0,
        step: Some("end"),
        expected: None,
        behind: false,
    };
    let gap_closed = Verdict::GapClosed {
        needs: "consumables".into(),
    };
    assert_eq!(
        verdicts(&scenario, end, &truth, &told),
        [Verdict::Equal, gap_closed]
    );
    told.counted.clear();
    let gap = Verdict::Gap {
        needs: "consumables".into(),
    };
    assert_eq!(
        verdicts(&scenario, end, &truth, &told),
        [Verdict::Equal, gap]
    );

    let Some(Step::Expect(expect)) = scenario.steps.last().map(|placed| &placed.step) else {
        panic!("it ends with an expectation");
    };
    let here = At {
        line: 7,
        step: Some("here"),
        expected: Some(&expect.expect),
        behind: false,
    };
    let found = compare(&scenario, here, &truth, "ann", &told);
    assert_eq!(
        found[0].verdict,
        Verdict::ServerDiffers,
        "it does not tell until when"
    );
    assert_eq!(found[0].expected, "subscription, until 2027-05-01 09:00:00");
    assert_eq!(
        found[1].verdict,
        Verdict::ServerDiffers,
        "no gap is named here"
    );
    let until = Moment("2027-05-01T09:00:00Z".parse().unwrap());
    told.entitlements.get_mut("pro").unwrap().until = Some(until);
    told.counted.insert("coins".into(), 100);
    assert_eq!(
        verdicts(&scenario, here, &truth, &told),
        [Verdict::Equal, Verdict::Equal]
    );

    // Nobody told eve anything: everything that the scenario did not grant her must be off.
    let silent = compare(&scenario, here, &truth, "eve", &Told::default());
    assert_eq!(silent[0].verdict, Verdict::ServerDiffers);
    assert_eq!(silent[0].told, "not told");

    // The scenario claims what is not true.
    let nothing = truth::Truth::default();
    assert_eq!(
        verdicts(&scenario, here, &nothing, &told),
        [Verdict::ScenarioDiffers, Verdict::ScenarioDiffers]
    );
    let behind = At {
        behind: true,
        ..here
    };
    assert_eq!(
        verdicts(&scenario, behind, &nothing, &told),
        [Verdict::Behind, Verdict::Behind]
    );
    player.sandbox.shutdown().await;
}

#[tokio::test]
async fn proofs_are_what_the_customers_devices_hold() {
    let rest = r#"steps = [
      { buy = "monthly", by = "ann", on = "app_store", as = "p" },
      { buy = "monthly", by = "ann", on = "google_play", as = "q" },
      { bind = "p" }, { bind = "q" }, { bind = "p", bare_id = true },
      { expect = {} },
    ]"#;
    let scenario = parse(rest).unwrap();
    let player = play_all(&scenario).await;
    let held = player.proofs_of("ann").unwrap();
    assert_eq!(held.len(), 2);
    let proof = |position: usize| {
        let Step::Bind(bind) = &scenario.steps[position].step else {
            panic!("a bind");
        };
        player.proof(bind).unwrap()
    };
    let (store, id, signed) = proof(2);
    assert!(matches!(signed, Proof::SignedTransaction(jws) if jws.split('.').count() == 3));
    assert_eq!(
        (store, &id),
        (Store::AppStore, &player.bought("p").unwrap().id)
    );
    let (_, token, proof_of_token) = proof(3);
    let package_name = "com.example.app".to_owned();
    assert_eq!(
        proof_of_token,
        Proof::PurchaseToken {
            package_name,
            token
        }
    );
    assert_eq!(proof(4).2, Proof::TransactionId(id));
    player.sandbox.shutdown().await;
}
