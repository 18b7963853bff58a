//! Where the training gets its rows from.

use std::io;

/// A source of activation rows, (n, width), already shuffled where it matters. A pure function of its seed and position. Training reads it from another
/// thread than its own.
pub trait RowSource: Send {
    /// Numbers to a row: d_in, and behind them d_out for a transcoder ([`super::SaeConfig::d_row`]).
    fn width(&self) -> usize;

    /// Fills `out` (n, width) with the next rows and returns how many there were; fewer than n only at the end.
    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize>;

    /// Rows served so far.
    fn position(&self) -> u64;

    /// Goes to a position that was read with [`RowSource::position`]; the rows that follow are the same as they were then.
    fn seek(&mut self, position: u64) -> io::Result<()>;
}
