//! Devices that watch: the first look, and the one that comes late.

use super::super::device::Device;
use super::super::report::{Miss, Shown, Words};
use super::super::scene::{ALICE, Scene, in_words, is_off};
use crate::cli::stack::Stack;
use crate::proto::InactiveReason;

pub(crate) const OPEN: Words = Words {
    title: "Two devices open a stream",
    about: "Alice signs in on her phone and her tablet. Both call WatchEntitlements: they are told \
            what she may use now, and then every change the moment it is committed. No polling.",
    promises: &[],
};

pub(crate) async fn open(stack: &Stack) -> Result<(Shown, Scene<'_>), Miss> {
    let scene = Scene {
        stack,
        app: stack.client(ALICE).await?,
        phone: Device::open("phone", stack.client(ALICE).await?).await?,
        tablet: Device::open("tablet", stack.client(ALICE).await?).await?,
    };
    let (phone, tablet) = (scene.phone.latest(), scene.tablet.latest());
    if !is_off(&phone, InactiveReason::Never) || phone != tablet {
        return Err(Miss::new(
            "both devices hold the same, and nothing yet",
            scene.held(),
        ));
    }
    Ok((Shown::lines(scene.lines()), scene))
}

pub(crate) const LATE: Words = Words {
    title: "A new device comes late and sees the same",
    about: "Alice buys a watch. It missed everything; its first message is the latest state, under \
            the same revision that the others hold and that a strict read from the database gives.",
    promises: &[6, 7],
};

pub(crate) async fn late(scene: &mut Scene<'_>) -> Result<Shown, Miss> {
    let watch = Device::open("watch", scene.stack.client(ALICE).await?).await?;
    let latest = watch.latest();
    let read = scene.read_strictly().await?;
    for (name, held) in [
        ("the phone", scene.phone.latest()),
        ("the tablet", scene.tablet.latest()),
        ("the database", read),
    ] {
        if held != latest {
            let expected = format!("the new device sees what {name} holds: {}", in_words(&held));
            return Err(Miss::new(expected, in_words(&latest)));
        }
    }
    if !scene.phone.revisions_rose() || !scene.tablet.revisions_rose() {
        return Err(Miss::new(
            "each message of a stream has a higher revision",
            "one went back",
        ));
    }
    Ok(Shown::lines([
        format!("watch   {}", in_words(&latest)),
        "phone, tablet, watch and database agree; on each stream the revision only ever rose"
            .to_owned(),
    ]))
}
