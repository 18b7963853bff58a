//! Where in the pass and where in its window a token is, in few bins.

use serde::{Deserialize, Serialize};

/// The bins, and the tokens counted in each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Places {
    pub time_tokens: Vec<u64>,
    pub position_tokens: Vec<u64>,
    /// Bin i holds positions `position_edges[i]..position_edges[i + 1]`.
    pub position_edges: Vec<u32>,
    /// The bin of each position of a window, (n_ctx,).
    pub bin_of_position: Vec<u32>,
}

impl Places {
    /// Positions 0 to 3 are bins of their own, then four bins to a doubling: what is locked to a position is mostly at the beginning.
    pub fn new(n_parts: usize, n_ctx: usize) -> Self {
        let (mut edges, mut next) = (vec![0], 1);
        while next < n_ctx {
            edges.push(next as u32);
            next += (1 << (usize::BITS - 1 - next.leading_zeros())).max(4) / 4;
        }
        edges.push(n_ctx.max(1) as u32);
        let bin_of_position = (0..n_ctx as u32).map(|p| edges.partition_point(|e| *e <= p) as u32 - 1).collect();
        let n_bins = edges.len() - 1;
        Places { time_tokens: vec![0; n_parts], position_tokens: vec![0; n_bins], position_edges: edges, bin_of_position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_have_a_bin_each_then_four_to_a_doubling() {
        let places = Places::new(3, 35);
        assert_eq!(places.position_edges, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 35]);
        assert_eq!((places.bin_of_position[0], places.bin_of_position[9], places.bin_of_position[34]), (0, 8, 16));
        assert_eq!(Places::new(1, 1).position_edges, [0, 1]);
        assert_eq!(Places::new(1, 8).position_tokens.len(), 8);
    }
}
