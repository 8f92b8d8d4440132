//! What a daemon lets be seen of itself: [logs], [metrics], and its state to [the service manager](service_manager).

pub mod limit;
pub mod logs;
pub mod metrics;
pub mod series;
pub mod service_manager;

pub use limit::LogLimit;
pub use logs::{Format, Logs};
pub use metrics::MetricsServer;
pub use prometheus_client;
pub use series::SeriesWriter;
