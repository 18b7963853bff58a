use super::*;
use crate::artifact::seed;
use crate::kernels::gemm::matmul_naive;
use rand::RngExt;

fn random(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "test/skip", index);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Numbers of which a share is not zero; whole rows and columns are, here and there.
fn with_zeros((rows, columns): (usize, usize), share: f64, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "test/skip/zeros", index);
    let numbers = random(rows * columns, index);
    let is_empty = |i: usize| i % 11 == 5;
    let keep = |i: usize| !is_empty(i / columns) && !is_empty(i % columns);
    numbers.into_iter().enumerate().map(|(i, x)| if keep(i) && rng.random_bool(share) { x } else { 0.0 }).collect()
}

fn transposed((rows, columns): (usize, usize), x: &[f32]) -> Vec<f32> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| x[i * columns + j])).collect()
}

fn close(got: &[f32], want: &[f32]) -> bool {
    got.len() == want.len() && got.iter().zip(want).all(|(x, y)| (x - y).abs() < 1e-5 * (1.0 + y.abs()))
}

#[test]
fn every_product_equals_the_naive_one_at_every_width() {
    let shapes = [(1, 1, 1), (5, 7, 3), (130, 129, 49), (128, 128, 48), (33, 300, 200), (260, 16, 513), (17, 512, 96), (16, 40, 700), (700, 130, 60)];
    for (index, (m, n, k)) in shapes.into_iter().enumerate() {
        for share in [0.0, 0.3, 1.0] {
            let at = format!("({m}, {n}, {k}), {share}");
            let index = index as u64;
            let (a, b, before) = (with_zeros((m, k), share, index), random(k * n, 20 + index), random(m * n, 40 + index));
            let want = matmul_naive(m, n, k, &a, &b);
            let sums: Vec<f32> = want.iter().zip(&before).map(|(x, y)| x + y).collect();
            let a_columns = transposed((m, k), &a);
            let mut c = before.clone();
            matmul_nn((m, n, k), &a, &b, &mut c, true);
            assert!(close(&c, &sums), "nn {at}");
            matmul_nn((m, n, k), &a, &b, &mut c, false);
            assert!(close(&c, &want), "nn {at}");
            let (mut c, mut row_sums, mut counts) = (before.clone(), vec![1.0; m], vec![7; m]);
            matmul_tn((m, n, k), &a_columns, &b, &mut c, true, Some((&mut row_sums, &mut counts)));
            assert!(close(&c, &sums), "tn {at}");
            let rows = || a.chunks_exact(k);
            assert!(close(&row_sums, &rows().map(|row| 1.0 + row.iter().sum::<f32>()).collect::<Vec<_>>()), "tn {at}");
            assert_eq!(counts, rows().map(|row| 7 + row.iter().filter(|x| **x != 0.0).count() as u32).collect::<Vec<_>>(), "tn {at}");
            matmul_tn((m, n, k), &a_columns, &b, &mut c, false, None);
            assert!(close(&c, &want), "tn {at}");

            let (whole, on, shift) = (random(m * k, 60 + index), with_zeros((m, n), share, 80 + index), random(n, 100 + index));
            let mut want = matmul_naive(m, n, k, &whole, &b);
            want.iter_mut().zip(&on).enumerate().for_each(|(i, (x, on))| *x = if *on == 0.0 { 0.0 } else { *x + shift[i % n] });
            let mut c = before;
            matmul_nt_where((m, n, k), &whole, &transposed((k, n), &b), &on, &shift, &mut c);
            assert!(close(&c, &want), "nt {at}");
            assert!(c.iter().zip(&on).all(|(x, on)| *on != 0.0 || *x == 0.0), "nt {at}");
        }
    }
}

#[test]
fn what_is_not_a_number_is_not_taken_for_zero() {
    let (a, b) = ([0.0, f32::NAN, 1.0, 0.0], [1.0, 2.0, 3.0, 4.0]);
    let mut c = [0.0; 4];
    matmul_nn((2, 2, 2), &a, &b, &mut c, false);
    assert!(c[0].is_nan() && c[1].is_nan() && c[2..] == [1.0, 2.0]);
    matmul_tn((2, 2, 2), &a, &b, &mut c, false, None);
    assert!(c[0] == 3.0 && c[1] == 4.0 && c[2].is_nan() && c[3].is_nan());
    // Where it says which elements are wanted, it says so.
    matmul_nt_where((2, 2, 2), &b, &b, &a, &[0.0; 2], &mut c);
    assert_eq!(c, [0.0, 11.0, 11.0, 0.0]);
}

#[test]
fn products_are_bitwise_equal_at_any_thread_count() {
    let (m, n, k) = (701, 210, 170);
    let (a, b, on) = (with_zeros((m, k), 0.5, 1), random(k * n, 2), with_zeros((m, n), 0.5, 3));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let [mut c, mut d, mut e] = [const { Vec::new() }; 3].map(|_: Vec<f32>| vec![0.0; m * n]);
            matmul_nn((m, n, k), &a, &b, &mut c, false);
            let (mut sums, mut counts) = (vec![0.0; m], vec![0; m]);
            matmul_tn((m, n, k), &transposed((m, k), &a), &b, &mut d, false, Some((&mut sums, &mut counts)));
            matmul_nt_where((m, n, k), &a, &transposed((k, n), &b), &on, &sums[..n], &mut e);
            [c, d, e, sums].concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
    assert_eq!(one, run(5));
}

/// A machine that is held to less by `MONOSEM_SIMD` computes what it computes without.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_loops_for_less_give_the_same_bits() {
    if level() != Level::Avx512 {
        return eprintln!("skipped: {:?} is all there is, or it is held to that", level());
    }
    let rows = 71;
    for width in [1, 16, 63, 64, 100, 128] {
        let (a, b, x) = (with_zeros((rows, SPAN), 0.5, 1), random(DEPTH * STRIP, 2), random(rows * WIDE, 3));
        let mut tile = Tile::default();
        tile.read(&a, SPAN, (rows, SPAN));
        let [mut c, mut d] = [random(rows * STRIP, 4), random(rows * STRIP, 4)];
        add(&tile, 1, &b, &mut c, STRIP, width);
        // SAFETY: the CPU has AVX-512, `width` is at most STRIP.
        unsafe { avx512::add(&tile, 1, &b, &mut d, STRIP, width) };
        assert_eq!(c, d, "width {width}");
        let mut block = Vec::new();
        pack::<WIDE>(&mut block, &b, 2 * width, 0);
        let [mut c, mut d] = [(); 2].map(|()| vec![0.0; rows * SPAN]);
        dot(&tile, 5, &block, &x, WIDE, 2 * width, &mut c);
        // SAFETY: as above.
        unsafe { avx512::dot(&tile, 5, &block, &x, WIDE, 2 * width, &mut d) };
        assert_eq!(c, d, "width {width}");
    }
}

#[test]
#[should_panic(expected = "product of (2, 3) and (3, 4): got 6, 11 and 8 elements")]
fn a_wrong_shape_panics_with_both_numbers() {
    matmul_nn((2, 4, 3), &[0.0; 6], &[0.0; 11], &mut [0.0; 8], false);
}
