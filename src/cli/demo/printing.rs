//! How the demo speaks: to a person in words and tables, to a program in one JSON object a line.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use serde_json::{Value, json};

use super::report::{GOAL_MS, Miss, Report, Shown, Words};
use super::tables::{self, WIDTH};

const INDENT: &str = "       ";

/// Who listens.
#[derive(Clone, Copy)]
pub(super) enum Voice {
    Person { colour: bool },
    Program,
}

/// One line on standard output. A reader who has gone (`| head`) does not stop the story, which
/// has things to take away at its end.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Beside the story, out of the way of what is piped.
fn remark(text: &str, end: &str) {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{text}{end}").and_then(|()| stderr.flush());
}

impl Voice {
    pub(super) fn new(json: bool) -> Self {
        if json {
            return Self::Program;
        }
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::Person {
            colour: !plain && std::io::stdout().is_terminal(),
        }
    }

    /// What is no part of the story.
    pub(super) fn aside(self, text: &str) {
        match self {
            Self::Person { .. } => say(wrapped(text, "")),
            Self::Program => remark(text, "\n"),
        }
    }

    pub(super) fn ask_for_enter(self) {
        remark("\n       Enter goes on ", "");
    }

    pub(super) fn begin_step(self, step: usize, steps: usize, words: &Words) {
        if let Self::Person { .. } = self {
            let number = format!("{step}/{steps}");
            say(format!("\n{number:>5}  {}", self.bold(words.title)));
            say(wrapped(words.about, INDENT));
        }
    }

    pub(super) fn end_step(self, step: usize, words: &Words, outcome: &Result<Shown, Miss>) {
        match (self, outcome) {
            (Self::Program, outcome) => say(step_object(step, words, outcome)),
            (Self::Person { .. }, Ok(shown)) => {
                for line in &shown.seen {
                    say(format!("{INDENT}{} {line}", self.green("✓")));
                }
                if !shown.timeline.is_empty() {
                    say(tables::timeline(&shown.timeline));
                }
            }
            (Self::Person { .. }, Err(miss)) => {
                say(format!(
                    "{INDENT}{} expected  {}",
                    self.red("✗"),
                    miss.expected
                ));
                say(format!("{INDENT}  seen      {}", miss.seen));
                say(format!("{INDENT}  now       {}", miss.next));
            }
        }
    }

    pub(super) fn summary(self, report: &Report, steps: usize, commands: &[String]) {
        match self {
            Self::Person { .. } => self.summary_in_words(report, steps, commands),
            Self::Program => say(summary_object(report, steps, commands)),
        }
    }

    fn summary_in_words(self, report: &Report, steps: usize, commands: &[String]) {
        if !report.measured.is_empty() {
            say(format!(
                "\n{}",
                self.bold("From the store's event to the devices")
            ));
            say(tables::latencies(&report.measured));
        }
        if let Some(median) = report.median_ms() {
            let verdict = if median < GOAL_MS { "under" } else { "over" };
            say(format!(
                "Median from a notification's 200 to both devices told: {median:.1} ms ({verdict} the \
                 goal of {GOAL_MS} ms)"
            ));
        }
        say(format!("\n{}", self.bold("Promises that you saw kept")));
        for promise in report.promises() {
            let steps: Vec<String> = promise.steps.iter().map(ToString::to_string).collect();
            let steps = self.dim(&format!("(step {})", steps.join(", ")));
            say(format!(
                "  {:<4} {} {steps}",
                promise.number, promise.promise
            ));
        }
        if report.failed {
            let passed = report.steps_passed;
            say(format!(
                "\n{} {passed} of {steps} steps did what they should.",
                self.red("✗")
            ));
            return;
        }
        say(format!(
            "\n{} All {steps} steps did what they should.",
            self.green("✓")
        ));
        say(format!("\n{}", self.bold("Try next")));
        for command in commands {
            say(format!("  {command}"));
        }
    }

    fn bold(self, text: &str) -> String {
        self.painted(text, "1")
    }

    fn dim(self, text: &str) -> String {
        self.painted(text, "2")
    }

    fn green(self, text: &str) -> String {
        self.painted(text, "32")
    }

    fn red(self, text: &str) -> String {
        self.painted(text, "31")
    }

    fn painted(self, text: &str, code: &str) -> String {
        match self {
            Self::Person { colour: true } => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Person { colour: false } | Self::Program => text.to_owned(),
        }
    }
}

fn step_object(step: usize, words: &Words, outcome: &Result<Shown, Miss>) -> Value {
    let mut object = json!({
        "step": step,
        "title": words.title,
        "about": words.about,
        "ok": outcome.is_ok(),
    });
    match outcome {
        Ok(shown) => {
            object["seen"] = json!(shown.seen);
            if let Some(measured) = &shown.measured {
                object["measured"] = json!(measured);
            }
            if !shown.timeline.is_empty() {
                object["timeline"] = json!(shown.timeline);
            }
        }
        Err(miss) => object["miss"] = json!(miss),
    }
    object
}

fn summary_object(report: &Report, steps: usize, commands: &[String]) -> Value {
    json!({
        "summary": {
            "ok": !report.failed,
            "steps_passed": report.steps_passed,
            "steps": steps,
            "measured": report.measured,
            "median_ms": report.median_ms(),
            "goal_ms": GOAL_MS,
            "promises": report.promises(),
            "try_next": commands,
        }
    })
}

/// `text` in lines of at most [`WIDTH`] columns, each behind `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(format!("{indent}{word}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_at_the_width_and_indented() {
        let text = wrapped(&"word ".repeat(60), "  ");
        assert!(
            text.lines()
                .all(|line| line.starts_with("  word") && line.len() <= WIDTH)
        );
        assert_eq!(text.split_whitespace().count(), 60);
        assert_eq!(wrapped("", "  "), "");
    }
}
