//! The configuration language of Holdfast, and the commands of its shell.
//!
//! [`model`] holds what a configuration means, in checked types. The languages themselves are declared once, as data;
//! the parser, the completer, the `?` help and `show running-config` all come from that declaration.

pub mod model;
