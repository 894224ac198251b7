//! A worksheet: the steps of a guide with the values of one deployment, as text.

use std::fmt::Write as _;

use crate::domain::guide::{Guide, Step};

/// What goes into a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Something to click or to do.
    Do(String),
    /// A value to enter there, exactly.
    Value(String, String),
    /// A line for a shell.
    Shell(String),
    /// A line of the configuration or the catalog.
    File(String),
    /// Why, or what to beware of.
    Note(String),
}

/// One step for one deployment.
#[derive(Clone, Debug)]
pub(super) struct Section {
    step: Step,
    /// What the configuration or the catalog already says of it.
    done: Option<String>,
    lines: Vec<Line>,
}

impl Section {
    pub(super) fn new(step: Step) -> Self {
        Self {
            step,
            done: None,
            lines: Vec::new(),
        }
    }

    /// Marks the step as configured.
    pub(super) fn done(mut self, what: Option<String>) -> Self {
        self.done = what;
        self
    }

    pub(super) fn act(mut self, text: impl Into<String>) -> Self {
        self.lines.push(Line::Do(text.into()));
        self
    }

    pub(super) fn value(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.lines.push(Line::Value(label.into(), value.into()));
        self
    }

    pub(super) fn values(
        mut self,
        values: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let lines = values.into_iter();
        self.lines
            .extend(lines.map(|(label, value)| Line::Value(label.into(), value.into())));
        self
    }

    pub(super) fn shell(mut self, text: &str) -> Self {
        self.lines
            .extend(text.lines().map(|line| Line::Shell(line.to_owned())));
        self
    }

    pub(super) fn file(mut self, text: &str) -> Self {
        self.lines
            .extend(text.lines().map(|line| Line::File(line.to_owned())));
        self
    }

    pub(super) fn note(mut self, text: impl Into<String>) -> Self {
        self.lines.push(Line::Note(text.into()));
        self
    }
}

/// A guide with the values of one deployment.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub(super) guide: Guide,
    /// Whose it is: label and value.
    pub(super) head: Vec<(&'static str, String)>,
    pub(super) sections: Vec<Section>,
    /// How to see that it is right.
    pub(super) check: String,
}

const INDENT: &str = "     ";

impl Sheet {
    pub(super) fn render(&self) -> String {
        let mut text = format!("{}, step by step\n", self.guide.label());
        for (label, value) in &self.head {
            let _ = writeln!(text, "  {label:<14} {value}");
        }
        let _ = writeln!(text, "  {:<14} {}", "explained in", self.guide.document());
        let all = self.guide.titles().len();
        for section in &self.sections {
            let step = section.step;
            let _ = write!(text, "\n{:>2}/{all} {}", step.number, step.title());
            if let Some(done) = &section.done {
                let _ = write!(text, "   ✓ configured: {done}");
            }
            text.push('\n');
            section.render(&mut text);
        }
        let _ = writeln!(text, "\nThen: {}", self.check);
        text
    }
}

impl Section {
    fn render(&self, text: &mut String) {
        let mut rest = self.lines.as_slice();
        while let Some(first) = rest.first() {
            let same = rest
                .iter()
                .take_while(|line| std::mem::discriminant(*line) == std::mem::discriminant(first))
                .count();
            let (block, after) = rest.split_at(same);
            render_block(block, text);
            rest = after;
        }
    }
}

/// Lines of one kind belong together: values in columns, commands to be copied at once.
fn render_block(block: &[Line], text: &mut String) {
    let width = block.iter().map(label_width).max().unwrap_or_default();
    let apart = matches!(block.first(), Some(Line::Shell(_) | Line::File(_)));
    if apart {
        text.push('\n');
    }
    for line in block {
        let _ = match line {
            Line::Do(what) => writeln!(text, "{INDENT}- {what}"),
            Line::Value(label, value) => writeln!(text, "{INDENT}    {label:<width$}  {value}"),
            Line::Shell(command) => writeln!(text, "{INDENT}    $ {command}"),
            Line::File(line) => writeln!(text, "{INDENT}    | {line}"),
            Line::Note(note) => writeln!(text, "{INDENT}  ({note})"),
        };
    }
    if apart {
        text.push('\n');
    }
}

fn label_width(line: &Line) -> usize {
    match line {
        Line::Value(label, _) => label.chars().count(),
        Line::Do(_) | Line::Shell(_) | Line::File(_) | Line::Note(_) => 0,
    }
}
