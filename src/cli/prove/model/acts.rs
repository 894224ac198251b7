//! The operations of a case: their details drawn from what there is when they happen. What the
//! store refuses is as good as not asked for.

mod details;
pub(super) mod household;

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use uuid::Uuid;

use super::case::{Op, What};
use super::draw::Draw;
use super::shop;
use super::stage::{OnDevice, Person, Stage};
use crate::domain::event::SignalSource;
use crate::sandbox::{
    AddOn, AppStoreAction, AppStoreBuy, AppStoreOffer, BillingPlan, CallSin, GooglePlayAction,
    GooglePlayBuy, GooglePlayOffer, OfferKind, OfferPayment, Outcome, Period, SandboxError, Store,
};

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Done,
    /// The store did not want it, or there was nothing to do it to.
    Refused,
}

/// What the details of an operation are drawn from.
struct Ground<'a> {
    people: &'a [Person],
    /// Every App Store transaction that ever was the latest of its chain.
    transactions: &'a BTreeSet<String>,
    /// Every order that ever was the latest of its purchase, by token.
    orders: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> Ground<'a> {
    fn of(stage: &'a Stage) -> Self {
        Self {
            people: &stage.people,
            transactions: &stage.transactions,
            orders: &stage.orders,
        }
    }
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
            stage.books.has_been_stale = true;
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
            let Some(act) = details::act(&Ground::of(stage), draw, op.what, &all) else {
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
    let outcome = unless_refused(done).map_err(|error| format!("the simulator: {error}"))?;
    if let Some(words) = words {
        let said = if outcome.is_some() { "done" } else { "refused" };
        stage.say(|| format!("{said}: {words}"));
    }
    stage.listen().await?;
    Ok(outcome)
}

/// `None`: the store does not do that.
fn unless_refused(done: Result<Outcome, SandboxError>) -> Result<Option<Outcome>, SandboxError> {
    match done {
        Ok(outcome) => Ok(Some(outcome)),
        Err(
            SandboxError::Refused(_)
            | SandboxError::UnknownPurchase
            | SandboxError::UnknownProduct(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The account that a purchase is made for, as the app would tell the store.
fn token(stage: &Ground<'_>, draw: &mut Draw, buyer: usize) -> Option<Uuid> {
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
    let act = purchase(&Ground::of(stage), draw, buyer, ware);
    let Some(outcome) = at_store(stage, act).await? else {
        return Ok(Came::Refused);
    };
    hand_over(stage, draw, buyer, outcome).await
}

fn purchase(ground: &Ground<'_>, draw: &mut Draw, buyer: usize, ware: &shop::Ware) -> Act {
    let token = token(ground, draw, buyer);
    let customer = ground.people[buyer].name.clone();
    match ware.store {
        Store::AppStore => AppStoreAction::Buy(apple_buy(draw, ware, customer, token)).into(),
        Store::GooglePlay => GooglePlayAction::Buy(google_buy(draw, ware, customer, token)).into(),
    }
}

/// What a buyer's device holds after a purchase.
fn held(outcome: Outcome) -> Option<OnDevice> {
    match outcome {
        Outcome::AppStore(bought) => Some(OnDevice::Apple(bought.transaction_id)),
        Outcome::GooglePlay(bought) => Some(OnDevice::Google(bought.purchase_token)),
        Outcome::RefundReview { .. }
        | Outcome::Extended { .. }
        | Outcome::ExternalPurchase { .. }
        | Outcome::Done {} => None,
    }
}

/// The buyer's device has it now; mostly the app hands it over at once.
async fn hand_over(
    stage: &mut Stage,
    draw: &mut Draw,
    buyer: usize,
    outcome: Outcome,
) -> Result<Came, String> {
    let Some(thing) = held(outcome) else {
        return Ok(Came::Done);
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
