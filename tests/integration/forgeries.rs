//! What forgers send, by the classes of `docs/forgeries.md`: generated variants, each wrong in one
//! way, with genuine counterparts beside them. A forged one must be refused for the expected
//! reason, a genuine one accepted; a wrong answer of either kind fails the test.

mod canary;
mod documents;
mod impostors;
mod purchases;
mod pushes;
mod register;
mod superwall;

use std::collections::BTreeMap;

/// Cases by class, forged and genuine.
#[derive(Default)]
struct Counted(BTreeMap<String, (u32, u32)>);

impl Counted {
    fn count(&mut self, class: &str, genuine: bool) {
        let (forged, accepted) = self.0.entry(class.to_owned()).or_default();
        if genuine {
            *accepted += 1;
        } else {
            *forged += 1;
        }
    }

    /// Prints the table; a class without a case fails.
    fn report(&self, what: &str, classes: &[&str]) {
        for (class, (forged, genuine)) in &self.0 {
            println!("{what} {class}: {forged} forged refused, {genuine} genuine accepted");
        }
        for class in classes {
            assert!(self.0.contains_key(*class), "{what}: no case of {class}");
        }
        assert!(self.0.values().any(|(_, genuine)| *genuine > 0));
    }

    fn forged(&self) -> u32 {
        self.0.values().map(|(forged, _)| forged).sum()
    }
}
