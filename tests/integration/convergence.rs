//! I3: however signals are ordered, repeated, late or lost, the stores' truth comes out.

use entitled::proto::InactiveReason;
use entitled::sandbox::Store;
use futures::future::join_all;

use crate::scene::{MONTHLY, Person, period};
use crate::support::{World, entitlement, expires};

/// When each of a customer's notifications arrives: after which of the stores' events. `None`: lost.
type Delays = Vec<Option<usize>>;

/// Every way in which `events` notifications can be late; each of them lost, and all.
fn delays(events: usize) -> Vec<Delays> {
    let mut all: Vec<Delays> = vec![Vec::new()];
    for event in 0..events {
        let later = |so_far: &Delays| {
            (event..events)
                .map(|slot| so_far.iter().copied().chain([Some(slot)]).collect())
                .collect::<Vec<_>>()
        };
        all = all.iter().flat_map(later).collect();
    }
    let lost = |which: usize| {
        (0..events)
            .map(|event| (event != which).then_some(event))
            .collect()
    };
    all.extend((0..events).map(lost));
    all.push(vec![None; events]);
    all
}

/// A customer whose notifications take their own way.
struct Customer {
    person: Person,
    delays: Delays,
    /// Id of the purchase at its store, and its first proof.
    purchase: String,
    proof: String,
}

impl Customer {
    /// Delivers what is due after `event`: in order, in reverse, or twice, by turns.
    async fn receive(&self, world: &World, event: usize, turn: usize) {
        let all = world.stores().notifications();
        let mine: Vec<_> = all
            .iter()
            .filter(|said| said.purchase.as_deref() == Some(&self.purchase))
            .collect();
        let mut due: Vec<&str> = Vec::new();
        for (number, said) in mine.iter().enumerate() {
            // A refund at Google is told twice: as a revocation and as a void.
            if self.delays.get(number.min(self.delays.len() - 1)) == Some(&Some(event)) {
                due.push(&said.id);
            }
        }
        if turn.is_multiple_of(2) {
            due.reverse();
        }
        if turn.is_multiple_of(3) {
            due.extend(due.clone());
        }
        for id in due {
            world.deliver(id).await;
        }
    }

    /// Whether the server agrees with the store.
    async fn assert_truth(&self, world: &World) {
        let truths = world.stores().purchases(&self.person.name);
        let [truth] = truths.as_slice() else {
            panic!("one purchase: {truths:?}")
        };
        let told = self.person.now().await;
        let pro = entitlement(&told, "pro_access");
        let context = format!(
            "{}: {:?} {truth:?} {told:#?}",
            self.person.name, self.delays
        );
        assert_eq!(pro.active, truth.entitled, "{context}");
        assert_eq!(pro.will_renew, truth.auto_renew, "{context}");
        if truth.entitled {
            assert_eq!(
                Some(expires(&told, "pro_access")),
                truth.expires_at.map(|at| at.timestamp()),
                "{context}"
            );
        } else if truth.store == Store::AppStore || self.delays.iter().all(Option::is_some) {
            assert_eq!(pro.inactive_reason(), InactiveReason::Refunded, "{context}");
        } else {
            // Google tells of a refund by its void alone: its purchase reads as expired.
            let known = [InactiveReason::Refunded, InactiveReason::Expired];
            assert!(known.contains(&pro.inactive_reason()), "{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_every_order_delay_and_loss_of_app_store_signals_ends_in_the_stores_truth() {
    let world = World::start().await;
    world.hold().await;
    let bought = delays(4).into_iter().enumerate();
    let bought = bought.map(async |(number, delays)| {
        let person = world.person(&format!("customer{number}")).await;
        let bought = world
            .buy_apple(&person.name, MONTHLY, Some(&person.store_token))
            .await;
        let (purchase, proof) = (bought.original_transaction_id, bought.signed_transaction);
        Customer {
            person,
            delays,
            purchase,
            proof,
        }
    });
    let customers = join_all(bought).await;
    for event in 0..4 {
        if event == 1 {
            world
                .stores()
                .advance(period("P1M"))
                .await
                .expect("renewals");
        }
        let each = customers.iter().enumerate();
        let lives = each.map(async |(turn, customer)| {
            let id = &customer.purchase;
            let latest = || {
                world.stores().purchases(&customer.person.name)[0]
                    .latest_transaction
                    .clone()
            };
            match event {
                2 => world
                    .stores()
                    .set_auto_renew(id, false)
                    .await
                    .expect("turned off"),
                // Half of them go on to be refunded, so that both ends are seen.
                3 if turn.is_multiple_of(2) => {
                    world
                        .stores()
                        .refund_app_store(&latest())
                        .await
                        .expect("refunded");
                }
                3 => world
                    .stores()
                    .set_auto_renew(id, true)
                    .await
                    .expect("turned on"),
                _ => {}
            }
            customer.receive(&world, event, turn).await;
            // The app's own proof is one more signal; here it comes first, there last.
            if turn % 4 == event {
                customer
                    .person
                    .bind_apple(&customer.proof)
                    .await
                    .expect("bound");
            }
        });
        join_all(lives).await;
    }
    converge(&world, &customers).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_every_order_delay_and_loss_of_google_play_signals_ends_in_the_stores_truth() {
    let world = World::start().await;
    world.hold().await;
    let bought = delays(4).into_iter().enumerate();
    let bought = bought.map(async |(number, delays)| {
        let person = world.person(&format!("customer{number}")).await;
        let bought = world
            .buy_google(&person.name, "premium-monthly", Some(&person.store_token))
            .await;
        let token = bought.purchase_token;
        // Google takes back what nobody has acknowledged in three days: these apps bind at once.
        person.bind_google(&token).await.expect("bound");
        Customer {
            person,
            delays,
            purchase: token.clone(),
            proof: token,
        }
    });
    let customers = join_all(bought).await;
    for event in 0..4 {
        if event == 1 {
            world
                .stores()
                .advance(period("P1M"))
                .await
                .expect("renewals");
        }
        let each = customers.iter().enumerate();
        let lives = each.map(async |(turn, customer)| {
            let id = &customer.purchase;
            match event {
                2 => world
                    .stores()
                    .cancel_google_play(id)
                    .await
                    .expect("canceled"),
                3 if turn.is_multiple_of(2) => world
                    .stores()
                    .refund_google_play(id)
                    .await
                    .expect("refunded"),
                3 => world
                    .stores()
                    .restore_google_play(id)
                    .await
                    .expect("restored"),
                _ => {}
            }
            customer.receive(&world, event, turn).await;
            if turn % 4 == event {
                customer
                    .person
                    .bind_google(&customer.proof)
                    .await
                    .expect("bound");
            }
        });
        join_all(lives).await;
    }
    converge(&world, &customers).await;
    world.stop().await;
}

/// Those who heard everything agree at once, the others within a day.
async fn converge(world: &World, customers: &[Customer]) {
    world.settled().await;
    for customer in customers
        .iter()
        .filter(|customer| customer.delays.iter().all(Option::is_some))
    {
        customer.assert_truth(world).await;
    }
    world.stores().advance(period("P1D")).await.expect("a day");
    world.settled().await;
    for customer in customers {
        customer.assert_truth(world).await;
    }
}
