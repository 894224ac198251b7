//! Plays one scenario against a server, and compares at every moment that the scenario chose.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use chrono::TimeDelta;

use super::server::{Server, wire};
use crate::proto::PurchaseProof;
use crate::proto::preflight_purchase_request::About;
use crate::sandbox::Sandbox;
use crate::sandbox::scenario::{
    At, Bind, Comparison, Expect, Link, Paywall, Placed, Player, Preflight, Restore, Scenario,
    Step, Wanted, check_behind, compare, compare_answer, compare_foretold, compare_paywall,
};

/// Pause between two looks at a server that is not as expected yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How far the server's clock may be from the stores'.
const DRIFT_MAX: TimeDelta = TimeDelta::minutes(5);
/// How long a server may take to follow the stores' clock.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(5);

/// A scenario that was played to its end.
#[derive(Debug)]
pub struct Played {
    /// Everything that was compared, in order.
    pub comparisons: Vec<Comparison>,
    /// How often the stores told the server something.
    pub notifications: usize,
    /// Machine time it took.
    pub took: Duration,
}

impl Played {
    /// What makes the run fail.
    pub fn failures(&self) -> impl Iterator<Item = &Comparison> {
        self.comparisons.iter().filter(|c| c.verdict.is_failure())
    }

    /// How many differences the scenario knew of.
    pub fn gaps(&self) -> usize {
        let gaps = self.comparisons.iter().filter(|c| c.verdict.is_gap());
        gaps.count()
    }
}

/// The parts of a play.
pub(super) struct Play<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) sandbox: Sandbox,
    pub(super) server: Server,
    /// How long a server may take to be as expected, beyond settling.
    pub(super) patience: Duration,
    /// Called with each step before it is played.
    pub(super) narrate: &'a (dyn Fn(&Placed, &Sandbox) + Sync),
}

impl Play<'_> {
    /// Plays everything.
    pub(super) async fn run(self) -> anyhow::Result<Played> {
        let begun = Instant::now();
        self.agree_on_time().await?;
        let mut player = Player::new(self.scenario, self.sandbox.clone())?;
        for account in &self.scenario.accounts {
            player.set_store_token(account, &self.server.store_token(account).await?);
        }
        let mut comparisons = Vec::new();
        let mut purchases = 0;
        for placed in &self.scenario.steps {
            (self.narrate)(placed, &self.sandbox);
            let done = self.step(&mut player, placed).await;
            let done = done.with_context(|| format!("line {}: {}", placed.line, placed.text))?;
            comparisons.extend(done);
            purchases = purchases.max(player.truth()?.purchases);
        }
        comparisons.extend(self.look(&player, None).await?);
        if comparisons.is_empty() || purchases == 0 {
            bail!("nothing was compared: the stores never knew a purchase");
        }
        Ok(Played {
            comparisons,
            notifications: self.sandbox.notifications().len(),
            took: begun.elapsed(),
        })
    }

    /// A server that lives in another year would judge every period wrongly.
    async fn agree_on_time(&self) -> anyhow::Result<()> {
        let Some(account) = self.scenario.accounts.first() else {
            bail!("nobody takes part");
        };
        let deadline = Instant::now() + FOLLOW_PATIENCE;
        loop {
            let (stores, server) = (self.sandbox.now(), self.server.now(account).await?);
            if (server - stores).abs() <= DRIFT_MAX {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the server's clock shows {server}, the stores' {stores}: start the server \
                     anew, following the stores' clock (clock.follow); a clock does not go back"
                );
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn step(
        &self,
        player: &mut Player<'_>,
        placed: &Placed,
    ) -> anyhow::Result<Vec<Comparison>> {
        if let Step::Expect(expect) = &placed.step {
            return self.look(player, Some((placed, expect))).await;
        }
        let answered = if let Step::Bind(bind) = &placed.step {
            self.bind(player, placed, bind).await?
        } else if let Step::Restore(restore) = &placed.step {
            self.restore(player, placed, restore).await?
        } else if let Step::Link(link) = &placed.step {
            vec![self.link(player, placed, link).await?]
        } else if let Step::Preflight(preflight) = &placed.step {
            vec![self.preflight(player, placed, preflight).await?]
        } else if let Step::Paywall(paywall) = &placed.step {
            vec![self.paywall(player, placed, paywall).await?]
        } else {
            player.play(&placed.step).await?;
            Vec::new()
        };
        self.sandbox.settle().await;
        Ok(answered)
    }

    async fn bind(
        &self,
        player: &mut Player<'_>,
        placed: &Placed,
        bind: &Bind,
    ) -> anyhow::Result<Vec<Comparison>> {
        let own = player.account_of_purchase(&bind.bind)?;
        let account = bind.account.clone().unwrap_or(own);
        let (store, id, proof) = player.proof(bind)?;
        let wanted = Wanted {
            placed,
            what: &bind.bind,
            outcome: bind.outcome,
            refused: bind.refused.as_deref(),
        };
        let answer = self.server.bind(&account, proof).await?;
        if bind.refused.is_none() {
            player.set_owner(store, &id, &account);
        }
        let compared = compare_answer(self.scenario, &wanted, &account, &answer);
        Ok(vec![compared])
    }

    async fn restore(
        &self,
        player: &mut Player<'_>,
        placed: &Placed,
        restore: &Restore,
    ) -> anyhow::Result<Vec<Comparison>> {
        let own = player.account_of(&restore.restore).to_owned();
        let account = restore.account.clone().unwrap_or(own);
        let held = player.proofs_of(&restore.restore)?;
        if held.is_empty() {
            return Err(anyhow!("{:?} has nothing to restore", restore.restore));
        }
        let proofs = held.iter().map(|(_, _, proof)| proof.clone()).collect();
        let answers = self.server.restore(&account, proofs).await?;
        let mut compared = Vec::new();
        for ((store, id, _), answer) in held.into_iter().zip(&answers) {
            let wanted = Wanted {
                placed,
                what: &restore.restore,
                outcome: restore.outcome,
                refused: restore.refused.as_deref(),
            };
            if restore.refused.is_none() {
                player.set_owner(store, &id, &account);
            }
            compared.push(compare_answer(self.scenario, &wanted, &account, answer));
        }
        Ok(compared)
    }

    async fn link(
        &self,
        player: &mut Player<'_>,
        placed: &Placed,
        step: &Link,
    ) -> anyhow::Result<Comparison> {
        let answer = self.server.link(&step.link, &step.to).await?;
        let wanted = Wanted {
            placed,
            what: &step.link,
            outcome: step.outcome,
            refused: step.refused.as_deref(),
        };
        if step.refused.is_none() {
            player.link(&step.link, &step.to);
        }
        let compared = compare_answer(self.scenario, &wanted, &step.to, &answer);
        Ok(Comparison {
            entitlement: format!("linking {}", step.link),
            ..compared
        })
    }

    async fn preflight(
        &self,
        player: &Player<'_>,
        placed: &Placed,
        step: &Preflight,
    ) -> anyhow::Result<Comparison> {
        let own = player.account_of_purchase(&step.preflight)?;
        let account = step.account.clone().unwrap_or(own);
        let about = About::Proof(PurchaseProof {
            proof: Some(wire(player.shown(step)?)),
        });
        let told = self.server.foretell(&account, about).await?;
        let scenario = self.scenario;
        Ok(compare_foretold(scenario, placed, step, &account, &told))
    }

    async fn paywall(
        &self,
        player: &Player<'_>,
        placed: &Placed,
        step: &Paywall,
    ) -> anyhow::Result<Comparison> {
        let own = player.account_of(&step.by).to_owned();
        let account = step.account.clone().unwrap_or(own);
        let about = About::Product(step.paywall.clone());
        let told = self.server.foretell(&account, about).await?;
        let scenario = self.scenario;
        Ok(compare_paywall(scenario, placed, step, &account, &told))
    }

    /// Reads every account; looks again while the server may still come to it.
    async fn look(
        &self,
        player: &Player<'_>,
        expected: Option<(&Placed, &Expect)>,
    ) -> anyhow::Result<Vec<Comparison>> {
        let within = expected.and_then(|(_, expect)| expect.within);
        let within = within.map(|length| length.machine_time());
        let deadline = Instant::now() + within.unwrap_or_default().max(self.patience);
        loop {
            let seen = self.look_once(player, expected).await?;
            let settled = !seen.iter().any(|c| c.verdict.is_failure());
            if settled || Instant::now() >= deadline {
                return Ok(seen);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn look_once(
        &self,
        player: &Player<'_>,
        expected: Option<(&Placed, &Expect)>,
    ) -> anyhow::Result<Vec<Comparison>> {
        let truth = player.truth().context("the truth could not be read")?;
        let at = match expected {
            Some((placed, expect)) => At::step(placed, expect),
            None => At::end(),
        };
        let mut compared = Vec::new();
        for account in &self.scenario.accounts {
            if player.is_linked(account) {
                self.server.knows_no_more(account).await?;
                continue;
            }
            let reading = self.server.read(account).await?;
            compared.extend(compare(self.scenario, at, &truth, account, &reading.asked));
            for (position, told) in reading.devices.iter().enumerate() {
                let seen = compare(self.scenario, at, &truth, account, told);
                let on = format!("{account}, device {}", position + 1);
                compared.extend(seen.into_iter().map(|comparison| Comparison {
                    account: on.clone(),
                    ..comparison
                }));
            }
        }
        check_behind(at, &mut compared);
        Ok(compared)
    }
}
