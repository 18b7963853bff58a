//! Every path against the definition, bit for bit; the bound against sums in f64.

#[cfg(target_arch = "x86_64")]
use super::product::Packed;
use super::*;
use crate::artifact::seed;
use crate::kernels::gemm::matmul_nt;
use crate::kernels::select::topk_naive;
use crate::kernels::testing::random;
use proptest::prelude::*;
use rand::RngExt;

/// Latents of a row and the bits of their values.
type Row = (Vec<u32>, Vec<u32>);
type Rows = Vec<Row>;

/// By sorting exact pre-activations, or by looking at each.
fn oracle(wanted: Wanted, x: &[f32], d: usize) -> Rows {
    let row = |x: &[f32]| {
        let products: Vec<f32> = wanted.w.chunks_exact(d).map(|w| dot(w, x)).collect();
        let z = |j: &usize| products[*j] + wanted.bias[*j];
        let (latent, act): (Vec<u32>, Vec<f32>) = match wanted.keep {
            Keep::Largest(k) => topk_naive(&products, wanted.bias, k),
            Keep::Above { floor, threshold } => {
                let above = |j: &usize| z(j) > floor && threshold.is_none_or(|t| t[*j].is_nan() || z(j) > t[*j]);
                (0..products.len()).filter(above).map(|j| (j as u32, z(&j))).unzip()
            }
        };
        (latent, act.iter().map(|a| a.to_bits()).collect())
    };
    x.chunks_exact(d).map(row).collect()
}

fn largest<'a>(w: &'a [f32], bias: &'a [f32], k: usize) -> Wanted<'a> {
    Wanted { w, bias, keep: Keep::Largest(k) }
}

/// The products of this CPU that decide rows.
fn fast() -> Vec<Product> {
    let found: Vec<Product> = Product::available().into_iter().filter(|&p| p != Product::F32).collect();
    println!("products that are tested: {found:?}");
    found
}

/// 40 rows of ordinary size that are long in one direction, for which the screen stretches all rows and weights where it has 8-bit products and D is not tiny.
fn long(d: usize) -> Vec<f32> {
    let (mut rows, direction, along) = (random(40 * d, 501), random(d, 502), random(40, 503));
    for (row, along) in rows.chunks_exact_mut(d).zip(along) {
        row.iter_mut().zip(&direction).for_each(|(v, p)| *v += 20.0 * along * p);
    }
    rows
}

/// What the screen decides with this product (`None`: left to the next path), prepared for rows like these with other, sound weights.
fn screened(product: Product, wanted: Wanted, x: &[f32], like: &[f32], d: usize) -> (Vec<Option<Row>>, ScreenCount) {
    let mut screen = Screen::with(product);
    if !like.is_empty() {
        screen.update(&random(wanted.w.len(), 500), wanted.bias, like);
        #[cfg(target_arch = "x86_64")]
        assert!(product != Product::Int8 || !(8..1000).contains(&d) || !screen.stretch.is_none(), "{d}");
    }
    screen.update(wanted.w, wanted.bias, &[]);
    let mut rows = vec![];
    let bits = |(latent, act): (&[u32], &[f32])| (latent.to_vec(), act.iter().map(|a| a.to_bits()).collect());
    let count = screen.rows(wanted, x, &mut ScreenScratch::default(), |row| rows.push(row.map(bits)));
    assert_eq!((count.rows, rows.len(), count.undecided), (x.len() / d, x.len() / d, rows.iter().filter(|r| r.is_none()).count()));
    (rows, count)
}

fn from_products(wanted: Wanted, x: &[f32], d: usize) -> Rows {
    let mut screen = Screen::with(Product::F32);
    screen.update(wanted.w, wanted.bias, &[]);
    let (n, f) = (x.len() / d, wanted.bias.len());
    let mut products = vec![0.0; n * f];
    matmul_nt(n, f, d, x, wanted.w, &mut products, false);
    let mut scratch = ScreenScratch::default();
    let row = |(x, products): (&[f32], &[f32])| {
        let (mut latent, mut act) = (vec![], vec![]);
        screen.of_products(wanted, x, products, &mut scratch, &mut latent, &mut act);
        (latent, act.iter().map(|a| a.to_bits()).collect())
    };
    x.chunks_exact(d).zip(products.chunks_exact(f)).map(row).collect()
}

/// All paths give the definition wherever they decide; returns how many rows the screens left at most.
fn check(wanted: Wanted, x: &[f32], d: usize) -> usize {
    let want = oracle(wanted, x, d);
    for (row, (got, want)) in from_products(wanted, x, d).iter().zip(&want).enumerate() {
        assert_eq!(got, want, "row {row} from f32 products");
    }
    let long = long(d);
    let undecided = |product| {
        let undecided = |like| {
            let (rows, count) = screened(product, wanted, x, like, d);
            for (row, (got, want)) in rows.iter().zip(&want).enumerate() {
                assert!(got.is_none() || got.as_ref() == Some(want), "row {row} of the screen in {product:?}: {got:?}, expected {want:?}");
            }
            count.undecided
        };
        undecided(&long[..]);
        undecided(&[])
    };
    fast().into_iter().filter(|p| d <= p.most_inputs()).map(undecided).max().unwrap_or(0)
}

/// Mostly small, a few large: cubes of uniform numbers, one in 40 times 30.
fn heavy_tailed(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "test/screen", index);
    (0..n).map(|_| rng.random_range(-1.0..1.0f32).powi(3) * if rng.random_range(0..40) == 0 { 30.0 } else { 1.0 }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn screened_rows_equal_the_definition_at_unequal_shapes(
        d in 1usize..90, f in 1usize..700, n in 1usize..30, k in 1usize..50, tails: bool, by in -20i32..20, index in 0u64..1000
    ) {
        let make = if tails { heavy_tailed } else { random };
        let scale = (by as f32).exp2();
        let w: Vec<f32> = make(f * d, 2 * index).iter().map(|v| v * scale).collect();
        let bias: Vec<f32> = make(f, 2 * index + 5000).iter().map(|v| v * scale).collect();
        let x = make(n * d, 2 * index + 1);
        check(largest(&w, &bias, k), &x, d);
        // Thresholds of the size of pre-activations, some of which decide by a hair: those are pre-activations of the first row themselves.
        let z: Vec<f32> = w.chunks_exact(d).zip(&bias).map(|(w, b)| dot(w, &x[..d]) + b).collect();
        let threshold: Vec<f32> = z.iter().enumerate().map(|(j, &z)| match j % 5 {
            0 => z,
            1 => z.next_down(),
            2 => z / 2.0,
            3 => -1.0,
            _ => if k % 7 == 0 { f32::NAN } else { f32::INFINITY },
        }).collect();
        let floor = z.iter().fold(0.0f32, |m, z| m.max(*z)) * (k as f32 / 50.0);
        for (floor, threshold) in [(0.0, None), (floor, None), (0.0, Some(&threshold[..])), (floor, Some(&threshold[..]))] {
            check(Wanted { w: &w, bias: &bias, keep: Keep::Above { floor, threshold } }, &x, d);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_error_bound_holds_against_f64(d in 1usize..200, tails: bool, long in 0u32..3, index in 0u64..1000) {
        let (f, n) = (70, 16);
        let make = if tails { heavy_tailed } else { random };
        let (w, mut x, bias) = (make(f * d, index), make(n * d, index + 3000), make(f, index + 7000));
        // Rows that are long in one direction are stretched there, before they are rounded to 8 bits.
        let direction = make(d, index + 8000);
        let along = make(n, index + 9000);
        let by = 10f32.powi(long as i32);
        for (x, along) in x.chunks_exact_mut(d).zip(along).filter(|_| long > 0) {
            x.iter_mut().zip(&direction).for_each(|(x, v)| *x += by * along * v);
        }
        let like = if long > 0 { &x[..] } else { &[] };
        // Of what is above zero every latent stays whose upper bound is, as it was listed, so that both of its bounds can be read.
        for product in fast() {
            let mut screen = Screen::with(product);
            screen.update(&w, &bias, like);
            let mut lists = Lists::default();
            let above = Wanted { w: &w, bias: &bias, keep: Keep::Above { floor: 0.0, threshold: None } };
            screen.candidates(above, &x, MOST_ABOVE, (|_, _| 0.0, [0; 2]), &mut lists);
            let mut seen = 0;
            for (row, x) in x.chunks_exact(d).enumerate() {
                let listed = lists.entries(row);
                for ((&j, &lower), &upper) in lists.latent[listed.clone()].iter().zip(&lists.lower[listed.clone()]).zip(&lists.upper[listed]) {
                    let w = &w[j as usize * d..][..d];
                    let z = x.iter().zip(w).map(|(&x, &w)| x as f64 * w as f64).sum::<f64>() + bias[j as usize] as f64;
                    prop_assert!(lower as f64 <= z && z <= upper as f64, "{lower} {z} {upper}");
                    let defined = dot(x, w) + bias[j as usize];
                    prop_assert!(lower <= defined && defined <= upper, "{lower} {defined} {upper}");
                    // The bound must also be of some use: with Cauchy-Schwarz twice the largest relative rounding of bf16, or half a unit for each of D integers
                    // of a row whose largest is 127 or 32,766 or whose norm is 46,000, on both sides; and 8u |b| on either side. Entries of a rotated row are at most its norm.
                    let relative = match product {
                        Product::Int8 => 2.0 * (d as f64).sqrt() / 126.0,
                        Product::Int16 => 2.0 * (d as f64).sqrt() / 32_000.0,
                        _ => 0.018,
                    };
                    let of_bias = 17.0 * U * bias[j as usize].abs() as f64;
                    prop_assert!(long > 0 || (upper - lower) as f64 <= relative * norm(x) * norm(w) + of_bias + 1e-5, "{lower} {upper}");
                    seen += 1;
                }
                let kept = &lists.latent[row * lists.stride..][..lists.len[row]];
                for j in (0..f as u32).filter(|j| !kept.contains(j)) {
                    prop_assert!(dot(x, &w[j as usize * d..][..d]) + bias[j as usize] <= 0.0, "latent {j} was dropped");
                }
            }
            prop_assert!(seen > 0);
        }
    }
}

#[test]
fn a_wide_encoder_is_decided_with_few_candidates() {
    let (d, f, n, k) = (64, 5000, 40, 16);
    let (w, bias, x) = (random(f * d, 1), vec![0.0; f], random(n * d, 2));
    // Products of uniform numbers have a variance of 1/9: this floor is of the same order as the 16 largest.
    let above = Wanted { w: &w, bias: &bias, keep: Keep::Above { floor: 7.5, threshold: None } };
    for wanted in [largest(&w, &bias, k), above] {
        assert_eq!(check(wanted, &x, d), 0);
        let found: usize = oracle(wanted, &x, d).iter().map(|row| row.0.len()).sum();
        for product in fast() {
            let (_, count) = screened(product, wanted, &x, &[], d);
            assert!(count.candidates >= found && count.candidates < 3 * found, "{} candidates of {n} rows with {found}", count.candidates);
        }
    }
}

#[test]
fn rows_with_more_above_their_limits_than_there_is_room_for_are_left_undecided_and_then_found_exactly() {
    let (d, f, n) = (8, 3000, 9);
    let (w, bias, x) = (random(f * d, 1), vec![0.0; f], random(n * d, 2));
    for (floor, all) in [(0.0, true), (1e3, false)] {
        let wanted = Wanted { w: &w, bias: &bias, keep: Keep::Above { floor, threshold: None } };
        check(wanted, &x, d);
        for product in fast() {
            let (_, count) = screened(product, wanted, &x, &[], d);
            assert_eq!(count.undecided, if all { n } else { 0 }, "{product:?}");
        }
    }
}

#[test]
fn equal_latents_are_told_apart_by_their_number() {
    let (d, f, n) = (9, 600, 14);
    // Every latent exists twelve times, next to each other and far apart.
    let distinct = random(50 * d, 3);
    let w: Vec<f32> = (0..f).flat_map(|j| distinct[j * 7 % 50 * d..][..d].to_vec()).collect();
    for k in [1, 5, 13, 30] {
        assert_eq!(check(largest(&w, &vec![0.25; f], k), &random(n * d, 4), d), 0);
    }
}

#[test]
fn rows_that_overflow_their_list_are_left_undecided_and_then_found_exactly() {
    let (d, f) = (6, 3000);
    // All latents are the same: no bound can tell which k are kept.
    let w: Vec<f32> = random(d, 1).into_iter().cycle().take(f * d).collect();
    let x: Vec<f32> = (0..5).flat_map(|r| if r == 3 { vec![0.0; d] } else { w[..d].iter().map(|v| v * r as f32).collect() }).collect();
    for bias in [0.0, 1.0] {
        let left = check(largest(&w, &vec![bias; f], 7), &x, d);
        for product in fast() {
            let (rows, _) = screened(product, largest(&w, &vec![bias; f], 7), &x, &[], d);
            assert!(left >= 3 && rows[1].is_none() && rows[2].is_none() && rows[4].is_none(), "{left}");
        }
    }
}

#[test]
fn rows_with_more_candidates_than_a_list_holds_are_found_in_a_longer_one() {
    let (d, f, k) = (20, 5000, 7);
    // A third of the latents are the same: more than the first list of a row holds, fewer than the second.
    let mut w = random(f * d, 1);
    let same = w[..d].to_vec();
    w.chunks_exact_mut(d).step_by(3).for_each(|w| w.copy_from_slice(&same));
    #[cfg(target_arch = "x86_64")]
    assert!((room(k)..LONGER * room(k) / 4 * 3).contains(&f.div_ceil(3)));
    let x: Vec<f32> = (0..9).flat_map(|r| same.iter().map(|v| v * (r as f32 - 1.5)).collect::<Vec<f32>>()).collect();
    for bias in [0.0, 0.5] {
        assert_eq!(check(largest(&w, &vec![bias; f], k), &x, d), 0);
    }
}

#[test]
fn latents_without_a_bound_are_not_mistaken_for_the_largest_where_a_row_is_given_up() {
    let d = 20;
    // The same latents until the row is given up, then biases that are no numbers: they are listed whatever the limit, and more of them than a list holds.
    let (v, f, sound) = (random(d, 1), 1600, 600);
    let w = v.repeat(f);
    let bias: Vec<f32> = (0..f).map(|j| if j < sound { 0.0 } else { f32::NAN }).collect();
    check(largest(&w, &bias, 7), &v, d);
    // All without a bound, in a group that is not full: the rest of it has no inputs.
    check(largest(&w[..300 * d], &[f32::NAN; 300], 200), &v, d);
    check(largest(&[f32::NAN].repeat(300 * d), &[0.0; 300], 200), &v, d);
}

#[test]
fn zero_huge_denormal_and_broken_numbers_are_not_lost() {
    // Rows that are rotated before they are rounded are so from 16 entries on, in blocks of up to 1,024.
    for (d, f) in [(10, 900), (40, 900), (1024, 90)] {
        broken_numbers_are_not_lost(d, f);
    }
}

fn broken_numbers_are_not_lost(d: usize, f: usize) {
    let mut rows: Vec<Vec<f32>> = (0..9).map(|r| random(d, 20 + r)).collect();
    rows[0].fill(0.0);
    rows[1].iter_mut().for_each(|v| *v *= 1e30);
    rows[2].iter_mut().for_each(|v| *v *= 1e-38);
    rows[3].iter_mut().for_each(|v| *v *= 1e-44);
    rows[4][3] = f32::INFINITY;
    rows[5][9] = f32::NAN;
    rows[6][0] = 1e5;
    rows[7][2] = -3e38;
    let x = rows.concat();
    let base = random(f * d, 2);
    let changed = |at: &[(usize, f32)]| {
        let mut w = base.clone();
        at.iter().for_each(|&(i, v)| w[i] = v);
        w
    };
    let tiny: Vec<f32> = base.iter().map(|v| v * 1e-39).collect();
    let huge: Vec<f32> = base.iter().map(|v| v * 1e25).collect();
    // With the row of denormals: products that are no denormals, of what is lost where a row is scaled.
    let large: Vec<f32> = base.iter().map(|v| v * 1e16).collect();
    let infinite = changed(&[(37, f32::INFINITY), (500, f32::NEG_INFINITY)]);
    let cases = [base.clone(), changed(&[(37, f32::NAN)]), infinite, changed(&[(640, 2e38)]), tiny, huge, large];
    for (case, w) in cases.iter().enumerate() {
        for bias in [0.0, 0.5, -0.5] {
            let mut biases = vec![bias; f];
            for broken in [0.0, f32::NAN, f32::INFINITY, -3e38] {
                biases[f / 2] = broken;
                println!("case {case} bias {bias} broken {broken}");
                check(largest(w, &biases, 8), &x, d);
                check(Wanted { w, bias: &biases, keep: Keep::Above { floor: 0.5, threshold: None } }, &x, d);
            }
        }
    }
    // What is sound is decided beside what is not.
    let one_broken = changed(&[(37, f32::NAN)]);
    for product in fast() {
        let (decided, _) = screened(product, largest(&one_broken, &vec![0.0; f], 8), &x, &[], d);
        assert!(decided[8].is_some() && decided[6].is_some() && decided[1].is_none() && decided[4].is_none() && decided[5].is_none());
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn integers_are_as_large_as_they_may_be_and_no_sum_of_them_overflows() {
    if !Product::available().contains(&Product::Int16) {
        return println!("skipped: this CPU has no products of 16-bit integers");
    }
    // A row and weights that are alike have the largest sum there is; one large entry meets the bound of an entry.
    for (d, one_large) in [(1, false), (2, true), (9, false), (64, true), (513, false), (4096, false), (70_000, false)] {
        let mut x = vec![0.7f32; d];
        x[0] = if one_large { -1e4 } else { 0.7 };
        let whole = norm(&x);
        let mut packed = vec![0u32; d.div_ceil(2)];
        // SAFETY: the CPU has the product, and there is a place for each pair.
        let Packed { change, norm: rounded, scale, .. } = unsafe { Product::Int16.pack(&x, whole, Side::Input, packed.as_mut_ptr(), 1) };
        let numbers: Vec<i64> = packed.iter().flat_map(|&p| [p as u16 as i16 as i64, (p >> 16) as u16 as i16 as i64]).collect();
        let square: i64 = numbers.iter().map(|q| q * q).sum();
        assert!(square < 1 << 31 && numbers.iter().all(|q| q.abs() < 32_767), "{square} at {d}");
        assert!(square > 1 << 29, "{square} at {d}: half of the precision is lost");
        let back = numbers.iter().zip(&x).map(|(&q, &x)| (x as f64 - q as f64 * scale as f64).powi(2)).sum::<f64>().sqrt();
        assert!((back - change).abs() <= 1e-9 * whole && (rounded - scale as f64 * (square as f64).sqrt()).abs() <= 1e-9 * whole);
        assert_eq!(check(largest(&x, &[0.0], 1), &x, d), 0);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn eight_bits_of_a_row_hold_its_rotation_and_no_sum_of_them_overflows() {
    if !Product::available().contains(&Product::Int8) {
        return println!("skipped: this CPU has no products of 8-bit integers");
    }
    for (d, one_large) in [(1, false), (5, true), (16, true), (100, false), (512, true), (770, false), (4096, true), (65_536, false)] {
        let mut x: Vec<f32> = random(d, 4).iter().map(|v| v + 0.3).collect();
        if one_large {
            x[0] = -1e3;
        }
        let whole = norm(&x);
        let packed = |side| {
            let mut words = vec![0u32; d.div_ceil(4)];
            // SAFETY: the CPU has the product, and there is a place for each word.
            let of_row = unsafe { Product::Int8.pack(&x, whole, side, words.as_mut_ptr(), 1) };
            (of_row, words.iter().flat_map(|w| w.to_le_bytes()).take(d).collect::<Vec<u8>>())
        };
        let ((of_weights, weights), (of_input, inputs)) = (packed(Side::Weights), packed(Side::Input));
        let signed: Vec<i64> = weights.iter().map(|&q| q as i8 as i64).collect();
        assert!(inputs.iter().zip(&signed).all(|(&u, &q)| u as i64 == q + 128) && signed.iter().all(|q| q.abs() <= 127));
        assert_eq!((of_weights.start as i64, of_input.scale), (-128 * signed.iter().sum::<i64>(), of_weights.scale));
        assert!(signed.iter().any(|q| q.abs() == 127), "the scale is too large at {d}");
        // What is packed has the norm of the row, as a rotation does, and one large entry is spread over its block.
        let packed_norm = (signed.iter().map(|q| q * q).sum::<i64>() as f64).sqrt() * of_weights.scale as f64;
        assert!((packed_norm - of_weights.norm).abs() <= 1e-9 * whole && (packed_norm - whole).abs() <= of_weights.change);
        assert!(of_weights.change < 0.02 * whole, "{} of {whole} at {d}", of_weights.change);
        assert_eq!(check(largest(&x, &[0.0], 1), &x, d), 0);
    }
    // Rows that are alike before the rotation are alike after it: the largest sums there are.
    for d in [65_536, 65_537] {
        let x = vec![0.5f32; d];
        assert_eq!(check(largest(&x, &[0.0], 1), &x, d), 0);
        let mut screen = Screen::default();
        screen.update(&x, &[0.0], &[]);
        assert_eq!(screen.product == Product::Int8, d == 65_536, "{d}");
    }
}

#[test]
fn a_product_that_is_too_coarse_is_left_for_a_while() {
    let (d, f, n) = (64, 5000, 300);
    let (w, bias, x) = (random(f * d, 1), vec![0.0; f], random(n * d, 2));
    let products = Product::available();
    let mut screen = Screen::default();
    let encode = |screen: &Screen, k| {
        if screen.fast() {
            screen.rows(largest(&w, &bias, k), &x, &mut ScreenScratch::default(), |_| {});
        }
    };
    screen.update(&w, &bias, &x);
    encode(&screen, 16);
    assert!(!screen.is_too_coarse(), "sixteen of {f} are found with few others");
    screen.update(&w, &bias, &x);
    assert_eq!(screen.product, products[0]);
    if products.get(1).is_none_or(|&p| p == Product::F32) {
        return println!("the rest is skipped: this CPU has no two products to choose from");
    }
    // Lists are full and rows are given up where more is wanted than they have room for.
    let above = Wanted { w: &w, bias: &bias, keep: Keep::Above { floor: 0.0, threshold: None } };
    screen.rows(above, &x, &mut ScreenScratch::default(), |_| {});
    assert!(screen.is_too_coarse());
    for _ in 0..PAUSE {
        screen.update(&w, &bias, &x);
        assert_eq!(screen.product, products[1]);
        encode(&screen, 16);
        assert!(!screen.is_too_coarse());
    }
    screen.update(&w, &bias, &x);
    assert_eq!(screen.product, products[0]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_guess_from_the_rows_before_changes_the_work_and_nothing_else() {
    let (d, f, k) = (64, 3000, 16);
    let (w, bias) = (random(f * d, 1), random(f, 2).iter().map(|b| b * 0.1).collect::<Vec<f32>>());
    let wanted = largest(&w, &bias, k);
    let like_before = random(150 * d, 3);
    // Of a small row the biases decide; a row with one entry has no product as large as those before had.
    let mut unlike = random(150 * d, 4);
    for (r, row) in unlike.chunks_exact_mut(d).enumerate() {
        match r % 5 {
            0 => row.iter_mut().for_each(|v| *v *= 1e-3),
            1 => row.copy_from_slice(&w[r * d..][..d]),
            2 => row[1..].fill(0.0),
            3 => row.fill(0.0),
            _ => {}
        }
    }
    for product in fast() {
        let mut screen = Screen::with(product);
        screen.update(&w, &bias, &like_before);
        let mut scratch = ScreenScratch::default();
        let encode = |x: &[f32], scratch: &mut ScreenScratch| {
            let mut rows: Rows = vec![];
            let bits = |(latent, act): (&[u32], &[f32])| (latent.to_vec(), act.iter().map(|a| a.to_bits()).collect());
            let count = screen.rows(wanted, x, scratch, |row| rows.push(row.map(bits).expect("few candidates")));
            assert_eq!(rows, oracle(wanted, x, d), "{product:?}");
            count.candidates
        };
        let without = encode(&like_before, &mut scratch);
        assert!(scratch.again.0.is_empty() && screen.guess.of(k) > 0.0);
        let with = encode(&like_before, &mut scratch);
        assert!(20 * with <= 21 * without, "{product:?}: {with} candidates with a guess, {without} without");
        assert!(scratch.again.0.len() < 5, "{} of 150 rows like those before are screened twice", scratch.again.0.len());
        encode(&unlike, &mut scratch);
        assert!((10..150).contains(&scratch.again.0.len()), "{} rows of which it was too high", scratch.again.0.len());
    }
}

#[test]
fn a_value_that_is_not_a_number_hides_no_other() {
    let mut pre = vec![1.0; 64];
    pre[3] = f32::NAN;
    pre[19] = f32::NAN;
    pre[5] = 3.0;
    let (mut latent, mut act) = (vec![], vec![]);
    topk(&pre, &[0.0; 64], 1, &mut SelectScratch::default(), &mut latent, &mut act);
    assert_eq!((latent, act), (vec![5], vec![3.0]));
}
