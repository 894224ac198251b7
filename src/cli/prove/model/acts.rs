//! The operations of a case: their details drawn from what there is when they happen. What the
//! store refuses is as good as not asked for.

use chrono::TimeDelta;
use uuid::Uuid;

use super::case::{Op, What};
use super::draw::Draw;
use super::shop;
use super::stage::{OnDevice, Stage};
use crate::domain::event::SignalSource;
use crate::sandbox::{
    AddOn, AppStoreAction, AppStoreBuy, AppStoreOffer, Billing, BillingPlan, CallSin,
    GooglePlayAction, GooglePlayBuy, GooglePlayOffer, OfferKind, OfferPayment, Outcome, Ownership,
    Period, PriceChangeMode, PurchaseState, PurchaseTruth, ReplacementMode, SandboxError, Store,
};

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Done,
    /// The store did not want it, or there was nothing to do it to.
    Refused,
}

enum Act {
    AppStore(AppStoreAction),
    GooglePlay(Box<GooglePlayAction>),
}

impl From<AppStoreAction> for Act {
    fn from(action: AppStoreAction) -> Self {
        Self::AppStore(action)
    }
}

impl From<GooglePlayAction> for Act {
    fn from(action: GooglePlayAction) -> Self {
        Self::GooglePlay(Box::new(action))
    }
}

/// Plays one operation.
pub(super) async fn play(stage: &mut Stage, op: Op) -> Result<Came, String> {
    let mut draw = Draw::new(op.roll);
    let draw = &mut draw;
    match op.what {
        What::BuyApple => buy(stage, draw, Store::AppStore).await,
        What::BuyGoogle => buy(stage, draw, Store::GooglePlay).await,
        What::Bind => bind_own(stage, draw).await,
        What::BindForeign => bind_foreign(stage, draw).await,
        What::Refresh => {
            let person = draw.index(stage.people.len());
            stage.refresh(person).await?;
            stage.listen().await?;
            Ok(Came::Done)
        }
        What::Transfer => transfer(stage, draw).await,
        What::Away => {
            let store = *draw
                .pick(&[Store::AppStore, Store::GooglePlay])
                .unwrap_or(&Store::AppStore);
            let hours = draw.pick(&[1, 5, 20]).copied().unwrap_or(1);
            stage.say(|| format!("{store:?} is away for {hours} h"));
            stage.go_away(store, TimeDelta::hours(hours));
            Ok(Came::Done)
        }
        What::Stale => {
            let count = 1 + u32::try_from(draw.below(4)).unwrap_or_default();
            stage.say(|| format!("{count} stale answers"));
            stage.sandbox.sin_next_calls(None, CallSin::Stale, count);
            Ok(Came::Done)
        }
        What::Advance => {
            let minutes = [1, 30, 360, 1_440, 4_320, 10_080, 20_160, 43_200];
            let minutes = draw.pick(&minutes).copied().unwrap_or(1);
            stage.say(|| format!("{minutes} minutes pass"));
            let odd = i64::try_from(draw.below(3_600)).unwrap_or_default();
            stage
                .advance(TimeDelta::minutes(minutes) + TimeDelta::seconds(odd))
                .await?;
            Ok(Came::Done)
        }
        What::Change
        | What::Billing
        | What::AutoRenew
        | What::RedeemOffer
        | What::RequestRefund
        | What::Refund
        | What::ReverseRefund
        | What::ChargeBack
        | What::Pause
        | What::Resume
        | What::SettlePending
        | What::TopUp
        | What::RaisePrice
        | What::AnswerPrice
        | What::Items
        | What::Share
        | What::Unshare
        | What::Extend
        | What::Withdraw => {
            let all = stage.sandbox.all_purchases();
            let Some(act) = act(stage, draw, op.what, &all) else {
                return Ok(Came::Refused);
            };
            Ok(at_store(stage, act)
                .await?
                .map_or(Came::Refused, |_| Came::Done))
        }
    }
}

/// `None`: the store refuses.
async fn at_store(stage: &mut Stage, act: Act) -> Result<Option<Outcome>, String> {
    let (done, words) = match act {
        Act::AppStore(action) => {
            let words = stage.trace.then(|| format!("{action:?}"));
            (stage.sandbox.app_store(action).await, words)
        }
        Act::GooglePlay(action) => {
            let words = stage.trace.then(|| format!("{action:?}"));
            (stage.sandbox.google_play(*action).await, words)
        }
    };
    let outcome = match done {
        Ok(outcome) => Some(outcome),
        Err(
            SandboxError::Refused(_)
            | SandboxError::UnknownPurchase
            | SandboxError::UnknownProduct(_),
        ) => None,
        Err(error) => return Err(format!("the simulator: {error}")),
    };
    if let Some(words) = words {
        let said = if outcome.is_some() { "done" } else { "refused" };
        stage.say(|| format!("{said}: {words}"));
    }
    stage.listen().await?;
    Ok(outcome)
}

/// The account that a purchase is made for, as the app would tell the store.
fn token(stage: &Stage, draw: &mut Draw, buyer: usize) -> Option<Uuid> {
    match draw.below(20) {
        0..15 => Some(stage.people[buyer].token),
        // An app that does not know the server yet, or one that passes ids of its own.
        15..18 => None,
        18 => Some(Uuid::from_u128(
            u128::from(draw.next()) | (0x4000_8000 << 64),
        )),
        _ => {
            let other = draw.index(stage.people.len());
            Some(stage.people[other].token)
        }
    }
}

async fn buy(stage: &mut Stage, draw: &mut Draw, store: Store) -> Result<Came, String> {
    // The last person only uses other people's devices.
    let buyer = draw.index(stage.people.len() - 1);
    let Some(ware) = draw.pick(&shop::wares_of(store)).copied() else {
        return Ok(Came::Refused);
    };
    let token = token(stage, draw, buyer);
    let customer = stage.people[buyer].name.clone();
    let act: Act = match store {
        Store::AppStore => AppStoreAction::Buy(apple_buy(draw, ware, customer, token)).into(),
        Store::GooglePlay => GooglePlayAction::Buy(google_buy(draw, ware, customer, token)).into(),
    };
    let Some(outcome) = at_store(stage, act).await? else {
        return Ok(Came::Refused);
    };
    hand_over(stage, draw, buyer, outcome).await
}

/// The buyer's device has it now; mostly the app hands it over at once.
async fn hand_over(
    stage: &mut Stage,
    draw: &mut Draw,
    buyer: usize,
    outcome: Outcome,
) -> Result<Came, String> {
    let thing = match outcome {
        Outcome::AppStore(bought) => OnDevice::Apple(bought.transaction_id),
        Outcome::GooglePlay(bought) => OnDevice::Google(bought.purchase_token),
        Outcome::RefundReview { .. }
        | Outcome::Extended { .. }
        | Outcome::ExternalPurchase { .. }
        | Outcome::Done {} => return Ok(Came::Done),
    };
    stage.people[buyer].device.push(thing.clone());
    match draw.below(10) {
        0..7 => stage.bind(buyer, &thing).await?,
        7 => stage.bind(stage.people.len() - 1, &thing).await?,
        _ => {}
    }
    stage.listen().await?;
    Ok(Came::Done)
}

fn apple_buy(
    draw: &mut Draw,
    ware: &shop::Ware,
    customer: String,
    token: Option<Uuid>,
) -> AppStoreBuy {
    let subscription = matches!(ware.sold_as, shop::SoldAs::Subscription(_));
    let offer = (subscription && draw.percent(25)).then(|| apple_offer(draw));
    let monthly = ware.plan == "a_year" && draw.percent(30);
    AppStoreBuy {
        customer,
        product_id: ware.product_id.to_owned(),
        app_account_token: token,
        trial: None,
        offer,
        quantity: matches!(ware.plan, "a_coins" | "a_season")
            .then(|| 1 + u8::try_from(draw.below(3)).unwrap_or_default()),
        billing_plan: monthly.then_some(BillingPlan::Monthly),
        outside_app: token.is_none() && draw.percent(30),
    }
}

fn apple_offer(draw: &mut Draw) -> AppStoreOffer {
    let kinds = [
        OfferKind::Introductory,
        OfferKind::Promotional,
        OfferKind::OfferCode,
        OfferKind::WinBack,
    ];
    let payments = [
        OfferPayment::FreeTrial,
        OfferPayment::PayAsYouGo,
        OfferPayment::PayUpFront,
    ];
    AppStoreOffer {
        kind: *draw.pick(&kinds).unwrap_or(&OfferKind::Introductory),
        payment: *draw.pick(&payments).unwrap_or(&OfferPayment::FreeTrial),
        id: None,
        period: Some(Period::weeks(2)),
        periods: 1 + u8::try_from(draw.below(2)).unwrap_or_default(),
        price_milliunits: 990,
    }
}

fn google_buy(
    draw: &mut Draw,
    ware: &shop::Ware,
    customer: String,
    token: Option<Uuid>,
) -> GooglePlayBuy {
    let renews = matches!(ware.sold_as, shop::SoldAs::Subscription(_)) && ware.plan != "g_ticket";
    let add_on = ware.plan == "g_basic" && draw.percent(30);
    GooglePlayBuy {
        customer,
        product_id: ware.product_id.to_owned(),
        base_plan_id: ware.base_plan_id.map(str::to_owned),
        obfuscated_account_id: token.map(|token| token.to_string()),
        trial: (renews && draw.percent(15)).then(|| Period::days(3)),
        offer: (renews && draw.percent(10)).then(|| GooglePlayOffer {
            id: "welcome".to_owned(),
            price_micros: 990_000,
            period: Period::weeks(2),
            periods: 2,
        }),
        pending: draw.percent(15),
        quantity: (ware.plan == "g_coins")
            .then(|| 1 + u32::try_from(draw.below(3)).unwrap_or_default()),
        add_ons: match add_on {
            true => vec![extra(draw)],
            false => Vec::new(),
        },
        ..GooglePlayBuy::default()
    }
}

fn extra(draw: &mut Draw) -> AddOn {
    AddOn {
        product_id: "g.extra".to_owned(),
        base_plan_id: None,
        trial: draw.percent(20).then(|| Period::days(3)),
    }
}

async fn bind_own(stage: &mut Stage, draw: &mut Draw) -> Result<Came, String> {
    let person = draw.index(stage.people.len() - 1);
    let Some(thing) = draw.pick(&stage.people[person].device).cloned() else {
        return Ok(Came::Refused);
    };
    stage.bind(person, &thing).await?;
    stage.listen().await?;
    Ok(Came::Done)
}

async fn bind_foreign(stage: &mut Stage, draw: &mut Draw) -> Result<Came, String> {
    let of = draw.index(stage.people.len() - 1);
    let by = draw.index(stage.people.len());
    let Some(thing) = draw.pick(&stage.people[of].device).cloned() else {
        return Ok(Came::Refused);
    };
    stage.bind(by, &thing).await?;
    stage.listen().await?;
    Ok(Came::Done)
}

async fn transfer(stage: &mut Stage, draw: &mut Draw) -> Result<Came, String> {
    let owned: Vec<usize> = stage
        .books
        .living()
        .filter(|(_, chain)| chain.book.owner.is_some())
        .map(|(index, _)| index)
        .collect();
    let Some(chain) = draw.pick(&owned).copied() else {
        return Ok(Came::Refused);
    };
    let to = draw.index(stage.people.len());
    let account = stage.people[to].account;
    stage.say(|| format!("chain {chain} is moved to person {to}"));
    stage.books.transfer(chain, account, stage.now());
    stage.look(chain, SignalSource::Operator).await?;
    Ok(Came::Done)
}

/// Purchases of one store in states that the act makes sense in.
fn of_store<'a>(
    draw: &mut Draw,
    all: &'a [PurchaseTruth],
    store: Store,
    fits: impl Fn(&PurchaseTruth) -> bool,
) -> Option<&'a PurchaseTruth> {
    let fitting: Vec<&PurchaseTruth> = all
        .iter()
        .filter(|one| one.store == store && fits(one))
        .collect();
    draw.pick(&fitting).copied()
}

fn any<'a>(
    draw: &mut Draw,
    all: &'a [PurchaseTruth],
    fits: impl Fn(&PurchaseTruth) -> bool,
) -> Option<&'a PurchaseTruth> {
    let fitting: Vec<&PurchaseTruth> = all.iter().filter(|one| fits(one)).collect();
    draw.pick(&fitting).copied()
}

fn subscribes(one: &PurchaseTruth) -> bool {
    one.expires_at.is_some()
}

fn open(one: &PurchaseTruth) -> bool {
    subscribes(one) && !matches!(one.state, PurchaseState::Expired | PurchaseState::Revoked)
}

/// What an operation is in the words of the store it happens at.
fn act(stage: &Stage, draw: &mut Draw, what: What, all: &[PurchaseTruth]) -> Option<Act> {
    let coin = draw.percent(50);
    let apple = Store::AppStore;
    let google = Store::GooglePlay;
    Some(match what {
        What::Change => return change(stage, draw, all),
        What::Billing => {
            let one = any(draw, all, open)?;
            let billing = if coin { Billing::Works } else { Billing::Fails };
            match one.store {
                Store::AppStore => AppStoreAction::SetBilling {
                    original_transaction_id: one.id.clone(),
                    billing,
                }
                .into(),
                Store::GooglePlay => GooglePlayAction::SetBilling {
                    purchase_token: one.id.clone(),
                    billing,
                }
                .into(),
            }
        }
        What::AutoRenew => {
            let one = any(draw, all, open)?;
            match (one.store, coin) {
                (Store::AppStore, enabled) => AppStoreAction::SetAutoRenew {
                    original_transaction_id: one.id.clone(),
                    enabled,
                }
                .into(),
                (Store::GooglePlay, true) => GooglePlayAction::Restore {
                    purchase_token: one.id.clone(),
                }
                .into(),
                (Store::GooglePlay, false) => GooglePlayAction::Cancel {
                    purchase_token: one.id.clone(),
                    survey: None,
                }
                .into(),
            }
        }
        What::RedeemOffer => {
            let one = of_store(draw, all, apple, subscribes)?;
            AppStoreAction::RedeemOffer {
                original_transaction_id: one.id.clone(),
                offer: apple_offer(draw),
                product_id: None,
            }
            .into()
        }
        What::RequestRefund => {
            let one = of_store(draw, all, apple, |_| true)?;
            let transaction_id = one.latest_transaction.clone();
            match coin {
                true => AppStoreAction::RequestRefund {
                    transaction_id,
                    reason: Default::default(),
                },
                false => AppStoreAction::DeclineRefund { transaction_id },
            }
            .into()
        }
        What::Refund => return refund(stage, draw, all),
        What::ReverseRefund => {
            let refunded: Vec<&String> = stage.transactions.iter().collect();
            let transaction_id = (*draw.pick(&refunded)?).clone();
            AppStoreAction::ReverseRefund { transaction_id }.into()
        }
        What::ChargeBack => {
            let one = of_store(draw, all, google, |_| true)?;
            GooglePlayAction::ChargeBack {
                purchase_token: one.id.clone(),
                order_id: None,
            }
            .into()
        }
        What::Pause => {
            let one = of_store(draw, all, google, open)?;
            GooglePlayAction::Pause {
                purchase_token: one.id.clone(),
                period: if coin {
                    Period::weeks(2)
                } else {
                    Period::months(1)
                },
            }
            .into()
        }
        What::Resume => {
            let one = of_store(draw, all, google, open)?;
            let purchase_token = one.id.clone();
            GooglePlayAction::Resume { purchase_token }.into()
        }
        What::SettlePending => {
            let waits = |one: &PurchaseTruth| one.state == PurchaseState::Pending;
            let one = of_store(draw, all, google, waits)?;
            GooglePlayAction::SettlePending {
                purchase_token: one.id.clone(),
                paid: draw.percent(75),
            }
            .into()
        }
        What::TopUp => {
            let one = of_store(draw, all, google, |one| one.product_id == "g.ticket")?;
            let purchase_token = one.id.clone();
            GooglePlayAction::TopUp { purchase_token }.into()
        }
        What::RaisePrice => return raise_price(draw),
        What::AnswerPrice => {
            let one = any(draw, all, open)?;
            match one.store {
                Store::AppStore => AppStoreAction::AnswerPrice {
                    original_transaction_id: one.id.clone(),
                    accept: coin,
                }
                .into(),
                Store::GooglePlay => GooglePlayAction::AnswerPrice {
                    purchase_token: one.id.clone(),
                    accept: coin,
                }
                .into(),
            }
        }
        What::Items => {
            let one = of_store(draw, all, google, open)?;
            let purchase_token = one.id.clone();
            match coin {
                true => GooglePlayAction::AddItems {
                    purchase_token,
                    items: vec![extra(draw)],
                },
                false => GooglePlayAction::RemoveItem {
                    purchase_token,
                    product_id: one.product_id.clone(),
                },
            }
            .into()
        }
        What::Share => {
            let bought = |one: &PurchaseTruth| one.ownership == Ownership::Purchased;
            let one = of_store(draw, all, apple, bought)?;
            AppStoreAction::Share {
                original_transaction_id: one.id.clone(),
                member: member(stage, draw),
            }
            .into()
        }
        What::Unshare => {
            let one = of_store(draw, all, apple, |_| true)?;
            AppStoreAction::Unshare {
                original_transaction_id: one.id.clone(),
                member: member(stage, draw),
            }
            .into()
        }
        What::Extend => {
            let one = of_store(draw, all, apple, open)?;
            AppStoreAction::Extend {
                original_transaction_id: one.id.clone(),
                days: 5,
                reason: Default::default(),
            }
            .into()
        }
        What::Withdraw => {
            let one = of_store(draw, all, apple, open)?;
            AppStoreAction::WithdrawProduct {
                product_id: one.product_id.clone(),
            }
            .into()
        }
        What::BuyApple
        | What::BuyGoogle
        | What::Bind
        | What::BindForeign
        | What::Refresh
        | What::Transfer
        | What::Away
        | What::Stale
        | What::Advance => return None,
    })
}

fn member(stage: &Stage, draw: &mut Draw) -> String {
    let member = draw.index(stage.people.len() - 1);
    stage.people[member].name.clone()
}

fn change(stage: &Stage, draw: &mut Draw, all: &[PurchaseTruth]) -> Option<Act> {
    let one = any(draw, all, subscribes)?;
    let buyer = stage.people.iter().position(|p| p.name == one.customer)?;
    let ware = draw.pick(&shop::wares_of(one.store)).copied()?;
    let token = token(stage, draw, buyer);
    Some(match one.store {
        Store::AppStore => {
            AppStoreAction::Buy(apple_buy(draw, ware, one.customer.clone(), token)).into()
        }
        Store::GooglePlay => {
            let modes = [
                ReplacementMode::WithTimeProration,
                ReplacementMode::ChargeProratedPrice,
                ReplacementMode::WithoutProration,
                ReplacementMode::ChargeFullPrice,
                ReplacementMode::Deferred,
            ];
            let mut buy = google_buy(draw, ware, one.customer.clone(), token);
            if draw.percent(20) {
                buy.out_of_app = true;
                buy.obfuscated_account_id = None;
                buy.product_id.clone_from(&one.product_id);
                buy.base_plan_id.clone_from(&one.base_plan_id);
            } else {
                buy.replaces = Some(one.id.clone());
                buy.replacement_mode = draw.pick(&modes).copied();
            }
            GooglePlayAction::Buy(buy).into()
        }
    })
}

fn refund(stage: &Stage, draw: &mut Draw, all: &[PurchaseTruth]) -> Option<Act> {
    let one = any(draw, all, |_| true)?;
    // An older transaction of any chain as often as the newest.
    let old: Vec<&String> = stage.transactions.iter().collect();
    let old = draw.pick(&old).map(|id| (*id).clone());
    let percent = draw.pick(&[100, 100, 40]).copied().unwrap_or(100);
    Some(match one.store {
        Store::AppStore => AppStoreAction::Refund {
            transaction_id: match draw.percent(50) {
                true => old?,
                false => one.latest_transaction.clone(),
            },
            percent,
        }
        .into(),
        Store::GooglePlay => GooglePlayAction::Refund {
            purchase_token: one.id.clone(),
            order_id: match draw.percent(40) {
                true => stage
                    .orders
                    .get(&one.id)
                    .and_then(|orders| draw.pick(orders).cloned()),
                false => None,
            },
            revoke: draw.percent(60),
            quantity: (one.product_id == "g.coins" && draw.percent(50)).then_some(1),
            source: Default::default(),
            reason: Default::default(),
        }
        .into(),
    })
}

fn raise_price(draw: &mut Draw) -> Option<Act> {
    Some(match draw.percent(50) {
        true => AppStoreAction::RaisePrice {
            product_id: draw
                .pick(&shop::wares_of(Store::AppStore))?
                .product_id
                .to_owned(),
            price_milliunits: 12_990,
            consent: draw.percent(50),
        }
        .into(),
        false => {
            let modes = [
                PriceChangeMode::Decrease,
                PriceChangeMode::Increase,
                PriceChangeMode::OptOutIncrease,
            ];
            GooglePlayAction::ChangePrice {
                product_id: draw
                    .pick(&shop::wares_of(Store::GooglePlay))?
                    .product_id
                    .to_owned(),
                base_plan_id: None,
                price_micros: 24_990_000,
                mode: *draw.pick(&modes)?,
            }
            .into()
        }
    })
}

/// Every app is opened: what is on the devices is handed over, family shares too, and looked at.
pub(super) async fn open_apps(stage: &mut Stage) -> Result<(), String> {
    let all = stage.sandbox.all_purchases();
    for person in 0..stage.people.len() {
        let name = stage.people[person].name.clone();
        let mine = all
            .iter()
            .filter(|one| one.customer == name && one.entitled);
        let things: std::collections::BTreeSet<OnDevice> = mine
            .map(|one| match one.store {
                Store::AppStore => OnDevice::Apple(one.latest_transaction.clone()),
                Store::GooglePlay => OnDevice::Google(one.id.clone()),
            })
            .collect();
        for thing in things {
            stage.bind(person, &thing).await?;
        }
        stage.refresh(person).await?;
    }
    stage.listen().await
}
