//! The log: lines to the standard output, whose level and form can be changed while pgherd runs.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{self, LogFormat, LogLevel};

type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The running log.
pub(crate) struct Log {
    filter: reload::Handle<Targets, Registry>,
    lines: reload::Handle<Lines, Filtered>,
}

impl Log {
    /// Starts the log of this process; once.
    pub(crate) fn start(settings: config::Log) -> Self {
        let (filter_layer, filter) = reload::Layer::new(targets(settings.level));
        let (lines_layer, lines) = reload::Layer::new(form(settings.format));
        tracing_subscriber::registry().with(filter_layer).with(lines_layer).init();
        Self { filter, lines }
    }

    /// Goes on by other settings.
    pub(crate) fn change(&self, settings: config::Log) {
        // It fails only where the log has ended.
        let _ = self.filter.reload(targets(settings.level));
        let _ = self.lines.reload(form(settings.format));
    }
}

/// Other crates' details are not an operator's business.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("pgherd", level)
        .with_target("pgherd_failover", level)
        .with_target("pgherd_health", level)
}

fn form(format: LogFormat) -> Lines {
    match format {
        LogFormat::Text => fmt::layer().with_ansi(false).boxed(),
        LogFormat::Json => fmt::layer().json().boxed(),
    }
}
