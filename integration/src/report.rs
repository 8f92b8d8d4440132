//! The picture of a trial: packets per millisecond by path, and what happened, as SVG.
