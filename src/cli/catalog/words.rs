//! Catalogs, changes and their effects as people read them.

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::told::Planned;
use crate::domain::catalog::diff::Change;
use crate::domain::catalog::effect::{Effect, Moves};
use crate::domain::catalog::{Catalog, Offering, Product};
use crate::domain::ids::CatalogVersion;
use crate::domain::time::Instant;
use crate::flows::apply_catalog::{Story, parse};
use crate::proto::wanted_catalog::Wanted;

pub(super) fn summary(catalog: &Catalog) -> String {
    let counts = [
        (catalog.apps().len(), "apps"),
        (catalog.entitlements().count(), "entitlements"),
        (catalog.products().count(), "products"),
        (catalog.credits().count(), "credits"),
        (catalog.offerings().len(), "offerings"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    counts.join(", ")
}

pub(super) fn brings(product: &Product) -> String {
    let credits = product.credits.iter();
    let credits: Vec<String> = credits
        .map(|(credit, amount)| format!("{amount} {credit}"))
        .collect();
    match (product.grants.is_empty(), credits.is_empty()) {
        (false, _) => format!("grants {}", product.grants.join(", ")),
        (true, false) => format!("brings {}", credits.join(", ")),
        (true, true) => "delivered by a backend".to_owned(),
    }
}

pub(super) fn shows(offering: &Offering) -> String {
    let packages = offering.packages.iter();
    let packages: Vec<String> = packages
        .map(|package| match package.id == package.product {
            true => package.id.clone(),
            false => format!("{} ({})", package.id, package.product),
        })
        .collect();
    packages.join(", ")
}

pub(super) fn print_changes(changes: &[Change], base: CatalogVersion) {
    if changes.is_empty() {
        println!("nothing that counts differs from version {}", base.0);
        return;
    }
    println!("against version {}:", base.0);
    for change in changes {
        println!("  {} {}", change.kind.mark(), change.sentence);
    }
}

/// What a catalog holds that may be the first; nothing of one that this program cannot read.
pub(super) fn first(wanted: &Wanted) -> String {
    let text = match wanted {
        Wanted::Text(text) => text.as_str(),
        Wanted::Version(_) => "",
    };
    let catalog = parse(text, CatalogVersion(0));
    catalog.map(|catalog| summary(&catalog)).unwrap_or_default()
}

/// What a change would do; `first`: what the catalog holds, if it is the first.
pub(super) fn print_plan(plan: &Planned, first: &str) {
    let Some(base) = plan.base else {
        println!("the first version: {first}");
        return;
    };
    if plan.already_active {
        println!("this is version {}, which is active: nothing to do", base.0);
        return;
    }
    if plan.base_unreadable {
        println!(
            "version {} is active and cannot be read: a newer program has applied it. What differs \
             and who loses is not known",
            base.0
        );
        return;
    }
    print_changes(&plan.changes, base);
    if let Some((effect, counted_at)) = &plan.effect {
        print_effect(effect, *counted_at);
    }
}

fn print_effect(effect: &Effect, counted_at: Instant) {
    println!(
        "\n{} accounts that ever had something, by what the stores last said, counted {}:",
        effect.accounts,
        counted_at.format("%F %T UTC")
    );
    let things = effect.entitlements.iter().chain(&effect.credits);
    let mut any = false;
    for (id, moves) in things {
        println!("  {id}: {}", moved(*moves));
        any = true;
    }
    if !any {
        println!("  nobody gains or loses anything");
    }
    println!(
        "  {} are told something new (access, time, a plan's name, a balance)",
        effect.changed
    );
    if effect.payers_losing > 0 {
        println!(
            "  {} of them pay with real money and lose something",
            effect.payers_losing
        );
    }
    if effect.out_of_reach > 0 {
        println!(
            "  {} of these have bought in an app that is gone or has another name: their purchases \
             can no longer be read at their store, and end with their period",
            effect.out_of_reach
        );
    }
    if effect.losing_later > 0 {
        println!(
            "  {} of these lose nothing today: they have it on hold, paused or not paid yet, and \
             would have less once it is paid for",
            effect.losing_later
        );
    }
    if effect.unreadable > 0 {
        println!(
            "  {} could not be read and are not counted; see `entitled doctor`",
            effect.unreadable
        );
    }
}

fn moved(moves: Moves) -> String {
    let parts = [
        (moves.gain, "gain it"),
        (moves.lose, "lose it"),
        (moves.shortened, "have it for a shorter time"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> = parts
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if moves.payers > 0 {
        parts.push(format!("{} of these by a purchase", moves.payers));
    }
    parts.join(", ")
}

pub(super) fn next_step(plan: &Planned) -> String {
    let effect = plan.effect.as_ref();
    let losing = effect.map_or(0, |(effect, _)| effect.to_confirm());
    match plan.base.filter(|_| losing > 0) {
        None => " Without --dry-run it becomes active.".to_owned(),
        Some(base) => format!(
            " With --replaces {} --confirm-loss {losing} and without --dry-run it becomes active.",
            base.0
        ),
    }
}

pub(super) fn table(stories: &[Story]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "version",
        "applied (UTC)",
        "by",
        "why",
        "effect",
        "accounts",
    ]);
    for story in stories {
        let told = &story.told;
        let origin = match told.copy_of {
            Some(of) => format!("{} of {}", told.origin, of.0),
            None => told.origin.clone(),
        };
        let by = match &told.actor {
            Some(actor) => format!("{actor} ({origin})"),
            None => origin,
        };
        table.add_row([
            told.version.0.to_string(),
            told.applied_at.format("%F %T").to_string(),
            by,
            told.reason.clone().unwrap_or_default(),
            told.effect.as_ref().map(in_short).unwrap_or_default(),
            how_far(story),
        ]);
    }
    table
}

fn in_short(effect: &Effect) -> String {
    let things = effect.entitlements.iter().chain(&effect.credits);
    let mut lines: Vec<String> = things
        .map(|(id, moves)| {
            let mut line = id.clone();
            if moves.gain > 0 {
                line.push_str(&format!(" +{}", moves.gain));
            }
            if moves.lose + moves.shortened > 0 {
                line.push_str(&format!(" -{}", moves.lose + moves.shortened));
            }
            line
        })
        .collect();
    if effect.payers_losing > 0 {
        lines.push(format!("{} payers lost", effect.payers_losing));
    }
    if lines.is_empty() {
        lines.push("nobody gained or lost".to_owned());
    }
    lines.join("\n")
}

fn how_far(story: &Story) -> String {
    let told = &story.told;
    let left = story.behind.map(|behind| behind - story.underived.count);
    match (left, told.finished_at) {
        (Some(0), Some(_)) if story.underived.count > 0 => {
            format!("all but {} that cannot be derived", story.underived.count)
        }
        (Some(behind), _) if behind > 0 => {
            format!(
                "{behind} of {} to go",
                told.accounts.unwrap_or(behind).max(behind)
            )
        }
        (_, Some(_)) => "all".to_owned(),
        (Some(_), None) => "all; purchases are looked at again".to_owned(),
        (None, None) => "replaced before all had come to it".to_owned(),
    }
}
