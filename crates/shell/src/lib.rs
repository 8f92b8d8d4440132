//! The shell of both daemons: completion and help from the one grammar, output streamed through filters.
//!
//! It holds no state of the daemons and decides nothing: a line is recognised by [`config`]'s grammar, which also says
//! whose it is, and runs there.

pub mod pipe;
pub mod remote;
