//! Logs and metrics.

use std::net::SocketAddr;

/// `log`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// `log level`
    pub level: Option<LogLevel>,
    /// `log format`
    pub format: Option<LogFormat>,
}

/// Least severe kind of event that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Someone should wake up.
    Error,
    /// Someone should look.
    Warn,
    /// A state changed.
    Info,
    /// Why it did.
    Debug,
    /// Every packet.
    Trace,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object a line each.
    Json,
}

/// `metrics DAEMON ADDRESS:PORT`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Where bgpd serves them; not at all without.
    pub bgpd: Option<SocketAddr>,
    /// Where ipsecd serves them; not at all without.
    pub ipsecd: Option<SocketAddr>,
}

impl LogLevel {
    /// As the command line and `log level` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl LogFormat {
    /// As the command line and `log format` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
