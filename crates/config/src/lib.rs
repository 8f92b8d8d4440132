//! The configuration language of Holdfast, and the commands of its shell.
//!
//! [`model`] holds what a configuration means, in checked types. Both languages are declared once, as data, in the same
//! [`grammar`]: every statement is one row with its syntax, its help, what it does to the model and how the model says it
//! again. The parser, the completer, the `?` help and `show running-config` all come from those rows.
//!
//! ```
//! let parsed = config::parse("hostname edge1\nrouter bgp 65001\n neighbor 192.0.2.1 remote-as external\n").unwrap();
//! assert_eq!(config::parse(&parsed.config.to_string()).unwrap().config, parsed.config);
//! ```

pub mod command;
pub mod diagnostic;
mod edit;
mod foreign;
pub mod grammar;
mod language;
pub mod model;
mod parse;
mod unsay;

pub use command::{Command, CommandError, Owner};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use edit::{Moved, Place, Refused, edit};
pub use model::Config;
pub use parse::{MAX_OCTETS, Parsed, UnknownLines, parse, parse_with};
