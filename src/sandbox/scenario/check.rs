//! Finds what contradicts itself in a scenario before anything is played.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::delivery::Store;
use super::error::{ScenarioError, Source};
use super::expect::{Claim, Gap};
use super::file::{Placed, Places, Scenario};
use super::step::{Bind, Buy, Expect, Link, Preflight, Step, Via};
use super::store_actions::sold_as;

/// The step that gaps call what is compared after the last one.
pub(super) const END: &str = "end";

/// Everything that is wrong.
pub(super) fn problems(
    scenario: &Scenario,
    source: Source<'_>,
    places: &Places,
) -> Vec<ScenarioError> {
    let mut found = Vec::new();
    for (id, product) in &scenario.products {
        if let Some(problem) = product.problem() {
            let at = places.products.get(id).cloned().unwrap_or(0..0);
            found.push(source.error(at, format!("products.{id}: {problem}")));
        }
    }
    let mut check = Check {
        scenario,
        purchases: BTreeMap::new(),
        linked: BTreeMap::new(),
    };
    for (placed, at) in scenario.steps.iter().zip(&places.steps) {
        let problem = check.step(&placed.step);
        found.extend(problem.map(|problem| source.error(at.clone(), problem)));
    }
    if scenario.told_by.is_empty() {
        let problem = "told_by names nobody; there is app_store, google_play, superwall";
        found.push(source.error(0..0, problem));
    }
    let mut seen = Vec::new();
    for (placed, at) in scenario.steps.iter().zip(&places.steps) {
        let Some(name) = &placed.name else { continue };
        if name == END || seen.contains(&name) {
            let problem = format!("another step is called {name:?}; give this one another name");
            found.push(source.error(at.clone(), problem));
        }
        seen.push(name);
    }
    for (gap, at) in scenario.expected_gap.iter().zip(&places.gaps) {
        let problem = gap_problem(scenario, gap);
        found.extend(problem.map(|problem| source.error(at.clone(), problem)));
    }
    let expects = |placed: &Placed| matches!(placed.step, Step::Expect(_));
    if !scenario.steps.iter().any(expects) {
        let at: Range<usize> = places.steps.first().cloned().unwrap_or(0..0);
        let problem = "nothing is expected; add { expect = { an_account = [\"an entitlement\"] } }";
        found.push(source.error(at, problem));
    }
    found
}

struct Check<'a> {
    scenario: &'a Scenario,
    /// Purchases that a step so far has named, with their store.
    purchases: BTreeMap<&'a str, Store>,
    /// Accounts that a step so far has made a part of another one.
    linked: BTreeMap<&'a str, &'a str>,
}

type Problem = Option<String>;

impl<'a> Check<'a> {
    fn step(&mut self, step: &'a Step) -> Problem {
        match step {
            Step::Buy(step) => self.buy(step),
            Step::TopUp(step) => self
                .at(Store::GooglePlay, &step.top_up)
                .or_else(|| self.name(&step.name, Store::GooglePlay)),
            Step::Share(step) => self
                .at(Store::AppStore, &step.share)
                .or_else(|| self.customer(&step.with))
                .or_else(|| self.name(&step.name, Store::AppStore)),
            Step::Cancel(step) => self.purchase(&step.cancel),
            Step::Uncancel(step) => self.purchase(&step.uncancel),
            Step::CardFails(step) => self.purchase(&step.card_fails),
            Step::CardWorks(step) => self.purchase(&step.card_works),
            Step::Refund(step) => self.purchase(&step.refund),
            Step::AnswerPrice(step) => self.purchase(&step.answer_price),
            Step::Bind(step) => self.bind(step),
            Step::Restore(step) => self
                .customer(&step.restore)
                .or_else(|| self.account(step.account.as_deref())),
            Step::Preflight(step) => self.preflight(step),
            Step::Paywall(step) => self
                .customer(&step.by)
                .or_else(|| self.account(step.account.as_deref()))
                .or_else(|| {
                    let mut products = std::iter::once(&step.paywall).chain(&step.held);
                    products.find_map(|product| self.any_product(product))
                }),
            Step::SignIn(step) => self
                .customer(&step.sign_in)
                .or_else(|| self.account(Some(&step.account)))
                .or_else(|| {
                    let nobody = self.scenario.anonymous.contains(&step.account);
                    nobody
                        .then(|| format!("{:?} is anonymous: nobody signs in to it", step.account))
                }),
            Step::Reinstall(step) => self.customer(&step.reinstall).or_else(|| {
                let anonymous = &self.scenario.anonymous;
                let known = one_of(anonymous.iter());
                (!anonymous.contains(&step.account))
                    .then(|| format!("no anonymous account {:?}; {known}", step.account))
            }),
            Step::Link(step) => self.link(step),
            Step::Pause(step) => self.at(Store::GooglePlay, &step.pause),
            Step::Unpause(step) => self.at(Store::GooglePlay, &step.unpause),
            Step::Settle(step) => self.at(Store::GooglePlay, &step.settle),
            Step::ChargeBack(step) => self.at(Store::GooglePlay, &step.charge_back),
            Step::AddItems(step) => self.at(Store::GooglePlay, &step.add_items).or_else(|| {
                let mut items = step.items.iter();
                items.find_map(|item| self.product(item, Store::GooglePlay))
            }),
            Step::RemoveItem(step) => self
                .at(Store::GooglePlay, &step.remove_item)
                .or_else(|| self.product(&step.item, Store::GooglePlay)),
            Step::StepUp(step) => self.at(Store::GooglePlay, &step.step_up),
            Step::Redeem(step) => self.at(Store::AppStore, &step.redeem).or_else(|| {
                let product = step.product.as_ref()?;
                self.product(product, Store::AppStore)
            }),
            Step::RequestRefund(step) => self.at(Store::AppStore, &step.request_refund),
            Step::DeclineRefund(step) => self.at(Store::AppStore, &step.decline_refund),
            Step::ReverseRefund(step) => self.at(Store::AppStore, &step.reverse_refund),
            Step::Unshare(step) => self
                .at(Store::AppStore, &step.unshare)
                .or_else(|| self.customer(&step.with)),
            Step::Extend(step) => self.at(Store::AppStore, &step.extend),
            Step::ChangePrice(step) => self.product(&step.change_price, step.on),
            Step::Withdraw(step) => self.product(&step.withdraw, Store::AppStore),
            Step::RescindConsent(step) => self.customer(&step.rescind_consent),
            Step::Deliver(step) => step.of.as_ref().and_then(|of| self.purchase(of)),
            Step::Drop(step) => step.of.as_ref().and_then(|of| self.purchase(of)),
            Step::Expect(step) => self.expect(step),
            Step::ExternalPurchase(_)
            | Step::Advance(_)
            | Step::At(_)
            | Step::SinsFromNowOn(_)
            | Step::Hold(_)
            | Step::OutageFromNowOn(_) => None,
        }
    }

    fn buy(&mut self, step: &'a Buy) -> Problem {
        let of_google = [
            ("replaces", step.replaces.is_some()),
            ("mode", step.mode.is_some()),
            ("pending", step.pending),
            ("add_ons", !step.add_ons.is_empty()),
        ];
        let of_apple = [("billing_plan", step.billing_plan.is_some())];
        let foreign = match step.on {
            Store::AppStore => of_google.into_iter().find(|(_, given)| *given),
            Store::GooglePlay => of_apple.into_iter().find(|(_, given)| *given),
        };
        if let Some((key, _)) = foreign {
            return Some(format!("{key:?} means nothing at this store"));
        }
        self.customer(&step.by)
            .or_else(|| self.product(&step.buy, step.on))
            .or_else(|| self.account(step.account.as_deref()))
            .or_else(|| {
                let mut add_ons = step.add_ons.iter();
                add_ons.find_map(|item| self.product(item, step.on))
            })
            .or_else(|| {
                let replaced = step.replaces.as_ref()?;
                self.at(Store::GooglePlay, replaced)
            })
            .or_else(|| self.name(&step.name, step.on))
    }

    fn bind(&self, step: &Bind) -> Problem {
        let bare = step.bare_id.then_some(Store::AppStore);
        bare.and_then(|store| self.at(store, &step.bind))
            .or_else(|| self.purchase(&step.bind))
            .or_else(|| self.account(step.account.as_deref()))
            .or_else(|| {
                let named = step.ids_of.as_ref()?;
                let store = self.purchases.get(step.bind.as_str())?;
                match step.via {
                    Via::Store => Some("\"ids_of\" needs via = \"superwall\"".to_owned()),
                    Via::Superwall => self.at(*store, named),
                }
            })
    }

    fn preflight(&self, step: &Preflight) -> Problem {
        let bare = step.bare_id.then_some(Store::AppStore);
        let both = step.says.is_some() == step.refused.is_some();
        bare.and_then(|store| self.at(store, &step.preflight))
            .or_else(|| self.purchase(&step.preflight))
            .or_else(|| self.account(step.account.as_deref()))
            .or_else(|| both.then(|| "one of says = … and refused = …".to_owned()))
    }

    fn link(&mut self, step: &'a Link) -> Problem {
        let anonymous = &self.scenario.anonymous;
        let (from, to) = (&step.link, &step.to);
        let problem = if !anonymous.contains(from) {
            let known = one_of(anonymous.iter());
            Some(format!("no anonymous account {from:?}; {known}"))
        } else if anonymous.contains(to) {
            Some(format!("{to:?} is anonymous: nobody signs in to it"))
        } else {
            self.account(Some(to))
        };
        if problem.is_none() && step.refused.is_none() {
            self.linked.insert(from, to);
        }
        problem
    }

    fn expect(&self, step: &Expect) -> Problem {
        let (entitlements, counted) = (self.scenario.entitlements(), self.scenario.counted());
        for (account, holdings) in &step.expect {
            let unknown = self.account(Some(account));
            if unknown.is_some() {
                return unknown;
            }
            if let Some(to) = self.linked.get(account.as_str()) {
                return Some(format!("{account:?} has become part of {to:?}"));
            }
            for (name, claim) in &holdings.0 {
                let (known, what) = match claim {
                    Claim::Access(_) => (&entitlements, "product gives"),
                    Claim::Balance(_) => (&counted, "product counts"),
                };
                if !known.contains(&name.as_str()) {
                    return Some(format!("no {what} {name:?}; {}", one_of(known.iter())));
                }
            }
        }
        None
    }

    fn name(&mut self, name: &'a str, store: Store) -> Problem {
        let used = self.purchases.insert(name, store).is_some();
        used.then(|| format!("another purchase is called {name:?}; give this one another name"))
    }

    fn purchase(&self, name: &str) -> Problem {
        let unknown = !self.purchases.contains_key(name);
        unknown.then(|| {
            let known = one_of(self.purchases.keys());
            format!("no step before this one has as = {name:?}; {known}")
        })
    }

    /// A purchase at that store.
    fn at(&self, store: Store, name: &str) -> Problem {
        self.purchase(name).or_else(|| {
            let elsewhere = self.purchases.get(name) != Some(&store);
            elsewhere.then(|| format!("{name:?} was not bought at the store that can do this"))
        })
    }

    fn customer(&self, name: &str) -> Problem {
        let customers = &self.scenario.customers;
        let unknown = !customers.contains_key(name);
        unknown.then(|| format!("no customer {name:?}; {}", one_of(customers.keys())))
    }

    fn account(&self, name: Option<&str>) -> Problem {
        let name = name?;
        let accounts = &self.scenario.accounts;
        let unknown = !accounts.iter().any(|known| known == name);
        unknown.then(|| format!("no account {name:?}; {}", one_of(accounts.iter())))
    }

    fn product(&self, id: &str, store: Store) -> Problem {
        self.any_product(id).or_else(|| {
            let sold = self.scenario.products.get(id);
            let unsold = sold.is_none_or(|product| sold_as(product, store).is_none());
            unsold.then(|| format!("{id:?} is not sold there; add it to products.{id}"))
        })
    }

    fn any_product(&self, id: &str) -> Problem {
        let products = &self.scenario.products;
        let unknown = !products.contains_key(id);
        unknown.then(|| format!("no product {id:?}; {}", one_of(products.keys())))
    }
}

fn gap_problem(scenario: &Scenario, gap: &Gap) -> Problem {
    let mut steps = scenario.steps.iter();
    let step = steps.find(|placed| placed.name.as_ref() == Some(&gap.step));
    let compares = match step {
        Some(placed) => matches!(placed.step, Step::Expect(_)),
        None if gap.step == END => true,
        None => return Some(format!("no step has step = {:?}", gap.step)),
    };
    let binds = step.is_some_and(|placed| {
        matches!(
            placed.step,
            Step::Bind(_)
                | Step::Restore(_)
                | Step::Link(_)
                | Step::Preflight(_)
                | Step::Paywall(_)
        )
    });
    match (compares, &gap.account, &gap.entitlement) {
        (true, Some(account), Some(name)) => {
            let known = scenario.accounts.contains(account);
            let given = scenario.entitlements().contains(&name.as_str())
                || scenario.counted().contains(&name.as_str());
            (!known || !given).then(|| format!("{account:?} can have no {name:?} here"))
        }
        (true, ..) => Some("say whose: account = …, entitlement = …".to_owned()),
        (false, None, None) if binds => None,
        (false, None, None) => {
            Some("only expect and what the app asks the server can have a gap".to_owned())
        }
        (false, ..) => Some("account and entitlement belong to a step with expect".to_owned()),
    }
}

fn one_of<T: std::fmt::Display>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    match names.is_empty() {
        true => "there is none".to_owned(),
        false => format!("there is {}", names.join(", ")),
    }
}
