//! What happened, in order. Written down only when a seed is told again.

use std::fmt::Write as _;

use crate::model::Time;

#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) told: bool,
    lines: Vec<(Time, String)>,
}

impl Story {
    pub(crate) const fn new(told: bool) -> Self {
        Self { told, lines: Vec::new() }
    }

    pub(crate) fn add(&mut self, at: Time, line: String) {
        self.lines.push((at, line));
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (at, line) in &self.lines {
            let _ = writeln!(text, "{:>10.3}  {line}", at.as_secs_f64());
        }
        text
    }
}

/// Adds a line to the story of a world.
macro_rules! tell {
    ($world:expr, $($text:tt)*) => {
        if $world.story.told {
            let line = format!($($text)*);
            $world.story.add($world.now, line);
        }
    };
}
pub(crate) use tell;
