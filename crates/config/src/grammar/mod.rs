//! The machinery that both languages share: rows of syntax become a tree of words, and the tree reads, completes and explains.
//!
//! A syntax is written as it is documented: `neighbor PEER timers KEEPALIVE:0-65535 HOLD:0-65535`. Lower case is literal,
//! upper case a [value](Kind), `[…]` may be left out, `(a|b)` is a choice, `VALUE…` repeats. A literal matches in full or,
//! where [`Spelling::Abbreviated`] is asked for, by any beginning that leaves one meaning.

mod args;
mod leaf;
mod syntax;
mod tree;
mod vocabulary;
mod words;

pub use leaf::{Kind, Leaf, Reference};
pub use tree::{Choice, Mismatch, Spelling, Tree};
pub use words::{Word, split};

pub(crate) use args::{Args, By, Complaint};
