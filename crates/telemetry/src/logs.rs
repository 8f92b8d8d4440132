//! Events with fields, to standard error as text or JSON, or to the journal.

use std::{env, os::unix::fs::MetadataExt, str::FromStr, sync::Arc};

use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::LevelFilter,
    layer::SubscriberExt,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

/// How events are written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line of text each; to the journal with all fields instead, where standard error leads there.
    #[default]
    Text,
    /// One JSON object a line each.
    Json,
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("\"{other}\" is no log format: expected text or json")),
        }
    }
}

/// Why logging could not begin, or not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level.
    #[error("\"{0}\" is no log level: expected error, warn, info, debug or trace, or one such as info,fib=debug")]
    Level(String),
    /// Logging was set up before.
    #[error("logging cannot be set up: {0}")]
    Twice(#[from] TryInitError),
    /// The subscriber is gone.
    #[error("the log level cannot be changed: {0}")]
    Gone(#[from] reload::Error),
}

/// Handle on the logs of this process.
#[derive(Clone, Debug)]
pub struct Logs {
    filter: Arc<reload::Handle<EnvFilter, Registry>>,
}

impl Logs {
    /// Begins to log: what `level` lets through, as `format`, under the name `program` in the journal.
    ///
    /// # Errors
    /// When the level is none, or a subscriber was installed before.
    pub fn init(program: &str, level: &str, format: Format) -> Result<Self, LogError> {
        let (filter, handle) = reload::Layer::new(parse_level(level)?);
        tracing_subscriber::registry().with(filter).with(output(program, format)).try_init()?;
        Ok(Self { filter: Arc::new(handle) })
    }

    /// Changes what is let through.
    ///
    /// # Errors
    /// When the level is none.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        Ok(self.filter.reload(parse_level(level)?)?)
    }
}

/// Checks a level without applying it, for the command line.
///
/// # Errors
/// When it is none.
pub fn check_level(level: &str) -> Result<(), LogError> {
    parse_level(level).map(drop)
}

fn parse_level(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = || LogError::Level(level.to_owned());
    // The filter's own parser takes an unknown word for the name of a module; a typing error should not silence the logs.
    let known = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    if level.is_empty() || !level.split(',').all(known) {
        return Err(wrong());
    }
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(level).map_err(|_| wrong())
}

type Output<S> = Box<dyn Layer<S> + Send + Sync>;

fn output<S>(program: &str, format: Format) -> Output<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Json => stderr.json().flatten_event(true).boxed(),
        Format::Text => match journal(program) {
            Some(journal) => journal.boxed(),
            None => stderr.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        },
    }
}

/// The journal, if standard error leads there (systemd.exec(5): `$JOURNAL_STREAM` is its device and inode).
fn journal(program: &str) -> Option<tracing_journald::Layer> {
    let stream = env::var("JOURNAL_STREAM").ok()?;
    let stderr = std::fs::metadata("/proc/self/fd/2").ok()?;
    if stream != format!("{}:{}", stderr.dev(), stderr.ino()) {
        return None;
    }
    // Fields keep their names, upper-cased by the journal's convention; without it stderr will do.
    let layer = tracing_journald::layer().ok()?;
    Some(layer.with_syslog_identifier(program.to_owned()).with_field_prefix(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked_before_they_silence_anything() {
        for good in ["error", "warn", "info", "debug", "trace", "INFO", "info,fib=debug", "off"] {
            assert!(check_level(good).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "inf", "info,fib=loud", "info,"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}
