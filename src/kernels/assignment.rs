//! The assignment problem: one column for each row, all different, so that the sum of their scores is largest.
//!
//! Shortest augmenting paths with dual prices (Jonker and Volgenant 1987; for rectangles: Crouse 2016, "On implementing 2D rectangular assignment
//! algorithms"). Rows that want a free column get it at once; each other row costs a search like Dijkstra's over the columns. 4,096 x 16,384 cosines
//! of a trained SAE take about a second, and memory beyond the scores is four numbers per column.

/// The column of each row. Shapes: score (rows, columns), rows <= columns.
pub fn assign(score: &[f32], rows: usize, columns: usize) -> Vec<usize> {
    assert!(rows <= columns && score.len() == rows * columns, "{} scores of {rows} rows and {columns} columns", score.len());
    const NOBODY: usize = usize::MAX;
    // Costs are negative scores. Prices keep every reduced cost  cost(i, j) - of_row[i] - of_column[j]  at or above 0, and at 0 where i has j.
    let cost = |i: usize| score[i * columns..][..columns].iter().map(|&s| -s as f64);
    let (mut of_row, mut of_column) = (vec![0.0f64; rows], vec![0.0f64; columns]);
    let (mut column_of, mut row_of) = (vec![NOBODY; rows], vec![NOBODY; columns]);
    for i in 0..rows {
        let (best, least) = cost(i).enumerate().fold((0, f64::INFINITY), |best, (j, c)| if c < best.1 { (j, c) } else { best });
        of_row[i] = least;
        if row_of[best] == NOBODY {
            (column_of[i], row_of[best]) = (best, i);
        }
    }
    // Length of the shortest path to each column, the row it comes from, and whether it is final.
    let (mut length, mut from, mut is_final) = (vec![0.0f64; columns], vec![0; columns], vec![false; columns]);
    for start in (0..rows).filter(|&i| column_of[i] == NOBODY).collect::<Vec<_>>() {
        length.fill(f64::INFINITY);
        is_final.fill(false);
        let mut reached = Vec::new();
        let (mut row, mut so_far) = (start, 0.0);
        let end = loop {
            let (mut next, mut least) = (NOBODY, f64::INFINITY);
            for (j, c) in cost(row).enumerate() {
                if is_final[j] {
                    continue;
                }
                let along = so_far + (c - of_row[row] - of_column[j]);
                if along < length[j] {
                    (length[j], from[j]) = (along, row);
                }
                // Of equally near columns a free one ends the search.
                if length[j] < least || (length[j] == least && row_of[j] == NOBODY) {
                    (next, least) = (j, length[j]);
                }
            }
            assert!(next != NOBODY, "scores must be numbers");
            (is_final[next], so_far) = (true, least);
            if row_of[next] == NOBODY {
                break next;
            }
            reached.push(next);
            row = row_of[next];
        };
        of_row[start] += so_far;
        for &j in &reached {
            of_row[row_of[j]] += so_far - length[j];
            of_column[j] -= so_far - length[j];
        }
        let mut column = end;
        loop {
            let row = from[column];
            row_of[column] = row;
            std::mem::swap(&mut column_of[row], &mut column);
            if row == start {
                break;
            }
        }
    }
    column_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use rand::RngExt;

    fn total(score: &[f32], columns: usize, of: &[usize]) -> f64 {
        of.iter().enumerate().map(|(i, &j)| score[i * columns + j] as f64).sum()
    }

    /// The best sum by trying every way.
    fn best(score: &[f32], columns: usize, row: usize, taken: &mut Vec<usize>) -> f64 {
        if row * columns == score.len() {
            return 0.0;
        }
        let mut most = f64::NEG_INFINITY;
        for j in 0..columns {
            if !taken.contains(&j) {
                taken.push(j);
                most = most.max(score[row * columns + j] as f64 + best(score, columns, row + 1, taken));
                taken.pop();
            }
        }
        most
    }

    #[test]
    fn assignments_are_as_good_as_the_best_of_all() {
        let mut rng = seed::rng(0, "test/assignment", 0);
        for round in 0..300 {
            let rows = rng.random_range(1..6);
            let columns = rows + rng.random_range(0..3);
            // Every other round few different scores, so that there are ties.
            let draw = |rng: &mut rand_chacha::ChaCha8Rng| if round % 2 == 0 { rng.random_range(-1.0..1.0) } else { rng.random_range(0..3) as f32 };
            let score: Vec<f32> = (0..rows * columns).map(|_| draw(&mut rng)).collect();
            let of = assign(&score, rows, columns);
            let mut distinct = of.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), rows);
            let want = best(&score, columns, 0, &mut Vec::new());
            assert!((total(&score, columns, &of) - want).abs() < 1e-6, "{score:?}: {} of {want}", total(&score, columns, &of));
        }
    }

    #[test]
    fn a_hidden_permutation_is_found_and_rows_that_want_the_same_column_share_well() {
        let n = 60;
        let to = |i: usize| (i * 23 + 7) % n;
        let mut score: Vec<f32> = (0..n * n).map(|ij| ((ij * 31) % 17) as f32 / 40.0).collect();
        (0..n).for_each(|i| score[i * n + to(i)] = 0.9);
        assert_eq!(assign(&score, n, n), (0..n).map(to).collect::<Vec<_>>());
        // Both want column 0; the second loses less by yielding.
        assert_eq!(assign(&[1.0, 0.0, 0.5, 0.9, 0.8, 0.1], 2, 3), [0, 1]);
        assert_eq!(assign(&[], 0, 4), Vec::<usize>::new());
    }
}
