//! One readable body, compiled for several instruction sets and chosen at run time; the small building blocks of such bodies.
//!
//! `dispatch!` compiles the body of a function for AVX-512, AVX2 + FMA and the target's baseline (NEON on ARM), and calls the widest that
//! the machine has. `MONOSEM_SIMD=avx2` or `=baseline` in the environment holds it to less, to see what machines that have less do; the products of
//! `gemm` take what the machine has whatever it says, `skip` is used where the machine is one that it pays on, and last bits may differ between machines. Bodies are
//! loops over slices that the compiler turns into vector code; sums keep [`LANES`] running values, so their order is the same at every width.

use std::sync::OnceLock;

/// Running values of a sum: two AVX-512 registers, so that additions overlap.
pub const LANES: usize = 32;

/// Which instructions are used, the fewest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Baseline,
    Avx2,
    Avx512,
}

/// The widest level of this machine that it is not held from, found once.
///
/// # Panics
/// Where `MONOSEM_SIMD` is neither `avx2` nor `baseline`.
#[inline]
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let most = match std::env::var("MONOSEM_SIMD").as_deref() {
            Err(_) => return widest(),
            Ok("avx2") => Level::Avx2,
            Ok("baseline") => Level::Baseline,
            Ok(other) => panic!("MONOSEM_SIMD is {other:?}; it may be avx2 or baseline"),
        };
        most.min(widest())
    })
}

/// What the machine has.
pub fn widest() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Baseline
}

macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match $crate::kernels::simd::level() {
                    // SAFETY: `level` has seen every feature that the function is compiled for.
                    $crate::kernels::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::simd::Level::Baseline => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use dispatch;

/// e^x, relative error below 3e-7 on [-87, 88]; smaller arguments give 1.2e-38, larger ones 1.7e38; NaN stays NaN.
///
/// x = n ln 2 + f with |f| <= ln 2 / 2; e^f is its Taylor polynomial of degree 7 (remainder below 6e-9), 2^n is put into the exponent bits.
/// Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 with its last bits zero, so that n * LN_2_HIGH is exact; the rest is in LN_2_LOW.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let f = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = f.mul_add(p, c);
    }
    p * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

/// Sum over i of x[i] y[i].
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            lanes[l] = x[l].mul_add(y[l], lanes[l]);
        }
    }
    sum_lanes(&lanes) + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f32>()
}

/// Sum of a slice.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (xs, rest) = x.as_chunks::<LANES>();
    for x in xs {
        for l in 0..LANES {
            lanes[l] += x[l];
        }
    }
    sum_lanes(&lanes) + rest.iter().sum::<f32>()
}

/// Largest value of a slice; -infinity when it is empty. NaN may be lost.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (xs, rest) = x.as_chunks::<LANES>();
    for x in xs {
        for l in 0..LANES {
            lanes[l] = if x[l] > lanes[l] { x[l] } else { lanes[l] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| m.max(x))
}

/// x[i] <- e^(x[i] scale - shift); returns their sum.
#[inline(always)]
pub fn exp_in_place(x: &mut [f32], scale: f32, shift: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (xs, rest) = x.as_chunks_mut::<LANES>();
    for x in xs {
        for l in 0..LANES {
            x[l] = exp(x[l].mul_add(scale, -shift));
            lanes[l] += x[l];
        }
    }
    let mut total = sum_lanes(&lanes);
    for x in rest {
        *x = exp(x.mul_add(scale, -shift));
        total += *x;
    }
    total
}

/// Pairwise: lane l and lane l + half, then halves again.
#[inline(always)]
pub fn sum_lanes(lanes: &[f32; LANES]) -> f32 {
    let mut a = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            a[l] += a[l + half];
        }
        half /= 2;
    }
    a[0]
}

/// A pointer that tasks share. They must write to different elements; each use says why they do.
#[derive(Clone, Copy)]
pub struct Shared<T>(pub *mut T);

// SAFETY: the pointer is only dereferenced in unsafe blocks that show that no two tasks touch the same element.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer, through a method so that closures capture the whole struct.
    pub fn get(&self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_its_stated_error() {
        let worst = (0..200_000)
            .map(|i| -87.0 + 175.0 * i as f32 / 200_000.0)
            .map(|x| ((exp(x) as f64 - (x as f64).exp()) / (x as f64).exp()).abs())
            .fold(0.0, f64::max);
        assert!(worst < 3e-7, "{worst}");
        assert!(exp(-1000.0) < 1.3e-38 && exp(1000.0).is_finite() && exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }

    dispatch! {
        fn dispatched_dot(x: &[f32], y: &[f32]) -> f32 { dot(x, y) }
    }

    #[test]
    fn sums_take_every_element_at_any_length() {
        for n in [0, 1, 31, 32, 33, 100] {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let ones = vec![1.0; n];
            let want = (n * n.saturating_sub(1) / 2) as f32;
            assert_eq!((sum(&x), dot(&x, &ones), dispatched_dot(&ones, &x)), (want, want, want));
            assert_eq!(max(&x), if n == 0 { f32::NEG_INFINITY } else { n as f32 - 1.0 });
        }
    }
}
